"""Latest states of devices, moved on by verdicts in the order of their arrival.

The latest state of a device is read and written once a group of attestations, however often it reported in it: random
updates of these rows cost more than all else.

A verdict is about the records that were in force when its challenge was issued (docs/protocol.md RC6). How a device
stands is of those that are in force now; where they differ, the verdict is kept, and only what still holds counts.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, insert, select, update

from server.store.counters import take_numbers
from server.store.duties import Duties, Duty
from server.store.effects import OF_LICENSE, OF_VALIDITY
from server.store.findings import write_findings
from server.store.rows import Values, chunks
from server.store.schema import DEVICES, FINDINGS
from server.store.states import standing_now, state_columns, state_of
from server.store.types import AttestationRecord, OpenFinding
from server.times import micros, moment
from verifier.appraise import finding as new_finding
from verifier.continuity import DeviceState
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import appraise_validity
from verifier.units import Challenge, Pdi
from verifier.verdict import DeviceVerdict, Finding, Severity, Standing
from verifier.verdict_json import fix_to_json

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


@dataclass(slots=True)
class _Open:
    """An open finding in the making. `kept`: severity and detail as stored; None: it is not stored."""

    opened_at: int
    severity: int
    detail: str
    kept: tuple[int, str] | None = None


@dataclass(slots=True)
class _Device:
    """Latest state of one device in the making.

    Attributes:
        known: It has a row.
        state: The last accepted state.
        kind: As in `devices`.
        standing: As stored or as the newest verdict has it.
        activated_at: Microseconds; so are `last_report_at` and `last_proof_at`.
        newest: Columns of the newest verdict of this group, None when what stands is newer.
        open: Open findings by reason.
        closed: Findings that this group closes, with their times: reason, finding, closed_at.
        moved: A record of this group was taken for it.
    """

    known: bool = False
    state: DeviceState = field(default_factory=DeviceState)
    kind: int | None = None
    standing: int | None = None
    activated_at: int | None = None
    last_report_at: int | None = None
    last_proof_at: int | None = None
    newest: Values | None = None
    open: dict[int, _Open] = field(default_factory=dict)
    closed: list[tuple[int, _Open, int]] = field(default_factory=list)
    moved: bool = False

    def shows(self) -> tuple[int | None, frozenset[int]]:
        """Return the standing and what is open, by reason."""
        return self.standing, frozenset(self.open)

    def stands(self, *, deployed: bool, activated: bool) -> int | None:
        """Return the standing that follows from what is open."""
        found = [
            OpenFinding(Finding(Reason(reason), Severity(each.severity), each.detail), moment(each.opened_at))
            for reason, each in self.open.items()
        ]
        standing = standing_now(self.kind, found, deployed=deployed, activated=activated)
        return None if standing is None else int(standing)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What counts of a verdict, of a device under the deployment that is in force now.

    Attributes:
        found: Findings by reason.
        proven: Presence is.
        as_told: The verdict's standing holds, as long as nothing else is open.
        counts: It was appraised under this deployment.
    """

    found: Mapping[int, Finding]
    proven: bool
    as_told: bool
    counts: bool


class Latest:
    """Latest states of the devices of one group: read, moved on by each verdict in order of arrival, written.

    Attributes:
        transitions: Challenges of the records that opened or ended a finding, or changed a standing.
    """

    def __init__(self, connection: Connection, records: Sequence[AttestationRecord]) -> None:
        self._connection = connection
        verdicts = [device for record in records for device in record.verdict.devices]
        self._devices = _read_devices(connection, {device.pdi for device in verdicts})
        self._duties = Duties(connection, verdicts)
        self.transitions: set[Challenge] = set()

    def take(self, record: AttestationRecord) -> bool:
        """Move on by one record, or leave everything as it is and return False.

        Compare and set: a verdict on continuity holds only against the state that it was based on. Another worker may
        have accepted another report of the same device since, and both must not pass. Nor does a verdict hold that
        calls a device unknown that is deployed in force by now, or gave it a deployment that is no longer to be had.
        """
        devices = record.verdict.devices
        if any(_is_unknown(d) and self._duties.of(d.pdi) is not None for d in devices):
            return False
        if any(self._devices[d.pdi].state != record.based_on.get(d.pdi, DeviceState()) for d in devices):
            return False
        if not self._duties.can_adopt(devices):
            return False
        for device in devices:
            if device.adopted is not None:
                self._duties.adopt(device.pdi, device.adopted, record.verdict.received_at)
            before = self._devices[device.pdi].shows()
            self._move_on(record, device)
            if self._devices[device.pdi].shows() != before:
                self.transitions.add(record.verdict.challenge)
            if device.swapped:
                self._duties.end_swap(device.pdi, record.verdict.received_at)
        return True

    def _move_on(self, record: AttestationRecord, device: DeviceVerdict) -> None:
        state = self._devices[device.pdi]
        duty = self._duties.of(device.pdi)
        shown = self._shown(record, device, duty)
        received_at = micros(record.verdict.received_at)
        state.moved = True
        state.state = device.state
        if shown.proven:
            state.last_proof_at = max(received_at, state.last_proof_at or received_at)
        if duty is not None and shown.counts and received_at >= duty.licensed_at and state.activated_at is None:
            state.activated_at = received_at
        if state.last_report_at is not None and received_at < state.last_report_at:
            self._add_late(state, device, received_at)
            return
        state.last_report_at = received_at
        state.kind = int(device.kind)
        state.newest = {
            "kind": int(device.kind),
            "device_key_id": device.device_key_id,
            "model": device.model,
            "firmware": device.firmware,
            "host_id": record.verdict.host_id,
            "agent": record.agent,
            "last_fix": None if device.fix is None else fix_to_json(device.fix),
            "last_attestation": record.verdict.challenge,
        }
        stays = _rewrite(state, shown, received_at)
        if device.standing is None:
            state.standing = None
        elif shown.as_told and not stays:
            state.standing = int(device.standing)
        else:
            deployed = duty is not None or (shown.as_told and device.standing is not Standing.UNLICENSED)
            activated = shown.counts or state.activated_at is not None
            state.standing = state.stands(deployed=deployed, activated=activated)

    def _shown(self, record: AttestationRecord, device: DeviceVerdict, duty: Duty | None) -> _Shown:
        """Hold what a verdict says against the records that stand by now."""
        found = _one_a_reason(device.findings)
        whole = _Shown(found, device.presence_proven, as_told=True, counts=True)
        as_of = record.as_of
        if as_of is None or device.kind is not DeviceKind.GPU or device.adopted is not None:
            return whole
        if (duty is None and not _is_unknown(device)) or self._duties.is_past(device, as_of):
            # It was moved or returned: what is said of the place or the license is about another deployment.
            rest = {reason: each for reason, each in found.items() if each.reason not in OF_LICENSE}
            found, whole = rest, _Shown(rest, proven=False, as_told=False, counts=False)
        if duty is None or duty.license_number <= as_of:
            return whole
        # The license was revised: whether it is suspended, revoked or over is as of now, else a report would lift it.
        valid = {reason: each for reason, each in found.items() if each.reason not in OF_VALIDITY}
        invalid = appraise_validity(duty.held, record.verdict.received_at)
        if invalid is not None:
            valid[int(invalid[0])] = new_finding(*invalid)
        return _Shown(valid, whole.proven, as_told=whole.as_told and valid.keys() == found.keys(), counts=whole.counts)

    @staticmethod
    def _add_late(state: _Device, device: DeviceVerdict, received_at: int) -> None:
        """Open what a report shows that arrived before the newest one and was committed after it.

        Place and license are the newest report's to tell; that the device is not one, or not where it was, stays shown.
        """
        for reason, found in _one_a_reason(device.findings).items():
            if found.reason in _OUTLASTS_ORDER and reason not in state.open:
                state.open[reason] = _Open(received_at, int(found.severity), found.detail)
        if state.standing not in {None, int(Standing.UNLICENSED)}:
            state.standing = state.stands(deployed=True, activated=True)

    def write(self) -> None:
        """Write what moved; each device takes the next change number."""
        moved = [(pdi, self._devices[pdi]) for pdi in sorted(self._devices) if self._devices[pdi].moved]
        numbers = take_numbers(self._connection, "changes", len(moved))
        by_change: dict[tuple[bool, bool], list[Values]] = {}
        for number, (pdi, state) in zip(numbers, moved, strict=True):
            values = {
                "standing": state.standing,
                **state_columns(state.state),
                "activated_at": state.activated_at,
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
        self._duties.write()

    def _write_findings(self) -> None:
        opened: list[Values] = []
        closed: list[Values] = []
        weighed: list[Values] = []
        told: list[Values] = []
        for pdi, state in sorted(self._devices.items()):
            for reason, each, closed_at in state.closed:
                # A report that arrived before the sweep opened SILENT may be committed after it.
                end = max(closed_at, each.opened_at)
                if each.kept is not None:
                    closed.append({"key": pdi, "key_reason": reason, "end": end})
                else:
                    opened.append(_finding_values(pdi, reason, each, end))
            for reason, each in state.open.items():
                key = {"key": pdi, "key_reason": reason, "told": each.detail}
                if each.kept is None:
                    opened.append(_finding_values(pdi, reason, each, None))
                elif each.kept[0] != each.severity:
                    weighed.append({**key, "weight": each.severity})
                elif each.kept[1] != each.detail:
                    told.append(key)
        write_findings(self._connection, opened=opened, closed=closed, weighed=weighed, told=told)


def _rewrite(state: _Device, shown: _Shown, received_at: int) -> bool:
    """Make what is open that which a report shows, and return whether something of the watch's stays beside it.

    A report ends that a device says nothing; that presence is overdue only a proof ends, and that there are too many
    devices the records alone (docs/protocol.md AP7).
    """
    staying = {int(Reason.QUANTITY_EXCEEDED)}
    if not shown.proven:
        staying.add(int(Reason.PRESENCE_OVERDUE))
    for reason in [reason for reason in state.open if reason not in shown.found and reason not in staying]:
        state.closed.append((reason, state.open.pop(reason), received_at))
    stays = bool(state.open.keys() - shown.found.keys())
    for reason, found in shown.found.items():
        stands = state.open.get(reason)
        if stands is None:
            state.open[reason] = _Open(received_at, int(found.severity), found.detail)
        else:
            stands.severity, stands.detail = int(found.severity), found.detail
    return stays


def _one_a_reason(findings: Iterable[Finding]) -> dict[int, Finding]:
    """Join findings of one reason (ranges are dropped one by one): the worst severity, all details."""
    joined: dict[int, Finding] = {}
    for found in findings:
        other = joined.get(int(found.reason))
        if other is not None:
            severity = max(other.severity, found.severity)
            joined[int(found.reason)] = Finding(found.reason, severity, f"{other.detail}; {found.detail}")
        else:
            joined[int(found.reason)] = found
    return joined


def _finding_values(pdi: Pdi, reason: int, found: _Open, closed_at: int | None) -> Values:
    return {
        "pdi": pdi,
        "reason": reason,
        "opened_at": found.opened_at,
        "closed_at": closed_at,
        "severity": found.severity,
        "detail": found.detail,
    }


def _is_unknown(device: DeviceVerdict) -> bool:
    return any(found.reason is Reason.UNKNOWN_DEVICE for found in device.findings)


def _read_devices(connection: Connection, pdis: Collection[Pdi]) -> Mapping[Pdi, _Device]:
    devices = {pdi: _Device() for pdi in pdis}
    for some in chunks(pdis):
        for row in connection.execute(select(DEVICES).where(DEVICES.c.pdi.in_(some))):
            devices[row.pdi] = _Device(
                known=True,
                state=state_of(row),
                kind=row.kind,
                standing=row.standing,
                activated_at=row.activated_at,
                last_report_at=row.last_report_at,
                last_proof_at=row.last_proof_at,
            )
        standing = select(FINDINGS).where(FINDINGS.c.pdi.in_(some), FINDINGS.c.closed_at.is_(None))
        for row in connection.execute(standing):
            devices[row.pdi].open[row.reason] = _Open(
                row.opened_at, row.severity, row.detail, (row.severity, row.detail)
            )
    return devices
