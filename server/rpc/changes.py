"""ChangeService: what waits for a second person, and their decision (docs/protocol.md RC4).

The store decides whether a change may be decided, and applies it; here a deployment file that waits is read again.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from trigpoint.v1 import change_pb2, change_pb2_grpc

from server.desk.screening import ScreeningTask
from server.rpc.access import current_peer
from server.rpc.convert_changes import change_id_from_name, change_to_proto
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.filters import named_value, parse_terms
from server.rpc.handlers import Context
from server.rpc.imports import FileFormat, Reading, read_file
from server.rpc.pages import page_size, read_token, write_token
from server.rpc.reasons import read_reason
from server.rpc.rows import RowRules
from server.spiffe import Role
from server.store import Store
from server.store.changes import check_four_eyes, check_open
from server.store.errors import RecordConflictError
from server.store.record_types import ChangeFilter, ChangeKind, ChangeRecord, ChangeState
from server.store.staging import Staging
from server.store.types import ImportRow
from server.times import utc_now

MAX_DECIDED = 100
FIELDS = ("state", "by", "licensee")


class ChangeServicer(change_pb2_grpc.ChangeServiceServicer):
    """Serves changes.

    Args:
        store: Where they are kept.
        rules: What rows of deployment files are checked against.
        screening: Looks at parties that are new.
        clock: Returns the current time, aware.
    """

    def __init__(
        self, store: Store, rules: RowRules, screening: ScreeningTask, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._store = store
        self._rules = rules
        self._screening = screening
        self._clock = clock

    async def GetChange(  # noqa: N802 - the schema's name
        self, request: change_pb2.GetChangeRequest, _context: Context
    ) -> change_pb2.GetChangeResponse:
        """Return one change."""
        change = await self._find(request.name, "name")
        return change_pb2.GetChangeResponse(change=change_to_proto(change))

    async def ListChanges(  # noqa: N802 - the schema's name
        self, request: change_pb2.ListChangesRequest, _context: Context
    ) -> change_pb2.ListChangesResponse:
        """Return a page, newest first."""
        values = parse_terms(request.filter, FIELDS)
        chosen = ChangeFilter(
            state=named_value("state", ChangeState, "CHANGE_STATE_", values.get("state")),
            by=values.get("by"),
            licensee=values.get("licensee"),
        )
        if current_peer().role is Role.ADMIN:
            chosen = replace(chosen, kind=ChangeKind.LANDMARKS)
        size = page_size(request.page_size)
        listed = f"changes {chosen!r}"
        token = read_token(listed, request.page_token)
        page = await self._store.records.list_changes(
            chosen, after=None if token is None else _number(token), limit=size
        )
        return change_pb2.ListChangesResponse(
            changes=[change_to_proto(change) for change in page.changes],
            next_page_token=write_token(listed, str(page.changes[-1].change_id).encode()) if page.more else "",
        )

    async def ApproveChanges(  # noqa: N802 - the schema's name
        self, request: change_pb2.ApproveChangesRequest, _context: Context
    ) -> change_pb2.ApproveChangesResponse:
        """Approve and apply changes, each for itself. Whose turn it is not is told before the first is applied."""
        reason = read_reason(request.reason, "reason", least=0)
        changes = [await self._find(name, f"names[{at}]") for at, name in enumerate(_names(request.names))]
        for change in changes:
            check_open(change)
            check_four_eyes(change, current_peer().name)
        await self._screening.screen()  # nobody is refused for not having been looked at (docs/protocol.md RC5)
        decided = [await self._approve(change, reason) for change in changes]
        await self._screening.screen()
        return change_pb2.ApproveChangesResponse(changes=map(change_to_proto, decided))

    async def RejectChanges(  # noqa: N802 - the schema's name
        self, request: change_pb2.RejectChangesRequest, _context: Context
    ) -> change_pb2.RejectChangesResponse:
        """Reject changes, all or none."""
        reason = read_reason(request.reason, "reason")
        decided = await self._store.records.reject(_ids(request.names), current_peer().name, reason, self._clock())
        return change_pb2.RejectChangesResponse(changes=map(change_to_proto, decided))

    async def WithdrawChanges(  # noqa: N802 - the schema's name
        self, request: change_pb2.WithdrawChangesRequest, _context: Context
    ) -> change_pb2.WithdrawChangesResponse:
        """Take changes back, all or none."""
        reason = read_reason(request.reason, "reason", least=0)
        numbers = _ids(request.names)
        if current_peer().role is Role.ADMIN:  # a refusal would tell of changes that they may not see (RC10)
            for at, name in enumerate(request.names):
                await self._find(name, f"names[{at}]")
        decided = await self._store.records.withdraw(numbers, current_peer().name, reason, self._clock())
        return change_pb2.WithdrawChangesResponse(changes=map(change_to_proto, decided))

    async def _find(self, name: str, field: str) -> ChangeRecord:
        change = await self._store.records.get_change(change_id_from_name(name, field))
        hidden = current_peer().role is Role.ADMIN  # of devices and licenses they see nothing (docs/protocol.md RC10)
        if change is None or (hidden and change.kind is not ChangeKind.LANDMARKS):
            raise NotFoundError(name)
        return change

    async def _approve(self, change: ChangeRecord, reason: str) -> ChangeRecord:
        by, door = current_peer().name, self._store.records
        if change.kind is not ChangeKind.DEPLOYMENT_FILE:
            return await door.approve(change.change_id, by, reason, self._clock())
        waiting = await door.read_file(change.change_id)
        with waiting.file as file, Staging() as staging:
            # Borders and groups may be others than when it was proposed, and so may be what its rows say.
            file_format: FileFormat = "csv" if waiting.file_format == "csv" else "json"
            reading = await asyncio.to_thread(read_file, file, file_format, self._rules, staging)
            return await door.approve(change.change_id, by, reason, self._clock(), _rows(reading, staging))


def _rows(reading: Reading, staging: Staging) -> Iterator[ImportRow]:
    """Yield the rows; a file that can no longer be imported raises, and so its change is stale and none is written."""
    if reading.errors:
        error = reading.errors[0]
        where = f"row {error.row}" if error.row else "the file"
        raise RecordConflictError(error.field, " ".join(filter(None, (f"{where}:", error.field, error.message))))
    yield from staging.rows()


def _names(names: Sequence[str]) -> Sequence[str]:
    if not 1 <= len(names) <= MAX_DECIDED:
        raise InvalidArgumentError("names", f"1 to {MAX_DECIDED} changes")
    if len(set(names)) != len(names):
        raise InvalidArgumentError("names", "names a change twice")
    return names


def _ids(names: Iterable[str]) -> list[int]:
    return [change_id_from_name(name, f"names[{at}]") for at, name in enumerate(_names(list(names)))]


def _number(token: bytes) -> int:
    try:
        return change_id_from_name(f"changes/{token.decode()}", "page_token")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError("page_token", "not a token of this service") from error
