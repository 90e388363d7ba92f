"""LandmarkService: the registry of landmarks. Who may call stands in access.py."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import fields
from datetime import datetime

import grpc
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc

from server.intake.audit_stream import AuditIntake
from server.rpc.access import current_peer
from server.rpc.audits import AuditLister
from server.rpc.convert_changes import change_to_proto
from server.rpc.convert_records import landmark_from_proto, landmark_id_from_name, landmark_to_proto
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.handlers import Context
from server.rpc.pages import page_size, read_token, write_token
from server.rpc.plan import LandmarkPlanner
from server.rpc.prove import prove
from server.rpc.reasons import read_reason
from server.store import LandmarkRecord, RecordConflictError, Store
from server.times import utc_now
from verifier.place.geodesy import Position
from verifier.place.landmarks import LandmarkRegistry

MAX_LANDMARKS = 10_000
"""In one import. The registry is held in memory whole; a world's worth of landmarks is some thousands."""

MAX_SUMMARY = 100
"""Lines that a change's summary has at most."""

IMPORT_REASON = "import"
"""Stands in revisions when the caller says nothing else."""

_LISTED = "landmarks"
_NOT_TOLD = frozenset({"landmark", "revision", "revised_at", "ranged_by", "distrusted"})


class LandmarkServicer(landmark_pb2_grpc.LandmarkServiceServicer):
    """Serves the registry.

    Args:
        store: Where it is kept.
        ticket_public_key: Raw Ed25519 key that tickets are signed with.
        country_codes: Codes that have a shape.
        clock: Returns the current time, aware.
        planner: Answers PlanLandmarks; None: that is not served.
        proving: What Prove streams share; None: they are not served.
        audits: Answers ListLandmarkAudits; None: that is not served.
    """

    def __init__(
        self,
        store: Store,
        ticket_public_key: bytes,
        country_codes: Collection[str],
        clock: Callable[[], datetime] = utc_now,
        *,
        planner: LandmarkPlanner | None = None,
        proving: AuditIntake | None = None,
        audits: AuditLister | None = None,
    ) -> None:
        self._store = store
        self._ticket_public_key = ticket_public_key
        self._country_codes = frozenset(country_codes)
        self._clock = clock
        self._planner = planner
        self._proving = proving
        self._audits = audits

    async def ImportLandmarks(  # noqa: N802 - the schema's name
        self, request: landmark_pb2.ImportLandmarksRequest, _context: Context
    ) -> landmark_pb2.ImportLandmarksResponse:
        """Propose landmarks or new revisions: all or none (docs/protocol.md RC4)."""
        if not 1 <= len(request.landmarks) <= MAX_LANDMARKS:
            raise InvalidArgumentError("landmarks", f"1 to {MAX_LANDMARKS} landmarks")
        reason = read_reason(request.reason, "reason", least=0) or IMPORT_REASON
        now = self._clock()
        # Beside the event loop: thousands of signatures take a second.
        records = await asyncio.to_thread(self._read, request, now)
        try:
            counts = await self._store.import_landmarks(records, now, validate_only=True)
        except RecordConflictError as error:
            raise InvalidArgumentError(f"landmarks.{error.field}", str(error)) from error
        response = landmark_pb2.ImportLandmarksResponse(
            created_count=counts.created, updated_count=counts.updated, unchanged_count=counts.unchanged
        )
        if (counts.created or counts.updated) and not request.validate_only:
            summary = _summary(records, await self._store.load_registered_landmarks())
            change = await self._store.records.propose_landmarks(records, summary, current_peer().name, reason, now)
            response.change.CopyFrom(change_to_proto(change))
        return response

    def _read(self, request: landmark_pb2.ImportLandmarksRequest, now: datetime) -> list[LandmarkRecord]:
        return [
            landmark_from_proto(message, f"landmarks[{index}]", self._country_codes, now)
            for index, message in enumerate(request.landmarks)
        ]

    async def GetLandmark(  # noqa: N802 - the schema's name
        self, request: landmark_pb2.GetLandmarkRequest, _context: Context
    ) -> landmark_pb2.GetLandmarkResponse:
        """Return one landmark."""
        landmark_id = landmark_id_from_name(request.name, "name")
        records, registry = await self._registry()
        for record in records:
            if record.landmark.landmark_id == landmark_id:
                return landmark_pb2.GetLandmarkResponse(
                    landmark=landmark_to_proto(record, registry.domain_of(landmark_id))
                )
        raise NotFoundError(request.name)

    async def ListLandmarks(  # noqa: N802 - the schema's name
        self, request: landmark_pb2.ListLandmarksRequest, _context: Context
    ) -> landmark_pb2.ListLandmarksResponse:
        """Return a page in the order of names."""
        size = page_size(request.page_size)
        after = read_token(_LISTED, request.page_token)
        records, registry = await self._registry()
        following = [record for record in records if after is None or record.landmark.landmark_id.encode() > after]
        page = following[:size]
        more = len(following) > size
        return landmark_pb2.ListLandmarksResponse(
            landmarks=[landmark_to_proto(record, registry.domain_of(record.landmark.landmark_id)) for record in page],
            next_page_token=write_token(_LISTED, page[-1].landmark.landmark_id.encode()) if more else "",
        )

    async def GetTicketKey(  # noqa: N802 - the schema's name
        self, _request: landmark_pb2.GetTicketKeyRequest, _context: Context
    ) -> landmark_pb2.GetTicketKeyResponse:
        """Return the key that tickets are signed with."""
        return landmark_pb2.GetTicketKeyResponse(public_key=self._ticket_public_key)

    async def Prove(  # type: ignore[override]  # noqa: N802 - the schema's name; the stub describes the synchronous API
        self, request_iterator: AsyncIterator[landmark_pb2.ProveRequest], context: Context
    ) -> None:
        """Have a landmark ranged by others until it ends the stream."""
        if self._proving is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server does not audit landmarks")
        await prove(self._proving, request_iterator, context)

    async def ListLandmarkAudits(  # noqa: N802 - the schema's name
        self, request: landmark_pb2.ListLandmarkAuditsRequest, context: Context
    ) -> landmark_pb2.ListLandmarkAuditsResponse:
        """Return a page of what audits say, in the order of names."""
        if self._audits is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server does not audit landmarks")
        return await self._audits.list(request)

    async def PlanLandmarks(  # noqa: N802 - the schema's name
        self, request: landmark_pb2.PlanLandmarksRequest, context: Context
    ) -> landmark_pb2.PlanLandmarksResponse:
        """Say which sites can be proven and which candidates would help."""
        if self._planner is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server does not plan")
        return await self._planner.plan(request)

    async def _registry(self) -> tuple[list[LandmarkRecord], LandmarkRegistry]:
        """Domains merge over the whole registry, so even one landmark's needs all of them."""
        records = await self._store.load_registered_landmarks()
        return records, LandmarkRegistry.build(record.landmark for record in records)


def _summary(given: Sequence[LandmarkRecord], standing: Sequence[LandmarkRecord]) -> list[str]:
    """Return a line for each landmark that is new or changes, for who is to approve it."""
    registered = {record.landmark.landmark_id: record for record in standing}
    lines: list[str] = []
    for record in given:
        landmark = record.landmark
        before = registered.get(landmark.landmark_id)
        changed = [] if before is None else _changed(before, record)
        if before is None:
            place = f"{landmark.position.latitude:.4f}, {landmark.position.longitude:.4f}"
            lines.append(f"landmarks/{landmark.landmark_id}: new, of {landmark.operator}, {landmark.country}, {place}")
        elif changed:
            lines.append(f"landmarks/{landmark.landmark_id}: {'; '.join(changed)}")
    if len(lines) > MAX_SUMMARY:
        rest = len(lines) - MAX_SUMMARY + 1
        lines[MAX_SUMMARY - 1 :] = [f"and {rest} landmarks more"]
    return lines


def _changed(before: LandmarkRecord, after: LandmarkRecord) -> list[str]:
    """Return what differs, but what is the store's to say."""
    told: list[str] = []
    for one, other in ((before.landmark, after.landmark), (before, after)):
        for field in fields(one):
            was, becomes = getattr(one, field.name), getattr(other, field.name)
            if was == becomes or field.name in _NOT_TOLD:
                continue
            opaque = isinstance(was, bytes)
            told.append(f"another {field.name}" if opaque else f"{field.name} {_plain(was)} -> {_plain(becomes)}")
    return told


def _plain(value: object) -> str:
    match value:
        case Position(latitude, longitude):
            return f"{latitude:.4f}, {longitude:.4f}"
        case tuple():
            return " ".join(map(str, value))
        case _:
            return str(value)
