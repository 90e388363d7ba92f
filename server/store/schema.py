"""The tables. Portable SQL: nothing here is SQLite's alone, so that the same schema can stand in PostgreSQL.

Times are integer microseconds since 1970 UTC, identities are raw bytes, and primary keys begin with the device where
rows belong to one. Enumerations are stored as the numbers of `trigpoint.v1`, inside JSON by name.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
)

SCHEMA_VERSION = 2
"""Raised by every change of this file. A store of another version is not opened."""

METADATA = MetaData()

META = Table(
    "meta",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""`schema_version`, three counters, and two notes of the landmark audit.

`changes` grows with each change of a device; `records` with each import and whenever a landmark becomes distrusted or
ceases to be; `audits` with each new range between landmarks and each other change of what an audit says. `audited_at`:
when the newest audit ran, microseconds, 0 before the first; `audit_basis`: the state that it looked at (audits.py).
"""

LICENSES = Table(
    "licenses",
    METADATA,
    Column("number", String(128), primary_key=True),
    Column("licensee", Text, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_until", BigInteger, nullable=False),
    Column("presence", Integer, nullable=False),
    Column("cadence_us", BigInteger, nullable=False),
    Column("grace_us", BigInteger, nullable=False),
    Column("tightened_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("revised_at", BigInteger, nullable=False),
    Column("record_number", BigInteger, nullable=False),
    Index("licenses_by_licensee", "licensee"),
)
"""`record_number` is the value of the `records` counter in the import that wrote this revision.

`tightened_at`: when cadence + grace last became shorter, or when the license came.
"""

DEPLOYMENTS = Table(
    "deployments",
    METADATA,
    Column("device_pdi", LargeBinary(8), primary_key=True),
    Column("license_number", String(128), ForeignKey(LICENSES.c.number), nullable=False),
    Column("region", Text, nullable=False),
    Column("licensed_at", BigInteger, nullable=False),
    Column("revised_at", BigInteger, nullable=False),
    Column("record_number", BigInteger, nullable=False),
    Index("deployments_by_license", "license_number", "device_pdi"),
)
"""`region`: JSON (regions.py). `licensed_at`: since when the device is deployed under this license."""


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

DEVICES = Table(
    "devices",
    METADATA,
    Column("pdi", LargeBinary(8), primary_key=True),
    Column("kind", Integer),
    Column("device_key_id", LargeBinary(32)),
    Column("model", Text, nullable=False, server_default=""),
    Column("firmware", Text, nullable=False, server_default=""),
    Column("host_id", Text, nullable=False, server_default=""),
    Column("standing", Integer),
    Column("counters", LargeBinary(16)),
    Column("counters_issued_at", BigInteger),
    Column("counters_received_at", BigInteger),
    Column("board", LargeBinary),
    Column("unseated", Boolean, nullable=False, server_default=false()),
    Column("place", LargeBinary),
    Column("last_report_at", BigInteger),
    Column("last_proof_at", BigInteger),
    Column("last_fix", Text),
    Column("last_attestation", LargeBinary(32)),
    Column("change_number", BigInteger, nullable=False),
    Index("devices_by_change", "change_number", unique=True),
    Index("devices_by_report", "last_report_at"),
    Index("devices_by_standing", "standing", "pdi"),
    Index("devices_by_host", "host_id", "pdi"),
)
"""Latest state. A deployed device has a row from its import on.

`board`: sorted PDIs of its switches, joined. `counters`: boot and attestation counter, each u64be, since a device may
sign numbers that no SQL integer holds; beside them the span in which they were signed. `place`: what its last fix
allowed (framing.py). These and `unseated` are the last accepted state, which a commit compares with the one that its
verdict was based on.
"""

FINDINGS = Table(
    "findings",
    METADATA,
    Column("pdi", LargeBinary(8), ForeignKey(DEVICES.c.pdi), nullable=False),
    Column("reason", Integer, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("severity", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    PrimaryKeyConstraint("pdi", "reason", "opened_at"),
)
"""Open while `closed_at` is NULL."""

Index(
    "findings_open",
    FINDINGS.c.reason,
    FINDINGS.c.pdi,
    unique=True,
    sqlite_where=FINDINGS.c.closed_at.is_(None),
    postgresql_where=FINDINGS.c.closed_at.is_(None),
)

ATTESTATIONS = Table(
    "attestations",
    METADATA,
    Column("challenge", LargeBinary(32), primary_key=True),
    Column("preimage", LargeBinary(64), nullable=False),
    Column("host_id", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("licensee", Text, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("claims", LargeBinary, nullable=False),
    Column("reports", LargeBinary, nullable=False),
    Column("rejection", Integer),
    Column("rejection_detail", Text, nullable=False),
    Column("report_rejections", Text, nullable=False),
    Index("attestations_by_arrival", "received_at"),
)
"""Evidence as it arrived.

`reports`: framed (framing.py), chain id and SPDM bytes in turn. `report_rejections`: JSON, [index, reason, detail].
"""

DEVICE_VERDICTS = Table(
    "device_verdicts",
    METADATA,
    Column("pdi", LargeBinary(8), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("challenge", LargeBinary(32), ForeignKey(ATTESTATIONS.c.challenge), nullable=False),
    Column("chain_id", LargeBinary(32), nullable=False),
    Column("standing", Integer),
    Column("presence_proven", Boolean, nullable=False),
    Column("findings", Text, nullable=False),
    Column("fix", Text),
    Column("void_ranges", Text, nullable=False),
    PrimaryKeyConstraint("pdi", "received_at", "challenge"),
)
"""What each attestation showed about each authentic device.

JSON columns: `findings`, [reason, severity, detail]; `void_ranges`, [landmark key id, reason, detail]; `fix`, fixes.py.
"""

CHAINS = Table(
    "chains",
    METADATA,
    Column("chain_id", LargeBinary(32), primary_key=True),
    Column("certificates", LargeBinary, nullable=False),
)
"""Chains by their id (docs/protocol.md I8), DER certificates framed, leaf first."""

SERVICE_INTERVALS = Table(
    "service_intervals",
    METADATA,
    Column("node", String(128), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("alive_until", BigInteger, nullable=False),
    PrimaryKeyConstraint("node", "started_at"),
    Index("service_intervals_by_end", "alive_until"),
)
"""When the service was demonstrably up. Silence is measured in this time alone."""
