"""PlanLandmarks: reads a request, plans in a thread of its own, writes the answer. The planning itself is the core's.

What is on record says where a device is licensed to be, never where in a country it stands; then the place farthest
from the borders stands for it, and the site's name says so.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from trigpoint.v1 import landmark_pb2, place_pb2

from server.rpc.errors import InvalidArgumentError
from server.rpc.rows import MAX_SITE_RADIUS_KM
from server.store import Store
from verifier.errors import UsageError
from verifier.license import Presence
from verifier.place.geodesy import Position
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.plan import Candidate, LandmarkPlan, SitePlan, innermost_place, plan_landmarks
from verifier.place.policy import PlacePolicy
from verifier.place.reach import Assumptions, PlanSite
from verifier.place.regions import Countries, Region, SiteDisc
from verifier.units import CountryCode

MAX_SITES = 10_000
MAX_CANDIDATES = 10_000
MAX_NAME = 128
MAX_OPERATOR = 200
MAX_PATH_FACTOR = 10.0
MAX_ACCESS_MS = 1_000.0
DEFAULT_CHOSEN = 10

Recorded = Sequence[tuple[Presence, Region]]
Result = TypeVar("Result")


class LandmarkPlanner:
    """Answers PlanLandmarks, one plan at a time.

    Args:
        store: Holds landmarks and deployments.
        policy: Borders, margins and f.
        clock: Returns the current time, aware.
    """

    def __init__(self, store: Store, policy: PlacePolicy, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        # A plan may take a minute and some hundred MB: a second one waits. numpy gives way to the event loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="planner")

    async def plan(self, request: landmark_pb2.PlanLandmarksRequest) -> landmark_pb2.PlanLandmarksResponse:
        """Answer a request.

        Raises:
            InvalidArgumentError: A field cannot be used, or more regions are on record than one plan takes.
        """
        _check_counts(request)
        recorded = () if request.sites else await self._store.licensed_regions()
        if len(recorded) > MAX_SITES:
            text = f"{len(recorded):,} regions are on record, and one plan takes {MAX_SITES:,}: name the sites"
            raise InvalidArgumentError("sites", text)
        return await self.work(lambda registry, now: self._answer(request, recorded, registry, now))

    async def work(self, work: Callable[[LandmarkRegistry, datetime], Result]) -> Result:
        """Run any planning in the planner's thread, behind what it is at: with the landmarks as they stand, and now."""
        landmarks = await self._store.load_landmark_records()
        registry = LandmarkRegistry.build(record.landmark for record in landmarks)
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._thread, work, registry, self._clock())

    def _answer(
        self,
        request: landmark_pb2.PlanLandmarksRequest,
        recorded: Recorded,
        registry: LandmarkRegistry,
        now: datetime,
    ) -> landmark_pb2.PlanLandmarksResponse:
        assumptions = _assumptions(request)
        candidates = _candidates(request, {str(landmark.landmark_id) for landmark in registry.landmarks})
        try:
            sites = _sites(request, self._policy.atlas.country_codes) or self._recorded_sites(recorded)
            most = request.max_chosen or DEFAULT_CHOSEN
            plan = plan_landmarks(sites, candidates, registry, self._policy, assumptions, most, now)
        except UsageError as error:  # a record names a country or group that the data in use do not have
            raise InvalidArgumentError("sites", str(error)) from error
        return plan_to_proto(plan)

    def _recorded_sites(self, recorded: Recorded) -> list[PlanSite]:
        places: dict[Region, Position] = {}
        sites: list[PlanSite] = []
        for presence, region in recorded:
            if region not in places:
                places[region] = innermost_place(region, self._policy.atlas)
            if isinstance(region, SiteDisc):
                name = _cut(region.name, MAX_NAME)
            else:
                name = f"{_cut(str(region), MAX_NAME - 30)}, at its innermost place"
            asked = None if presence is Presence.OUTSIDE_PROHIBITED else region
            sites.append(PlanSite(name, presence, asked, places[region]))
        return sites


def plan_to_proto(plan: LandmarkPlan) -> landmark_pb2.PlanLandmarksResponse:
    """Write a plan."""
    return landmark_pb2.PlanLandmarksResponse(
        sites=[_site_plan_to_proto(entry) for entry in plan.sites],
        chosen=[
            landmark_pb2.ChosenCandidate(
                candidate=landmark_pb2.PlanCandidate(
                    name=entry.candidate.name,
                    operator=entry.candidate.operator,
                    latitude=entry.candidate.position.latitude,
                    longitude=entry.candidate.position.longitude,
                ),
                gained=[site.name for site in entry.gained],
            )
            for entry in plan.chosen
        ],
        tolerated_domains=plan.tolerated_domains,
    )


def _site_plan_to_proto(entry: SitePlan) -> landmark_pb2.PlannedSite:
    site = entry.site
    codes = site.region.codes if isinstance(site.region, Countries) else frozenset[CountryCode]()
    return landmark_pb2.PlannedSite(
        site=landmark_pb2.PlanSite(
            name=site.name,
            presence=place_pb2.Presence.ValueType(int(site.presence)),
            latitude=site.place.latitude,
            longitude=site.place.longitude,
            radius_km=site.region.radius_km if isinstance(site.region, SiteDisc) else 0.0,
            country=next(iter(codes)) if len(codes) == 1 else "",
        ),
        provable_now=entry.provable_now,
        provable_then=entry.provable_then,
        reaches=[
            landmark_pb2.PlanReach(
                name=reach.name,
                candidate=reach.candidate,
                distance_km=reach.distance_km,
                needed_rtt_ms=reach.needed_rtt_ms,
                expected_rtt_ms=reach.expected_rtt_ms,
            )
            for reach in entry.reaches
        ],
        missing=entry.missing,
    )


def _check_counts(request: landmark_pb2.PlanLandmarksRequest) -> None:
    if len(request.sites) > MAX_SITES:
        raise InvalidArgumentError("sites", f"{MAX_SITES:,} at most")
    if len(request.candidates) > MAX_CANDIDATES:
        raise InvalidArgumentError("candidates", f"{MAX_CANDIDATES:,} at most")
    if not 0 <= request.max_chosen <= MAX_CANDIDATES:
        raise InvalidArgumentError("max_chosen", f"from 1 to {MAX_CANDIDATES:,}")


def _assumptions(request: landmark_pb2.PlanLandmarksRequest) -> Assumptions:
    standard = Assumptions()
    factor, access = request.path_factor or standard.path_factor, request.access_ms or standard.access_ms
    if not 1 <= factor <= MAX_PATH_FACTOR:
        raise InvalidArgumentError("path_factor", f"from 1 to {MAX_PATH_FACTOR:g}")
    if not 0 <= access <= MAX_ACCESS_MS:
        raise InvalidArgumentError("access_ms", f"from 0 to {MAX_ACCESS_MS:g} milliseconds")
    return Assumptions(factor, access)


def _candidates(request: landmark_pb2.PlanLandmarksRequest, registered: Collection[str]) -> list[Candidate]:
    candidates: list[Candidate] = []
    rows: dict[str, int] = {}
    for index, message in enumerate(request.candidates):
        field = f"candidates[{index}]"
        _check_text(message.name, f"{field}.name", least=1, most=MAX_NAME)
        _check_text(message.operator, f"{field}.operator", least=0, most=MAX_OPERATOR)
        earlier = rows.setdefault(message.name, index)
        if earlier != index:
            raise InvalidArgumentError(f"{field}.name", f"candidates[{earlier}] has this name too")
        if message.name in registered:  # an answer names both by their names alone
            raise InvalidArgumentError(f"{field}.name", f"a registered landmark is named {message.name}")
        candidates.append(Candidate(message.name, message.operator, _position(message, field)))
    return candidates


def _sites(request: landmark_pb2.PlanLandmarksRequest, countries: Collection[str]) -> list[PlanSite]:
    sites: list[PlanSite] = []
    for index, message in enumerate(request.sites):
        field = f"sites[{index}]"
        _check_text(message.name, f"{field}.name", least=1, most=MAX_NAME)
        place = _position(message, field)
        try:
            presence = Presence(message.presence)
        except ValueError as error:
            raise InvalidArgumentError(f"{field}.presence", "says what is to be proven; it is not set") from error
        if presence is not Presence.SITE and message.radius_km:
            raise InvalidArgumentError(f"{field}.radius_km", "stands with presence SITE alone")
        if presence is not Presence.COUNTRY and message.country:
            raise InvalidArgumentError(f"{field}.country", "stands with presence COUNTRY alone")
        region: Region | None = None
        if presence is Presence.SITE:
            if not 0 < message.radius_km <= MAX_SITE_RADIUS_KM:
                raise InvalidArgumentError(f"{field}.radius_km", f"above 0, to {MAX_SITE_RADIUS_KM:g} kilometers")
            region = SiteDisc(message.name, place, message.radius_km)
        elif presence is Presence.COUNTRY:
            if message.country not in countries:
                text = "no country of this code is known; ISO 3166-1 alpha-2, upper case"
                raise InvalidArgumentError(f"{field}.country", text)
            region = Countries(frozenset({CountryCode(message.country)}))
        sites.append(PlanSite(message.name, presence, region, place))
    return sites


def _position(message: landmark_pb2.PlanSite | landmark_pb2.PlanCandidate, field: str) -> Position:
    for name, value, bound in (("latitude", message.latitude, 90.0), ("longitude", message.longitude, 180.0)):
        if not (math.isfinite(value) and abs(value) <= bound):
            raise InvalidArgumentError(f"{field}.{name}", f"degrees from -{bound:g} to {bound:g}")
    return Position(message.latitude, message.longitude)


def _check_text(text: str, field: str, *, least: int, most: int) -> None:
    if not least <= len(text) <= most or not text.isprintable() or text != text.strip():
        raise InvalidArgumentError(field, f"{least} to {most} printable characters without blanks at the ends")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
