"""What all tables share: the version, the counters, the columns of a revision."""

from sqlalchemy import BigInteger, Column, MetaData, String, Table

SCHEMA_VERSION = 4
"""Raised by every change of this file. A store of another version is not opened."""


METADATA = MetaData()


def revision_columns() -> list[Column[int]]:
    """What the current row of every record has. `record_number`: of the write that made this revision."""
    return [
        Column("revision", BigInteger, nullable=False),
        Column("revised_at", BigInteger, nullable=False),
        Column("record_number", BigInteger, nullable=False),
    ]


META = Table(
    "meta",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""`schema_version`, counters, and notes.

`changes` grows with each change of a device; `records` with each write of records and whenever a landmark becomes
distrusted or ceases to be; `audits` with each new range between landmarks and each other change of what an audit says;
`findings` with each finding that opens, closes or changes its weight; `proposals`, `cases` and `reads` number changes
that wait, cases, and reads of positions. `audited_at`: when the newest landmark audit ran, microseconds, 0 before the
first; `audit_basis`: the state that it looked at (audits.py); `cased`: the number of the last finding that cases have
taken in (cases.py).
"""
