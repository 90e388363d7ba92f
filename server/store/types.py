"""What goes into the store and comes out of it, as plain values. Times are aware; the columns hold microseconds."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from server.records.values import LicenseRecord, Selector
from verifier.basis import Basis
from verifier.continuity import DeviceState
from verifier.errors import Reason
from verifier.evidence.attestation import IssuedChallenge, UnverifiedAttestation
from verifier.evidence.chain import DeviceKind
from verifier.license import Adoption, Deployment, Presence
from verifier.place.answers import Assurance
from verifier.place.audit import Distrust, PairRange
from verifier.place.fix import Fix
from verifier.place.landmarks import Landmark
from verifier.place.regions import Region
from verifier.units import ChainId, Challenge, DeviceKeyId, LandmarkId, Pdi
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
        as_of: Number of the records that the verdict was made under (docs/protocol.md RC6); None: those that stand.
        basis: What the verification was given besides the evidence.
        result: Its EAR, a JWT (docs/protocol.md EA1); empty when it is rejected.
    """

    verdict: Verdict
    attestation: UnverifiedAttestation
    issued: IssuedChallenge
    preimage: bytes
    agent: str
    licensee: str
    new_chains: Mapping[ChainId, Sequence[bytes]] = field(default_factory=dict)
    based_on: Mapping[Pdi, DeviceState] = field(default_factory=dict)
    as_of: int | None = None
    basis: Basis = field(default_factory=Basis)
    result: str = ""


@dataclass(frozen=True, slots=True)
class LoadedInputs:
    """What a verification needs of the records and of what was accepted before.

    Attributes:
        deployments: In force; a device without one is missing.
        last: Last accepted states; a device that never reported is missing.
        adoptions: Deployments by device key or board that are in force, by device key id or PDI of the switch
            (docs/protocol.md RC8).
    """

    deployments: Mapping[Pdi, Deployment] = field(default_factory=dict)
    last: Mapping[Pdi, DeviceState] = field(default_factory=dict)
    adoptions: Mapping[bytes, Adoption] = field(default_factory=dict)


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
        license_number: Empty without a deployment in force; so are `licensee` and all that is said of its site.
        licensee: Who holds that license.
        site_id: The site, by its id in the license.
        site_title: And by its name for people.
        jurisdiction: Country whose officers may see it; empty: those of the home authority alone.
        region: Where the license says it may be; None without a deployment in force.
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
    site_id: str
    site_title: str
    jurisdiction: str
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
    site_id: str | None = None
    jurisdiction: str | None = None

    def matches(self, device: DeviceRecord) -> bool:
        """Say whether the device is among those that the same filter selects in a query."""
        return (
            (self.standing is None or device.standing is self.standing)
            and (self.license_number is None or device.license_number == self.license_number)
            and (self.licensee is None or device.licensee == self.licensee)
            and (self.finding is None or any(stands.finding.reason is self.finding for stands in device.findings))
            and (self.host_id is None or device.host_id == self.host_id)
            and (self.kind is None or device.kind is self.kind)
            and (self.site_id is None or device.site_id == self.site_id)
            and (self.jurisdiction is None or device.jurisdiction == self.jurisdiction)
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
        operator_key: Raw Ed25519 key that the record is signed with; empty when it is not signed.
        operator_signature: COSE_Sign1 that was verified (docs/protocol.md LA8); empty when it is not signed.
    """

    landmark: Landmark
    survey_method: str
    endpoints: tuple[str, ...]
    operator_key: bytes = b""
    operator_signature: bytes = b""


@dataclass(frozen=True, slots=True)
class ProvenRange:
    """A range between two landmarks that was verified (docs/protocol.md LA2), with its evidence.

    Attributes:
        pair: Who ranged whom, and the time that was signed.
        received_at: When its evidence arrived.
        challenge: That it answers, 32 bytes.
        receipt: The ranging landmark's, COSE_Sign1.
        statement: The answering landmark's, COSE_Sign1.
        answered: Mask of the rounds answered, 8 bytes.
    """

    pair: PairRange
    received_at: datetime
    challenge: Challenge
    receipt: bytes
    statement: bytes
    answered: bytes


class LandmarkRange(NamedTuple):
    """What counts of all ranges of an ordered pair: the least of a day, and when the latest arrived."""

    pair: PairRange
    latest_at: datetime


@dataclass(frozen=True, slots=True)
class DistrustRecord:
    """A distrust that stands.

    Attributes:
        distrust: What the newest audit found.
        since: When it began.
        settled: Every device whose fix used the landmark has been appraised again.
    """

    distrust: Distrust
    since: datetime
    settled: bool


@dataclass(frozen=True, slots=True)
class LandmarkPage:
    """Up to `limit` landmarks behind `after`, in the order of ids."""

    after: LandmarkId | None
    limit: int


@dataclass(frozen=True, slots=True)
class AuditInputs:
    """All that an audit looks at, as of one moment.

    Attributes:
        basis: Names the state; it grows with each change of it.
        records: Every landmark, in the order of ids, with what the audits before say.
        chosen: Those whose ranges were read, in the order of ids.
        ranges: Of each pair whose answering landmark was chosen.
        distrust: What stands.
        audited_at: When the newest audit ran; None before the first.
    """

    basis: int
    records: tuple[LandmarkRecord, ...]
    chosen: tuple[LandmarkId, ...]
    ranges: tuple[LandmarkRange, ...]
    distrust: Mapping[LandmarkId, DistrustRecord]
    audited_at: datetime | None


@dataclass(frozen=True, slots=True)
class AuditOutcome:
    """Whose distrust an audit began, and whose it ended."""

    begun: tuple[Distrust, ...]
    ended: tuple[LandmarkId, ...]


@dataclass(frozen=True, slots=True)
class LocatedDevice:
    """A deployed GPU with the fix that its standing rests on.

    Attributes:
        pdi: Its identity.
        last_attestation: The attestation that the fix is from.
        fix: As it stands.
        presence: The question that its license counts.
        assurance: The least assurance of ranges that count.
        region: Where it may be.
    """

    pdi: Pdi
    last_attestation: Challenge
    fix: Fix
    presence: Presence
    assurance: Assurance
    region: Region


@dataclass(frozen=True, slots=True)
class Reappraisal:
    """What a device's last fix shows without landmarks that are distrusted by now (docs/protocol.md LA6).

    Attributes:
        device: As it was read; if it has moved on since, nothing is changed.
        fix: The new fix; None when no disc is left.
        findings: All findings of place that follow.
        proven: The license's question about presence is answered.
    """

    device: LocatedDevice
    fix: Fix | None
    findings: tuple[Finding, ...]
    proven: bool


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """What an import did, or would do."""

    created: int
    updated: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class ImportShipment:
    """The shipment that a row names."""

    shipment_id: str
    shipped_at: datetime
    activation_by: datetime


@dataclass(frozen=True, slots=True)
class ImportRow:
    """One row of a deployment file.

    Attributes:
        selector: Which devices.
        license: Its terms, ECCN and quantity. State, parties and revision are not the file's to say; an empty ECCN and
            no quantity leave what stands.
        site_title: Name of the site for people; empty: made from the region.
        region: Where the site is.
        jurisdiction: Of a site that is new; None: that of a region of one country, else none.
        shipment: What brings them; None leaves what stands.
    """

    selector: Selector
    license: LicenseRecord
    site_title: str
    region: Region
    jurisdiction: str | None = None
    shipment: ImportShipment | None = None


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """What an import came to, or would.

    Attributes:
        counts: Of deployments.
        touches_force: It changes something of a license in force, which takes two people (docs/protocol.md RC4).
        licensees: Whom it concerns, sorted.
        summary: In a few lines, for who is to approve it.
        basis: Number of the records that it was counted against.
    """

    counts: ImportCounts
    touches_force: bool
    licensees: tuple[str, ...]
    summary: tuple[str, ...]
    basis: int
