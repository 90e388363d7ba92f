"""What changes of records do to devices, in the transaction that changes the records.

A deployment counts while its license is in force (docs/protocol.md RC3). Findings that follow from the records alone
are opened and closed here at once; whatever it takes evidence to say waits for the next report.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from server.records.values import ByPdi, DeploymentRecord, LicenseRecord
from server.store.counters import take_numbers
from server.store.findings import write_findings
from server.store.queries import open_findings
from server.store.rows import Values, chunks, license_columns, license_of
from server.store.schema import DEPLOYMENTS, DEVICES, LICENSES
from server.store.states import standing_now
from server.store.types import OpenFinding
from server.times import micros
from verifier.appraise import finding
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import License, LicenseState, appraise_validity
from verifier.units import Pdi
from verifier.verdict import Finding

PAGE = 1_000
"""Devices of a license that are changed at once."""

OF_VALIDITY = frozenset(
    {Reason.LICENSE_EXPIRED, Reason.LICENSE_NOT_YET_VALID, Reason.LICENSE_SUSPENDED, Reason.LICENSE_REVOKED}
)
OPENED_AT_ONCE = OF_VALIDITY - {Reason.LICENSE_NOT_YET_VALID}
"""Of these a device need not report to be found (docs/protocol.md W2); one that is early shows itself by a report."""

OF_SITE = frozenset(
    {
        Reason.OUTSIDE_LICENSED_REGION,
        Reason.LOCATION_UNPROVEN,
        Reason.PRESENCE_OVERDUE,
        Reason.SILENT,
        Reason.NEVER_ACTIVATED,
    }
)
"""Say something about a device at the site where it was to be; a device that moves starts anew (docs/protocol.md RC7).

`IN_PROHIBITED_DESTINATION` is none of them: no record makes a place another one.
"""

OF_LICENSE = OF_SITE | OF_VALIDITY | {Reason.FOREIGN_REPORT, Reason.QUANTITY_EXCEEDED}
"""Say something about a device under the license that it was deployed by."""

_SET_DEVICE = update(DEVICES).where(DEVICES.c.pdi == bindparam("key"))
_SET_LICENSED = update(DEPLOYMENTS).where(DEPLOYMENTS.c.device_pdi == bindparam("key"))


@dataclass(frozen=True, slots=True)
class _Change:
    """What becomes of one device.

    Attributes:
        pdi: The device.
        deployed: It has a deployment in force from now on.
        restarts: Its clocks start again: nothing that it showed before counts for its deployment.
        closes: Reasons of findings that end.
        opens: What is found from now on.
    """

    pdi: Pdi
    deployed: bool = True
    restarts: bool = False
    closes: frozenset[Reason] = field(default_factory=frozenset)
    opens: tuple[Finding, ...] = ()


def license_changed(connection: Connection, before: LicenseRecord | None, after: LicenseRecord, now: datetime) -> None:
    """A license was written, in the caller's transaction: its row stands as `after`.

    In force for the first time it deploys its devices; suspended or revoked it flags them at once, and active again it
    ends that. `tightened_at` is kept here.
    """
    was = None if before is None or before.terms.state is LicenseState.DRAFT else before.terms
    held = after.terms
    if held.state is LicenseState.DRAFT:
        return
    if was is None or held.cadence + held.grace < was.cadence + was.grace:
        this = update(LICENSES).where(LICENSES.c.number == held.number)
        connection.execute(this.values(tightened_at=micros(now)))
    if was is None:
        every = update(DEPLOYMENTS).where(DEPLOYMENTS.c.license_number == held.number)
        connection.execute(every.values(licensed_at=micros(now)))
        for pdis in _devices_of(connection, held.number):
            _apply(connection, [_deployed(pdi, held, now) for pdi in pdis], now)
    elif appraise_validity(was, now) != (invalid := appraise_validity(held, now)):
        closes = OF_VALIDITY - ({invalid[0]} if invalid is not None else set())
        for pdis in _devices_of(connection, held.number):
            _apply(connection, [_Change(pdi, closes=closes, opens=_invalid(held, now)) for pdi in pdis], now)
    else:
        for pdis in _devices_of(connection, held.number):
            touch(connection, pdis)


def site_changed(connection: Connection, license_number: str, site_id: str) -> None:
    """A site was written: what its devices' records show has changed. Their next reports tell what they prove."""
    for pdis in _devices_of(connection, license_number, site_id):
        touch(connection, pdis)


def deployments_changed(
    connection: Connection, changed: Sequence[tuple[DeploymentRecord | None, DeploymentRecord | None]], now: datetime
) -> None:
    """Deployments were written or ended, each given as it was and as it is; their rows stand so already.

    A new one deploys its device when its license is in force. One that moves to another site or license keeps its past
    and its clocks start again; one that ends leaves its device unknown (docs/protocol.md RC7). Deployments by key or
    board touch no device that has one of its own.
    """
    numbers = {record.license_number for pair in changed for record in pair if record is not None}
    licenses = load_licenses(connection, numbers)
    moved = _apply_deployments(connection, changed, licenses, now)
    if moved:
        connection.execute(_SET_LICENSED, [{"key": pdi, "licensed_at": micros(now)} for pdi in moved])


def deploy_imported(
    connection: Connection,
    changed: Sequence[tuple[DeploymentRecord | None, DeploymentRecord]],
    licenses: Mapping[str, License],
    now: datetime,
) -> None:
    """As `deployments_changed`, for rows that hold `licensed_at` already and whose licenses are known."""
    _apply_deployments(connection, changed, licenses, now)


def load_licenses(connection: Connection, numbers: Iterable[str]) -> dict[str, License]:
    """Return licenses as they stand, drafts too."""
    found: dict[str, License] = {}
    for some in chunks(numbers):
        for row in connection.execute(select(*license_columns()).where(LICENSES.c.number.in_(some))):
            found[row.terms_number] = license_of(row)
    return found


def touch(connection: Connection, pdis: Sequence[bytes]) -> None:
    """Give devices a new change number: what their records show has changed."""
    if pdis:
        numbers = take_numbers(connection, "changes", len(pdis))
        rows = [{"key": pdi, "change_number": number} for pdi, number in zip(pdis, numbers, strict=True)]
        connection.execute(_SET_DEVICE, rows)


def _apply_deployments(
    connection: Connection,
    changed: Sequence[tuple[DeploymentRecord | None, DeploymentRecord | None]],
    licenses: Mapping[str, License],
    now: datetime,
) -> list[Pdi]:
    """Change devices; return those whose clocks start again under a deployment in force."""
    changes: list[_Change] = []
    touched: list[Pdi] = []
    for before, after in changed:
        record = before if after is None else after
        if record is None or not isinstance(record.selector, ByPdi):
            continue
        selector = record.selector
        was, held = (_in_force(record, licenses) for record in (before, after))
        if held is None:
            if was is not None:
                # UNKNOWN_DEVICE is opened by its next report.
                changes.append(_Change(selector.pdi, deployed=False, restarts=True, closes=OF_LICENSE))
        elif was is None or was.number != held.number:
            changes.append(_deployed(selector.pdi, held, now))
        elif before is not None and after is not None and before.site_id != after.site_id:
            changes.append(_Change(selector.pdi, restarts=True, closes=OF_SITE))
        elif before is not None and after is not None and before.shipment_id != after.shipment_id:
            # The other shipment has a time of its own.
            changes.append(_Change(selector.pdi, closes=frozenset({Reason.NEVER_ACTIVATED})))
        else:
            touched.append(selector.pdi)
    for some in chunks(changes):
        _apply(connection, some, now)
    touch(connection, touched)
    return [change.pdi for change in changes if change.restarts and change.deployed]


def _in_force(record: DeploymentRecord | None, licenses: Mapping[str, License]) -> License | None:
    held = None if record is None else licenses.get(record.license_number)  # a draft may have ended with it
    return None if held is None or held.state is LicenseState.DRAFT else held


def _deployed(pdi: Pdi, held: License, now: datetime) -> _Change:
    """Come under a license: what was found under another one, or for want of one, ends."""
    closes = OF_LICENSE | {Reason.UNKNOWN_DEVICE}
    return _Change(pdi, restarts=True, closes=closes, opens=_invalid(held, now))


def _invalid(held: License, now: datetime) -> tuple[Finding, ...]:
    invalid = appraise_validity(held, now)
    return () if invalid is None or invalid[0] not in OPENED_AT_ONCE else (finding(*invalid),)


def _devices_of(connection: Connection, number: str, site_id: str | None = None) -> Iterator[list[Pdi]]:
    """Yield the devices of a license, or of one of its sites, page by page."""
    query = select(DEPLOYMENTS.c.device_pdi).where(DEPLOYMENTS.c.license_number == number)
    if site_id is not None:
        query = query.where(DEPLOYMENTS.c.site_id == site_id)
    last = b""
    while True:
        page = query.where(DEPLOYMENTS.c.device_pdi > last).order_by(DEPLOYMENTS.c.device_pdi).limit(PAGE)
        pdis = [Pdi(pdi) for pdi in connection.scalars(page)]
        if not pdis:
            return
        yield pdis
        last = pdis[-1]


def _apply(connection: Connection, changes: Sequence[_Change], now: datetime) -> None:
    """Change devices; each gets a change number, and a row when it has none."""
    rows: dict[bytes, Row[Any]] = {}
    for some in chunks([change.pdi for change in changes]):
        query = select(DEVICES.c.pdi, DEVICES.c.kind, DEVICES.c.activated_at).where(DEVICES.c.pdi.in_(some))
        rows.update({row.pdi: row for row in connection.execute(query)})
    standing = open_findings(connection, rows)
    new: list[Values] = []
    restarted: list[Values] = []
    seen: list[Values] = []
    opened: list[Values] = []
    closed: list[Values] = []
    at = micros(now)
    for change, number in zip(changes, take_numbers(connection, "changes", len(changes)), strict=True):
        row = rows.get(change.pdi)
        kind = None if row is None else row.kind
        before = standing.get(change.pdi, [])
        found = _after(before, change, now, witness=kind == int(DeviceKind.SWITCH))
        activated = row is not None and row.activated_at is not None and not change.restarts
        stands = standing_now(kind, found.values(), deployed=change.deployed, activated=activated)
        values = {"standing": None if stands is None else int(stands), "change_number": number}
        if row is None:
            new.append({"pdi": change.pdi, **values})
        elif change.restarts:
            restarted.append({"key": change.pdi, **values, "activated_at": None, "last_proof_at": None})
        else:
            seen.append({"key": change.pdi, **values})
        _note(change.pdi, before, found, at, opened, closed)
    for statement, values_of in ((insert(DEVICES), new), (_SET_DEVICE, restarted), (_SET_DEVICE, seen)):
        if values_of:
            connection.execute(statement, values_of)
    write_findings(connection, opened=opened, closed=closed)


def _after(
    before: Iterable[OpenFinding], change: _Change, now: datetime, *, witness: bool
) -> dict[Reason, OpenFinding]:
    """Return what is open once a device has changed. Nothing of a license is found at a witness."""
    found = {stands.finding.reason: stands for stands in before if stands.finding.reason not in change.closes}
    for each in () if witness else change.opens:
        found.setdefault(each.reason, OpenFinding(each, now))
    return found


def _note(
    pdi: Pdi,
    before: Iterable[OpenFinding],
    after: Mapping[Reason, OpenFinding],
    at: int,
    opened: list[Values],
    closed: list[Values],
) -> None:
    """Collect what is to be written of a device's findings. One that is found anew under another license is another."""
    was = {stands.finding.reason: stands for stands in before}
    for reason, stands in was.items():
        if after.get(reason) is not stands:
            # A clock that was ahead may have opened it; it does not end before it began.
            closed.append({"key": pdi, "key_reason": int(reason), "end": max(at, micros(stands.opened_at))})
    for reason, stands in after.items():
        if was.get(reason) is not stands:
            opened.append(
                {
                    "pdi": pdi,
                    "reason": int(reason),
                    "opened_at": at,
                    "closed_at": None,
                    "severity": int(stands.finding.severity),
                    "detail": stands.finding.detail,
                }
            )
