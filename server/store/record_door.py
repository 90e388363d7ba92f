"""The store's door to what is on record: reads, writes, and changes that wait for a second person.

Every call raises only `StoreError`s, but for names that are none (`RecordNameError`). Each write is one transaction.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import IO

from sqlalchemy import Connection

from server.records.summary import summary_of
from server.records.values import RecordWrite
from server.store import changes
from server.store.counters import read_counter, take_numbers
from server.store.doors import Reads, Writes
from server.store.errors import RecordConflictError, RecordNotFoundError, StaleRevisionError
from server.store.exports import export_deployments
from server.store.imports import import_deployments
from server.store.landmark_changes import apply_landmarks, landmarks_payload
from server.store.landmarks import import_landmarks
from server.store.orders import apply_challenges, propose_challenges
from server.store.record_checks import late_windows, plan_writes
from server.store.record_lists import deployed_count, list_records
from server.store.record_types import (
    ChangeFile,
    ChangeFilter,
    ChangeKind,
    ChangePage,
    ChangeRecord,
    ChangeState,
    RecordFilter,
    RecordPage,
    RevisionCursor,
    RevisionFilter,
    RevisionPage,
    StoredRecord,
    WriteOutcome,
)
from server.store.records import apply_plan, get_record, next_revisions, would_stand
from server.store.revisions import Authorship, list_revisions
from server.store.types import ImportRow, LandmarkRecord
from verifier.units import Pdi

SPOOL_BYTES = 1 << 20
"""What of a file that waits is held in memory before it goes to disk."""


class RecordDoor:
    """What is on record.

    Args:
        read: Runs a query in a read transaction.
        write: Runs a change in a transaction.
    """

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write

    async def get(
        self, name: str, as_of: datetime | None = None, *, jurisdiction: str | None = None
    ) -> StoredRecord | None:
        """Return a record as it stands or stood; None when it does not, or may not be seen from there (RC11)."""
        return await self._read(lambda connection: get_record(connection, name, as_of, jurisdiction))

    async def list(self, chosen: RecordFilter, *, after: str | None = None, limit: int = 100) -> RecordPage:
        """Return up to `limit` matching records behind the name `after`, in the order of names.

        Raises:
            RecordConflictError: A filter that this kind does not have.
        """
        return await self._read(lambda connection: list_records(connection, chosen, after, limit))

    async def revisions(
        self, chosen: RevisionFilter, *, before_number: RevisionCursor | None = None, limit: int = 100
    ) -> RevisionPage:
        """Return up to `limit` matching revisions behind the cursor, newest first."""
        return await self._read(lambda connection: list_revisions(connection, chosen, before_number, limit))

    async def deployed_count(self, license_number: str) -> int:
        """Return how many devices a license's deployments name, those by key and board included."""
        return await self._read(lambda connection: deployed_count(connection, license_number))

    async def export(self, chosen: RecordFilter, take: Callable[[ImportRow], None]) -> None:
        """Give `take` each deployment that matches, in a store thread and from one state of the store."""
        await self._read(lambda connection: export_deployments(connection, chosen, take))

    async def write(
        self, writes: Sequence[RecordWrite], by: str, reason: str, now: datetime, *, validate_only: bool = False
    ) -> WriteOutcome:
        """Write records, all or none: at once, or as a change when it takes a second person (docs/protocol.md RC4).

        A record that stands as it is written already gets no revision.

        Raises:
            StaleRevisionError: A write is based on another revision than the one that stands.
            RecordNotFoundError: What ends is not on record.
            RecordConflictError: The records would contradict each other, or what stands.
            HitsOpenError: A license would come into force with a screening hit (docs/protocol.md RC5).
        """
        if validate_only:
            return await self._read(lambda connection: _check(connection, writes, now))
        return await self._write(lambda connection: _write(connection, writes, by, reason, now))

    async def propose_file(
        self,
        file_pieces: Iterable[bytes],
        file_format: str,
        summary: Sequence[str],
        licensees: Iterable[str],
        by: str,
        reason: str,
        now: datetime,
        basis: int | None = None,
    ) -> ChangeRecord:
        """Keep an import file until a second person approves it; its pieces are read in a store thread, one by one.

        `basis` is the number of the records that `summary` was told of; None: of those that stand.
        """

        def change(connection: Connection) -> ChangeRecord:
            # docs/protocol.md RC2: what is revised between the count and the proposal makes it stale too.
            records = read_counter(connection, "records") if basis is None else basis
            payload = {"format": file_format, "records": records}
            told, whom = summary_of(summary), tuple(sorted(set(licensees)))
            kept = changes.Proposal(ChangeKind.DEPLOYMENT_FILE, json.dumps(payload), told, whom, by, reason, now)
            proposed = changes.propose(connection, kept)
            changes.write_file(connection, proposed.change_id, file_pieces)
            return proposed

        return await self._write(change, changes_devices=False)

    async def propose_landmarks(
        self, records: Sequence[LandmarkRecord], summary: Sequence[str], by: str, reason: str, now: datetime
    ) -> ChangeRecord:
        """Keep landmarks until a second person approves them.

        Raises:
            RecordConflictError: They contradict each other or what stands.
        """

        def change(connection: Connection) -> ChangeRecord:
            import_landmarks(connection, records, now, write=False)
            payload, told = landmarks_payload(connection, records), summary_of(summary)
            return changes.propose(
                connection, changes.Proposal(ChangeKind.LANDMARKS, payload, told, (), by, reason, now)
            )

        return await self._write(change, changes_devices=False)

    async def propose_challenges(self, pdis: Sequence[Pdi], by: str, reason: str, now: datetime) -> ChangeRecord:
        """Keep the wish to ask devices at once until a second person approves it (docs/protocol.md K3).

        Raises:
            RecordNotFoundError: A device is neither deployed nor seen.
        """
        return await self._write(
            lambda connection: propose_challenges(connection, pdis, by, reason, now), changes_devices=False
        )

    async def get_change(self, change_id: int) -> ChangeRecord | None:
        """Return a change; None when there is none of this number."""
        return await self._read(lambda connection: changes.load_change(connection, change_id))

    async def list_changes(self, chosen: ChangeFilter, *, after: int | None = None, limit: int = 100) -> ChangePage:
        """Return up to `limit` matching changes older than `after`, newest first."""
        return await self._read(lambda connection: changes.list_changes(connection, chosen, after, limit))

    async def read_file(self, change_id: int) -> ChangeFile:
        """Return the import file of a change that waits. The caller closes it.

        Raises:
            RecordNotFoundError: No such change, or one without a file.
            ChangeClosedError: It is decided, and its file is gone.
        """
        return await self._read(lambda connection: _read_file(connection, change_id))

    async def approve(
        self, change_id: int, by: str, reason: str, now: datetime, apply_rows: Iterable[ImportRow] | None = None
    ) -> ChangeRecord:
        """Approve a change and apply it, whole (docs/protocol.md RC4).

        Args:
            change_id: Which.
            by: The second person.
            reason: Why.
            now: When.
            apply_rows: Of a change that is a file: its rows; read in a store thread.

        Returns:
            The change, APPLIED; or STALE, and then nothing else was written.

        Raises:
            RecordNotFoundError: There is none of this number.
            FourEyesError: It was proposed by the same person.
            ChangeClosedError: It is decided.
            HitsOpenError: docs/protocol.md RC5; the change stays open.
        """
        return await self._write(lambda connection: _approve(connection, change_id, by, reason, now, apply_rows))

    async def reject(self, change_ids: Sequence[int], by: str, reason: str, now: datetime) -> tuple[ChangeRecord, ...]:
        """Reject changes, all or none.

        Raises:
            RecordNotFoundError: There is none of this number.
            FourEyesError: It was proposed by the same person, who may withdraw it.
            ChangeClosedError: It is decided.
        """
        decision = changes.Decision(ChangeState.REJECTED, by, reason, now)
        return await self._write(lambda connection: _close(connection, change_ids, decision), changes_devices=False)

    async def withdraw(
        self, change_ids: Sequence[int], by: str, reason: str, now: datetime
    ) -> tuple[ChangeRecord, ...]:
        """Take changes back, all or none.

        Raises:
            RecordNotFoundError: There is none of this number.
            FourEyesError: Another person proposed it.
            ChangeClosedError: It is decided.
        """
        decision = changes.Decision(ChangeState.WITHDRAWN, by, reason, now)
        return await self._write(lambda connection: _close(connection, change_ids, decision), changes_devices=False)


def _check(connection: Connection, writes: Sequence[RecordWrite], now: datetime) -> WriteOutcome:
    plan = plan_writes(connection, writes, now)
    records = would_stand(plan, next_revisions(connection, plan), now)
    return WriteOutcome(records, None, plan.two_people)


def _write(connection: Connection, writes: Sequence[RecordWrite], by: str, reason: str, now: datetime) -> WriteOutcome:
    plan = plan_writes(connection, writes, now)
    if not plan.changes or plan.two_people:
        records = would_stand(plan, next_revisions(connection, plan), now)
        change = None
        if plan.two_people:
            payload = changes.plan_payload(connection, plan)
            change = changes.propose(
                connection,
                changes.Proposal(ChangeKind.RECORDS, payload, plan.summary, plan.licensees, by, reason, now),
            )
        return WriteOutcome(records, change, plan.two_people)
    author = Authorship(take_numbers(connection, "records", 1)[0], by, reason, now)
    return WriteOutcome(apply_plan(connection, plan, author), None, two_people=False)


def _read_file(connection: Connection, change_id: int) -> ChangeFile:
    change = changes.need_change(connection, change_id)
    if change.kind is not ChangeKind.DEPLOYMENT_FILE:
        raise RecordNotFoundError(f"{change.name}/file")
    changes.check_open(change)
    file: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - the caller closes it
    try:
        changes.read_file(connection, change_id, file.write)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return ChangeFile(file, changes.load_payload(connection, change_id)["format"])


def _approve(
    connection: Connection,
    change_id: int,
    by: str,
    reason: str,
    now: datetime,
    rows: Iterable[ImportRow] | None,
) -> ChangeRecord:
    change = changes.need_change(connection, change_id)
    changes.check_four_eyes(change, by)
    changes.check_open(change)
    decision = changes.Decision(ChangeState.APPLIED, by, reason, now)
    try:
        with connection.begin_nested():
            _apply(connection, change, now, rows)
    except (StaleRevisionError, RecordNotFoundError, RecordConflictError) as error:
        # What was in order when it was proposed no longer is: it came too late.
        decision = changes.Decision(ChangeState.STALE, by, str(error), now)
    return changes.decide(connection, change, decision)


def _apply(connection: Connection, change: ChangeRecord, now: datetime, rows: Iterable[ImportRow] | None) -> None:
    payload = changes.load_payload(connection, change.change_id)
    match change.kind:
        case ChangeKind.RECORDS:
            writes = late_windows(connection, changes.writes_of(payload), now)
            plan = plan_writes(connection, writes, now, announced=True)
            changes.check_drafts(connection, plan, payload)
            number = take_numbers(connection, "records", 1)[0]
            apply_plan(connection, plan, Authorship(number, change.proposed_by, change.reason, now, change.change_id))
        case ChangeKind.LANDMARKS:
            apply_landmarks(connection, change, payload, now)
        case ChangeKind.CHALLENGES:
            apply_challenges(connection, change, payload, now)
        case ChangeKind.DEPLOYMENT_FILE:
            if rows is None:
                raise ValueError(f"{change.name} is a file: its rows are needed")
            import_deployments(
                connection,
                rows,
                change.proposed_by,
                change.reason,
                now,
                change_id=change.change_id,
                write=True,
                basis=payload["records"],
            )


def _close(connection: Connection, change_ids: Iterable[int], decision: changes.Decision) -> tuple[ChangeRecord, ...]:
    decided: list[ChangeRecord] = []
    for change_id in change_ids:
        change = changes.need_change(connection, change_id)
        if decision.state is ChangeState.WITHDRAWN:
            changes.check_own(change, decision.by)
        else:
            changes.check_four_eyes(change, decision.by)
        changes.check_open(change)
        decided.append(changes.decide(connection, change, decision))
    return tuple(decided)
