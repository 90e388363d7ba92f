"""What landmarks' ranges of each other leave behind: the ranges with their evidence, and who is distrusted.

Who is distrusted is worked out in verifier/place/audit.py. Two processes may audit one store: what is written here is
the difference to what stands, and an audit that looked at less than the newest one writes nothing.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from server.store.counters import read_counter, set_note, take_numbers
from server.store.landmark_uptime import mark_landmarks
from server.store.landmarks import load_landmarks
from server.store.rows import Values, chunks
from server.store.schema import LANDMARK_DISTRUST, LANDMARK_RANGES
from server.store.types import (
    AuditInputs,
    AuditOutcome,
    DistrustRecord,
    LandmarkPage,
    LandmarkRange,
    LandmarkRecord,
    ProvenRange,
)
from server.times import micros, moment, optional_moment
from verifier.place.audit import AuditRule, Contradiction, Distrust, PairRange
from verifier.place.landmarks import LandmarkRegistry
from verifier.units import Domain, Kilometers, LandmarkId, Nanoseconds

LEAST_FOR = timedelta(hours=24)
"""So long the least range of a pair counts before any other takes its place (docs/protocol.md LA3)."""

_READ = select(
    LANDMARK_RANGES.c.of_id, LANDMARK_RANGES.c.by_id, LANDMARK_RANGES.c.latest_at, LANDMARK_RANGES.c.least_rtt_ns
)
_RangeRow = tuple[str, str, int, int]
"""Who answered, who ranged, when last (microseconds), least round trip (nanoseconds)."""

_OPEN = select(LANDMARK_DISTRUST).where(LANDMARK_DISTRUST.c.ended_at.is_(None))
_AT = (LANDMARK_RANGES.c.of_id == bindparam("key_of"), LANDMARK_RANGES.c.by_id == bindparam("key_by"))
_UPDATE_RANGE = update(LANDMARK_RANGES).where(*_AT)
_UPDATE_OPEN = update(LANDMARK_DISTRUST).where(
    LANDMARK_DISTRUST.c.landmark_id == bindparam("key"), LANDMARK_DISTRUST.c.ended_at.is_(None)
)


def record_ranges(connection: Connection, ranges: Sequence[ProvenRange]) -> None:
    """Keep verified ranges: the latest time of each pair, and the least one of a day with its evidence."""
    take_numbers(connection, "audits", 1)
    heard: dict[LandmarkId, int] = {}
    for proven in ranges:
        for landmark_id in (proven.pair.of, proven.pair.by):  # a receipt and a statement (docs/protocol.md W4)
            heard[landmark_id] = max(heard.get(landmark_id, 0), micros(proven.received_at))
    mark_landmarks(connection, heard)
    for proven in ranges:
        pair, at = proven.pair, micros(proven.received_at)
        key = {"key_of": pair.of, "key_by": pair.by}
        query = select(LANDMARK_RANGES.c.latest_at, LANDMARK_RANGES.c.least_at, LANDMARK_RANGES.c.least_rtt_ns)
        before = connection.execute(query.where(*_AT), key).one_or_none()
        least = {
            "least_at": at,
            "least_rtt_ns": pair.rtt_ns,
            "challenge": proven.challenge,
            "receipt": proven.receipt,
            "statement": proven.statement,
            "answered": proven.answered,
        }
        if before is None:
            connection.execute(insert(LANDMARK_RANGES), {"of_id": pair.of, "by_id": pair.by, "latest_at": at, **least})
            continue
        # What lies well ahead was written by a clock that was wrong.
        ahead = before.latest_at - at > micros_of(LEAST_FOR)
        values: Values = {"latest_at": at if ahead else max(at, before.latest_at)}
        if ahead or pair.rtt_ns <= before.least_rtt_ns or at - before.least_at > micros_of(LEAST_FOR):
            values |= least
        connection.execute(_UPDATE_RANGE.values(values), key)


def load_range_times(connection: Connection, of: LandmarkId) -> dict[LandmarkId, datetime]:
    """Return when each landmark last ranged this one."""
    query = select(LANDMARK_RANGES.c.by_id, LANDMARK_RANGES.c.latest_at).where(LANDMARK_RANGES.c.of_id == of)
    return {LandmarkId(row.by_id): moment(row.latest_at) for row in connection.execute(query)}


def load_audited_landmarks(connection: Connection) -> list[LandmarkRecord]:
    """Return the current revisions in the order of ids, with who has ranged them and whether they are distrusted."""
    return _with_audit(load_landmarks(connection), _read_ranges(connection, None), load_distrust(connection))


def load_audit_inputs(connection: Connection, page: LandmarkPage | None = None) -> AuditInputs:
    """Return all that an audit looks at, as of one moment.

    Args:
        connection: In one read transaction.
        page: Read the ranges of these landmarks alone: only they show who has ranged them. None: of all.
    """
    records = load_landmarks(connection)
    distrust = load_distrust(connection)
    ids = [record.landmark.landmark_id for record in records]
    chosen = ids if page is None else [i for i in ids if page.after is None or i > page.after][: page.limit]
    rows = _read_ranges(connection, None if page is None else chosen)
    return AuditInputs(
        basis=_basis(connection),
        records=tuple(_with_audit(records, rows, distrust)),
        chosen=tuple(chosen),
        ranges=_ranges_of(rows),
        distrust={stands.distrust.landmark_id: stands for stands in distrust},
        audited_at=optional_moment(read_counter(connection, "audited_at") or None),
    )


def load_distrust(connection: Connection) -> list[DistrustRecord]:
    """Return what stands open, in the order of ids."""
    return [_distrust_of(row) for row in connection.execute(_OPEN.order_by(LANDMARK_DISTRUST.c.landmark_id))]


def set_distrust(connection: Connection, found: Iterable[Distrust], basis: int, now: datetime) -> AuditOutcome:
    """Make what an audit found the distrust that stands, and say what changed.

    An audit of an older state than that of the newest one changes nothing.

    Args:
        connection: In the caller's transaction.
        found: All that it found.
        basis: The state that it looked at.
        now: Time, aware.
    """
    if basis < read_counter(connection, "audit_basis"):
        return AuditOutcome((), ())
    standing = {row.landmark_id: row for row in connection.execute(_OPEN)}
    given = {distrust.landmark_id: distrust for distrust in found}
    begun = [distrust for distrust in given.values() if distrust.landmark_id not in standing]
    ended = sorted(set(standing) - set(given))
    changed = []
    for distrust in given.values():
        row, values = standing.get(distrust.landmark_id), _distrust_values(distrust)
        if row is not None and any(getattr(row, name) != value for name, value in values.items()):
            changed.append({"key": distrust.landmark_id, **values})
    at, taken = micros(now), 0
    for landmark_id in ended:
        connection.execute(_UPDATE_OPEN.values(ended_at=at), {"key": landmark_id})
    for distrust in begun:
        row_values = {"landmark_id": distrust.landmark_id, "since": at, **_distrust_values(distrust)}
        connection.execute(insert(LANDMARK_DISTRUST), row_values)
    if changed:
        connection.execute(_UPDATE_OPEN, changed)
        taken += len(take_numbers(connection, "audits", 1))
    if begun or ended:
        taken += len(take_numbers(connection, "records", 1))
    # What this wrote itself is no news to the next audit; what came since `basis` is.
    set_note(connection, "audit_basis", basis + taken)
    set_note(connection, "audited_at", at)
    return AuditOutcome(tuple(begun), tuple(LandmarkId(landmark_id) for landmark_id in ended))


def settle_distrust(connection: Connection, landmark_ids: Iterable[LandmarkId]) -> None:
    """Note that the devices whose fixes used these landmarks have been appraised again."""
    for landmark_id in landmark_ids:
        connection.execute(_UPDATE_OPEN.values(settled=True), {"key": landmark_id})


def has_news(connection: Connection) -> bool:
    """Whether something changed that no audit has looked at."""
    return _basis(connection) > read_counter(connection, "audit_basis")


def micros_of(duration: timedelta) -> int:
    """Return a duration in microseconds."""
    return duration // timedelta(microseconds=1)


def _basis(connection: Connection) -> int:
    # Both counters only grow, so their sum grows with each change of either.
    return read_counter(connection, "records") + read_counter(connection, "audits")


def _read_ranges(connection: Connection, of: Collection[LandmarkId] | None) -> list[_RangeRow]:
    chosen = [_READ] if of is None else [_READ.where(LANDMARK_RANGES.c.of_id.in_(some)) for some in chunks(of)]
    return [tuple(row) for query in chosen for row in connection.execute(query)]


def _ranges_of(rows: Iterable[_RangeRow]) -> tuple[LandmarkRange, ...]:
    times: dict[int, datetime] = {}  # the ranges of one batch share theirs
    ranges = []
    for of_id, by_id, latest_at, rtt_ns in rows:
        when = times.get(latest_at)
        if when is None:
            when = times[latest_at] = moment(latest_at)
        ranges.append(LandmarkRange(PairRange(LandmarkId(by_id), LandmarkId(of_id), Nanoseconds(rtt_ns)), when))
    return tuple(ranges)


def _with_audit(
    records: Sequence[LandmarkRecord], rows: Iterable[_RangeRow], distrust: Iterable[DistrustRecord]
) -> list[LandmarkRecord]:
    """Fill in what audits say of each landmark (docs/protocol.md LA3, LA5)."""
    distrusted = {stands.distrust.landmark_id: stands.distrust.explanation for stands in distrust}
    registry = LandmarkRegistry.build(record.landmark for record in records)
    witnesses: dict[str, Domain] = {
        r.landmark_id: registry.domain_of(r.landmark_id) for r in registry.landmarks if r.landmark_id not in distrusted
    }
    # 800 landmarks have 640,000 pairs: nothing is made in this loop that is not kept.
    latest: dict[str, dict[Domain, int]] = {r.landmark_id: {} for r in registry.landmarks}
    for of_id, by_id, latest_at, _ in rows:
        domain, ranged = witnesses.get(by_id), latest.get(of_id)
        if domain is not None and ranged is not None and latest_at > ranged.get(domain, 0):
            ranged[domain] = latest_at
    return [
        replace(
            record,
            landmark=replace(
                record.landmark,
                ranged_by=tuple(
                    (domain, moment(at)) for domain, at in sorted(latest[record.landmark.landmark_id].items())
                ),
                distrusted=distrusted.get(record.landmark.landmark_id, ""),
            ),
        )
        for record in records
    ]


def _distrust_values(distrust: Distrust) -> Values:
    return {
        "rule": int(distrust.rule),
        "explanation": distrust.explanation,
        "contradictions": json.dumps(
            [[c.by, c.of, c.rtt_ns, c.apart_km, c.reach_km] for c in distrust.contradictions], separators=(",", ":")
        ),
    }


def _distrust_of(row: Row[Any]) -> DistrustRecord:
    contradictions = tuple(
        Contradiction(LandmarkId(by), LandmarkId(of), Nanoseconds(rtt_ns), Kilometers(apart_km), Kilometers(reach_km))
        for by, of, rtt_ns, apart_km, reach_km in json.loads(row.contradictions)
    )
    distrust = Distrust(LandmarkId(row.landmark_id), AuditRule(row.rule), contradictions, row.explanation)
    return DistrustRecord(distrust, moment(row.since), settled=row.settled)
