"""What a verification returns. Plain values: nothing here decides anything."""

import enum
from dataclasses import dataclass
from datetime import datetime

from verifier.continuity import DeviceState
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import Adoption
from verifier.place.fix import Fix
from verifier.place.ranging import VoidRange
from verifier.units import ChainId, Challenge, DeviceKeyId, Pdi


@enum.unique
class Severity(enum.IntEnum):
    """How much a finding weighs. Values equal `trigpoint.v1.Severity`."""

    NOTICE = 1
    WARNING = 2
    VIOLATION = 3


@enum.unique
class Standing(enum.IntEnum):
    """How a deployed device stands. Values equal `trigpoint.v1.Standing`."""

    COMPLIANT = 1
    UNPROVEN = 2
    SILENT = 3
    VIOLATION = 4
    UNLICENSED = 5


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a piece of evidence was refused: one reason, and what exactly, for a person."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class ReportRejection:
    """A refused report, by its index in the attestation."""

    index: int
    rejection: Rejection


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that authentic evidence, or its absence, shows about one device."""

    reason: Reason
    severity: Severity
    detail: str


@dataclass(frozen=True, slots=True)
class DeviceVerdict:
    """What one attestation showed about one authentic device.

    Attributes:
        pdi: Its identity.
        kind: GPU or switch.
        device_key_id: Its ROM key's id.
        chain_id: The chain that endorsed it.
        model: Product name from the certificates.
        firmware: Name of its reference values, empty when none are known.
        standing: None for a switch, which is a witness and has none.
        findings: Worst first.
        fix: What ranges show about its place; None without one.
        presence_proven: The license's presence question is PROVEN.
        proven_edges: The devices at the other end of its proven edges, sorted.
        state: What to keep as its last accepted state.
        void_ranges: Its ranges that were dropped; they never accuse.
        adopted: The deployment by key or board that it came under with this report; None when it had its own, or none.
        swapped: It sits on the board now that its deployment's swap names.
    """

    pdi: Pdi
    kind: DeviceKind
    device_key_id: DeviceKeyId
    chain_id: ChainId
    model: str
    firmware: str
    standing: Standing | None
    findings: tuple[Finding, ...]
    fix: Fix | None
    presence_proven: bool
    proven_edges: tuple[Pdi, ...]
    state: DeviceState
    void_ranges: tuple[VoidRange, ...] = ()
    adopted: Adoption | None = None
    swapped: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one attestation showed.

    Attributes:
        host_id: The host that the challenge was issued to.
        challenge: It names the attestation.
        received_at: Arrival, by the shell's clock.
        rejection: Why the attestation as a whole was refused; then nothing else is set.
        report_rejections: Reports that were refused, each with one reason.
        devices: One for each authentic report, in the order of the reports.
    """

    host_id: str
    challenge: Challenge
    received_at: datetime
    rejection: Rejection | None
    report_rejections: tuple[ReportRejection, ...]
    devices: tuple[DeviceVerdict, ...]
