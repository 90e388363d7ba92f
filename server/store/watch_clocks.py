"""Who is due by the clock: SILENT, NEVER_ACTIVATED, PRESENCE_OVERDUE (docs/protocol.md W2, W3).

Each look asks the database for candidates, those that would be due if every clock had run as fast as the service's, and
goes through the exact clocks only for them.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, or_, select

from server.store.clocks import PresenceClocks, SiteClocks
from server.store.queries import is_open
from server.store.rows import IN_FORCE, SUPPRESSING
from server.store.schema import DEPLOYMENTS, DEVICES, FINDINGS, LICENSES, SHIPMENTS
from server.store.uptime import load_last_uptime
from server.store.watch_types import Able, SiteKey, Turn
from server.times import MICROSECOND, moment
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.units import Pdi

ALLOWED = LICENSES.c.cadence_us + LICENSES.c.grace_us

CLASSES = 200
"""Values of cadence + grace in one query."""

_DEPLOYED = DEVICES.join(DEPLOYMENTS, DEPLOYMENTS.c.device_pdi == DEVICES.c.pdi).join(
    LICENSES, LICENSES.c.number == DEPLOYMENTS.c.license_number
)
_IS_GPU = DEVICES.c.kind == int(DeviceKind.GPU)
Cutoffs = Mapping[int, int]
"""For each cadence + grace that licenses ask for: what began at this time or before is over by the service's clock."""


def load_cutoffs(connection: Connection, now: int) -> Cutoffs:
    """Return the cutoffs; cadences for which the service was not up long enough are missing."""
    allowed = connection.scalars(select(ALLOWED).where(IN_FORCE).distinct()).all()
    if not allowed:
        return {}
    service = load_last_uptime(connection, now, max(allowed) + 1)
    starts = ((each, service.latest_start(now, each + 1)) for each in allowed)
    return {each: start for each, start in starts if start is not None}


_SILENT_ROWS: Select[Any] = (
    select(
        DEVICES.c.pdi,
        DEVICES.c.last_report_at,
        DEPLOYMENTS.c.licensed_at,
        DEPLOYMENTS.c.license_number,
        DEPLOYMENTS.c.site_id,
        LICENSES.c.tightened_at,
        ALLOWED.label("allowed_us"),
    )
    .select_from(_DEPLOYED)
    .where(
        _IS_GPU,
        IN_FORCE,
        # What a shipment brings is under way until it reports; NEVER_ACTIVATED watches it.
        or_(DEVICES.c.activated_at.is_not(None), DEPLOYMENTS.c.shipment_id.is_(None)),
        ~is_open(Reason.SILENT),
    )
)


def silent_rows(
    connection: Connection, cutoffs: Cutoffs, floors: Cutoffs, among: Collection[bytes] | None = None
) -> list[Row[Any]]:
    """Return devices whose last report is older than the service's clock allows.

    Args:
        connection: In one transaction.
        cutoffs: As of now.
        floors: Those whose last report is as old as these are left out; empty: none are.
        among: Only these devices, a few hundred at most; None: all.
    """
    rows: list[Row[Any]] = []
    at = DEVICES.c.last_report_at
    classes = list(cutoffs.items())
    if among is not None:
        query = _SILENT_ROWS.where(DEVICES.c.pdi.in_(among), at <= max(cutoffs.values(), default=-1))
        return list(connection.execute(query).all())
    known = [(each, cutoff) for each, cutoff in classes if each in floors]
    for allowed, cutoff in known:
        if cutoff > floors[allowed]:
            query = _SILENT_ROWS.where(at > floors[allowed], at <= cutoff, ALLOWED.in_([allowed]))
            rows += connection.execute(query).all()
    new = [(each, cutoff) for each, cutoff in classes if each not in floors]
    for first in range(0, len(new), CLASSES):
        some = dict(new[first : first + CLASSES])
        # One pass over the devices by their last report; the largest cutoff lets the index do the work.
        query = _SILENT_ROWS.where(at <= max(some.values()), at <= case(some, value=ALLOWED))
        rows += connection.execute(query).all()
    return rows


def judge_silent(connection: Connection, rows: Sequence[Row[Any]], now: int) -> list[Turn]:
    """Return which of these candidates are silent (docs/protocol.md AP5)."""
    if not rows:
        return []
    # Before its deployment was recorded nobody had to report, and before its terms were shortened not so often.
    since = {row.pdi: max(row.last_report_at, row.licensed_at, row.tightened_at) for row in rows}
    clocks = SiteClocks(connection, min(since.values()), now)
    return [
        Turn(Pdi(row.pdi), Reason.SILENT, _allows("no verified report", since[row.pdi], row.allowed_us))
        for row in rows
        if clocks.is_over(_site(row), since[row.pdi], row.allowed_us)
    ]


_NEVER_ROWS: Select[Any] = (
    select(
        DEVICES.c.pdi,
        DEPLOYMENTS.c.licensed_at,
        DEPLOYMENTS.c.license_number,
        DEPLOYMENTS.c.site_id,
        SHIPMENTS.c.shipment_id,
        SHIPMENTS.c.activation_by,
    )
    .select_from(_DEPLOYED.join(SHIPMENTS, SHIPMENTS.c.shipment_id == DEPLOYMENTS.c.shipment_id))
    .where(
        DEVICES.c.activated_at.is_(None),
        or_(DEVICES.c.kind.is_(None), _IS_GPU),
        IN_FORCE,
        ~is_open(Reason.NEVER_ACTIVATED),
    )
)


def never_rows(
    connection: Connection, now: int, floor: int | None, among: Collection[bytes] | None = None
) -> list[Row[Any]]:
    """Return devices that were to be in service by a time after `floor` that is over, and have not reported."""
    over = SHIPMENTS.c.activation_by < now
    if among is not None:
        return list(connection.execute(_NEVER_ROWS.where(over, DEVICES.c.pdi.in_(among))).all())
    if floor is None:
        return list(connection.execute(_NEVER_ROWS.where(over)).all())
    # Most often there is no such shipment, and a million devices that wait for later ones need not be looked at.
    some = connection.scalars(select(SHIPMENTS.c.shipment_id).where(over, SHIPMENTS.c.activation_by >= floor)).all()
    return [
        row
        for shipment_id in some
        for row in connection.execute(_NEVER_ROWS.where(over, DEPLOYMENTS.c.shipment_id == shipment_id))
    ]


def judge_never(connection: Connection, rows: Sequence[Row[Any]], now: int) -> list[Turn]:
    """Return which of these candidates are NEVER_ACTIVATED (docs/protocol.md W2).

    The time that was given to it from its deployment on must have run on the site's clock, so that it could report.
    """
    if not rows:
        return []
    clocks = SiteClocks(connection, min(row.licensed_at for row in rows), now)
    return [
        Turn(
            Pdi(row.pdi),
            Reason.NEVER_ACTIVATED,
            f"shipment {row.shipment_id} was to be in service by {_time(row.activation_by)}; it has not reported",
        )
        for row in rows
        if clocks.is_over(_site(row), row.licensed_at, max(0, row.activation_by - row.licensed_at))
    ]


def _overdue_rows() -> Select[Any]:
    # A report in which presence is not proven leaves LOCATION_UNPROVEN, or what suppresses this (docs/protocol.md AP2).
    unproven = FINDINGS.alias()
    stands = and_(
        unproven.c.pdi == DEVICES.c.pdi,
        unproven.c.reason == int(Reason.LOCATION_UNPROVEN),
        unproven.c.closed_at.is_(None),
    )
    # docs/protocol.md AP7
    hidden: list[ColumnElement[bool]] = [~is_open(r) for r in (Reason.PRESENCE_OVERDUE, *sorted(SUPPRESSING))]
    return (
        select(
            DEVICES.c.pdi,
            DEVICES.c.last_proof_at,
            DEVICES.c.activated_at,
            DEPLOYMENTS.c.licensed_at,
            DEPLOYMENTS.c.license_number,
            DEPLOYMENTS.c.site_id,
            LICENSES.c.tightened_at,
            LICENSES.c.cadence_us,
            ALLOWED.label("allowed_us"),
        )
        .select_from(_DEPLOYED.join(unproven, stands))
        .where(_IS_GPU, IN_FORCE, DEVICES.c.activated_at.is_not(None), *hidden)
    )


_OVERDUE_ROWS = _overdue_rows()


def overdue_rows(connection: Connection, cutoffs: Cutoffs, among: Collection[bytes] | None = None) -> list[Row[Any]]:
    """Return devices that report, and whose last proof is older than the service's clock allows."""
    if not cutoffs:
        return []
    latest = max(cutoffs.values())
    query = _OVERDUE_ROWS.where(
        DEVICES.c.activated_at <= latest, or_(DEVICES.c.last_proof_at.is_(None), DEVICES.c.last_proof_at <= latest)
    )
    if among is not None:
        query = query.where(DEVICES.c.pdi.in_(among))
    return [row for row in connection.execute(query) if _since_proof(row) <= cutoffs.get(row.allowed_us, -1)]


def judge_overdue(connection: Connection, rows: Sequence[Row[Any]], able: Able, now: int) -> list[Turn]:
    """Return which of these candidates are PRESENCE_OVERDUE (docs/protocol.md W3, W4)."""
    if not rows:
        return []
    first = min(map(_since_proof, rows))
    clocks = PresenceClocks(connection, SiteClocks(connection, first, now), able, first)
    return [
        Turn(
            Pdi(row.pdi),
            Reason.PRESENCE_OVERDUE,
            _allows("it reports, but presence is not proven", _since_proof(row), row.allowed_us),
        )
        for row in rows
        if clocks.is_over(_site(row), _since_proof(row), row.allowed_us, row.cadence_us)
    ]


def _since_proof(row: Row[Any]) -> int:
    """Return what the clock of PRESENCE_OVERDUE runs from (docs/protocol.md W3)."""
    since: int = max(row.last_proof_at or 0, row.activated_at, row.licensed_at, row.tightened_at)
    return since


def _site(row: Row[Any]) -> SiteKey:
    return SiteKey(row.license_number, row.site_id)


def _allows(what: str, since: int, allowed_us: int) -> str:
    return f"{what} since {_time(since)}; the license allows {allowed_us * MICROSECOND}, grace included"


def _time(at: int) -> str:
    return f"{moment(at):%Y-%m-%d %H:%M:%S} UTC"
