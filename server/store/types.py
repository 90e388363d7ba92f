"""What goes into the store and comes out of it, as plain values. Times are aware; the columns hold microseconds."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime

from verifier.continuity import DeviceState
from verifier.errors import Reason
from verifier.evidence.attestation import IssuedChallenge, UnverifiedAttestation
from verifier.evidence.chain import DeviceKind
from verifier.place.fix import Fix
from verifier.place.landmarks import Landmark
from verifier.place.regions import Region
from verifier.units import ChainId, Challenge, DeviceKeyId, Pdi
from verifier.verdict import Finding, Standing, Verdict


@dataclass(frozen=True, slots=True)
class AttestationRecord:
    """One attestation with its verdict, to be made durable before any reply.

    Attributes:
        verdict: What the verifier found.
        attestation: The evidence as it arrived.
        issued: The challenge that it answers.
        preimage: `random[32] ‖ checkpoint[32]` of that challenge (docs/protocol.md §2).
        agent: Name of the agent that sent it, from its certificate.
        licensee: Licensee of that agent, from its certificate.
        new_chains: Chains to keep, DER certificates leaf first; those that are kept already are ignored.
        based_on: Last accepted states that the verdict compared with; a device that is missing had none.
    """

    verdict: Verdict
    attestation: UnverifiedAttestation
    issued: IssuedChallenge
    preimage: bytes
    agent: str
    licensee: str
    new_chains: Mapping[ChainId, Sequence[bytes]] = field(default_factory=dict)
    based_on: Mapping[Pdi, DeviceState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unwritten:
    """Records of a batch that were not written, by challenge; the others are durable.

    Attributes:
        spent: Their challenge was spent before (docs/protocol.md CH2).
        stale: A device moved on since their verdict was made: it must be made again from what stands now.
    """

    spent: frozenset[Challenge] = frozenset()
    stale: frozenset[Challenge] = frozenset()

    def among(self, challenges: AbstractSet[Challenge]) -> "Unwritten":
        """Return the part that concerns these challenges."""
        return Unwritten(self.spent & challenges, self.stale & challenges)


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A finding that stands, and since when it has without a break."""

    finding: Finding
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device as the store knows it: deployed, seen, or both.

    Attributes:
        pdi: Its identity.
        kind: None for a deployed device that never reported.
        device_key_id: None before the first verified report, as are `last_report_at`, `last_fix`, `last_attestation`.
        model: Empty before the first verified report; so are `firmware` and `host_id`.
        firmware: Name of its reference values, empty when unknown.
        host_id: The host that last reported it, as the host tells it.
        standing: None for a switch.
        license_number: Empty when no deployment names it; so is `licensee`.
        licensee: Who holds that license.
        region: Where the license says it may be; None without a deployment.
        last_report_at: Arrival of the last verified report.
        last_proof_at: Arrival of the last report in which its presence was proven, None when it never was.
        last_fix: What the last report's ranges showed.
        last_attestation: Challenge of the last verified attestation.
        findings: What stands open, worst first.
        change_number: Grows with every change of any device.
    """

    pdi: Pdi
    kind: DeviceKind | None
    device_key_id: DeviceKeyId | None
    model: str
    firmware: str
    host_id: str
    standing: Standing | None
    license_number: str
    licensee: str
    region: Region | None
    last_report_at: datetime | None
    last_proof_at: datetime | None
    last_fix: Fix | None
    last_attestation: Challenge | None
    findings: tuple[OpenFinding, ...]
    change_number: int


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices: every field that is set must match. Empty: all."""

    standing: Standing | None = None
    license_number: str | None = None
    licensee: str | None = None
    finding: Reason | None = None
    host_id: str | None = None
    kind: DeviceKind | None = None

    def matches(self, device: DeviceRecord) -> bool:
        """Say whether the device is among those that the same filter selects in a query."""
        return (
            (self.standing is None or device.standing is self.standing)
            and (self.license_number is None or device.license_number == self.license_number)
            and (self.licensee is None or device.licensee == self.licensee)
            and (self.finding is None or any(stands.finding.reason is self.finding for stands in device.findings))
            and (self.host_id is None or device.host_id == self.host_id)
            and (self.kind is None or device.kind is self.kind)
        )


@dataclass(frozen=True, slots=True)
class DevicePage:
    """One page, in the order of PDIs.

    Attributes:
        devices: The page.
        more: Devices follow after the last one of this page.
        total: Devices that match the filter, on all pages.
        change_number: The counter when the page was read.
    """

    devices: tuple[DeviceRecord, ...]
    more: bool
    total: int
    change_number: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Devices that changed, oldest change first, each once and as it stands now.

    Attributes:
        devices: Those with a change number above the one asked after.
        change_number: The cursor to go on from.
        more: Further changes wait behind the cursor.
    """

    devices: tuple[DeviceRecord, ...]
    change_number: int
    more: bool


@dataclass(frozen=True, slots=True)
class LandmarkRecord:
    """A landmark's record: what the verifier reads, and what only people and agents do.

    Attributes:
        landmark: The verifier's part. `revision` and `revised_at` are the store's; on import they are ignored.
        survey_method: How the position was surveyed, free text.
        endpoints: UDP endpoints as host:port or [host]:port, best first.
    """

    landmark: Landmark
    survey_method: str
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """What an import did, or would do."""

    created: int
    updated: int
    unchanged: int
