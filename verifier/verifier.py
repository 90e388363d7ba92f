"""The verifier: one attestation and what the shell loaded for it, in; one verdict, out.

Read `Verifier.verify` to understand the service. It keeps to docs/protocol.md: authentic first, then acceptable (AP1).
It does no I/O, reads no clock and draws no random number; time and records are arguments.

Checks that a reader may expect here and that are made elsewhere: who the peer is and what it may do
(server/rpc/access.py), that a challenge is spent once (server/intake/challenges.py), that two workers do not both
accept one counter (the store's commit), silence (server/desk/sweep.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from verifier import appraise, continuity
from verifier.continuity import DeviceState
from verifier.errors import EvidenceError, RangeError
from verifier.evidence import board, claims, measurements, spdm
from verifier.evidence.attestation import (
    DeviceReport,
    IssuedChallenge,
    UnverifiedAttestation,
    verify_challenge,
    verify_device_list,
)
from verifier.evidence.board import Boards
from verifier.evidence.chain import ChainVerifier, DeviceKind, TrustRoots
from verifier.evidence.measurements import ReferenceValues
from verifier.license import Adoption, Deployment, License
from verifier.place import ranging
from verifier.place.fix import Fix, locate
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.ranging import Ranges, VerifiedRange, VoidRange
from verifier.place.regions import Region
from verifier.units import ChainId, Pdi
from verifier.verdict import DeviceVerdict, Rejection, ReportRejection, Verdict


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that one verification needs besides the evidence; the shell loads it first.

    Attributes:
        now: Arrival of the attestation, aware.
        challenge: The challenge that was issued for it.
        reporter_licensee: Licensee of the agent that sent it, from its certificate.
        chains: DER certificates, leaf first, of every chain that the reports may name.
        landmarks: The registry in force when the challenge was issued.
        deployments: Records of the devices that may report; a missing one is an unknown device.
        last: Last accepted state of these devices; a missing one was never accepted.
        adoptions: Deployments by key or board that they may come under, by selector.
    """

    now: datetime
    challenge: IssuedChallenge
    reporter_licensee: str
    chains: Mapping[ChainId, Sequence[bytes]]
    landmarks: LandmarkRegistry
    deployments: Mapping[Pdi, Deployment]
    last: Mapping[Pdi, DeviceState] = field(default_factory=dict)
    adoptions: Mapping[bytes, Adoption] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one device is, and the ranges that were good but do not count."""

    fix: Fix | None
    not_counted: tuple[VoidRange, ...]


_NOWHERE = _Place(None, ())


class Verifier:
    """Verifies attestations under one set of roots, reference values and place policy.

    It holds caches that change no result (verified chains by their hash), so one instance serves one thread.
    """

    def __init__(self, roots: TrustRoots, references: ReferenceValues, place_policy: PlacePolicy) -> None:
        self._chains = ChainVerifier(roots)
        self._references = references
        self._place_policy = place_policy

    def verify(self, attestation: UnverifiedAttestation, inputs: Inputs) -> Verdict:
        """Verify one attestation.

        Never raises for bad evidence: a denial is a verdict. The steps:

        0. Check budgets before any cryptography.
        1. Check the challenge: the one issued, for this host, still alive.
        2. Parse the claims and derive the one nonce that every report must carry.
        3. Verify each report: its chain to a pinned root, its signature, its nonce, its firmware id, its place in the
        device list.
        4. Join devices by board edges that both ends signed; find the deployment of each, by PDI, key or board.
        5. Compare firmware with reference values.
        6. Verify ranges: landmark's receipt against the device's signed log.
        7. Turn ranges into discs, and discs into answers to the two questions of place, for each device with a
        deployment.
        8. Compare with the last accepted state: counters, board, place.
        9. Appraise: findings and standing.
        """
        try:
            # 0. Budgets.
            attestation.check_limits()
            # 1. Challenge.
            verify_challenge(attestation, inputs.challenge, inputs.now)
            # 2. Claims.
            stated = claims.parse_claims(attestation.claims)
            claims.verify_binding(
                stated, attestation.host_id, attestation.challenge, report_count=len(attestation.reports)
            )
        except EvidenceError as error:
            return _rejected(attestation, inputs, error)
        nonce = claims.requester_nonce(attestation.claims)

        # 3. Reports. One bad report does not hide the others (docs/protocol.md CL5).
        reports: list[DeviceReport] = []
        refused: list[ReportRejection] = []
        for index, unverified in enumerate(attestation.reports):
            try:
                verified_chain = self._chains.verify(
                    unverified.chain_id, inputs.chains.get(unverified.chain_id), inputs.now
                )
                report = spdm.verify_report(unverified.spdm, verified_chain, nonce)
                verify_device_list(index, verified_chain, stated.devices)
                reports.append(DeviceReport(index, verified_chain, report))
            except EvidenceError as error:
                refused.append(ReportRejection(index, Rejection(error.reason, str(error))))

        # 4. Board, and deployments: those by key or board need proven chains and edges.
        boards = board.join(reports)
        deployments, adopted = _deployed(reports, boards, inputs)

        # 5. Firmware.
        firmware = {r.pdi: measurements.compare(r.chain, r.report, self._references) for r in reports}

        # 6. Ranges. A void one is dropped with its reason.
        ranges = ranging.verify_ranges(stated, reports, firmware, inputs.challenge.challenge, inputs.landmarks)

        # 7. Place. A fix extends along proven edges and no further.
        places = self._locate(reports, boards, ranges, deployments, inputs)

        # 8. Continuity.
        issued_at = inputs.challenge.issued_at
        changes = {
            r.pdi: continuity.compare(
                r,
                boards,
                places.get(r.pdi, _NOWHERE).fix,
                inputs.last.get(r.pdi),
                deployments[r.pdi].swap if r.pdi in deployments else None,
                issued_at,
                inputs.now,
            )
            for r in reports
        }

        # 9. Appraisal.
        verdicts: list[DeviceVerdict] = []
        for device in reports:
            place = places.get(device.pdi, _NOWHERE)
            verdicts.append(
                appraise.appraise_device(
                    report=device,
                    boards=boards,
                    firmware=firmware[device.pdi],
                    voids=(*ranges.voids_of(device.pdi), *place.not_counted),
                    fix=place.fix,
                    changes=changes[device.pdi],
                    deployment=deployments.get(device.pdi),
                    adopted=adopted.get(device.pdi),
                    reporter_licensee=inputs.reporter_licensee,
                    now=inputs.now,
                )
            )
        return Verdict(attestation.host_id, attestation.challenge, inputs.now, None, tuple(refused), tuple(verdicts))

    def provisional_fix(
        self,
        receipts: Iterable[bytes],
        region: Region,
        issued: IssuedChallenge,
        registry: LandmarkRegistry,
        held: License,
        now: datetime,
        pdi: Pdi,
    ) -> Fix | None:
        """Say what receipts would show if the device's log bears them out.

        It helps to choose the next landmarks and is never evidence.

        Args:
            receipts: As the landmarks signed them; those that do not verify are passed over.
            region: The licensed region.
            issued: The open challenge.
            registry: The registry in force.
            held: The license.
            now: Time, aware.
            pdi: The device that ranges.
        """
        ranges: list[VerifiedRange] = []
        for data in receipts:
            try:
                receipt = ranging.verify_receipt(data, issued.challenge, registry)
            except RangeError:
                continue
            ranges.append(VerifiedRange(pdi, receipt.landmark, receipt.rtt_ns))
        policy = self._place_policy.tolerating(held.tolerated_domains)
        found, _ = locate(ranges, region, registry, policy, held.licensee, issued.issued_at, now)
        return found

    def _locate(
        self,
        reports: Iterable[DeviceReport],
        boards: Boards,
        ranges: Ranges,
        deployments: Mapping[Pdi, Deployment],
        inputs: Inputs,
    ) -> dict[Pdi, _Place]:
        """Locate every device that has a deployment; devices that share ranges and license share the work."""
        places: dict[Pdi, _Place] = {}
        known: dict[tuple[tuple[VerifiedRange, ...], Region, str, int | None], _Place] = {}
        for device in reports:
            deployment = deployments.get(device.pdi)
            if deployment is None:
                continue
            held = deployment.license
            # docs/protocol.md B2: its own ranges, else those of the board that proven edges join it to.
            used = ranges.of(device.pdi) or tuple(r for r in ranges.verified if r.pdi in boards.group[device.pdi])
            key = (used, deployment.region, held.licensee, held.tolerated_domains)
            if key not in known:
                found, dropped = locate(
                    used,
                    deployment.region,
                    inputs.landmarks,
                    self._place_policy.tolerating(held.tolerated_domains),
                    held.licensee,
                    inputs.challenge.issued_at,
                    inputs.now,
                )
                not_counted = tuple(
                    VoidRange(r.pdi, r.landmark.key_id, error.reason, str(error)) for r, error in dropped
                )
                known[key] = _Place(found, not_counted)
            places[device.pdi] = known[key]
        return places


def _deployed(
    reports: Iterable[DeviceReport], boards: Boards, inputs: Inputs
) -> tuple[dict[Pdi, Deployment], dict[Pdi, Adoption]]:
    """Return each GPU's deployment, and by which one a GPU without its own came under it."""
    deployments = dict(inputs.deployments)
    adopted: dict[Pdi, Adoption] = {}
    left = {selector: adoption.left for selector, adoption in inputs.adoptions.items()}
    for device in reports:
        if device.kind is not DeviceKind.GPU or device.pdi in deployments:
            continue
        # docs/protocol.md RC8: by its key, else by its board.
        for selector in (device.chain.device_key_id, *sorted(boards.edges[device.pdi])):
            if left.get(selector, 0) > 0:
                left[selector] -= 1
                adoption = adopted[device.pdi] = inputs.adoptions[selector]
                deployments[device.pdi] = Deployment(device.pdi, adoption.license, adoption.region)
                break
    return deployments, adopted


def _rejected(attestation: UnverifiedAttestation, inputs: Inputs, error: EvidenceError) -> Verdict:
    return Verdict(attestation.host_id, attestation.challenge, inputs.now, Rejection(error.reason, str(error)), (), ())
