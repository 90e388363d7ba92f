"""The store's door for the watch (docs/protocol.md §15)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, select

from server.store import watch
from server.store.audits import load_distrust
from server.store.clocks import short_sites
from server.store.counters import read_counter
from server.store.doors import Reads, Writes
from server.store.landmark_uptime import load_landmarks_up
from server.store.landmarks import load_landmarks
from server.store.rows import IN_FORCE, chunks
from server.store.schema import LICENSES, SITES
from server.store.watch_records import load_ending
from server.store.watch_types import Able, EndingLicense, SiteKey, SweepOutcome, Turn, WatchedSite, WatchRecords
from server.times import micros
from verifier.errors import Reason
from verifier.license import Presence
from verifier.place.region_json import region_from_json
from verifier.place.regions import Region

Turns = tuple[Turn, ...]


class WatchDoor:
    """Sweeps the store.

    Args:
        read: Runs a query.
        write: Runs a change.
    """

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write
        self._memory = watch.Memory()

    async def records(self) -> WatchRecords:
        """Return what is on record that says which domains could prove what."""
        return await self._read(_load_records)

    async def records_number(self) -> int:
        """Return the number of the newest write of records."""
        return await self._read(lambda connection: read_counter(connection, "records"))

    async def sweep(self, now: datetime, able: Able) -> SweepOutcome:
        """Open and close what is due, a few hundred devices in a transaction, and return what changed.

        One sweep of a process at a time; several processes may sweep one store.
        """
        memory = self._memory
        # The look needs no lock; only a find takes the writer's turn, and looks again there.
        seen = await self._read(lambda connection: watch.look(connection, now, able, memory))
        turns: list[Turn] = []
        for reason, due in seen.timed:
            for some in chunks(due):
                turns += await self._write(_timed(reason, some, able, now))
        for group in _by_device(seen.recorded):
            turns += await self._write(_recorded(group, seen.number, now))
        self._memory = seen.memory
        ending, short = await self._read(lambda connection: _ending_and_short(connection, now, able))
        return SweepOutcome(tuple(turns), ending, short)

    async def ending(self, now: datetime) -> tuple[EndingLicense, ...]:
        """Return the licenses in force that end within 30 days (docs/protocol.md W5), the first to end first."""
        return await self._read(lambda connection: load_ending(connection, now))

    async def short(self, now: datetime, able: Able) -> frozenset[SiteKey]:
        """Return the sites at which fewer domains than f + 1 are up now that could prove presence there."""
        return await self._read(lambda connection: short_sites(able, load_landmarks_up(connection, micros(now))))


def _timed(reason: Reason, among: Sequence[bytes], able: Able, now: datetime) -> Callable[[Connection], Turns]:
    return lambda connection: watch.write_timed(connection, reason, among, able, now)


def _recorded(turns: Sequence[Turn], number: int, now: datetime) -> Callable[[Connection], Turns]:
    return lambda connection: watch.write_recorded(connection, turns, number, now)


def _by_device(turns: Iterable[Turn]) -> Iterator[list[Turn]]:
    """Cut into lists of some hundreds in the order of PDIs, so that those of one device most often come together."""
    return chunks(sorted(turns))


def _ending_and_short(
    connection: Connection, now: datetime, able: Able
) -> tuple[tuple[EndingLicense, ...], frozenset[SiteKey]]:
    return load_ending(connection, now), short_sites(able, load_landmarks_up(connection, micros(now)))


def _load_records(connection: Connection) -> WatchRecords:
    distrusted = {stands.distrust.landmark_id: stands.distrust.explanation for stands in load_distrust(connection)}
    landmarks = (record.landmark for record in load_landmarks(connection))
    query = select(
        SITES.c.license_number,
        SITES.c.site_id,
        SITES.c.region,
        LICENSES.c.licensee,
        LICENSES.c.presence,
        LICENSES.c.tolerated_domains,
    ).select_from(SITES.join(LICENSES, LICENSES.c.number == SITES.c.license_number))
    regions: dict[str, Region] = {}  # most sites share a country's
    sites: list[WatchedSite] = []
    for row in connection.execute(query.where(IN_FORCE)):
        if row.region not in regions:
            regions[row.region] = region_from_json(row.region)
        key = SiteKey(row.license_number, row.site_id)
        where = Presence(row.presence), regions[row.region]
        sites.append(WatchedSite(key, row.licensee, *where, row.tolerated_domains))
    return WatchRecords(
        number=read_counter(connection, "records"),
        landmarks=tuple(replace(each, distrusted=distrusted.get(each.landmark_id, "")) for each in landmarks),
        sites=tuple(sites),
    )
