"""How often a host is asked, from what its devices are licensed for."""

from collections.abc import Set as AbstractSet
from datetime import timedelta

from server.store.types import LoadedInputs
from verifier.license import License
from verifier.units import Pdi

SHORTEST_INTERVAL_S = 1.0

_DAY = timedelta(days=1)


def interval_s(loaded: LoadedInputs, unlicensed_s: float) -> float:
    """Return the seconds between two challenges of a host: by the license among its devices' that asks most often.

    Args:
        loaded: Deployments of its devices, and those by board that they may come under (docs/protocol.md RC8).
        unlicensed_s: For a host without either.
    """
    held = [deployment.license for deployment in loaded.deployments.values()]
    held += [adoption.license for adoption in loaded.adoptions.values()]
    return max(SHORTEST_INTERVAL_S, min(map(_asked_s, held), default=unlicensed_s))


def _asked_s(held: License) -> float:
    """Half of the cadence, so that one lost report breaks nothing; oftener when the license asks for more surprises.

    Every challenge is one: an agent cannot know when it comes.
    """
    often = held.cadence / 2
    if held.surprises_per_day:
        often = min(often, _DAY / held.surprises_per_day)
    return often.total_seconds()


def licenses_of(loaded: LoadedInputs) -> AbstractSet[tuple[Pdi, str, int]]:
    """Return what brings the next challenge forward when it changes: each device's license and its state."""
    return frozenset((pdi, of.license.number, int(of.license.state)) for pdi, of in loaded.deployments.items())
