"""Silence: no verified report for cadence + grace, measured in the time in which the service was demonstrably up.

The store remembers when it was up, so an outage of ours never makes a device silent, and a restart forgets nothing.
Whether landmarks were up does not matter here: a report without ranges ends a silence too.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from server.store.counters import take_numbers
from server.store.framing import MICROSECOND, micros, moment
from server.store.queries import is_open, open_findings
from server.store.rows import Values, visible
from server.store.schema import DEPLOYMENTS, DEVICES, FINDINGS, LICENSES, SERVICE_INTERVALS
from server.store.types import OpenFinding
from verifier.appraise import SEVERITY, standing_of
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.units import Pdi
from verifier.verdict import Finding

LONGEST_PAUSE = timedelta(seconds=60)
"""Marks farther apart do not show that the service was up between them: a stopped process wakes up again too."""

_ALLOWED = LICENSES.c.cadence_us + LICENSES.c.grace_us
_UPDATE_STANDING = update(DEVICES).where(DEVICES.c.pdi == bindparam("key"))


@dataclass(frozen=True, slots=True)
class Overdue:
    """A deployed GPU that has said nothing for too long. `since` is what its clock runs from, microseconds."""

    pdi: Pdi
    since: int
    allowed_us: int


class Uptime:
    """When any node of the service was up, in microseconds."""

    def __init__(self, intervals: Iterable[tuple[int, int]]) -> None:
        merged: list[tuple[int, int]] = []
        for start, end in sorted(intervals):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        self._starts = [start for start, _ in merged]
        self._ends = [end for _, end in merged]
        self._sums = list(accumulate((end - start for start, end in merged), initial=0))

    def between(self, since: int, until: int) -> int:
        """Return how long the service was up between two times."""
        return max(0, self._before(until) - self._before(since))

    def _before(self, when: int) -> int:
        index = bisect_right(self._starts, when)
        if index == 0:
            return 0
        return self._sums[index] - max(0, self._ends[index - 1] - when)


def find_overdue(connection: Connection, now: datetime) -> list[Overdue]:
    """Return deployed GPUs that are silent and are not known to be."""
    overdue = [
        # Before its deployment was recorded nobody had to report, and before its terms were shortened not so often.
        Overdue(Pdi(row.pdi), max(row.last_report_at, row.licensed_at, row.tightened_at), row.allowed_us)
        for row in _candidates(connection, micros(now))
    ]
    if not overdue:
        return []
    uptime = _uptime(connection, min(device.since for device in overdue))
    return [device for device in overdue if uptime.between(device.since, micros(now)) > device.allowed_us]


def open_silent(connection: Connection, now: datetime) -> tuple[Pdi, ...]:
    """Open SILENT for those that `find_overdue` finds, in the caller's transaction, and return them."""
    overdue = sorted(find_overdue(connection, now), key=lambda device: device.pdi)
    if not overdue:
        return ()
    standing = open_findings(connection, [device.pdi for device in overdue])
    findings: list[Values] = []
    devices: list[Values] = []
    for number, device in zip(take_numbers(connection, "changes", len(overdue)), overdue, strict=True):
        silent = Finding(Reason.SILENT, SEVERITY[Reason.SILENT], _detail(device))
        shown = visible([*standing.get(device.pdi, ()), OpenFinding(silent, now)])
        stands = standing_of((finding.finding for finding in shown), deployed=True)
        devices.append({"key": device.pdi, "standing": int(stands), "change_number": number})
        findings.append(
            {
                "pdi": device.pdi,
                "reason": int(silent.reason),
                "opened_at": micros(now),
                "closed_at": None,
                "severity": int(silent.severity),
                "detail": silent.detail,
            }
        )
    connection.execute(_UPDATE_STANDING, devices)
    connection.execute(insert(FINDINGS), findings)
    return tuple(device.pdi for device in overdue)


def _candidates(connection: Connection, now: int) -> Sequence[Row[bytes, int, int, int, int]]:
    """Return devices whose clock is over if the service was always up."""
    # The bound of the shortest license lets the index do the work.
    shortest = connection.execute(select(func.min(_ALLOWED))).scalar()
    if shortest is None:
        return ()
    joined = DEVICES.join(DEPLOYMENTS, DEPLOYMENTS.c.device_pdi == DEVICES.c.pdi).join(LICENSES)
    query = (
        select(
            DEVICES.c.pdi,
            DEVICES.c.last_report_at,
            DEPLOYMENTS.c.licensed_at,
            LICENSES.c.tightened_at,
            _ALLOWED.label("allowed_us"),
        )
        .select_from(joined)
        .where(
            DEVICES.c.last_report_at < now - shortest,
            DEVICES.c.last_report_at + _ALLOWED < now,
            DEPLOYMENTS.c.licensed_at + _ALLOWED < now,
            LICENSES.c.tightened_at + _ALLOWED < now,
            DEVICES.c.kind == int(DeviceKind.GPU),
            ~is_open(Reason.SILENT),
        )
    )
    return connection.execute(query).all()


def _uptime(connection: Connection, since: int) -> Uptime:
    query = select(SERVICE_INTERVALS.c.started_at, SERVICE_INTERVALS.c.alive_until)
    rows = connection.execute(query.where(SERVICE_INTERVALS.c.alive_until > since))
    return Uptime((row.started_at, row.alive_until) for row in rows)


def _detail(device: Overdue) -> str:
    allowed = device.allowed_us * MICROSECOND
    since = f"{moment(device.since):%Y-%m-%d %H:%M:%S} UTC"
    return f"no verified report since {since}; the license allows {allowed} between reports, grace included"


class Beats:
    """The service intervals of this process, one a node. Used by the writer thread alone."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[int, int]] = {}

    def interrupt(self) -> None:
        """End all intervals at their last mark that is durable; the next mark begins a new one."""
        self._running.clear()

    def mark(self, connection: Connection, node: str, now: datetime, longest_pause: timedelta) -> None:
        """Extend the node's interval to `now`, or open a new one: at the first mark, and after too long a pause."""
        alive = micros(now)
        started, until = self._running.get(node, (alive, alive))
        if alive - until > longest_pause // MICROSECOND:
            started = alive
        elif alive < until:
            return  # the clock was set back; the time up to `until` is counted already
        at = (SERVICE_INTERVALS.c.node == node, SERVICE_INTERVALS.c.started_at == started)
        changed = connection.execute(update(SERVICE_INTERVALS).where(*at).values(alive_until=alive))
        if not changed.rowcount:
            row = {"node": node, "started_at": started, "alive_until": alive}
            connection.execute(insert(SERVICE_INTERVALS), row)
        self._running[node] = (started, alive)
