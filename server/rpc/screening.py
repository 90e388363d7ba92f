"""ScreeningService: lists in, hits out, decisions on them. Who may call stands in access.py."""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import IO

import structlog
from trigpoint.v1 import screening_pb2, screening_pb2_grpc

from server.desk.screening import ScreeningTask
from server.escapes import escape, unescape
from server.records.names import ID
from server.rpc.access import current_peer
from server.rpc.convert import timestamp_to_proto
from server.rpc.errors import InvalidArgumentError
from server.rpc.filters import named_value, parse_terms, refused_filter
from server.rpc.handlers import Context
from server.rpc.pages import page_size, read_token, write_token
from server.rpc.reasons import read_reason
from server.rpc.screening_file import list_entries, read_list
from server.store.errors import RecordConflictError
from server.store.screening import hit_name
from server.store.screening_door import ScreeningDoor
from server.store.screening_types import HitCursor, HitFilter, HitKey, HitRecord, HitState, NewList
from server.times import utc_now

FIELDS = ("state", "party")
MAX_PIECE_BYTES = 1 << 20
MAX_FILE_BYTES = 256 << 20
"""The public file has some 20 MB."""

SPOOL_BYTES = 1 << 20
MAX_VERSION = 128
MAX_DECIDED = 1_000

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class ScreeningServicer(screening_pb2_grpc.ScreeningServiceServicer):
    """Serves screening.

    Args:
        store: Where lists and hits are kept.
        task: Compares.
        clock: Returns the current time, aware.
    """

    def __init__(self, store: ScreeningDoor, task: ScreeningTask, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._task = task
        self._clock = clock

    async def ImportScreeningList(  # noqa: N802 - the schema's name
        self, requests: AsyncIterator[screening_pb2.ImportScreeningListRequest], _context: Context
    ) -> screening_pb2.ImportScreeningListResponse:
        """Take a list, whole or not at all. Errors in rows are an answer, not a status."""
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
            options, digest = await _receive(requests, file)
            file.seek(0)
            reading = await asyncio.to_thread(read_list, file)
            response = screening_pb2.ImportScreeningListResponse(
                entry_count=reading.entry_count,
                name_count=reading.name_count,
                errors=reading.errors,
                error_count=reading.error_count,
            )
            if reading.error_count:
                return response
            new = NewList(options.version, digest, reading.entry_count, current_peer().name)
            try:
                counts = await self._task.import_list(
                    new, reading.names, list_entries(file), validate_only=options.validate_only
                )
            except RecordConflictError as error:
                raise InvalidArgumentError(f"options.{error.field}", str(error)) from error
            response.new_hit_count = counts.new
            response.gone_hit_count = counts.gone
            return response

    async def ListScreeningHits(  # noqa: N802 - the schema's name
        self, request: screening_pb2.ListScreeningHitsRequest, _context: Context
    ) -> screening_pb2.ListScreeningHitsResponse:
        """Return a page, open hits first, then by score."""
        chosen = _filter_of(request.filter)
        size = page_size(request.page_size)
        listed = f"screeningHits {chosen!r}"
        token = read_token(listed, request.page_token)
        page = await self._store.list_hits(chosen, after=None if token is None else _cursor_of(token), limit=size)
        return screening_pb2.ListScreeningHitsResponse(
            hits=[hit_to_proto(hit) for hit in page.hits],
            next_page_token=write_token(listed, _cursor_bytes(page.end)) if page.more else "",
            total_size=page.total,
            list_version=page.list_version,
        )

    async def DecideScreeningHits(  # noqa: N802 - the schema's name
        self, request: screening_pb2.DecideScreeningHitsRequest, _context: Context
    ) -> screening_pb2.DecideScreeningHitsResponse:
        """Clear or confirm hits, all or none."""
        if not 1 <= len(request.names) <= MAX_DECIDED:
            raise InvalidArgumentError("names", f"1 to {MAX_DECIDED:,} names")
        keys = [_key_of(name, f"names[{index}]") for index, name in enumerate(request.names)]
        if len(set(keys)) != len(keys):
            raise InvalidArgumentError("names", "a hit is named twice")
        if request.state not in (screening_pb2.HIT_STATE_CLEARED, screening_pb2.HIT_STATE_CONFIRMED):
            raise InvalidArgumentError("state", "must be CLEARED or CONFIRMED")
        reason = read_reason(request.reason, "reason")
        peer = current_peer()
        hits = await self._store.decide_hits(keys, HitState(request.state), peer.name, reason, self._clock())
        # A hit that is gone leaves no row behind, so that the log is where its decision stays.
        for hit in hits:
            _LOG.info("screening_hit_decided", hit=hit_name(hit.key), state=hit.state.name, by=peer.path, reason=reason)
        return screening_pb2.DecideScreeningHitsResponse(hits=[hit_to_proto(hit) for hit in hits])


def hit_to_proto(hit: HitRecord) -> screening_pb2.ScreeningHit:
    """Write a hit."""
    return screening_pb2.ScreeningHit(
        name=hit_name(hit.key),
        party=f"parties/{hit.key.party_id}",
        party_title=hit.party_title,
        entry_title=hit.entry_title,
        matched=hit.matched,
        source=hit.source,
        score=hit.score,
        list_version=hit.list_version,
        state=screening_pb2.HitState.ValueType(hit.state),
        find_time=timestamp_to_proto(hit.found_at),
        decided_by=hit.decided_by,
        decide_time=None if hit.decided_at is None else timestamp_to_proto(hit.decided_at),
        reason=hit.reason,
    )


def _filter_of(text: str) -> HitFilter:
    terms = parse_terms(text, FIELDS)
    party_id = terms.get("party")
    if party_id is not None:
        party_id = party_id.removeprefix("parties/")
        if not ID.fullmatch(party_id):
            raise refused_filter(f"no party is called {party_id!r}")
    return HitFilter(named_value("state", HitState, "HIT_STATE_", terms.get("state")), party_id)


def _key_of(name: str, field: str) -> HitKey:
    party_id, dot, entry = name.removeprefix("screeningHits/").partition(".")
    if not name.startswith("screeningHits/") or not dot or not ID.fullmatch(party_id) or not entry:
        raise InvalidArgumentError(field, f"{name!r} is no screeningHits/{{party}}.{{entry}}")
    try:
        return HitKey(party_id, unescape(entry))
    except ValueError as error:
        raise InvalidArgumentError(field, str(error)) from error


def _cursor_bytes(cursor: HitCursor) -> bytes:
    return json.dumps([cursor.decided, cursor.score, *map(escape, cursor.key)]).encode()


def _cursor_of(token: bytes) -> HitCursor:
    try:
        decided, score, party_id, entry_id = json.loads(token)
        return HitCursor(bool(decided), float(score), HitKey(unescape(str(party_id)), unescape(str(entry_id))))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidArgumentError("page_token", "not a token of this service") from error


async def _receive(
    requests: AsyncIterator[screening_pb2.ImportScreeningListRequest], file: IO[bytes]
) -> tuple[screening_pb2.ScreeningListOptions, bytes]:
    """Write the pieces of a file; return the options that came first, and the file's SHA-256."""
    options: screening_pb2.ScreeningListOptions | None = None
    digest = hashlib.sha256()
    size = 0
    async for request in requests:
        kind = request.WhichOneof("message")
        if options is None:
            if kind != "options":
                raise InvalidArgumentError("options", "must be the first message")
            options = request.options
            _check_version(options.version)
            continue
        if kind != "data":
            raise InvalidArgumentError("data", "only pieces of the file may follow the options")
        size += len(request.data)
        if len(request.data) > MAX_PIECE_BYTES or size > MAX_FILE_BYTES:
            raise InvalidArgumentError("data", f"at most {MAX_PIECE_BYTES} bytes a piece and {MAX_FILE_BYTES} in all")
        digest.update(request.data)
        await asyncio.to_thread(file.write, request.data)
    if options is None:
        raise InvalidArgumentError("options", "must be the first message")
    return options, digest.digest()


def _check_version(version: str) -> None:
    if not 1 <= len(version) <= MAX_VERSION or not version.isprintable() or version != version.strip():
        raise InvalidArgumentError("options.version", f"1 to {MAX_VERSION} printable characters")
