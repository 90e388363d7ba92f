"""What a site's region says by itself: whose officers may see it, and whether it lies where nothing may go."""

from functools import lru_cache

from verifier.errors import UsageError
from verifier.place.geodesy import Position
from verifier.place.policy import PlacePolicy
from verifier.place.regions import AnyOf, Complement, Countries, Group, Polygon, Region, SiteDisc

REGIONS_HELD = 10_000
"""Whose answers are kept: a file of a million rows has far fewer sites, and to look one up takes milliseconds."""


class Destinations:
    """Answers about regions under one policy.

    Args:
        policy: Knows the borders and the prohibited destinations.
    """

    def __init__(self, policy: PlacePolicy) -> None:
        self._policy = policy
        self._jurisdiction = lru_cache(REGIONS_HELD)(self._find_jurisdiction)
        self._prohibited = lru_cache(REGIONS_HELD)(self._find_prohibited)

    def jurisdiction(self, region: Region) -> str:
        """Return the country of a region: its own, or that of the middle of a disc or polygon; empty: not known.

        A region of several countries belongs to none of them.
        """
        return self._jurisdiction(region)

    def prohibited(self, region: Region) -> str | None:
        """Return what to tell of a region that lies in a prohibited destination (docs/protocol.md PL7), else None."""
        return self._prohibited(region)

    def _find_jurisdiction(self, region: Region) -> str:
        place = _middle(region)
        atlas = self._policy.atlas
        if place is None:
            codes = region.codes if isinstance(region, Countries) else frozenset()
        else:
            codes = frozenset(
                code for code in atlas.country_codes if atlas.contains(Countries(frozenset({code})), place)
            )
        return next(iter(codes)) if len(codes) == 1 else ""

    def _find_prohibited(self, region: Region) -> str | None:
        policy = self._policy
        version = policy.prohibited_version
        place = _middle(region)
        if place is not None:
            inside = policy.atlas.contains(policy.prohibited, place)
            return f"lies in a prohibited destination (list {version})" if inside else None
        try:
            shared = policy.atlas.countries(region) & policy.prohibited.codes
        except UsageError:  # a group that the list in force no longer has is told where the row is checked
            return None
        return f"names the prohibited destination {', '.join(sorted(shared))} (list {version})" if shared else None


def _middle(region: Region) -> Position | None:
    """Return the middle of a disc, or of what a polygon spans; None for countries."""
    match region:
        case SiteDisc(_, center, _):
            return center
        case Polygon(_, rings):
            longitudes, latitudes = zip(*rings[0], strict=True)
            return Position((min(latitudes) + max(latitudes)) / 2, (min(longitudes) + max(longitudes)) / 2)
        case AnyOf(members):
            return _middle(members[0])
        case Countries() | Group() | Complement():
            return None
