"""Which landmarks range a landmark next, and when (docs/protocol.md LA3).

Every other domain's landmark ranges it at least once in an interval. What the store says of a pair counts, whichever
process gave the order, so that a landmark that reconnects, or is connected twice, is not ranged much more often. Order
and times are drawn from the app's randomness: who is ranged by whom next is nobody's to know.
"""

import enum
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.units import LandmarkId

DUE_AFTER = 0.5
"""Share of the interval after which a pair may be ordered again."""

OVERDUE_AFTER = 0.75
"""Share of the interval after which a pair comes before those that are merely due."""

LOOK_AGAIN_S = 60.0
"""The longest pause before another look: pairs that never ranged wait no longer, so that a new landmark soon counts."""

TRY_AGAIN_S = 60.0
MAX_TRY_AGAIN_S = 900.0
"""A pair that never ranged is ordered again after the first, then after twice as long each time, up to the second."""

_NEVER = datetime.min.replace(tzinfo=UTC)


@enum.unique
class Urgency(enum.IntEnum):
    """How much an ordered pair needs a range, the most urgent first."""

    NEW = 1
    OVERDUE = 2
    TRY_AGAIN = 3
    """It never ranged, though it was ordered to. Landmarks that never answer must not crowd out those that do."""
    DUE = 4
    RESTS = 5


@dataclass(frozen=True, slots=True)
class _Order:
    """The newest order of a pair of which nothing has come yet.

    Attributes:
        at: When it was given.
        tries: How many have been given since the pair last ranged, this one included.
        try_again_at: When the next one may be given if the pair never ranged.
    """

    at: datetime
    tries: int
    try_again_at: datetime


@dataclass(frozen=True, slots=True)
class Next:
    """What to do next.

    Attributes:
        landmarks: Those that are to range it now; empty: none is due.
        pause_s: How long to wait before the next look.
    """

    landmarks: tuple[Landmark, ...]
    pause_s: float


class AuditSchedule:
    """Orders of one process, over all its streams.

    Args:
        interval: Each ordered pair of landmarks of different domains is ordered at least once in it.
        batch: Orders at once.
        rng: Source of order and times.
    """

    def __init__(self, interval: timedelta, batch: int, rng: random.Random) -> None:
        self._interval = interval
        self._batch = batch
        self._rng = rng
        # A session that fails leaves nothing in the store, and must not be ordered again at once.
        self._orders: dict[LandmarkId, dict[LandmarkId, _Order]] = {}
        self._rests_until: dict[LandmarkId, datetime] = {}

    def first_pause_s(self) -> float:
        """Return how long a new stream waits: after a restart all landmarks come at once."""
        return self._rng.uniform(0, min(LOOK_AGAIN_S, self._interval.total_seconds()) / 10)

    def next_batch(
        self,
        prover: Landmark,
        registry: LandmarkRegistry,
        ranged_at: Mapping[LandmarkId, datetime],
        now: datetime,
    ) -> Next:
        """Choose who ranges a landmark now, and note that it was ordered.

        Args:
            prover: Who is ranged.
            registry: All landmarks.
            ranged_at: When each of them last ranged it, as the store has it.
            now: Time, aware.
        """
        others = _able(prover, registry, now)
        # A time that lies ahead was written by a clock that was wrong, and says nothing.
        ranged_at = {by: at for by, at in ranged_at.items() if at - now <= timedelta(seconds=LOOK_AGAIN_S)}
        before = self._orders.get(prover.landmark_id, {})
        # What came of it stands in the store; only the others must be kept in mind.
        orders = {by: order for by, order in before.items() if order.at > ranged_at.get(by, _NEVER)}
        urgency = {
            r.landmark_id: self._urgency(ranged_at.get(r.landmark_id), orders.get(r.landmark_id), now) for r in others
        }
        rests = now < self._rests_until.get(prover.landmark_id, _NEVER)
        allowed = {Urgency.NEW, Urgency.TRY_AGAIN} | (set() if rests else {Urgency.OVERDUE, Urgency.DUE})
        due = [r for r in others if urgency[r.landmark_id] in allowed]
        due.sort(key=lambda r: (urgency[r.landmark_id], self._rng.random()))
        chosen = tuple(due[: self._batch])
        given = {r.landmark_id: self._order(orders.get(r.landmark_id), now) for r in chosen}
        self._orders[prover.landmark_id] = orders | given
        paced = sum(urgency[r.landmark_id] is not Urgency.TRY_AGAIN for r in chosen)
        if paced and not rests:
            # A round over all others takes at most half of the interval; the other half they rest.
            pause = self._rng.uniform(0.25, 0.5) * paced / len(others) * self._interval
            self._rests_until[prover.landmark_id] = now + pause
        left_s = (self._rests_until.get(prover.landmark_id, now) - now).total_seconds()
        pause_s = left_s if left_s > 0 else self._interval.total_seconds() / 10
        return Next(chosen, min(pause_s, LOOK_AGAIN_S) * self._rng.uniform(0.75, 1.0))

    def _order(self, before: _Order | None, now: datetime) -> _Order:
        tries = 1 if before is None else before.tries + 1
        longest_s = min(MAX_TRY_AGAIN_S, DUE_AFTER * self._interval.total_seconds())
        # The exponent is bounded, since a pair may fail for years.
        back_off_s = min(TRY_AGAIN_S * 2 ** min(tries - 1, 8), longest_s)
        return _Order(now, tries, now + timedelta(seconds=back_off_s * self._rng.uniform(0.75, 1.0)))

    def _urgency(self, ranged_at: datetime | None, order: _Order | None, now: datetime) -> Urgency:
        if ranged_at is None:
            if order is None:
                return Urgency.NEW
            return Urgency.TRY_AGAIN if now >= order.try_again_at else Urgency.RESTS
        last = ranged_at if order is None else order.at
        if now - last >= OVERDUE_AFTER * self._interval:
            return Urgency.OVERDUE
        return Urgency.DUE if now - last >= DUE_AFTER * self._interval else Urgency.RESTS


def _able(prover: Landmark, registry: LandmarkRegistry, now: datetime) -> list[Landmark]:
    """Return those that may range it: a landmark that is distrusted too, or its distrust could never end."""
    if not prover.is_valid(now):
        return []
    own = registry.domain_of(prover.landmark_id)
    return [r for r in registry.landmarks if r.is_valid(now) and registry.domain_of(r.landmark_id) != own]
