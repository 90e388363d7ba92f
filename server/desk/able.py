"""Which failure domains could prove presence at a site (docs/protocol.md W4), by the rules of the landmark plan.

A landmark could when it counts (PL3; when it was audited does not matter) and stands so near that the round trip that
the plan expects of it would settle the site's question alone. Where in a country a device stands is not on record; the
place farthest from the borders stands for it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Protocol

import numpy as np
import structlog

from server.store.watch_types import Able, AbleLandmark, AbleSite, SiteKey, WatchRecords
from server.times import micros
from verifier.errors import UsageError
from verifier.license import Presence
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.plan import innermost_place
from verifier.place.policy import PlacePolicy
from verifier.place.reach import Assumptions, PlanSite, Points, Prospects
from verifier.place.regions import Region, SiteDisc
from verifier.units import Domain

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PLACES_AT_ONCE = 40
"""New regions of a call: finding a region's innermost place takes 50 ms. The others come with the next calls."""

Asked = tuple[Presence, Region]
"""What is to be proven, and of where."""


class RecordSource(Protocol):
    """What is read; `server.store.watch_door.WatchDoor` is one."""

    async def records_number(self) -> int:
        """Return a number that grows with each change of a record."""

    async def records(self) -> WatchRecords:
        """Return landmarks and sites."""


class AbleDomains:
    """Works out once for each state of the records which domains could prove which site.

    After a start it takes some calls until all sites are there; those that are not yet are missing in what it returns.

    Args:
        source: Where records are kept.
        policy: f, borders and margins.
    """

    def __init__(self, source: RecordSource, policy: PlacePolicy) -> None:
        self._source = source
        self._policy = policy
        self._records: WatchRecords | None = None
        self._valid: tuple[Landmark, ...] = ()
        self._able: Able = {}
        self._places: dict[Region, Position | None] = {}
        self._reached: dict[Asked, tuple[Landmark, ...]] = {}
        self._is_complete = False
        self._working = asyncio.Lock()

    async def at(self, now: datetime) -> Able:
        """Return who could prove what under the records in force now; raises `StoreError`."""
        async with self._working:
            number = await self._source.records_number()
            records = self._records
            if records is None or number != records.number:
                records = await self._source.records()
            # docs/protocol.md PL3
            valid = tuple(each for each in records.landmarks if each.is_valid(now) and not each.distrusted)
            if records is not self._records or valid != self._valid or not self._is_complete:
                self._able = await asyncio.to_thread(self._work_out, records, valid)
                self._records, self._valid = records, valid
            return self._able

    def _work_out(self, records: WatchRecords, valid: tuple[Landmark, ...]) -> Able:
        asked = dict.fromkeys((site.presence, site.region) for site in records.sites)
        self._is_complete = self._find_places({region for _, region in asked})
        kept = self._reached if valid == self._valid else {}
        self._reached = {each: kept[each] for each in asked if each in kept}
        new = [(presence, region) for presence, region in asked if region in self._places]
        self._reached |= self._reach([each for each in new if each not in kept], valid)
        registry = LandmarkRegistry.build(records.landmarks)
        domains: dict[tuple[Asked, str], Mapping[Domain, tuple[AbleLandmark, ...]]] = {}
        able: dict[SiteKey, AbleSite] = {}
        for site in records.sites:
            question = (site.presence, site.region), site.licensee
            if question[0] not in self._reached:
                continue
            if question not in domains:
                domains[question] = self._domains(registry, *question)
            tolerated = self._policy.tolerating(site.tolerated_domains).tolerated_domains
            # With f = 0 there is no proof (docs/protocol.md PL6).
            able[site.key] = AbleSite(tolerated + 1, domains[question] if tolerated else {})
        return able

    def _find_places(self, regions: AbstractSet[Region]) -> bool:
        """Find where devices are taken to stand; return whether it is known of all regions."""
        known = {region: place for region, place in self._places.items() if region in regions}
        new = [region for region in regions if region not in known]
        known.update((region, region.center) for region in new if isinstance(region, SiteDisc))
        drawn = [region for region in new if not isinstance(region, SiteDisc)]
        known.update((region, self._innermost(region)) for region in drawn[:PLACES_AT_ONCE])
        self._places = known
        return len(drawn) <= PLACES_AT_ONCE

    def _innermost(self, region: Region) -> Position | None:
        try:
            return innermost_place(region, self._policy.atlas)
        except UsageError as error:  # the data in use do not have this country
            _LOG.warning("region_unknown", region=str(region), error=str(error))
            return None

    def _domains(
        self, registry: LandmarkRegistry, asked: Asked, licensee: str
    ) -> Mapping[Domain, tuple[AbleLandmark, ...]]:
        found: dict[Domain, tuple[AbleLandmark, ...]] = {}
        for landmark in self._reached[asked]:
            if not registry.belongs_to(landmark, licensee):  # docs/protocol.md PL3
                domain = registry.domain_of(landmark.landmark_id)
                # What it did as another record had it says nothing of this one.
                since = max(landmark.revised_at, landmark.valid_from or landmark.revised_at)
                found[domain] = (*found.get(domain, ()), AbleLandmark(landmark.landmark_id, micros(since)))
        return found

    def _reach(self, asked: Sequence[Asked], landmarks: Sequence[Landmark]) -> dict[Asked, tuple[Landmark, ...]]:
        """Return which landmarks would settle which questions alone."""
        found: dict[Asked, tuple[Landmark, ...]] = dict.fromkeys(asked, ())
        sites: list[PlanSite] = []
        rows: list[Asked] = []
        for presence, region in asked:
            place = self._places[region]
            if place is not None:
                within = None if presence is Presence.OUTSIDE_PROHIBITED else region
                sites.append(PlanSite(str(region), presence, within, place))
                rows.append((presence, region))
        if not landmarks or not sites:
            return found
        points = Points(
            positions=tuple(each.position for each in landmarks),
            uncertainty_km=np.array([each.uncertainty_km for each in landmarks]),
            virtual=np.array([each.virtual_machine for each in landmarks], dtype=np.bool_),
            domains=np.arange(len(landmarks), dtype=np.intp),
        )
        for some, reached in Prospects(points, self._policy, Assumptions()).blocks(sites):
            for row, flags in zip(some.tolist(), reached, strict=True):
                found[rows[row]] = tuple(landmarks[column] for column in np.flatnonzero(flags).tolist())
        return found
