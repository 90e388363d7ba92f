"""Tables of cases (docs/protocol.md §15)."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from server.store.schema.base import METADATA

CASES = Table(
    "cases",
    METADATA,
    Column("case_id", BigInteger, primary_key=True, autoincrement=False),
    Column("event", Integer, nullable=False),
    Column("scope", Text, nullable=False),
    Column("state", Integer, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("licensee", Text, nullable=False),
    Column("license_number", Text, nullable=False),
    Column("site_id", Text, nullable=False),
    Column("jurisdiction", String(8), nullable=False),
    Column("assignee", Text, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("quiet_since", BigInteger),
    Column("resolved_at", BigInteger),
    Column("resolution", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("devices", Integer, nullable=False),
    Column("devices_open", Integer, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("due_at", BigInteger),
    Index("cases_by_scope", "scope", "resolved_at"),
    Index("cases_by_state", "state", "severity", "opened_at"),
    Index("cases_by_licensee", "licensee", "state"),
    Index("cases_by_due", "due_at"),
)
"""One event each (docs/protocol.md §15). `scope`: what makes two findings one event (case_rules.py); among cases that
are not resolved it is unique. `state` is 0 while warnings wait to become a case; nobody is shown such a row.

`quiet_since`: when the last of its findings ended; NULL while one is open. `severity`: the worst that a finding of it
ever had. `entries`: length of its story. `due_at`: when a rule has to look at it again; NULL: never by itself.
"""


Index(
    "cases_standing",
    CASES.c.scope,
    unique=True,
    sqlite_where=CASES.c.resolved_at.is_(None),
    postgresql_where=CASES.c.resolved_at.is_(None),
)


CASE_FINDINGS = Table(
    "case_findings",
    METADATA,
    Column("pdi", LargeBinary(8), nullable=False),
    Column("reason", Integer, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("case_id", BigInteger, ForeignKey(CASES.c.case_id), nullable=False),
    PrimaryKeyConstraint("pdi", "reason", "opened_at"),
    Index("case_findings_by_case", "case_id", "pdi", "reason", "opened_at"),
)
"""Which case a finding belongs to: one, whatever happens (docs/protocol.md CS1)."""


CASE_ENTRIES = Table(
    "case_entries",
    METADATA,
    Column("case_id", BigInteger, ForeignKey(CASES.c.case_id), nullable=False),
    Column("entry", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("text", Text, nullable=False),
    PrimaryKeyConstraint("case_id", "entry"),
)
"""A case's story: what rules did and what officers did and wrote. `entry`: in the order of writing."""
