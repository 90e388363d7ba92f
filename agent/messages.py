"""Turns what the agent collected into messages of trigpoint.v1, and orders out of them.

Spec: proto/trigpoint/v1/attestation.proto. No decisions here.
"""

from collections import Counter
from collections.abc import Collection, Iterable

from trigpoint.v1 import attestation_pb2, device_pb2, reason_pb2

from agent.claims import Ranged
from agent.collect import Evidence, Order, Roster
from agent.sources.base import Kind, Why

_KINDS = {Kind.GPU: device_pb2.DEVICE_KIND_GPU, Kind.SWITCH: device_pb2.DEVICE_KIND_SWITCH}
_FAILURES = {
    Why.NO_REPLY: attestation_pb2.RANGE_FAILURE_NO_REPLY,
    Why.REFUSED: attestation_pb2.RANGE_FAILURE_REFUSED,
    Why.TOO_FEW_ROUNDS: attestation_pb2.RANGE_FAILURE_TOO_FEW_ROUNDS,
    Why.NO_RECEIPT: attestation_pb2.RANGE_FAILURE_NO_RECEIPT,
    Why.CANNOT_RANGE: attestation_pb2.RANGE_FAILURE_CANNOT_RANGE,
    Why.TOO_LATE: attestation_pb2.RANGE_FAILURE_TOO_LATE,
}


def inventory(host_id: str, roster: Roster, checkpoint: str) -> attestation_pb2.AttestRequest:
    """Return the Inventory of a host (docs/protocol.md A1), with the largest checkpoint that it was sent (A8)."""
    devices = [
        attestation_pb2.InventoryDevice(
            pdi=entry.device.pdi,
            kind=_KINDS[entry.device.kind],
            board=entry.device.board[:64],
            chain_id=entry.chain_id,
        )
        for entry in roster.devices
    ]
    return attestation_pb2.AttestRequest(
        inventory=attestation_pb2.Inventory(host_id=host_id, devices=devices, checkpoint=checkpoint)
    )


def orders(step: attestation_pb2.RangeOrders) -> tuple[Order, ...]:
    """Return the orders of one step."""
    return tuple(Order(order.pdi, order.landmark_key_id, tuple(order.endpoints), order.ticket) for order in step.orders)


def range_results(step: attestation_pb2.RangeOrders, ranges: Iterable[Ranged]) -> attestation_pb2.AttestRequest:
    """Return the answer to one step of orders (docs/protocol.md A3)."""
    results = [
        attestation_pb2.RangeResult(pdi=item.pdi, landmark_key_id=item.landmark_key_id, failure=_FAILURES[item.outcome])
        if isinstance(item.outcome, Why)
        else attestation_pb2.RangeResult(
            pdi=item.pdi, landmark_key_id=item.landmark_key_id, receipt=item.outcome.receipt
        )
        for item in ranges
    ]
    return attestation_pb2.AttestRequest(
        range_results=attestation_pb2.RangeResults(
            host_id=step.host_id, challenge=step.challenge, step=step.step, results=results
        )
    )


def attestation(
    host_id: str, challenge: bytes, evidence: Evidence, known_chains: Collection[bytes]
) -> attestation_pb2.AttestRequest:
    """Return a batch of one attestation, with the chains that the server has not named as known (A4)."""
    missing = {
        report.host_device.chain_id: report.host_device.chain
        for report in evidence.reports
        if report.host_device.chain_id not in known_chains
    }
    batch = attestation_pb2.AttestationBatch(
        attestations=[
            attestation_pb2.Attestation(
                host_id=host_id,
                challenge=challenge,
                claims=evidence.claims,
                reports=[
                    attestation_pb2.DeviceReport(spdm=report.spdm, chain_id=report.host_device.chain_id)
                    for report in evidence.reports
                ],
            )
        ],
        chains=[attestation_pb2.CertificateChain(certificates=chain) for chain in missing.values()],
    )
    return attestation_pb2.AttestRequest(attestations=batch)


def summary(verdict: attestation_pb2.Verdict) -> dict[str, object]:
    """Return a verdict as the fields of one log event."""
    fields: dict[str, object] = {"challenge": verdict.challenge.hex()}
    if verdict.HasField("rejection"):
        fields["rejected"] = reason_name(verdict.rejection.reason)
        fields["detail"] = verdict.rejection.detail
        return fields
    standings = Counter(
        device_pb2.Standing.Name(device.standing).removeprefix("STANDING_")
        for device in verdict.devices
        if device.standing != device_pb2.STANDING_UNSPECIFIED
    )
    fields["devices"] = len(verdict.devices)
    fields["standings"] = dict(sorted(standings.items()))
    fields["findings"] = [
        f"{device.pdi.hex()} {reason_name(finding.reason)}" for device in verdict.devices for finding in device.findings
    ]
    fields["refused_reports"] = [
        f"{refused.index} {reason_name(refused.rejection.reason)}: {refused.rejection.detail}"
        for refused in verdict.report_rejections
    ]
    return fields


def reason_name(reason: reason_pb2.Reason.ValueType) -> str:
    """Return a reason's name without its prefix; its number when this agent is older than the reason."""
    try:
        return reason_pb2.Reason.Name(reason).removeprefix("REASON_")
    except ValueError:
        return str(int(reason))
