"""What one group of attestations changes, in one transaction: evidence, verdicts, and what follows (latest.py)."""

from collections.abc import Iterable, Sequence
from hashlib import sha256

from sqlalchemy import Connection, insert, select

from server.store.framing import pack
from server.store.landmark_uptime import mark_landmarks
from server.store.latest import Latest
from server.store.materials import keep_materials
from server.store.rows import Values, chunks
from server.store.schema import ATTESTATIONS, CHAINS, DEVICE_VERDICTS, EVIDENCE
from server.store.types import AttestationRecord, Unwritten
from server.times import micros
from verifier.errors import Reason
from verifier.units import ChainId, Challenge, LandmarkId
from verifier.verdict import DeviceVerdict
from verifier.verdict_json import findings_to_json, fix_to_json, report_rejections_to_json, void_ranges_to_json


def commit_records(connection: Connection, records: Sequence[AttestationRecord]) -> Unwritten:
    """Write the records, but not those whose challenge is spent or whose verdict is based on a past state."""
    fresh, spent = _without_spent(connection, records)
    latest = Latest(connection, fresh)
    accepted = [record for record in sorted(fresh, key=lambda r: r.verdict.received_at) if latest.take(record)]
    if accepted:
        _insert_chains(connection, accepted)
        raw = [_evidence_values(record) for record in accepted]
        attestations = [
            _attestation_values(record, evidence, transition=record.verdict.challenge in latest.transitions)
            for record, evidence in zip(accepted, raw, strict=True)
        ]
        connection.execute(insert(ATTESTATIONS), attestations)
        # What is over every budget must not fill the disk; its hashes show what it was.
        kept = [evidence for record, evidence in zip(accepted, raw, strict=True) if not _is_too_large(record)]
        if kept:
            connection.execute(insert(EVIDENCE), kept)
        regions = {region for record in accepted for region in record.basis.regions}
        if regions:
            keep_materials(connection, sorted(regions), accepted[-1].verdict.received_at)
        verdicts = [_verdict_values(record, device) for record in accepted for device in record.verdict.devices]
        if verdicts:
            connection.execute(insert(DEVICE_VERDICTS), verdicts)
        latest.write()
        mark_landmarks(connection, _heard(accepted))
    written = {record.verdict.challenge for record in accepted}
    return Unwritten(spent, frozenset(r.verdict.challenge for r in fresh) - written)


def _without_spent(
    connection: Connection, records: Sequence[AttestationRecord]
) -> tuple[list[AttestationRecord], frozenset[Challenge]]:
    """Split off records whose challenge stands in the store or earlier in the group (docs/protocol.md CH2)."""
    known: set[bytes] = set()
    for some in chunks({record.verdict.challenge for record in records}):
        known.update(
            connection.scalars(select(ATTESTATIONS.c.challenge).where(ATTESTATIONS.c.challenge.in_(some))).all()
        )
    fresh: list[AttestationRecord] = []
    spent: set[Challenge] = set()
    for record in records:
        challenge = record.verdict.challenge
        if challenge in known:
            spent.add(challenge)
        else:
            known.add(challenge)
            fresh.append(record)
    return fresh, frozenset(spent)


def _insert_chains(connection: Connection, records: Iterable[AttestationRecord]) -> None:
    new: dict[ChainId, Sequence[bytes]] = {}
    for record in records:
        new.update(record.new_chains)
    for some in chunks(new):
        new_ids = set(some) - set(
            connection.scalars(select(CHAINS.c.chain_id).where(CHAINS.c.chain_id.in_(some))).all()
        )
        if new_ids:
            rows = [{"chain_id": chain_id, "certificates": pack(new[chain_id])} for chain_id in sorted(new_ids)]
            connection.execute(insert(CHAINS), rows)


def _heard(records: Iterable[AttestationRecord]) -> dict[LandmarkId, int]:
    """Return when each landmark last signed a range that counted: then it was up (docs/protocol.md W4)."""
    heard: dict[LandmarkId, int] = {}
    for record in records:
        received_at = micros(record.verdict.received_at)
        for device in record.verdict.devices:
            for disc in () if device.fix is None else device.fix.discs:
                heard[disc.landmark_id] = max(received_at, heard.get(disc.landmark_id, received_at))
    return heard


def _evidence_values(record: AttestationRecord) -> Values:
    attestation = record.attestation
    return {
        "challenge": record.verdict.challenge,
        "claims": attestation.claims,
        "reports": pack(part for report in attestation.reports for part in (report.chain_id, report.spdm)),
        "basis": record.basis.common,
    }


def _is_too_large(record: AttestationRecord) -> bool:
    rejection = record.verdict.rejection
    return rejection is not None and rejection.reason is Reason.LIMIT_EXCEEDED


def _attestation_values(record: AttestationRecord, evidence: Values, *, transition: bool) -> Values:
    verdict = record.verdict
    return {
        "challenge": verdict.challenge,
        "preimage": record.preimage,
        "host_id": verdict.host_id,
        "agent": record.agent,
        "licensee": record.licensee,
        "issued_at": micros(record.issued.issued_at),
        "received_at": micros(verdict.received_at),
        "claims_sha256": sha256(evidence["claims"]).digest(),
        "reports_sha256": sha256(evidence["reports"]).digest(),
        "rejection": None if verdict.rejection is None else int(verdict.rejection.reason),
        "rejection_detail": "" if verdict.rejection is None else verdict.rejection.detail,
        "report_rejections": report_rejections_to_json(verdict.report_rejections),
        "transition": transition,
        "result": record.result,
    }


def _verdict_values(record: AttestationRecord, device: DeviceVerdict) -> Values:
    return {
        "pdi": device.pdi,
        "received_at": micros(record.verdict.received_at),
        "challenge": record.verdict.challenge,
        "chain_id": device.chain_id,
        "standing": None if device.standing is None else int(device.standing),
        "presence_proven": device.presence_proven,
        "findings": findings_to_json(device.findings),
        "fix": None if device.fix is None else fix_to_json(device.fix),
        "void_ranges": void_ranges_to_json(device.void_ranges),
        "basis": record.basis.devices.get(device.pdi, "{}"),
    }
