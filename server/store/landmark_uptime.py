"""When landmarks were demonstrably up: they signed receipts or statements that were verified (docs/protocol.md W4)."""

from collections.abc import Collection, Mapping
from datetime import timedelta

from sqlalchemy import Connection, func, insert, select, update

from server.store.rows import chunks
from server.store.schema import LANDMARK_DISTRUST, LANDMARK_UPTIME
from server.store.spans import Spans
from server.times import MICROSECOND
from verifier.units import LandmarkId

LONGEST_GAP = timedelta(hours=3)
"""From one receipt or statement to the next: a landmark was up in between when it is no more (docs/protocol.md W4)."""

WRITE_EVERY = timedelta(minutes=1)
"""Marks of one landmark that are nearer together than that are not written: thousands of devices range it at once."""

_GAP_US = LONGEST_GAP // MICROSECOND
_WRITE_EVERY_US = WRITE_EVERY // MICROSECOND
_MARKED = "landmark_marks"
_T = LANDMARK_UPTIME.c


def mark_landmarks(connection: Connection, seen: Mapping[LandmarkId, int]) -> None:
    """Note when landmarks were heard of, microseconds, in the caller's transaction.

    What was written last is remembered beside the connection. When the transaction is undone after all, a minute's mark
    is lost, which the next one makes up for.
    """
    written: dict[LandmarkId, int] = connection.info.setdefault(_MARKED, {})
    due = {name: at for name, at in seen.items() if abs(at - written.get(name, -_WRITE_EVERY_US)) >= _WRITE_EVERY_US}
    for some in chunks(due):
        query = select(_T.landmark_id, _T.started_at, _T.alive_until).where(
            _T.landmark_id.in_(some), _T.alive_until >= min(due[name] for name in some) - _GAP_US
        )
        runs: dict[str, list[tuple[int, int]]] = {}
        for row in connection.execute(query):
            runs.setdefault(row.landmark_id, []).append((row.started_at, row.alive_until))
        for name in some:
            _mark(connection, name, due[name], runs.get(name, ()))
    written.update(due)


def _mark(connection: Connection, name: LandmarkId, at: int, runs: Collection[tuple[int, int]]) -> None:
    """Extend the run that this continues, or begin one."""
    started, until = max((run for run in runs if run[0] <= at), default=(at, at - _GAP_US - 1))
    if at <= until:
        return
    if at - until <= _GAP_US:
        here = (_T.landmark_id == name, _T.started_at == started)
        connection.execute(update(LANDMARK_UPTIME).where(*here).values(alive_until=at))
    else:
        connection.execute(insert(LANDMARK_UPTIME), {"landmark_id": name, "started_at": at, "alive_until": at})


def load_landmark_uptime(connection: Connection, since: int, until: int) -> dict[LandmarkId, Spans]:
    """Return when each landmark was up and not distrusted between two times, microseconds."""
    up: dict[LandmarkId, list[tuple[int, int]]] = {}
    query = select(_T.landmark_id, _T.started_at, _T.alive_until)
    for row in connection.execute(query.where(_T.alive_until > since, _T.started_at < until)):
        interval = max(since, row.started_at), min(until, row.alive_until)
        up.setdefault(LandmarkId(row.landmark_id), []).append(interval)
    distrusted: dict[str, list[tuple[int, int]]] = {}
    stands = LANDMARK_DISTRUST.c
    asked = select(stands.landmark_id, stands.since, func.coalesce(stands.ended_at, until).label("ended_at"))
    for row in connection.execute(asked.where(func.coalesce(stands.ended_at, until) > since)):
        distrusted.setdefault(row.landmark_id, []).append((row.since, row.ended_at))
    return {name: Spans(runs).without(Spans(distrusted.get(name, ()))) for name, runs in up.items()}


def load_landmarks_up(connection: Connection, now: int) -> frozenset[LandmarkId]:
    """Return the landmarks that are taken to be up now: they were heard of within the longest gap."""
    query = select(_T.landmark_id).where(_T.alive_until >= now - _GAP_US, _T.started_at <= now)
    return frozenset(LandmarkId(name) for name in connection.scalars(query.distinct()))
