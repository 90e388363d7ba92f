"""Tables of who looked, who is heard, and who may ask (docs/protocol.md §19); and what verdicts were made with."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from server.store.schema.base import METADATA

READS = Table(
    "reads",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("jurisdiction", String(8), nullable=False),
    Column("call", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("devices", BigInteger, nullable=False),
    Index("reads_by_time", "at"),
    Index("reads_by_subject", "subject", "number"),
)
"""Who was shown where devices are (docs/protocol.md K2). `by`: SPIFFE path, as `officer/ann`. `call`: the RPC.

`subject`: a resource name, or the filter of a list; `devices`: how many were shown.
"""


EXHIBITS = Table(
    "exhibits",
    METADATA,
    Column("subject", String(160), nullable=False),
    Column("exhibit", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("on_behalf_of", Text, nullable=False),
    Column("statement", Text, nullable=False),
    Column("file_name", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("data", LargeBinary),
    Column("answered_at", BigInteger),
    Column("answered_by", Text, nullable=False),
    Column("answer", Text, nullable=False),
    PrimaryKeyConstraint("subject", "exhibit"),
)
"""What the accused say (docs/protocol.md K4). `subject`: `cases/{number}` or `landmarks/{landmark}`; exhibits of one
are numbered from 1. `data`: the file; NULL: a statement alone."""


CHALLENGE_ORDERS = Table(
    "challenge_orders",
    METADATA,
    Column("pdi", LargeBinary(8), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("ordered_at", BigInteger, nullable=False),
    Column("change_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("pdi", "number"),
)
"""Challenges beyond what the license asks, which two people ordered (docs/protocol.md K3). `number`: of the `records`
counter; a host is asked at once when its last challenge is older than that."""


MATERIALS = Table(
    "materials",
    METADATA,
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("since", BigInteger, nullable=False),
)
"""Files that verdicts were made with, so that they can be made again. `kind`: `borders`, `country_groups`,
`reference_values`, `root` or `region` (a long one that bases name)."""
