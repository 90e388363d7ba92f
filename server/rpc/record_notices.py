"""What a reader of WriteRecords' answer should know beside what was written. Advice: it refuses nothing.

Screening hits, quantities, prohibited destinations, licenses and shipments whose time is over, and what landmarks can
prove.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from trigpoint.v1 import records_pb2

from server.records.names import license_name, parse_name, record_name
from server.records.rules import licenses_of
from server.records.values import (
    ByBoard,
    DeploymentRecord,
    LicenseRecord,
    Party,
    Record,
    RecordKind,
    RecordWrite,
    Shipment,
    Site,
)
from server.rpc.destinations import Destinations
from server.rpc.plan import LandmarkPlanner
from server.rpc.provability import provability
from server.store import Store
from server.store.record_types import RecordFilter, StoredRecord
from server.store.screening_types import HitFilter, HitState
from verifier.errors import UsageError
from verifier.license import License, LicenseState, Presence
from verifier.place.geodesy import Position
from verifier.place.policy import PlacePolicy
from verifier.place.regions import AnyOf, Polygon, Region, SiteDisc

MAX_PLANNED_SITES = 100
"""Sites that one answer tells of; PlanLandmarks takes more."""

MAX_NOTICES = 100
MAX_LOOKED_AT = 100
"""Points of a drawn site that are compared with prohibited destinations."""

PLAN_WAIT = timedelta(seconds=20)
"""The planner may be at a large plan for a minute, and what was written is written: advice is not worth that wait."""

EXPIRES_SOON = timedelta(days=30)

Standing = Mapping[str, Record]


@dataclass(frozen=True, slots=True)
class Advice:
    """What to tell."""

    provability: tuple[records_pb2.Provability, ...]
    notices: tuple[str, ...]


class Advisor:
    """Knows what to tell of a set of writes.

    Args:
        store: Holds what the writes concern.
        policy: Prohibited destinations and borders.
        destinations: In which country a region lies.
        planner: Says what landmarks can prove.
    """

    def __init__(self, store: Store, policy: PlacePolicy, destinations: Destinations, planner: LandmarkPlanner) -> None:
        self._store = store
        self._policy = policy
        self._destinations = destinations
        self._planner = planner

    async def before(self, writes: Iterable[RecordWrite]) -> Standing:
        """Return the deployments among what is written as they stand, to be called before it is written."""
        found: dict[str, Record] = {}
        for write in writes:
            if parse_name(write.name).kind is RecordKind.DEPLOYMENT:
                stored = await self._store.records.get(write.name)
                if stored is not None:
                    found[write.name] = stored.record
        return found

    async def advise(
        self,
        writes: Sequence[RecordWrite],
        before: Standing,
        after: Iterable[StoredRecord],
        now: datetime,
        *,
        written: bool,
    ) -> Advice:
        """Return what to tell.

        Args:
            writes: What was asked for.
            before: What `before` returned.
            after: The records as they stand or would.
            now: When.
            written: They stand, and do not only would.
        """
        would = {stored.name: stored.record for stored in after}
        licenses = await self._licenses(would)
        sites, more = await self._sites(would)
        notices: list[str] = []
        notices += await self._hits(would, licenses)
        notices += await self._quantities(writes, before, licenses, written=written)
        notices += _times(would, now)
        planned = [(site, licenses[site.license_number].terms) for site in sites if site.license_number in licenses]
        found, told = await self._places(planned, now)
        notices += told
        if more:
            told_of = f"of the first {MAX_PLANNED_SITES} sites alone"
            notices.append(f"what landmarks can prove is told {told_of}: ask PlanLandmarks about the others")
        if len(notices) > MAX_NOTICES:
            notices[MAX_NOTICES - 1 :] = [f"and {len(notices) - MAX_NOTICES + 1:,} more notices"]
        return Advice(tuple(found), tuple(notices))

    async def _licenses(self, would: Standing) -> dict[str, LicenseRecord]:
        """Return the licenses that the records belong to, by number, as they would stand."""
        numbers = dict.fromkeys(number for record in would.values() for number in licenses_of(None, record))
        found: dict[str, LicenseRecord] = {}
        for number in numbers:
            held = would.get(license_name(number))
            if held is None:
                stored = await self._store.records.get(license_name(number))
                held = None if stored is None else stored.record
            if isinstance(held, LicenseRecord):
                found[number] = held
        return found

    async def _sites(self, would: Standing) -> tuple[list[Site], bool]:
        """Return the sites among the records and of licenses among them, as they would stand; and whether more are."""
        found = {name: record for name, record in would.items() if isinstance(record, Site)}
        for record in would.values():
            if not isinstance(record, LicenseRecord) or len(found) > MAX_PLANNED_SITES:
                continue
            chosen = RecordFilter(RecordKind.SITE, license_number=record.terms.number)
            page = await self._store.records.list(chosen, limit=MAX_PLANNED_SITES + 1)
            for stored in page.records:
                if isinstance(stored.record, Site):
                    found.setdefault(stored.name, stored.record)
        sites = list(found.values())
        return sites[:MAX_PLANNED_SITES], len(sites) > MAX_PLANNED_SITES

    async def _hits(self, would: Standing, licenses: Mapping[str, LicenseRecord]) -> list[str]:
        """Tell of hits at parties that are written or take part (docs/protocol.md RC5)."""
        asked = {record.party_id for record in would.values() if isinstance(record, Party)}
        asked |= {party_id for held in licenses.values() for party_id, _ in held.parties}
        told: list[str] = []
        for party_id in await self._store.screening.blocked_parties(sorted(asked)):
            hits = await self._store.screening.list_hits(HitFilter(party_id=party_id))
            standing = [hit for hit in hits.hits if hit.state is not HitState.CLEARED]
            if not standing:
                told.append(f"parties/{party_id} is not screened yet: no license of it can come into force")
            told.extend(
                f"parties/{party_id}, {hit.party_title}, is called like {hit.matched} ({hit.source}, score "
                f"{hit.score:.0f}); the hit is {hit.state.name}: no license of it can come into force"
                for hit in standing[:1]
            )
        return told

    async def _quantities(
        self,
        writes: Iterable[RecordWrite],
        before: Standing,
        licenses: Mapping[str, LicenseRecord],
        *,
        written: bool,
    ) -> list[str]:
        """Tell where more is deployed than a license allows (docs/protocol.md RC9)."""
        added = dict.fromkeys(licenses, 0)
        for write in writes if not written else ():
            for record, sign in ((write.record, 1), (before.get(write.name), -1)):
                if isinstance(record, DeploymentRecord) and record.license_number in added:
                    added[record.license_number] += sign * _devices(record)
        told: list[str] = []
        for number, held in licenses.items():
            if held.quantity is None:
                continue
            count = await self._store.records.deployed_count(number) + added[number]
            if count > held.quantity:
                told.append(f"license {number} allows {held.quantity:,} devices, and its deployments name {count:,}")
        return told

    async def _places(
        self, sites: Sequence[tuple[Site, License]], now: datetime
    ) -> tuple[list[records_pb2.Provability], list[str]]:
        """Say what can be proven of sites, and which touch prohibited destinations."""
        if not sites:
            return [], []
        told = await asyncio.to_thread(lambda: list(self._prohibited(sites)))
        planning = self._planner.work(
            lambda registry, at: provability(sites, registry, self._policy, self._destinations, at)
        )
        try:
            return await asyncio.wait_for(planning, PLAN_WAIT.total_seconds()), told
        except TimeoutError:
            structlog.get_logger().warning("planner too busy for advice", sites=len(sites), asked_at=now.isoformat())
            return [], [*told, "what landmarks can prove was not worked out in time: ask PlanLandmarks"]
        except UsageError as error:  # a group that the list in force no longer has
            return [], [*told, f"what landmarks can prove is not known: {error}"]

    def _prohibited(self, sites: Iterable[tuple[Site, License]]) -> Iterator[str]:
        for site, terms in sites:
            if terms.presence is Presence.OUTSIDE_PROHIBITED and not self._destinations.prohibited(site.region):
                continue  # its presence is what tells a device there from one beyond the border
            told = self._destinations.prohibited(site.region) or self._touching(site.region)
            if told is not None:
                yield f"{record_name(site)} {told}"

    def _touching(self, region: Region) -> str | None:
        """Tell of a disc or drawn site whose middle lies elsewhere, but not all of it."""
        policy = self._policy
        touches = False
        match region:
            case SiteDisc(_, center, radius_km):
                touches = policy.atlas.distances(policy.prohibited, center).to_region_km < radius_km
            case Polygon() | AnyOf():
                touches = any(policy.atlas.contains(policy.prohibited, place) for place in _corners(region))
        return f"reaches into a prohibited destination (list {policy.prohibited_version})" if touches else None


def _times(would: Standing, now: datetime) -> Iterator[str]:
    """Tell of what is over already, or nearly."""
    for name, record in would.items():
        match record:
            case LicenseRecord(terms) if terms.state is LicenseState.REVOKED:
                continue
            case LicenseRecord(terms) if terms.valid_until <= now:
                yield f"{name} was valid until {_day(terms.valid_until)}"
            case LicenseRecord(terms) if terms.valid_until <= now + EXPIRES_SOON:
                yield f"{name} is valid until {_day(terms.valid_until)}"
            case Shipment(activation_by=activation_by) if activation_by <= now:
                yield f"{name} was to be in service by {_day(activation_by)}: devices that have not reported are late"
            case DeploymentRecord(swap=swap) if swap is not None and swap.until <= now:
                yield f"{name}: the swap was to be done by {_day(swap.until)}, and allows nothing any more"


def _day(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _devices(record: DeploymentRecord) -> int:
    return record.selector.devices if isinstance(record.selector, ByBoard) else 1


def _corners(region: Polygon | AnyOf) -> Iterator[Position]:
    """Yield corners of a drawn site, evenly spread when it has many."""
    parts = region.members if isinstance(region, AnyOf) else (region,)
    points = [point for part in parts if isinstance(part, Polygon) for ring in part.rings for point in ring]
    for longitude, latitude in points[:: max(1, -(-len(points) // MAX_LOOKED_AT))]:
        yield Position(latitude, longitude)
