"""The store's door: asyncio on the outside, one writer thread and a few reader threads inside.

Every call raises only `StoreError`s. A call that writes returns once what it wrote is durable. Two processes may hold
one file: writers take SQLite's write lock for each transaction, readers see whole transactions.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import Connection, Engine

from server.store import audits, imports, inputs, landmarks, orders, queries, reappraisals, results, sqlite
from server.store.case_door import CaseDoor
from server.store.commits import commit_records
from server.store.counters import read_counter
from server.store.errors import StoreUnavailableError
from server.store.exhibits import ExhibitDoor
from server.store.journal_door import JournalDoor
from server.store.materials import keep_materials
from server.store.proofs import ProofDoor
from server.store.reads import ReadDoor
from server.store.record_door import RecordDoor
from server.store.results import StoredResult
from server.store.retention import RetentionDoor
from server.store.screening_door import ScreeningDoor
from server.store.types import (
    AttestationRecord,
    AuditInputs,
    AuditOutcome,
    Changes,
    DeviceFilter,
    DevicePage,
    DeviceRecord,
    ImportCounts,
    ImportOutcome,
    ImportRow,
    LandmarkPage,
    LandmarkRecord,
    LoadedInputs,
    LocatedDevice,
    ProvenRange,
    Reappraisal,
    Unwritten,
)
from server.store.uptime import LONGEST_PAUSE, Beats
from server.store.watch_door import WatchDoor
from server.store.writer import Writer
from verifier.license import Deployment, LicenseState, Presence
from verifier.place.audit import Distrust
from verifier.place.landmarks import Landmark
from verifier.place.regions import Region
from verifier.setting import Material
from verifier.units import ChainId, Challenge, DeviceKeyId, LandmarkId, Pdi

READERS = 4
"""Reader threads. Reads are short and SQLite's are CPU-bound; more threads than this only fight for the interpreter."""

Result = TypeVar("Result")


class _UndoneError(Exception):
    """Takes back what an import wrote that one person may not write alone."""

    def __init__(self, outcome: ImportOutcome) -> None:
        super().__init__()
        self.outcome = outcome


class Store:
    """One SQLite file. Open it with `Store.open`, close it with `close`; both from the event loop that uses it.

    Attributes:
        records: What is on record (docs/protocol.md §14).
        watch: What time and the records alone bring (docs/protocol.md §15).
        screening: Parties against the list in force (docs/screening.md).
        journal: What stands, so that it can be shown to anybody (docs/protocol.md §17).
        reads: Who was shown where devices are (docs/protocol.md K2).
        retention: Which raw evidence need not be kept (docs/protocol.md K1).
        exhibits: What the accused say (docs/protocol.md K4).
    """

    def __init__(self, writing: Engine, reading: Engine) -> None:
        self._writing = writing
        self._reading = reading
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._writer = Writer(writing, commit_records, self._note_outage)
        self._beats = Beats()
        self._had_outage = False  # the writer thread's own, as the beats are
        self._turned_away = False
        self._closed = False
        self._listeners: list[Callable[[], None]] = []
        self.records = RecordDoor(self._read, self._write)
        self.cases = CaseDoor(self._read, self._write)
        self.watch = WatchDoor(self._read, self._write)
        self.screening = ScreeningDoor(self._read, self._write)
        self.journal = JournalDoor(self._read, self._write)
        self.reads = ReadDoor(self._read, self._write)
        self.retention = RetentionDoor(self._read, self._write)
        self.exhibits = ExhibitDoor(self._read, self._write)
        self.proofs = ProofDoor(self._read)

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the file, and make it when there is none.

        Raises:
            StoreVersionError: A newer release wrote the file, or it is no store.
            StoreUnavailableError: The file cannot be opened.
        """
        writing, reading = await asyncio.to_thread(sqlite.open_engines, path)
        return cls(writing, reading)

    async def close(self) -> None:
        """Finish what was begun and close the file. Calls that come later are refused."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._readers.shutdown(wait=True)
        self._reading.dispose()
        self._writing.dispose()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop after each call of this process that changed devices."""
        self._listeners.append(listener)

    # What the intake needs.

    async def load_inputs(
        self, pdis: Collection[Pdi], as_of: int, key_ids: Collection[DeviceKeyId] = ()
    ) -> LoadedInputs:
        """Return what stood when the number of the records was `as_of` (docs/protocol.md RC6).

        The devices are looked up as switches of deployments by board too, and `key_ids` in deployments by key.
        """
        return await self._read(lambda connection: inputs.load_inputs(connection, pdis, as_of, key_ids))

    async def is_ordered(self, pdis: Collection[Pdi], beyond: int) -> bool:
        """Whether a challenge of one of these devices was ordered since the records' number was `beyond`."""
        return await self._read(lambda connection: orders.is_ordered(connection, pdis, beyond))

    async def load_chains(self, chain_ids: Collection[ChainId]) -> dict[ChainId, tuple[bytes, ...]]:
        """Return the chains that are kept, DER certificates leaf first."""
        return await self._read(lambda connection: queries.load_chains(connection, chain_ids))

    async def load_landmarks(self) -> list[Landmark]:
        """Return the current revision of every landmark, in the order of ids."""
        return [record.landmark for record in await self.load_landmark_records()]

    async def load_landmark_records(self) -> list[LandmarkRecord]:
        """Return the current revision of every landmark with its endpoints and what audits say, in the order of ids."""
        return await self._read(audits.load_audited_landmarks)

    async def load_registered_landmarks(self) -> list[LandmarkRecord]:
        """Return the current revision of every landmark without what audits say, in the order of ids."""
        return await self._read(landmarks.load_landmarks)

    async def records_number(self) -> int:
        """Return a number that grows with each write of records, landmarks among them, by any process.

        That a landmark becomes distrusted, or ceases to be, is such a change.
        """
        return await self._read(lambda connection: read_counter(connection, "records"))

    async def audits_number(self) -> int:
        """Return a number that grows with each range between landmarks, by any process."""
        return await self._read(lambda connection: read_counter(connection, "audits"))

    async def record_ranges(self, ranges: Sequence[ProvenRange]) -> None:
        """Make ranges between landmarks durable: of each pair the latest time, and the least of a day."""
        if ranges:
            await self._write(lambda connection: audits.record_ranges(connection, ranges), changes_devices=False)

    async def load_range_times(self, of: LandmarkId) -> dict[LandmarkId, datetime]:
        """Return when each landmark last ranged this one."""
        return await self._read(lambda connection: audits.load_range_times(connection, of))

    async def commit(self, batch: Sequence[AttestationRecord]) -> Unwritten:
        """Make attestations durable together with all that follows from them. Concurrent callers share transactions.

        Returns:
            The records that were not written, and why; the others are durable.

        Raises:
            StoreUnavailableError: None is.
        """
        if not batch:
            return Unwritten()
        unwritten = await asyncio.wrap_future(self._writer.commit(tuple(batch)))
        self._changed()
        return unwritten

    async def keep_materials(self, files: Sequence[Material], now: datetime) -> None:
        """Keep the files that verdicts are made with from now on, so that they can be made again."""
        await self._write(lambda connection: keep_materials(connection, files, now), changes_devices=False)

    # What officers need.

    async def import_deployments(
        self,
        rows: Iterable[ImportRow | Deployment],
        now: datetime,
        *,
        by: str,
        reason: str,
        state: LicenseState = LicenseState.DRAFT,
        validate_only: bool = False,
    ) -> ImportOutcome:
        """Import deployments and what they name: all or none, in one transaction. Revisions in `rows` are ignored.

        `rows` is consumed in a store thread and may be a generator over a file; rows in the order of PDIs are fastest.
        New licenses get the state. As drafts they are one person's import: when it touches a license in force, nothing
        is written and the outcome says so (docs/protocol.md RC4). In any other state two people have agreed already.

        Raises:
            RecordConflictError: Rows contradict each other or what stands.
            HitsOpenError: An active license would get a licensee with a screening hit.
        """

        def run(connection: Connection) -> ImportOutcome:
            alone = state is LicenseState.DRAFT
            outcome = imports.import_deployments(
                connection, rows, by, reason, now, change_id=None, write=not validate_only, state=state, alone=alone
            )
            if alone and outcome.touches_force and not validate_only:
                raise _UndoneError(outcome)
            return outcome

        if validate_only:
            return await self._read(run)
        try:
            return await self._write(run)
        except _UndoneError as undone:
            return undone.outcome

    async def licensed_regions(self) -> list[tuple[Presence, Region]]:
        """Return what is to be proven, and of which region, each once, over all deployments in force."""
        return await self._read(queries.licensed_regions)

    async def import_landmarks(
        self, given: Sequence[LandmarkRecord], now: datetime, *, validate_only: bool = False
    ) -> ImportCounts:
        """Add landmarks or new revisions of them: all or none.

        Raises:
            RecordConflictError: A key would belong to two landmarks, or an id is given twice.
        """
        if validate_only:
            return await self._read(lambda connection: landmarks.import_landmarks(connection, given, now, write=False))
        return await self._write(lambda connection: landmarks.import_landmarks(connection, given, now, write=True))

    async def get_device(self, pdi: Pdi) -> DeviceRecord | None:
        """Return the device, or None when it is neither deployed nor seen."""
        return await self._read(lambda connection: queries.get_device(connection, pdi))

    async def newest_result(self, pdi: Pdi) -> StoredResult | None:
        """Return the result of the last attestation that shows a device to be authentic, None before the first."""
        return await self._read(lambda connection: results.newest_result(connection, pdi))

    async def find_result(self, challenge: Challenge) -> StoredResult | None:
        """Return the result of one attestation, None when there is none."""
        return await self._read(lambda connection: results.find_result(connection, challenge))

    async def list_devices(self, chosen: DeviceFilter, *, after: Pdi | None = None, limit: int = 100) -> DevicePage:
        """Return up to `limit` matching devices behind `after`, in the order of PDIs."""
        return await self._read(lambda connection: queries.list_devices(connection, chosen, after, limit))

    async def changes_after(self, change_number: int, *, limit: int = 1_000) -> Changes:
        """Return devices that changed after this change number, whatever they are."""
        return await self._read(lambda connection: queries.changes_after(connection, change_number, limit))

    async def change_number(self) -> int:
        """Return the number of the newest change of any device."""
        return await self._read(queries.change_number)

    # What the desk needs.

    async def has_audit_news(self) -> bool:
        """Whether ranges or records came that no landmark audit has looked at."""
        return await self._read(audits.has_news)

    async def load_audit_inputs(self, page: LandmarkPage | None = None) -> AuditInputs:
        """Return all that an audit of landmarks looks at; with `page`, the ranges of those landmarks alone."""
        return await self._read(lambda connection: audits.load_audit_inputs(connection, page))

    async def set_distrust(self, found: Sequence[Distrust], basis: int, now: datetime) -> AuditOutcome:
        """Make what an audit found the distrust that stands, and return whose began and whose ended.

        An audit of an older state than that of the newest one changes nothing.
        """
        return await self._write(
            lambda connection: audits.set_distrust(connection, found, basis, now), changes_devices=False
        )

    async def settle_distrust(self, landmark_ids: Collection[LandmarkId]) -> None:
        """Note that the devices whose fixes used these landmarks have been appraised again."""
        await self._write(lambda connection: audits.settle_distrust(connection, landmark_ids), changes_devices=False)

    async def load_located(self, *, after: Pdi | None = None, limit: int = 500) -> list[LocatedDevice]:
        """Return up to `limit` deployed GPUs that have a fix, behind `after`, in the order of PDIs."""
        return await self._read(lambda connection: reappraisals.load_located(connection, after, limit))

    async def reappraise(self, given: Sequence[Reappraisal], now: datetime) -> tuple[Pdi, ...]:
        """Write what fixes show without distrusted landmarks, and return the devices that were changed.

        A device that has a newer verdict by now is left alone.
        """
        return await self._write(lambda connection: reappraisals.reappraise(connection, given, now))

    async def mark_alive(self, node: str, now: datetime, *, longest_pause: timedelta = LONGEST_PAUSE) -> None:
        """Record that the service of this node is up now.

        The time since the mark before counts as uptime, unless this is the process's first, the pause was longer, or a
        write failed in between: a fault of ours must not make a device silent.

        Raises:
            StoreUnavailableError: Nothing can be written, or after a failed write no full group could be.
        """
        await self._write(lambda connection: self._mark(connection, node, now, longest_pause), changes_devices=False)

    def interrupt_uptime(self) -> None:
        """Let the time since the last mark not count as uptime: the service turned somebody away."""
        self._turned_away = True  # the writer's thread acts on it, at the next mark

    def _mark(self, connection: Connection, node: str, now: datetime, longest_pause: timedelta) -> None:
        if self._had_outage:
            # A mark is small: it may pass where an attestation does not, and would say that the service is up.
            sqlite.check_room(self._writing)
            self._had_outage = False
        if self._turned_away:
            self._turned_away = False
            self._beats.interrupt()
        self._beats.mark(connection, node, now, longest_pause)

    def _note_outage(self) -> None:
        self._had_outage = True
        self._beats.interrupt()

    async def _read(self, query: Callable[[Connection], Result]) -> Result:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._readers, sqlite.run_in_transaction, self._reading, query)

    async def _write(self, change: Callable[[Connection], Result], *, changes_devices: bool = True) -> Result:
        result = await asyncio.wrap_future(self._writer.run(change))
        if changes_devices:
            self._changed()
        return result

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()
