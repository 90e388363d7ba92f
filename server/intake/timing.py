"""How often a host is asked, from what its devices are licensed for."""

import random
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import NamedTuple

from server.store.types import LoadedInputs
from verifier.license import License
from verifier.units import Pdi

SHORTEST_INTERVAL_S = 1.0

JITTER = 0.25
"""An agent must not know when the next challenge comes: this share of a time, earlier or later."""

_DAY = timedelta(days=1)


class Pace(NamedTuple):
    """When a host is asked again, in seconds after its last challenge: at a time drawn evenly between these two."""

    least_s: float
    most_s: float

    def draw(self, rng: random.Random) -> float:
        """Return a time between the two."""
        return rng.uniform(self.least_s, self.most_s)


SHORTEST_PACE = Pace(SHORTEST_INTERVAL_S, SHORTEST_INTERVAL_S)


def pace(loaded: LoadedInputs, interval_s: float | None, unlicensed_s: float, *, hasten: bool) -> Pace:
    """Return how often a host is asked: by the license among its devices' that asks most often.

    Args:
        loaded: Deployments of its devices, and those by board that they may come under (docs/protocol.md RC8).
        interval_s: Seconds between two challenges of a host, configured; None: by its licenses.
        unlicensed_s: For a host without a license.
        hasten: A configured interval counts although its licenses ask less often.
    """
    held = [deployment.license for deployment in loaded.deployments.values()]
    held += [adoption.license for adoption in loaded.adoptions.values()]
    asked = min(map(_asked, held), key=lambda each: each.most_s, default=None)
    if asked is None:
        return _around(interval_s or unlicensed_s)
    if interval_s is None:
        return asked
    configured = _around(interval_s)
    # docs/protocol.md K3: no configuration makes a device tell where it is oftener than its license does.
    return configured if hasten or configured.least_s >= asked.least_s else asked


def _asked(held: License) -> Pace:
    """From half of the cadence on, so that one lost report breaks nothing; oftener when there must be more surprises.

    Every challenge is one: an agent cannot know when it comes.
    """
    half_s = held.cadence.total_seconds() / 2
    if held.surprises_per_day:
        surprise_s = _DAY.total_seconds() / held.surprises_per_day
        if surprise_s < half_s:
            return _around(surprise_s)
    # docs/protocol.md K3: never less than half of it apart.
    return _floored(half_s, half_s * (1 + 2 * JITTER))


def _around(middle_s: float) -> Pace:
    return _floored(middle_s * (1 - JITTER), middle_s * (1 + JITTER))


def _floored(least_s: float, most_s: float) -> Pace:
    return Pace(max(SHORTEST_PACE.least_s, least_s), max(SHORTEST_PACE.most_s, most_s))


def licenses_of(loaded: LoadedInputs) -> AbstractSet[tuple[Pdi, str, int]]:
    """Return what brings the next challenge forward when it changes: each device's license and its state."""
    return frozenset((pdi, of.license.number, int(of.license.state)) for pdi, of in loaded.deployments.items())
