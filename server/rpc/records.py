"""RecordService: what is and was on record (docs/protocol.md §14). Who may call stands in access.py."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from trigpoint.v1 import records_pb2, records_pb2_grpc

from server.desk.screening import ScreeningTask
from server.records.names import RecordNameError, parse_name
from server.records.values import DeploymentRecord, LicenseRecord, RecordKind, RecordWrite
from server.rpc.access import current_peer, visible_jurisdiction
from server.rpc.convert_changes import change_to_proto
from server.rpc.destinations import Destinations
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.export import export_pieces, named_devices
from server.rpc.handlers import Context
from server.rpc.pages import page_size, read_token, write_token
from server.rpc.plan import LandmarkPlanner
from server.rpc.reading import note_read
from server.rpc.reasons import read_reason
from server.rpc.record_filters import parse_record_filter, parse_revision_filter, read_kind
from server.rpc.record_messages import revision_to_proto, stored_to_proto
from server.rpc.record_notices import Advisor
from server.rpc.record_reading import Maps, read_name, read_time
from server.rpc.record_writes import read_writes
from server.store import RecordConflictError, Store
from server.store.record_types import RecordFilter, RevisionCursor, StoredRecord
from server.times import utc_now
from verifier.place.policy import PlacePolicy

SEEN_ABROAD = frozenset({RecordKind.LICENSE, RecordKind.SITE, RecordKind.DEPLOYMENT})
"""Kinds that a peer of one jurisdiction sees its part of (docs/protocol.md RC11)."""


class RecordServicer(records_pb2_grpc.RecordServiceServicer):
    """Serves records.

    Args:
        store: Where they are kept.
        policy: Borders, country groups, prohibited destinations.
        planner: Says what landmarks can prove.
        screening: Looks at parties that are written.
        clock: Returns the current time, aware.
    """

    def __init__(
        self,
        store: Store,
        policy: PlacePolicy,
        planner: LandmarkPlanner,
        screening: ScreeningTask,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        destinations = Destinations(policy)
        self._store = store
        self._maps = Maps(policy.atlas.country_codes | policy.atlas.groups.keys(), destinations.jurisdiction)
        self._advisor = Advisor(store, policy, destinations, planner)
        self._screening = screening
        self._clock = clock

    async def GetRecord(  # noqa: N802 - the schema's name
        self, request: records_pb2.GetRecordRequest, _context: Context
    ) -> records_pb2.GetRecordResponse:
        """Return one record, as it stands or stood."""
        kind, _ = read_name(request.name, "name")
        as_of = read_time(request, "as_of", "") if request.HasField("as_of") else None
        jurisdiction = visible_jurisdiction()
        stored: StoredRecord | None = None
        if jurisdiction is None or kind in SEEN_ABROAD:
            stored = await self._store.records.get(request.name, as_of, jurisdiction=jurisdiction)
        if stored is None:
            raise NotFoundError(request.name)
        await self._note("GetRecord", request.name, [stored.record])
        response = records_pb2.GetRecordResponse(record=stored_to_proto(stored))
        if isinstance(stored.record, LicenseRecord) and as_of is None:
            response.deployed_count = await self._deployed(stored.record.terms.number, jurisdiction)
        return response

    async def ListRecords(  # noqa: N802 - the schema's name
        self, request: records_pb2.ListRecordsRequest, _context: Context
    ) -> records_pb2.ListRecordsResponse:
        """Return a page in the order of names."""
        kind = read_kind(request.kind, "kind")
        chosen = _visible(parse_record_filter(request.filter, kind))
        size = page_size(request.page_size)
        if chosen is None:
            return records_pb2.ListRecordsResponse()
        listed = f"records {chosen!r}"
        token = read_token(listed, request.page_token)
        after = None if token is None else _listed_name(token, kind)
        page = await self._store.records.list(chosen, after=after, limit=size)
        await self._note("ListRecords", request.filter, [stored.record for stored in page.records])
        return records_pb2.ListRecordsResponse(
            records=map(stored_to_proto, page.records),
            next_page_token=write_token(listed, page.records[-1].name.encode()) if page.more else "",
            total_size=page.total,
        )

    async def WriteRecords(  # noqa: N802 - the schema's name
        self, request: records_pb2.WriteRecordsRequest, _context: Context
    ) -> records_pb2.WriteRecordsResponse:
        """Write records, all or none, or propose it; say what a reader should know."""
        reason = read_reason(request.reason, "reason")
        writes = await read_writes(self._store, self._maps, request.writes)
        before = await self._advisor.before(writes)
        try:
            outcome = await self._store.records.write(
                writes, current_peer().name, reason, self._clock(), validate_only=request.validate_only
            )
        except RecordConflictError as error:
            raise InvalidArgumentError(_written_field(writes, error), str(error)) from error
        written = outcome.change is None and not request.validate_only
        if written and any(parse_name(write.name).kind is RecordKind.PARTY for write in writes):
            await self._screening.screen()
        response = records_pb2.WriteRecordsResponse(records=map(stored_to_proto, outcome.records))
        if outcome.change is not None:
            response.change.CopyFrom(change_to_proto(outcome.change))
        elif outcome.two_people:
            response.notices.append("another person must approve this (docs/protocol.md RC4)")
        advice = await self._advisor.advise(writes, before, outcome.records, self._clock(), written=written)
        response.provability.extend(advice.provability)
        response.notices.extend(advice.notices)
        return response

    async def ListRevisions(  # noqa: N802 - the schema's name
        self, request: records_pb2.ListRevisionsRequest, _context: Context
    ) -> records_pb2.ListRevisionsResponse:
        """Return a page, newest first."""
        chosen = parse_revision_filter(request)
        size = page_size(request.page_size)
        listed = f"revisions {chosen!r}"
        token = read_token(listed, request.page_token)
        cursor = None if token is None else _cursor(token)
        page = await self._store.records.revisions(chosen, before_number=cursor, limit=size)
        told = [each.after or each.before for each in page.revisions]
        await self._note("ListRevisions", request.name or request.filter, told)
        end = json.dumps(page.revisions[-1].cursor).encode() if page.more else b""
        return records_pb2.ListRevisionsResponse(
            revisions=map(revision_to_proto, page.revisions),
            next_page_token=write_token(listed, end) if end else "",
        )

    async def ExportDeployments(  # noqa: N802 - the schema's name
        self, request: records_pb2.ExportDeploymentsRequest, _context: Context
    ) -> AsyncIterator[records_pb2.ExportDeploymentsResponse]:
        """Yield the pieces of a file."""
        chosen = _visible(parse_record_filter(request.filter, RecordKind.DEPLOYMENT))

        async def note(named: int) -> None:
            await note_read(self._store.reads, "ExportDeployments", request.filter, named, self._clock())

        async for piece in export_pieces(self._store, chosen, note, json_array=request.json):
            yield records_pb2.ExportDeploymentsResponse(data=piece)

    async def _note(self, call: str, subject: str, told: Iterable[object]) -> None:
        """Write down that the caller is shown where devices are deployed (docs/protocol.md K2)."""
        named = [named_devices(each.selector) for each in told if isinstance(each, DeploymentRecord)]
        if named:
            await note_read(self._store.reads, call, subject, sum(named), self._clock())

    async def _deployed(self, number: str, jurisdiction: str | None) -> int:
        """Count what a license's deployments name; for one jurisdiction, its deployments."""
        if jurisdiction is None:
            return await self._store.records.deployed_count(number)
        chosen = RecordFilter(RecordKind.DEPLOYMENT, license_number=number, jurisdiction=jurisdiction)
        return (await self._store.records.list(chosen, limit=1)).total


def _visible(chosen: RecordFilter) -> RecordFilter | None:
    """Narrow a filter to what the caller may see; None: nothing (docs/protocol.md RC11)."""
    jurisdiction = visible_jurisdiction()
    if jurisdiction is None:
        return chosen
    if chosen.kind not in SEEN_ABROAD or chosen.jurisdiction not in {None, jurisdiction}:
        return None
    return replace(chosen, jurisdiction=jurisdiction)


def _listed_name(token: bytes, kind: RecordKind) -> str:
    """Read the name that a page ended with: tokens hold no secret, so anybody may have made this one up."""
    try:
        name = token.decode()
        if parse_name(name).kind is kind:
            return name
    except (UnicodeDecodeError, RecordNameError):
        pass
    raise InvalidArgumentError("page_token", "not a token of this service")


def _cursor(token: bytes) -> RevisionCursor:
    try:
        match json.loads(token):
            case [int() as number, str() as name, int() as revision] if max(abs(number), abs(revision)) < 1 << 63:
                name.encode()  # half a surrogate pair, which JSON may escape, is no text of the store's
                return RevisionCursor(number, name, revision)
    except (ValueError, RecursionError):
        pass
    raise InvalidArgumentError("page_token", "not a token of this service")


def _written_field(writes: Sequence[RecordWrite], error: RecordConflictError) -> str:
    """Return the path of the field that the store refused. It begins what it says with the record's name."""
    named = [index for index, write in enumerate(writes) if str(error).startswith(f"{write.name}:")]
    if len(writes) == 1:
        named = [0]
    return f"writes[{named[0]}].record.{error.field}" if named else f"writes.record.{error.field}"
