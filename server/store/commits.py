"""What one group of attestations changes, inside one transaction: evidence, verdicts, latest states, findings.

The latest state of a device is read and written once a group, however often it reported in it: random updates of these
rows cost more than all else.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from sqlalchemy import Connection, bindparam, insert, select, update

from server.store.counters import take_numbers
from server.store.fixes import findings_to_json, fix_to_json, report_rejections_to_json, void_ranges_to_json
from server.store.framing import micros, pack
from server.store.rows import Values, chunks
from server.store.schema import ATTESTATIONS, CHAINS, DEPLOYMENTS, DEVICE_VERDICTS, DEVICES, FINDINGS
from server.store.states import state_columns, state_of
from server.store.types import AttestationRecord, Unwritten
from verifier.appraise import standing_of
from verifier.continuity import DeviceState
from verifier.errors import Reason
from verifier.units import ChainId, Challenge, Pdi
from verifier.verdict import DeviceVerdict, Finding, Severity, Standing


def commit_records(connection: Connection, records: Sequence[AttestationRecord]) -> Unwritten:
    """Write the records, but not those whose challenge is spent or whose verdict is based on a past state."""
    fresh, spent = _without_spent(connection, records)
    latest = _Latest(connection, fresh)
    accepted = [record for record in sorted(fresh, key=lambda r: r.verdict.received_at) if latest.take(record)]
    if accepted:
        _insert_chains(connection, accepted)
        connection.execute(insert(ATTESTATIONS), [_attestation_values(record) for record in accepted])
        verdicts = [_verdict_values(record, device) for record in accepted for device in record.verdict.devices]
        if verdicts:
            connection.execute(insert(DEVICE_VERDICTS), verdicts)
        latest.write()
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


def _attestation_values(record: AttestationRecord) -> Values:
    verdict = record.verdict
    reports = pack(part for report in record.attestation.reports for part in (report.chain_id, report.spdm))
    # What is over every budget must not fill the disk; its hash shows what it was.
    too_large = verdict.rejection is not None and verdict.rejection.reason is Reason.LIMIT_EXCEEDED
    detail = "" if verdict.rejection is None else verdict.rejection.detail
    if too_large:
        detail += f"; SHA-256 of claims and reports {sha256(record.attestation.claims + reports).hexdigest()}"
    return {
        "challenge": verdict.challenge,
        "preimage": record.preimage,
        "host_id": verdict.host_id,
        "agent": record.agent,
        "licensee": record.licensee,
        "issued_at": micros(record.issued.issued_at),
        "received_at": micros(verdict.received_at),
        "claims": b"" if too_large else record.attestation.claims,
        "reports": b"" if too_large else reports,
        "rejection": None if verdict.rejection is None else int(verdict.rejection.reason),
        "rejection_detail": detail,
        "report_rejections": report_rejections_to_json(verdict.report_rejections),
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
    }


@dataclass(slots=True)
class _Open:
    """An open finding in the making."""

    opened_at: int
    severity: int
    detail: str
    stored: bool
    changed: bool


@dataclass(slots=True)
class _Device:
    """Latest state of one device in the making.

    Attributes:
        known: It has a row.
        state: The last accepted state.
        standing: As stored or as the newest verdict has it.
        last_report_at: Microseconds; so is `last_proof_at`.
        newest: Columns of the newest verdict of this group, None when what stands is newer.
        open: Open findings by reason.
        closed: Findings that this group closes, with their times: reason, finding, closed_at.
        moved: A record of this group was taken for it.
    """

    known: bool
    state: DeviceState
    standing: int | None
    last_report_at: int | None
    last_proof_at: int | None
    newest: Values | None = None
    open: dict[int, _Open] = field(default_factory=dict)
    closed: list[tuple[int, _Open, int]] = field(default_factory=list)
    moved: bool = False


class _Latest:
    """Latest states of the devices of one group: read, moved on by each verdict in order of arrival, written."""

    def __init__(self, connection: Connection, records: Sequence[AttestationRecord]) -> None:
        self._connection = connection
        verdicts = [device for record in records for device in record.verdict.devices]
        self._devices = _read_devices(connection, {device.pdi for device in verdicts})
        self._deployed = _read_deployed(connection, {device.pdi for device in verdicts if _is_unknown(device)})

    def take(self, record: AttestationRecord) -> bool:
        """Move on by one record, or leave everything as it is and return False.

        Compare and set: a verdict on continuity holds only against the state that it was based on. Another worker may
        have accepted another report of the same device since, and both must not pass. Nor does a verdict hold that
        calls a device unknown whose deployment was imported since.
        """
        devices = record.verdict.devices
        if any(d.pdi in self._deployed and _is_unknown(d) for d in devices):
            return False
        if any(self._devices[d.pdi].state != record.based_on.get(d.pdi, DeviceState()) for d in devices):
            return False
        for device in devices:
            self._move_on(record, device)
        return True

    def _move_on(self, record: AttestationRecord, device: DeviceVerdict) -> None:
        state = self._devices[device.pdi]
        received_at = micros(record.verdict.received_at)
        state.moved = True
        state.state = device.state
        if device.presence_proven:
            state.last_proof_at = max(received_at, state.last_proof_at or received_at)
        if state.last_report_at is not None and received_at < state.last_report_at:
            self._add_late(state, device, received_at)
            return
        state.last_report_at = received_at
        state.standing = None if device.standing is None else int(device.standing)
        state.newest = {
            "kind": int(device.kind),
            "device_key_id": device.device_key_id,
            "model": device.model,
            "firmware": device.firmware,
            "host_id": record.verdict.host_id,
            "last_fix": None if device.fix is None else fix_to_json(device.fix),
            "last_attestation": record.verdict.challenge,
        }
        found = _one_a_reason(device.findings)
        for reason in [reason for reason in state.open if reason not in found]:
            state.closed.append((reason, state.open.pop(reason), received_at))
        for reason, finding in found.items():
            stands = state.open.get(reason)
            if stands is None:
                state.open[reason] = _Open(
                    received_at, int(finding.severity), finding.detail, stored=False, changed=False
                )
            elif (stands.severity, stands.detail) != (int(finding.severity), finding.detail):
                stands.severity, stands.detail, stands.changed = int(finding.severity), finding.detail, True

    @staticmethod
    def _add_late(state: _Device, device: DeviceVerdict, received_at: int) -> None:
        """Open what a report shows that arrived before the newest one and was committed after it.

        Place and license are the newest report's to tell; that the device is not one, or not where it was, stays shown.
        """
        for reason, finding in _one_a_reason(device.findings).items():
            if finding.reason in _OUTLASTS_ORDER and reason not in state.open:
                state.open[reason] = _Open(
                    received_at, int(finding.severity), finding.detail, stored=False, changed=False
                )
        if state.standing not in {None, int(Standing.UNLICENSED)}:
            found = [Finding(Reason(r), Severity(o.severity), o.detail) for r, o in state.open.items()]
            state.standing = int(standing_of(found, deployed=True))

    def write(self) -> None:
        """Write what moved; each device takes the next change number."""
        moved = [(pdi, self._devices[pdi]) for pdi in sorted(self._devices) if self._devices[pdi].moved]
        numbers = take_numbers(self._connection, "changes", len(moved))
        by_change: dict[tuple[bool, bool], list[Values]] = {}
        for number, (pdi, state) in zip(numbers, moved, strict=True):
            values = {
                "standing": state.standing,
                **state_columns(state.state),
                "last_report_at": state.last_report_at,
                "last_proof_at": state.last_proof_at,
                "change_number": number,
                **(state.newest or {}),
            }
            row = {"pdi": pdi, **values} if not state.known else {"key": pdi, **values}
            by_change.setdefault((state.known, state.newest is not None), []).append(row)
        for (known, _), rows in by_change.items():
            statement = _UPDATE_DEVICE if known else insert(DEVICES)
            self._connection.execute(statement, rows)
        self._write_findings()

    def _write_findings(self) -> None:
        closed: list[Values] = []
        changed: list[Values] = []
        new: list[Values] = []
        for pdi, state in sorted(self._devices.items()):
            for reason, finding, closed_at in state.closed:
                # A report that arrived before the sweep opened SILENT may be committed after it.
                end = max(closed_at, finding.opened_at)
                if finding.stored:
                    closed.append({"key": pdi, "key_reason": reason, "closed_at": end})
                else:
                    new.append(_finding_values(pdi, reason, finding, end))
            for reason, finding in state.open.items():
                if not finding.stored:
                    new.append(_finding_values(pdi, reason, finding, None))
                elif finding.changed:
                    changed.append(
                        {"key": pdi, "key_reason": reason, "severity": finding.severity, "detail": finding.detail}
                    )
        for statement, rows in (
            (_UPDATE_OPEN_FINDING, closed),
            (_UPDATE_OPEN_FINDING, changed),
            (insert(FINDINGS), new),
        ):
            if rows:
                self._connection.execute(statement, rows)


_OUTLASTS_ORDER = frozenset(
    {
        Reason.IDENTITY_CLONED,
        Reason.COUNTER_ROLLBACK,
        Reason.BOARD_CHANGED,
        Reason.BOARD_BROKEN,
        Reason.IMPOSSIBLE_TRAVEL,
    }
)
_UPDATE_DEVICE = update(DEVICES).where(DEVICES.c.pdi == bindparam("key"))
_UPDATE_OPEN_FINDING = update(FINDINGS).where(
    FINDINGS.c.pdi == bindparam("key"), FINDINGS.c.reason == bindparam("key_reason"), FINDINGS.c.closed_at.is_(None)
)


def _one_a_reason(findings: Iterable[Finding]) -> dict[int, Finding]:
    """Join findings of one reason (ranges are dropped one by one): the worst severity, all details."""
    joined: dict[int, Finding] = {}
    for finding in findings:
        other = joined.get(int(finding.reason))
        if other is not None:
            severity = max(other.severity, finding.severity)
            joined[int(finding.reason)] = Finding(finding.reason, severity, f"{other.detail}; {finding.detail}")
        else:
            joined[int(finding.reason)] = finding
    return joined


def _finding_values(pdi: Pdi, reason: int, finding: _Open, closed_at: int | None) -> Values:
    return {
        "pdi": pdi,
        "reason": reason,
        "opened_at": finding.opened_at,
        "closed_at": closed_at,
        "severity": finding.severity,
        "detail": finding.detail,
    }


def _is_unknown(device: DeviceVerdict) -> bool:
    return any(finding.reason is Reason.UNKNOWN_DEVICE for finding in device.findings)


def _read_deployed(connection: Connection, pdis: Collection[Pdi]) -> frozenset[bytes]:
    """Return those that have a deployment."""
    query = select(DEPLOYMENTS.c.device_pdi)
    return frozenset(
        found for some in chunks(pdis) for found in connection.scalars(query.where(DEPLOYMENTS.c.device_pdi.in_(some)))
    )


def _read_devices(connection: Connection, pdis: Collection[Pdi]) -> Mapping[Pdi, _Device]:
    devices = {
        pdi: _Device(known=False, state=DeviceState(), standing=None, last_report_at=None, last_proof_at=None)
        for pdi in pdis
    }
    for some in chunks(pdis):
        for row in connection.execute(select(DEVICES).where(DEVICES.c.pdi.in_(some))):
            devices[row.pdi] = _Device(
                known=True,
                state=state_of(row),
                standing=row.standing,
                last_report_at=row.last_report_at,
                last_proof_at=row.last_proof_at,
            )
        standing = select(FINDINGS).where(FINDINGS.c.pdi.in_(some), FINDINGS.c.closed_at.is_(None))
        for finding in connection.execute(standing):
            devices[finding.pdi].open[finding.reason] = _Open(
                finding.opened_at, finding.severity, finding.detail, stored=True, changed=False
            )
    return devices
