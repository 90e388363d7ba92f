"""Tables of devices: their latest state, their findings, and the evidence as it came."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
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

DEVICES = Table(
    "devices",
    METADATA,
    Column("pdi", LargeBinary(8), primary_key=True),
    Column("kind", Integer),
    Column("device_key_id", LargeBinary(32)),
    Column("model", Text, nullable=False, server_default=""),
    Column("firmware", Text, nullable=False, server_default=""),
    Column("host_id", Text, nullable=False, server_default=""),
    Column("agent", Text, nullable=False, server_default=""),
    Column("standing", Integer),
    Column("counters", LargeBinary(16)),
    Column("counters_issued_at", BigInteger),
    Column("counters_received_at", BigInteger),
    Column("board", LargeBinary),
    Column("unseated", Boolean, nullable=False, server_default=false()),
    Column("place", LargeBinary),
    Column("activated_at", BigInteger),
    Column("last_report_at", BigInteger),
    Column("last_proof_at", BigInteger),
    Column("last_fix", Text),
    Column("last_attestation", LargeBinary(32)),
    Column("change_number", BigInteger, nullable=False),
    Index("devices_by_change", "change_number", unique=True),
    # Holds what the watch asks of most devices (watch_clocks.py), so that it need not read their rows.
    Index("devices_by_report", "last_report_at", "kind", "pdi", "activated_at"),
    Index("devices_by_standing", "standing", "pdi"),
    Index("devices_by_host", "host_id", "pdi"),
    Index("devices_by_agent", "agent"),
)
"""Latest state. A device has a row from its deployment under a license in force on, or from its first report.

`agent`: name of the agent that sent its last report. `activated_at`: its first verified report since it is deployed
under its license; NULL before, and without a deployment.

`board`: sorted PDIs of its switches, joined. `counters`: boot and attestation counter, each u64be, since a device may
sign numbers that no SQL integer holds; beside them the span in which they were signed. `place`: what its last fix
allowed (framing.py). These and `unseated` are the last accepted state, which a commit compares with the one that its
verdict was based on.
"""


Index(
    "devices_not_activated",
    DEVICES.c.pdi,
    sqlite_where=DEVICES.c.activated_at.is_(None),
    postgresql_where=DEVICES.c.activated_at.is_(None),
)


FINDINGS = Table(
    "findings",
    METADATA,
    Column("pdi", LargeBinary(8), ForeignKey(DEVICES.c.pdi), nullable=False),
    Column("reason", Integer, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("severity", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    PrimaryKeyConstraint("pdi", "reason", "opened_at"),
    Index("findings_by_number", "number"),
)
"""Open while `closed_at` is NULL. `number`: of the `findings` counter, when it opened, closed or changed weight."""


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
    Column("claims_sha256", LargeBinary(32), nullable=False),
    Column("reports_sha256", LargeBinary(32), nullable=False),
    Column("rejection", Integer),
    Column("rejection_detail", Text, nullable=False),
    Column("report_rejections", Text, nullable=False),
    Column("transition", Boolean, nullable=False),
    Column("result", Text, nullable=False),
    Index("attestations_by_arrival", "received_at"),
)
"""Attestations. Their raw evidence is in `evidence`, while it is kept (docs/protocol.md K1).

`report_rejections`: JSON, [index, reason, detail]. `transition`: a finding of one of its devices opened or ended by it,
or a standing changed. `result`: its EAR, a JWT; empty when it was rejected.
"""


EVIDENCE = Table(
    "evidence",
    METADATA,
    Column("challenge", LargeBinary(32), ForeignKey(ATTESTATIONS.c.challenge), primary_key=True),
    Column("claims", LargeBinary, nullable=False),
    Column("reports", LargeBinary, nullable=False),
    Column("basis", Text, nullable=False),
)
"""Raw evidence, and what its verification was given besides.

`reports`: framed (framing.py), chain id and SPDM bytes in turn. `basis`: JSON, what is common to its devices
(verifier/basis.py). What is over every budget is not kept; its hashes are.
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
    Column("basis", Text, nullable=False),
    PrimaryKeyConstraint("pdi", "received_at", "challenge"),
)
"""What each attestation showed about each authentic device.

JSON columns: `findings`, [reason, severity, detail]; `void_ranges`, [landmark key id, reason, detail]; `fix`; `basis`,
what its verification was given of this device: deployment and last accepted state (verifier/basis.py).
"""


REMOVALS = Table(
    "removals",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("older_than", BigInteger, nullable=False),
    Column("attestations", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)
"""Removals of raw evidence (docs/protocol.md K1): who asked for it, when and why, and how much it was."""


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
