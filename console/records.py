"""What the commands for records share: fetch, write, tell what was written or waits for a second person."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from trigpoint.v1 import records_pb2

from console import asked, record_render
from console.desk import CALL_TIMEOUT_S, UPLOAD_TIMEOUT_S, Desk
from console.exits import CommandError, ExitCode, from_rpc
from console.plain import Json, plain
from console.record_facts import called
from console.text import clean, plural

PAGE_SIZE = 1_000
# How the server names a field of the request that it refuses.
_REFUSED = re.compile(r"writes\[(\d{1,4})\]\.(?:record\.)?(?:(?:party|license|site|deployment|shipment|window)\.)?(.+)")
MOST_WRITES = 1_000

ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; it stands in the record's history.", show_default=False)
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check and tell, change nothing.")]
LimitOption = Annotated[int, typer.Option(min=1, help="At most this many.")]
AllOption = Annotated[bool, typer.Option("--all", help="No limit.")]
AsOfOption = Annotated[
    str, typer.Option("--as-of", help="As it stood then: a date or an RFC 3339 time.", show_default=False)
]
FilterOption = Annotated[str, typer.Option("--filter", help='More terms: state = "ACTIVE" AND ...', show_default=False)]


def record(name: str, kind: str, message: Message, etag: str = "") -> records_pb2.Record:
    """Return a record of this kind with a name."""
    found = records_pb2.Record(name=name, etag=etag)
    getattr(found, kind).CopyFrom(message)
    return found


def created(name: str, kind: str, message: Message) -> records_pb2.RecordWrite:
    """Return the write of a record that must not be there yet."""
    return records_pb2.RecordWrite(record=record(name, kind, message, etag="0"))


def updated(name: str, kind: str, message: Message, paths: Iterable[str], etag: str = "") -> records_pb2.RecordWrite:
    """Return the write of some fields of a record."""
    mask = FieldMask(paths=sorted(paths))
    if not mask.paths:
        raise CommandError(ExitCode.UNUSABLE, "nothing to change: give at least one option")
    return records_pb2.RecordWrite(record=record(name, kind, message, etag), update_mask=mask)


def ended(name: str, etag: str = "") -> records_pb2.RecordWrite:
    """Return the write that ends a record."""
    return records_pb2.RecordWrite(record=records_pb2.Record(name=name, etag=etag), end=True)


def write(
    desk: Desk,
    writes: Sequence[records_pb2.RecordWrite],
    reason: str,
    *,
    dry_run: bool = False,
    says_provable: bool = True,
) -> None:
    """Write records and tell what came of it; with `says_provable`, also what landmarks can prove of their sites."""
    if not reason.strip():
        raise CommandError(ExitCode.UNUSABLE, "--reason is needed: it stands in the record's history")
    if not writes:
        raise CommandError(ExitCode.UNUSABLE, "nothing to write")
    if len(writes) > MOST_WRITES:
        raise CommandError(ExitCode.UNUSABLE, f"{len(writes):,} records; at most {MOST_WRITES:,} at once")
    request = records_pb2.WriteRecordsRequest(writes=writes, reason=reason, validate_only=dry_run)
    try:
        response = desk.records.WriteRecords(request, timeout=UPLOAD_TIMEOUT_S)
    except grpc.RpcError as error:
        raise _refused(error, desk.target, writes) from error
    if desk.json:
        desk.print_json(plain(response))
    else:
        _tell(desk, response, dry_run=dry_run, says_provable=says_provable)


def _tell(desk: Desk, response: records_pb2.WriteRecordsResponse, *, dry_run: bool, says_provable: bool) -> None:
    if response.HasField("change"):
        desk.out.print(record_render.waiting(response.change))
    elif dry_run:
        desk.out.print(f"{plural(len(response.records), 'record')} would be written; nothing was")
    else:
        for entry in response.records:
            desk.out.print(f"{called(entry.name)}: revision {entry.etag}")
    for line in record_render.provability(response.provability if says_provable else ()):
        desk.out.print(line)
    for notice in response.notices:
        desk.err.print(f"note: {clean(notice)}")


def _refused(error: grpc.RpcError, target: str, writes: Sequence[records_pb2.RecordWrite]) -> CommandError:
    """Return what a refusal means, with the record that it is about instead of its place in the request."""
    found = from_rpc(error, target)
    match = _REFUSED.fullmatch(found.message)
    if match is None or int(match[1]) >= len(writes):
        return found
    return CommandError(found.code, f"{called(writes[int(match[1])].record.name)}: {match[2]}")


def fetch(desk: Desk, name: str, as_of: str = "") -> records_pb2.GetRecordResponse:
    """Return a record."""
    request = records_pb2.GetRecordRequest(name=name)
    if as_of:
        request.as_of.CopyFrom(asked.moment(as_of, "--as-of"))
    return desk.records.GetRecord(request, timeout=CALL_TIMEOUT_S)


def fetch_all(
    desk: Desk, kind: records_pb2.RecordKind.ValueType, expression: str, limit: int | None
) -> tuple[list[records_pb2.Record], int]:
    """Return records page by page up to the limit, and how many match in all."""
    found: list[records_pb2.Record] = []
    token = ""
    while True:
        wanted = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - len(found))
        request = records_pb2.ListRecordsRequest(kind=kind, page_size=wanted, page_token=token, filter=expression)
        page = desk.records.ListRecords(request, timeout=CALL_TIMEOUT_S)
        found.extend(page.records)
        token = page.next_page_token
        if not token or (limit is not None and len(found) >= limit):
            return found, page.total_size


def show(desk: Desk, response: records_pb2.GetRecordResponse, *, counted: bool = False) -> None:
    """Print one record."""
    if desk.json:
        value: Json = plain(response.record)
        desk.print_json({**value, "deployed_count": response.deployed_count} if counted else value)
    else:
        desk.out.print(record_render.page(response, desk.now, counted=counted))


def show_list(
    desk: Desk, kind: records_pb2.RecordKind.ValueType, noun: str, expression: str, limit: int | None
) -> None:
    """Print records of one kind as a table."""
    found, total = fetch_all(desk, kind, expression, limit)
    if desk.json:
        desk.print_json({"records": [plain(entry) for entry in found], "total_size": total})
        return
    if found:
        desk.out.print(record_render.table(kind, found, desk.now))
    whole = len(found) >= total
    told = plural(total, noun, "parties" if noun == "party" else "")
    desk.err.print(told if whole else f"{len(found):,} of {told}; --all shows the rest")


def lines_of(file: Path) -> list[str]:
    """Return the lines of a file that hold something."""
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(ExitCode.UNUSABLE, f"{file}: {error}") from error
