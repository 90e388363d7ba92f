"""Between protobuf and core types, for everything that an Attest stream carries. No other module knows both.

What is checked here is the frame: sizes of ids, counts, fields that must be set. Its errors are INVALID_ARGUMENT and
name the field, since a broken frame is the sender's fault. Budgets on evidence are the verifier's (LIMIT_EXCEEDED): one
host's bad evidence must not end a relay's stream.
"""

import itertools
from collections.abc import Iterable
from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from trigpoint.v1 import attestation_pb2, device_pb2, place_pb2, reason_pb2

from server.intake.ranging_plan import ListedDevice
from server.intake.stream import (
    AttestationBatch,
    Incoming,
    Inventory,
    NewChallenge,
    Orders,
    Outgoing,
    RangeResults,
    Verdicts,
)
from server.rpc.errors import InvalidArgumentError
from verifier.evidence.attestation import UnverifiedAttestation, UnverifiedReport
from verifier.evidence.chain import DeviceKind
from verifier.journal.notes import MAX_NOTE_BYTES
from verifier.limits import CHAIN_LENGTH, MAX_RANGES, MAX_RECEIPT_BYTES, MAX_REPORTS
from verifier.place.answers import Depths, DiscUse
from verifier.place.fix import Fix
from verifier.place.ranging import VoidRange
from verifier.units import ChainId, Challenge, Pdi
from verifier.verdict import DeviceVerdict, Finding, Rejection, Verdict

MAX_HOST_ID_CHARACTERS = 128
MAX_BOARD_CHARACTERS = 64
MAX_BATCH = 256
MAX_CHAINS = MAX_BATCH * MAX_REPORTS
_ID_BYTES = 32
_PDI_BYTES = 8


def request_from_proto(request: attestation_pb2.AttestRequest) -> Incoming:
    """Take one message of an agent; raises `InvalidArgumentError`."""
    match request.WhichOneof("message"):
        case "inventory":
            return _inventory(request.inventory)
        case "range_results":
            return _range_results(request.range_results)
        case "attestations":
            return _batch(request.attestations)
        case _:
            raise InvalidArgumentError("message", "exactly one message must be set")


def response_to_proto(event: Outgoing) -> attestation_pb2.AttestResponse:
    """Make the message that tells an agent of `event`."""
    match event:
        case NewChallenge(issued, known_chains, checkpoint):
            challenge = attestation_pb2.Challenge(
                host_id=issued.host_id,
                challenge=issued.challenge,
                life=Duration(),
                known_chains=known_chains,
                checkpoint=checkpoint,
            )
            challenge.life.FromTimedelta(issued.life)
            return attestation_pb2.AttestResponse(challenge=challenge)
        case Orders(issued, step):
            orders = [
                attestation_pb2.RangeOrder(
                    pdi=order.pdi, landmark_key_id=order.landmark, endpoints=order.endpoints, ticket=order.ticket
                )
                for order in step.orders
            ]
            return attestation_pb2.AttestResponse(
                range_orders=attestation_pb2.RangeOrders(
                    host_id=issued.host_id,
                    challenge=issued.challenge,
                    step=step.number,
                    orders=orders,
                    final=step.final,
                )
            )
        case Verdicts(answers, known_chains):
            verdicts = itertools.starmap(verdict_to_proto, answers)
            batch = attestation_pb2.VerdictBatch(verdicts=verdicts, known_chains=known_chains)
            return attestation_pb2.AttestResponse(verdicts=batch)


def attestation_from_proto(message: attestation_pb2.Attestation, field: str = "attestation") -> UnverifiedAttestation:
    """Take one host's evidence; raises `InvalidArgumentError` naming the field below `field`."""
    # One more than the verifier takes is enough for it to refuse them; the rest would only cost memory.
    reports = tuple(
        UnverifiedReport(report.spdm, ChainId(_sized(report.chain_id, _ID_BYTES, f"{field}.reports[{index}].chain_id")))
        for index, report in enumerate(message.reports[: MAX_REPORTS + 1])
    )
    return UnverifiedAttestation(
        _host_id(message.host_id, f"{field}.host_id"),
        Challenge(_sized(message.challenge, _ID_BYTES, f"{field}.challenge")),
        message.claims,
        reports,
    )


def verdict_to_proto(verdict: Verdict, result: str) -> attestation_pb2.Verdict:
    """Make the message of a verdict, with its result."""
    message = attestation_pb2.Verdict(
        host_id=verdict.host_id,
        challenge=verdict.challenge,
        receive_time=timestamp_to_proto(verdict.received_at),
        devices=map(_device_verdict_to_proto, verdict.devices),
        result=result,
    )
    if verdict.rejection is not None:
        message.rejection.CopyFrom(_rejection_to_proto(verdict.rejection))
    for report in verdict.report_rejections:
        message.report_rejections.add(index=report.index, rejection=_rejection_to_proto(report.rejection))
    return message


def finding_to_proto(finding: Finding, opened_at: datetime | None = None) -> device_pb2.Finding:
    """Make the message of a finding. Without `opened_at` it does not say since when the finding has stood."""
    message = device_pb2.Finding(
        reason=reason_pb2.Reason.ValueType(finding.reason),
        severity=device_pb2.Severity.ValueType(finding.severity),
        detail=finding.detail,
    )
    if opened_at is not None:
        message.open_time.CopyFrom(timestamp_to_proto(opened_at))
    return message


def fix_to_proto(fix: Fix) -> place_pb2.Fix:
    """Make the message of a fix, with every number that its proof needs."""
    return place_pb2.Fix(
        ranged_by=fix.ranged_by,
        assurance=place_pb2.Assurance.ValueType(fix.assurance),
        in_licensed_region=place_pb2.PlaceAnswer.ValueType(fix.in_licensed_region),
        outside_prohibited=place_pb2.PlaceAnswer.ValueType(fix.outside_prohibited),
        discs=map(_disc_to_proto, fix.discs),
        tolerated_domains=fix.tolerated_domains,
        least_violations=fix.least_violations,
        border_margin_km=fix.border_margin_km,
        borders_version=fix.borders_version,
        prohibited_version=fix.prohibited_version,
        explanation=fix.explanation,
        demonstration=fix.demonstration,
        contradicting_domains=fix.contradicting,
        licensed_depths=_depths_to_proto(fix.licensed_depths),
        outside_depths=_depths_to_proto(fix.outside_depths),
    )


def timestamp_to_proto(moment: datetime) -> Timestamp:
    """Make the message of an aware moment."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def _inventory(message: attestation_pb2.Inventory) -> Inventory:
    field = "inventory.devices"
    if not 1 <= len(message.devices) <= MAX_REPORTS:
        raise InvalidArgumentError(field, f"{len(message.devices)} devices; 1 to {MAX_REPORTS}")
    devices = []
    for index, device in enumerate(message.devices):
        if device.kind not in (device_pb2.DEVICE_KIND_GPU, device_pb2.DEVICE_KIND_SWITCH):
            raise InvalidArgumentError(f"{field}[{index}].kind", "must be GPU or SWITCH")
        if len(device.board) > MAX_BOARD_CHARACTERS:
            raise InvalidArgumentError(f"{field}[{index}].board", f"more than {MAX_BOARD_CHARACTERS} characters")
        pdi = Pdi(_sized(device.pdi, _PDI_BYTES, f"{field}[{index}].pdi"))
        chain = ChainId(_sized(device.chain_id, _ID_BYTES, f"{field}[{index}].chain_id"))
        devices.append(ListedDevice(pdi, DeviceKind(device.kind), device.board, chain))
    if len({device.pdi for device in devices}) != len(devices):
        raise InvalidArgumentError(field, "a device is listed twice")
    checkpoint = message.checkpoint.encode()
    if len(checkpoint) > MAX_NOTE_BYTES:
        raise InvalidArgumentError("inventory.checkpoint", f"more than {MAX_NOTE_BYTES} bytes")
    return Inventory(_host_id(message.host_id, "inventory.host_id"), tuple(devices), checkpoint)


def _range_results(message: attestation_pb2.RangeResults) -> RangeResults:
    field = "range_results"
    if len(message.results) > MAX_RANGES:
        raise InvalidArgumentError(f"{field}.results", f"{len(message.results)} results; at most {MAX_RANGES}")
    if not message.step:
        raise InvalidArgumentError(f"{field}.step", "steps are numbered from 1")
    receipts: dict[Pdi, list[bytes]] = {}
    for index, result in enumerate(message.results):
        pdi = Pdi(_sized(result.pdi, _PDI_BYTES, f"{field}.results[{index}].pdi"))
        _sized(result.landmark_key_id, _ID_BYTES, f"{field}.results[{index}].landmark_key_id")
        match result.WhichOneof("outcome"):
            case "receipt":
                if len(result.receipt) > MAX_RECEIPT_BYTES:
                    raise InvalidArgumentError(
                        f"{field}.results[{index}].receipt", f"more than {MAX_RECEIPT_BYTES} bytes"
                    )
                receipts.setdefault(pdi, []).append(result.receipt)
            case "failure":
                pass
            case _:
                raise InvalidArgumentError(f"{field}.results[{index}].outcome", "exactly one outcome must be set")
    challenge = Challenge(_sized(message.challenge, _ID_BYTES, f"{field}.challenge"))
    return RangeResults(_host_id(message.host_id, f"{field}.host_id"), challenge, message.step, receipts)


def _batch(message: attestation_pb2.AttestationBatch) -> AttestationBatch:
    field = "attestations.attestations"
    if not 1 <= len(message.attestations) <= MAX_BATCH:
        raise InvalidArgumentError(field, f"{len(message.attestations)} attestations; 1 to {MAX_BATCH}")
    attestations = tuple(attestation_from_proto(a, f"{field}[{index}]") for index, a in enumerate(message.attestations))
    return AttestationBatch(attestations, tuple(_chains(message.chains)), message.ByteSize())


def _chains(messages: Iterable[attestation_pb2.CertificateChain]) -> Iterable[tuple[bytes, ...]]:
    for index, chain in enumerate(messages):
        if index >= MAX_CHAINS:
            raise InvalidArgumentError("attestations.chains", f"more than {MAX_CHAINS} chains")
        # How many certificates, and how large, is the verifier's to judge: a chain is evidence. One too many is enough.
        yield tuple(chain.certificates[: CHAIN_LENGTH + 1])


def _host_id(text: str, field: str) -> str:
    if not 1 <= len(text) <= MAX_HOST_ID_CHARACTERS:
        raise InvalidArgumentError(field, f"{len(text)} characters; 1 to {MAX_HOST_ID_CHARACTERS}")
    return text


def _sized(data: bytes, size: int, field: str) -> bytes:
    if len(data) != size:
        raise InvalidArgumentError(field, f"{len(data)} bytes; exactly {size}")
    return data


def _rejection_to_proto(rejection: Rejection) -> attestation_pb2.Rejection:
    return attestation_pb2.Rejection(reason=reason_pb2.Reason.ValueType(rejection.reason), detail=rejection.detail)


def _device_verdict_to_proto(device: DeviceVerdict) -> device_pb2.DeviceVerdict:
    message = device_pb2.DeviceVerdict(
        pdi=device.pdi,
        kind=device_pb2.DeviceKind.ValueType(device.kind),
        device_key_id=device.device_key_id,
        standing=device_pb2.Standing.ValueType(device.standing or device_pb2.STANDING_UNSPECIFIED),
        findings=map(finding_to_proto, device.findings),
        proven_edges=device.proven_edges,
        firmware=device.firmware,
        void_ranges=map(_void_to_proto, device.void_ranges),
    )
    if device.fix is not None:
        message.fix.CopyFrom(fix_to_proto(device.fix))
    return message


def _void_to_proto(void: VoidRange) -> device_pb2.VoidRange:
    return device_pb2.VoidRange(
        landmark_key_id=void.landmark, reason=reason_pb2.Reason.ValueType(void.reason), detail=void.detail
    )


def _disc_to_proto(disc: DiscUse) -> place_pb2.Disc:
    return place_pb2.Disc(
        landmark_id=disc.landmark_id,
        domain=disc.domain,
        rtt_ns=disc.rtt_ns,
        radius_km=disc.radius_km,
        licensed_region_km=disc.licensed_region_km,
        prohibited_km=disc.prohibited_km,
        excludes_licensed_region=disc.excludes_licensed_region,
        within_licensed_region=disc.within_licensed_region,
        excludes_prohibited=disc.excludes_prohibited,
        within_prohibited=disc.within_prohibited,
        latitude=disc.position.latitude,
        longitude=disc.position.longitude,
        landmark_revision=disc.landmark_revision,
        fibre_radius_km=disc.fibre_radius_km,
        may_accuse=disc.may_accuse,
        may_prove_site=disc.may_prove_site,
    )


def _depths_to_proto(depths: Depths) -> place_pb2.Depths:
    return place_pb2.Depths(
        in_region=depths.in_region,
        in_complement=depths.in_complement,
        in_complement_fibre=depths.in_complement_fibre,
        by_several=depths.by_several,
    )
