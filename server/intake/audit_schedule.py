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

_NEVER = datetime.min.replace(tzinfo=UTC)


@enum.unique
class Urgency(enum.IntEnum):
    """How much an ordered pair needs a range, the most urgent first."""

    NEW = 1
    OVERDUE = 2
    DUE = 3
    RESTS = 4


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
        self._ordered_at: dict[LandmarkId, dict[LandmarkId, datetime]] = {}
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
        before = self._ordered_at.get(prover.landmark_id, {})
        # What came of it stands in the store; only the others must be kept in mind.
        ordered_at = {by: at for by, at in before.items() if at > ranged_at.get(by, _NEVER)}
        last = {**ranged_at, **ordered_at}
        urgency = {r.landmark_id: self._urgency(last.get(r.landmark_id, _NEVER), now) for r in others}
        rests = now < self._rests_until.get(prover.landmark_id, _NEVER)
        due = [r for r in others if urgency[r.landmark_id] <= (Urgency.NEW if rests else Urgency.DUE)]
        due.sort(key=lambda r: (urgency[r.landmark_id], self._rng.random()))
        chosen = tuple(due[: self._batch])
        self._ordered_at[prover.landmark_id] = ordered_at | {r.landmark_id: now for r in chosen}
        if chosen and not rests:
            # A round over all others takes at most half of the interval; the other half they rest.
            pause = self._rng.uniform(0.25, 0.5) * len(chosen) / len(others) * self._interval
            self._rests_until[prover.landmark_id] = now + pause
        left = self._rests_until.get(prover.landmark_id, now) - now
        pause_s = left.total_seconds() if chosen or rests else self._interval.total_seconds() / 10
        return Next(chosen, min(pause_s, LOOK_AGAIN_S) * self._rng.uniform(0.75, 1.0))

    def _urgency(self, last: datetime, now: datetime) -> Urgency:
        if last == _NEVER:
            return Urgency.NEW
        if now - last >= OVERDUE_AFTER * self._interval:
            return Urgency.OVERDUE
        return Urgency.DUE if now - last >= DUE_AFTER * self._interval else Urgency.RESTS


def _able(prover: Landmark, registry: LandmarkRegistry, now: datetime) -> list[Landmark]:
    """Return those that may range it: a landmark that is distrusted too, or its distrust could never end."""
    if not prover.is_valid(now):
        return []
    own = registry.domain_of(prover.landmark_id)
    return [r for r in registry.landmarks if r.is_valid(now) and registry.domain_of(r.landmark_id) != own]
