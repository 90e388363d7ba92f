"""JournalService: the log of all that was written, and what is kept how long (docs/protocol.md §17, §19)."""

import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from trigpoint.v1 import journal_pb2, journal_pb2_grpc

from server.desk.journal_audits import JournalAuditor, Outcome, Progress
from server.rpc.access import current_peer
from server.rpc.convert import timestamp_to_proto
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.filters import parse_terms
from server.rpc.handlers import Context
from server.rpc.pages import page_size, read_token, write_token
from server.rpc.reading import note_read
from server.rpc.reasons import read_reason
from server.store import Store
from server.store.journal_types import Proofs, ProvenRow, RowsNotSealedError, SignedCheckpoint
from server.store.proofs import NotProvableError, ResourceRows, TooManyRowsError
from server.store.reads import PositionRead, ReadFilter
from server.times import moment, utc_now
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.items import row_bytes
from verifier.journal.notes import Note, NoteError

MAX_CHECKPOINTS = 100
"""That an audit is held against."""

READ_FIELDS = ("by", "subject", "jurisdiction")
_HASH_BYTES = 32
_TRIES = 3
"""A row that is written again while it is proven is sealed again; one that never rests is told of as it was."""


class JournalServicer(journal_pb2_grpc.JournalServiceServicer):
    """Serves the journal.

    Args:
        store: Where it is kept.
        seal: Signs a checkpoint of what is durable now.
        auditor: Runs audits.
        raw_days: How long raw evidence is kept at least (docs/protocol.md K1).
        clock: Returns the current time, aware.
    """

    def __init__(
        self,
        store: Store,
        seal: Callable[[], Awaitable[SignedCheckpoint]],
        auditor: JournalAuditor,
        raw_days: float,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._seal = seal
        self._auditor = auditor
        self._raw_days = raw_days
        self._clock = clock

    async def GetCheckpoint(  # noqa: N802 - the schema's name
        self, request: journal_pb2.GetCheckpointRequest, _context: Context
    ) -> journal_pb2.GetCheckpointResponse:
        """Return the newest checkpoint, or that of a hash."""
        if request.hash and len(request.hash) != _HASH_BYTES:
            raise InvalidArgumentError("hash", f"{_HASH_BYTES} bytes, or none for the newest")
        journal = self._store.journal
        found = await (journal.by_hash(request.hash) if request.hash else journal.newest())
        if found is None:
            raise NotFoundError(f"checkpoint {request.hash.hex()}" if request.hash else "a first checkpoint")
        return journal_pb2.GetCheckpointResponse(note=found.note, sign_time=timestamp_to_proto(found.at))

    async def GetConsistencyProof(  # noqa: N802 - the schema's name
        self, request: journal_pb2.GetConsistencyProofRequest, _context: Context
    ) -> journal_pb2.GetConsistencyProofResponse:
        """Prove that one log is the beginning of another (docs/protocol.md J4), both under the newest checkpoint."""
        newest = await self._store.journal.newest()
        size = 0 if newest is None else newest.size
        old, new = request.old_size, request.new_size or size
        if not 0 <= new <= size:
            raise InvalidArgumentError("new_size", f"the newest checkpoint has {size} entries")
        if not 0 <= old <= new:
            raise InvalidArgumentError("old_size", f"from 0 to the larger size, {new}")
        path, old_root, new_root = await self._store.journal.consistency(old, new)
        return journal_pb2.GetConsistencyProofResponse(path=path, old_root=old_root, new_root=new_root, new_size=new)

    async def ProveRows(  # noqa: N802 - the schema's name
        self, request: journal_pb2.ProveRowsRequest, _context: Context
    ) -> journal_pb2.ProveRowsResponse:
        """Prove every row of a resource to one checkpoint."""
        try:
            rows = await self._store.proofs.rows_of(request.name)
        except NotProvableError as error:
            raise InvalidArgumentError("name", str(error)) from error
        except TooManyRowsError as error:
            raise InvalidArgumentError("name", f"{request.name} has {error}; export the case's bundle") from error
        if not rows.keys:
            raise NotFoundError(request.name)
        if rows.devices:  # docs/protocol.md K2: verdicts hold fixes, and devices their last
            await note_read(self._store.reads, "ProveRows", request.name, rows.devices, self._clock())
        return _proofs_to_proto(await self._prove(rows))

    async def _prove(self, rows: ResourceRows) -> Proofs:
        for _ in range(_TRIES - 1):
            with contextlib.suppress(RowsNotSealedError):
                return await self._store.journal.prove_rows(rows.keys, rows.not_before)
            await self._seal()
        return await self._store.journal.prove_rows(rows.keys, rows.not_before)

    async def AuditJournal(  # type: ignore[override]  # noqa: N802 - the schema's name; it writes by itself
        self, request: journal_pb2.AuditJournalRequest, context: Context
    ) -> None:
        """Audit the journal (docs/protocol.md J9); the audit ends with the call."""
        known = _checkpoints(request)
        async with contextlib.aclosing(self._auditor.run(known)) as steps:
            async for step in steps:
                await context.write(_step_to_proto(step))

    async def ListReads(  # noqa: N802 - the schema's name
        self, request: journal_pb2.ListReadsRequest, _context: Context
    ) -> journal_pb2.ListReadsResponse:
        """Return a page of who was shown where devices are, newest first (docs/protocol.md K2)."""
        terms = parse_terms(request.filter, READ_FIELDS)
        chosen = ReadFilter(terms.get("by"), terms.get("subject"), terms.get("jurisdiction"))
        listed = f"reads {chosen!r}"
        token = read_token(listed, request.page_token)
        after = None if token is None else int.from_bytes(token[:8], "big", signed=True)
        page = await self._store.reads.list(chosen, after=after, limit=page_size(request.page_size))
        last = page.reads[-1].number.to_bytes(8, "big", signed=True) if page.more else b""
        return journal_pb2.ListReadsResponse(
            reads=map(_read_to_proto, page.reads), next_page_token=write_token(listed, last) if page.more else ""
        )

    async def ApplyRetention(  # noqa: N802 - the schema's name
        self, request: journal_pb2.ApplyRetentionRequest, _context: Context
    ) -> journal_pb2.ApplyRetentionResponse:
        """Remove raw evidence that need not be kept, or say what would be removed (docs/protocol.md K1)."""
        reason = read_reason(request.reason, "reason", least=0 if request.validate_only else 1)
        now = self._clock()
        before = now - timedelta(days=self._raw_days)
        outcome = await self._store.retention.remove(
            before, now, by=current_peer().path, reason=reason, dry_run=request.validate_only
        )
        return journal_pb2.ApplyRetentionResponse(
            older_than_time=timestamp_to_proto(before),
            removed_count=outcome.removed,
            removed_bytes=outcome.removed_bytes,
            kept=[
                journal_pb2.KeptEvidence(why=journal_pb2.KeepReason.ValueType(why), count=count)
                for why, count in outcome.kept.items()
                if count
            ],
        )


def _checkpoints(request: journal_pb2.AuditJournalRequest) -> list[bytes]:
    if len(request.checkpoints) > MAX_CHECKPOINTS:
        raise InvalidArgumentError("checkpoints", f"at most {MAX_CHECKPOINTS}")
    known: list[bytes] = []
    for index, note in enumerate(request.checkpoints):
        try:
            known.append(note.encode())
            Checkpoint.parse(Note.parse(known[-1]).text)
        except NoteError as error:
            raise InvalidArgumentError(f"checkpoints[{index}]", str(error)) from error
    return known


def _proofs_to_proto(proofs: Proofs) -> journal_pb2.ProveRowsResponse:
    return journal_pb2.ProveRowsResponse(
        checkpoint=proofs.checkpoint,
        entries=[
            journal_pb2.EntryProof(
                index=entry.index,
                write_time=timestamp_to_proto(moment(entry.at_us)),
                item_count=entry.count,
                path=entry.path,
            )
            for entry in proofs.entries
        ],
        rows=map(_row_to_proto, proofs.rows),
    )


def _row_to_proto(row: ProvenRow) -> journal_pb2.RowProof:
    return journal_pb2.RowProof(
        entry=row.entry,
        item=row.item,
        tag=row.tag,
        salt=row.salt,
        row=row_bytes(row.table, row.columns),
        path=row.path,
    )


def _step_to_proto(step: Progress | Outcome) -> journal_pb2.AuditJournalResponse:
    if isinstance(step, Progress):
        progress = journal_pb2.AuditProgress(stage=step.stage, done=step.done, total=step.total)
        return journal_pb2.AuditJournalResponse(progress=progress)
    return journal_pb2.AuditJournalResponse(
        outcome=journal_pb2.AuditOutcome(
            entry_count=step.entries,
            row_count=step.rows,
            faults=[journal_pb2.AuditFault(table=f.table, key=f.key, text=f.text) for f in step.faults],
            fault_count=step.fault_count,
            checkpoint=step.checkpoint,
        )
    )


def _read_to_proto(read: PositionRead) -> journal_pb2.PositionRead:
    return journal_pb2.PositionRead(
        name=f"reads/{read.number}",
        time=timestamp_to_proto(read.at),
        by=read.by,
        jurisdiction=read.jurisdiction,
        call=read.call,
        subject=read.subject,
        device_count=read.devices,
    )
