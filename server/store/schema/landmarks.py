"""Tables of landmarks, of their audit and of when they were up (docs/protocol.md §12)."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
)

from server.store.schema.base import METADATA


def _landmark_columns() -> list[Column[object]]:
    """The columns that a landmark's current row and its kept revisions share, the id apart."""
    return [
        Column("revision", BigInteger, nullable=False),
        Column("revised_at", BigInteger, nullable=False),
        Column("public_key", LargeBinary(32), nullable=False),
        Column("operator", Text, nullable=False),
        Column("hoster", Text, nullable=False),
        Column("latitude", Double, nullable=False),
        Column("longitude", Double, nullable=False),
        Column("uncertainty_km", Double, nullable=False),
        Column("survey_method", Text, nullable=False),
        Column("virtual_machine", Boolean, nullable=False),
        Column("endpoints", Text, nullable=False),
        Column("country", String(8), nullable=False),
        Column("valid_from", BigInteger),
        Column("valid_until", BigInteger),
        Column("operator_key", LargeBinary, nullable=False),
        Column("operator_signature", LargeBinary, nullable=False),
    ]


LANDMARKS = Table("landmarks", METADATA, Column("landmark_id", String(63), primary_key=True), *_landmark_columns())
"""The current revision of each landmark. `endpoints`: joined by spaces, best first.

`operator_key`, `operator_signature`: docs/protocol.md LA8; both empty in a record that is not signed.
"""


LANDMARK_REVISIONS = Table(
    "landmark_revisions",
    METADATA,
    Column("landmark_id", String(63), nullable=False),
    *_landmark_columns(),
    PrimaryKeyConstraint("landmark_id", "revision"),
)
"""Every revision that ever stood, the current one included."""


LANDMARK_RANGES = Table(
    "landmark_ranges",
    METADATA,
    Column("of_id", String(63), nullable=False),
    Column("by_id", String(63), nullable=False),
    Column("latest_at", BigInteger, nullable=False),
    Column("least_at", BigInteger, nullable=False),
    Column("least_rtt_ns", BigInteger, nullable=False),
    Column("challenge", LargeBinary(32), nullable=False),
    Column("receipt", LargeBinary, nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("answered", LargeBinary(8), nullable=False),
    PrimaryKeyConstraint("of_id", "by_id"),
    # Holds all that an audit reads, so that it need not go through the evidence of every pair.
    Index("landmark_ranges_read", "of_id", "by_id", "latest_at", "least_rtt_ns"),
)
"""For each landmark that answered, `of_id`, and each that ranged it, `by_id`: the latest range, and the least one of a
day with its evidence (docs/protocol.md LA3)."""


LANDMARK_DISTRUST = Table(
    "landmark_distrust",
    METADATA,
    Column("landmark_id", String(63), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("rule", Integer, nullable=False),
    Column("explanation", Text, nullable=False),
    Column("contradictions", Text, nullable=False),
    Column("settled", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("landmark_id", "since"),
)
"""What audits brought (docs/protocol.md LA5). Open while `ended_at` is NULL.

`contradictions`: JSON, audits.py. `settled`: every device whose fix used the landmark has been appraised again.
"""


Index(
    "landmark_distrust_open",
    LANDMARK_DISTRUST.c.landmark_id,
    unique=True,
    sqlite_where=LANDMARK_DISTRUST.c.ended_at.is_(None),
    postgresql_where=LANDMARK_DISTRUST.c.ended_at.is_(None),
)


LANDMARK_UPTIME = Table(
    "landmark_uptime",
    METADATA,
    Column("landmark_id", String(63), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("alive_until", BigInteger, nullable=False),
    PrimaryKeyConstraint("landmark_id", "started_at"),
    Index("landmark_uptime_by_end", "alive_until"),
)
"""When a landmark was demonstrably up: it signed a receipt or a statement that was verified (docs/protocol.md W4)."""
