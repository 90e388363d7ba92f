"""ExhibitService: what the accused say, and what they are answered (docs/protocol.md K4).

Who may call stands in access.py; whoever is limited to a jurisdiction hears and answers in its cases alone (RC11).
"""

import re
from collections.abc import Callable
from datetime import datetime

from trigpoint.v1 import exhibit_pb2, exhibit_pb2_grpc

from server.rpc.access import current_peer, visible_jurisdiction
from server.rpc.convert import timestamp_to_proto
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.handlers import Context
from server.rpc.pages import page_size, read_token, write_token
from server.rpc.reasons import read_reason
from server.store.exhibit_rows import Exhibit, Statement
from server.store.exhibits import ExhibitDoor
from server.times import utc_now

MAX_STATEMENT = 10_000
MAX_PARTY = 200
MAX_FILE_NAME = 200
MAX_FILE_BYTES = 4 << 20
ANY_MEDIA = "application/octet-stream"

_SUBJECT = re.compile(r"cases/[1-9][0-9]{0,17}|landmarks/[a-z0-9-]{1,63}")
_NAME = re.compile(rf"({_SUBJECT.pattern})/exhibits/([1-9][0-9]{{0,8}})")
_MEDIA = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")
"""RFC 6838 §4.2, lower case, without parameters."""


class ExhibitServicer(exhibit_pb2_grpc.ExhibitServiceServicer):
    """Serves exhibits.

    Args:
        exhibits: Where they are kept.
        clock: Returns the current time, aware.
    """

    def __init__(self, exhibits: ExhibitDoor, clock: Callable[[], datetime] = utc_now) -> None:
        self._exhibits = exhibits
        self._clock = clock

    async def AddExhibit(  # noqa: N802 - the schema's name
        self, request: exhibit_pb2.AddExhibitRequest, _context: Context
    ) -> exhibit_pb2.AddExhibitResponse:
        """Add a statement, with a file or without one."""
        subject, statement = _subject(request.parent), _statement(request)
        added = await self._exhibits.add(
            subject, statement, current_peer().name, self._clock(), jurisdiction=visible_jurisdiction()
        )
        return exhibit_pb2.AddExhibitResponse(exhibit=_exhibit_to_proto(added))

    async def ListExhibits(  # noqa: N802 - the schema's name
        self, request: exhibit_pb2.ListExhibitsRequest, _context: Context
    ) -> exhibit_pb2.ListExhibitsResponse:
        """Return a page in the order in which they came."""
        subject, size = _subject(request.parent), page_size(request.page_size)
        listed = f"exhibits of {subject}"
        token = read_token(listed, request.page_token)
        page = await self._exhibits.list(
            subject, after=0 if token is None else _number(token), limit=size, jurisdiction=visible_jurisdiction()
        )
        return exhibit_pb2.ListExhibitsResponse(
            exhibits=map(_exhibit_to_proto, page.exhibits),
            next_page_token=write_token(listed, str(page.exhibits[-1].number).encode()) if page.more else "",
        )

    async def GetExhibit(  # noqa: N802 - the schema's name
        self, request: exhibit_pb2.GetExhibitRequest, _context: Context
    ) -> exhibit_pb2.GetExhibitResponse:
        """Return one exhibit with its file."""
        subject, number = _name(request.name)
        found = await self._exhibits.get(subject, number, jurisdiction=visible_jurisdiction())
        if found is None:
            raise NotFoundError(request.name)
        return exhibit_pb2.GetExhibitResponse(exhibit=_exhibit_to_proto(found), data=found.statement.data or b"")

    async def AnswerExhibit(  # noqa: N802 - the schema's name
        self, request: exhibit_pb2.AnswerExhibitRequest, _context: Context
    ) -> exhibit_pb2.AnswerExhibitResponse:
        """Answer an exhibit, once."""
        subject, number = _name(request.name)
        answer = read_reason(request.answer, "answer", most=MAX_STATEMENT)
        answered = await self._exhibits.answer(
            subject, number, answer, current_peer().name, self._clock(), jurisdiction=visible_jurisdiction()
        )
        return exhibit_pb2.AnswerExhibitResponse(exhibit=_exhibit_to_proto(answered))


def _subject(name: str) -> str:
    if not _SUBJECT.fullmatch(name):
        raise InvalidArgumentError("parent", "cases/ and a number, or landmarks/ and an id")
    return name


def _name(name: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidArgumentError("name", "cases/{number}/exhibits/{exhibit} or landmarks/{id}/exhibits/{exhibit}")
    return match[1], int(match[2])


def _number(token: bytes) -> int:
    if not re.fullmatch(rb"[1-9][0-9]{0,8}", token):
        raise InvalidArgumentError("page_token", "not a token of this service")
    return int(token)


def _statement(request: exhibit_pb2.AddExhibitRequest) -> Statement:
    on_behalf_of = read_reason(request.on_behalf_of, "on_behalf_of", most=MAX_PARTY)
    text = read_reason(request.statement, "statement", most=MAX_STATEMENT)
    file_name = read_reason(request.file_name, "file_name", least=0, most=MAX_FILE_NAME)
    if not file_name:
        if request.data or request.media_type:
            raise InvalidArgumentError("file_name", "a file has a name")
        return Statement(on_behalf_of, text)
    # The reader's program may make a file of this name.
    if any(character in file_name for character in "/\\\n") or file_name in {".", ".."}:
        raise InvalidArgumentError("file_name", "a name alone, without folders")
    if not 1 <= len(request.data) <= MAX_FILE_BYTES:
        raise InvalidArgumentError("data", f"a file of 1 to {MAX_FILE_BYTES:,} bytes")
    media_type = request.media_type or ANY_MEDIA
    if not _MEDIA.fullmatch(media_type):
        raise InvalidArgumentError("media_type", "a media type in lower case, as application/pdf")
    return Statement(on_behalf_of, text, file_name, media_type, request.data)


def _exhibit_to_proto(exhibit: Exhibit) -> exhibit_pb2.Exhibit:
    said = exhibit.statement
    message = exhibit_pb2.Exhibit(
        name=exhibit.name,
        time=timestamp_to_proto(exhibit.at),
        by=exhibit.by,
        on_behalf_of=said.on_behalf_of,
        statement=said.text,
        file_name=said.file_name,
        media_type=said.media_type,
        sha256=exhibit.sha256,
        size_bytes=exhibit.size,
        answered_by=exhibit.answered_by,
        answer=exhibit.answer,
    )
    if exhibit.answered_at is not None:
        message.answer_time.CopyFrom(timestamp_to_proto(exhibit.answered_at))
    return message
