"""`trigpoint screening`: parties against the Consolidated Screening List (docs/screening.md)."""

import enum
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.text import Text
from trigpoint.v1 import licensing_pb2, screening_pb2

from console import asked, render
from console.desk import CALL_TIMEOUT_S, UPLOAD_TIMEOUT_S, Desk, with_desk
from console.exits import CommandError, ExitCode
from console.plain import enum_text, plain
from console.text import absolute, age, clean, instant, plural

PAGE_SIZE = 1_000
MOST_DECIDED = 1_000
PIECE_BYTES = 256 * 1024

_STYLES = {"OPEN": "bold red", "CONFIRMED": "red", "CLEARED": "green"}

app = typer.Typer(no_args_is_help=True, help="Parties against the Consolidated Screening List.")


@enum.unique
class State(enum.StrEnum):
    """How hits stand."""

    OPEN = "open"
    CLEARED = "cleared"
    CONFIRMED = "confirmed"


HitsArgument = Annotated[list[str], typer.Argument(metavar="HIT...", help="As `screening list` names them.")]
WhyOption = Annotated[str, typer.Option("--reason", help="Why; it stands beside the hit.", show_default=False)]


@app.command("import")
@with_desk
def import_list(
    desk: Desk,
    *,
    file: Annotated[Path, typer.Argument(help="consolidated.csv, as trade.gov publishes it.")],
    version: Annotated[str, typer.Option(help="Names this file for good; put its date in.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count, change nothing.")] = False,
) -> None:
    """Put a list in force in place of the one before, and screen all parties against it."""
    options = screening_pb2.ScreeningListOptions(version=version, validate_only=dry_run)
    try:
        with file.open("rb") as content, _progress(desk) as progress:
            requests = _requests(options, content, progress, file.stat().st_size)
            response = desk.screening.ImportScreeningList(requests, timeout=UPLOAD_TIMEOUT_S)
    except OSError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{file}: {error.strerror or error}") from error
    refused = bool(response.error_count or response.errors)
    if desk.json:
        desk.print_json({**plain(response), "validate_only": dry_run})
    elif refused:
        _tell_errors(desk, response, file)
    else:
        would = "would be " if dry_run else ""
        entries = f"{response.entry_count:,} {'entry' if response.entry_count == 1 else 'entries'}"
        desk.out.print(
            f"{entries}, {plural(response.name_count, 'name')}: {plural(response.new_hit_count, 'hit')} {would}new, "
            f"{response.gone_hit_count:,} {would}gone"
        )
    if refused:
        raise typer.Exit(ExitCode.REFUSED)


@app.command("list")
@with_desk
def list_(
    desk: Desk,
    *,
    state: Annotated[State | None, typer.Option(help="Only these.", show_default=False)] = None,
    party: Annotated[str, typer.Option(metavar="ID", help="Only this party's.", show_default=False)] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 100,
    all_: Annotated[bool, typer.Option("--all", help="No limit.")] = False,
) -> None:
    """List hits, the open ones first, then by how alike the names are."""
    expression = asked.joined(("state", state.name if state else ""), ("party", party.removeprefix("parties/")))
    hits, page = _fetch(desk, expression, None if all_ else limit)
    if desk.json:
        found = [plain(hit) for hit in hits]
        desk.print_json({"hits": found, "total_size": page.total_size, "list_version": page.list_version or None})
        return
    if hits:
        desk.out.print(hit_pages(hits, desk.now))
    shown = plural(page.total_size, "hit") if len(hits) >= page.total_size else f"{len(hits):,} of {page.total_size:,}"
    rest = "" if len(hits) >= page.total_size else "; --all shows the rest"
    listed = f"list {clean(page.list_version)}" if page.list_version else "no list is in force"
    desk.err.print(f"{shown}, {listed}{rest}")


@app.command("clear")
@with_desk
def clear(desk: Desk, *, hits: HitsArgument, reason: WhyOption) -> None:
    """Say that the parties of these hits are others than those on the list: all or none."""
    _decide(desk, hits, screening_pb2.HIT_STATE_CLEARED, reason)


@app.command("confirm")
@with_desk
def confirm(desk: Desk, *, hits: HitsArgument, reason: WhyOption) -> None:
    """Say that the parties of these hits are those on the list: all or none. Their licenses cannot be activated."""
    _decide(desk, hits, screening_pb2.HIT_STATE_CONFIRMED, reason)


def hit_pages(hits: Iterable[screening_pb2.ScreeningHit], now: datetime) -> Group:
    """Return each hit as a paragraph, which holds whole names in 80 columns."""
    parts: list[RenderableType] = []
    for hit in hits:
        state = enum_text(screening_pb2.HitState.DESCRIPTOR, hit.state) or ""
        head = Text.assemble((state, _STYLES.get(state, "")), (f"  {hit.score:.0f}  ", "bold"), hit_id(hit.name))
        lines = [f"party {_party(hit)}: {clean(hit.party_title)}", f"listed: {clean(hit.matched)}"]
        if hit.matched != hit.entry_title:
            lines.append(f"a name of: {clean(hit.entry_title)}")
        lines.append(f"{clean(hit.source)}; found {age(instant(hit.find_time), now)} ago")
        if hit.HasField("decide_time"):
            when = absolute(instant(hit.decide_time))
            lines.append(f"{state.lower()} by {clean(hit.decided_by)}, {when}: {clean(hit.reason)}")
        parts += [head, Padding(Text("\n".join(lines), overflow="fold"), (0, 0, 0, 4))]
    return Group(*parts)


def hit_id(name: str) -> str:
    """Return what the commands take for a hit."""
    return clean(name.removeprefix("screeningHits/"))


def _party(hit: screening_pb2.ScreeningHit) -> str:
    return clean(hit.party.removeprefix("parties/"))


def _fetch(
    desk: Desk, expression: str, limit: int | None
) -> tuple[list[screening_pb2.ScreeningHit], screening_pb2.ListScreeningHitsResponse]:
    """Return hits page by page up to the limit, and the last page."""
    hits: list[screening_pb2.ScreeningHit] = []
    request = screening_pb2.ListScreeningHitsRequest(filter=expression)
    while True:
        request.page_size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - len(hits))
        page = desk.screening.ListScreeningHits(request, timeout=CALL_TIMEOUT_S)
        hits.extend(page.hits)
        request.page_token = page.next_page_token
        if not request.page_token or (limit is not None and len(hits) >= limit):
            return hits, page


def _decide(desk: Desk, hits: Sequence[str], state: screening_pb2.HitState.ValueType, reason: str) -> None:
    if not reason.strip():
        raise CommandError(ExitCode.UNUSABLE, "--reason must say why")
    names = list(dict.fromkeys(f"screeningHits/{hit.removeprefix('screeningHits/')}" for hit in hits))
    if len(names) > MOST_DECIDED:
        raise CommandError(ExitCode.UNUSABLE, f"at most {MOST_DECIDED:,} hits at once")
    request = screening_pb2.DecideScreeningHitsRequest(names=names, state=state, reason=reason)
    decided = desk.screening.DecideScreeningHits(request, timeout=CALL_TIMEOUT_S).hits
    if desk.json:
        desk.print_json({"hits": [plain(hit) for hit in decided]})
    else:
        desk.out.print(hit_pages(decided, desk.now))


def _progress(desk: Desk) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    return Progress(*columns, console=desk.err, transient=True, disable=not desk.err.is_terminal)


def _requests(
    options: screening_pb2.ScreeningListOptions, content: BinaryIO, progress: Progress, size_bytes: int
) -> Iterator[screening_pb2.ImportScreeningListRequest]:
    task = progress.add_task("sending", total=size_bytes)
    yield screening_pb2.ImportScreeningListRequest(options=options)
    while piece := content.read(PIECE_BYTES):
        yield screening_pb2.ImportScreeningListRequest(data=piece)
        progress.advance(task, len(piece))
    progress.update(task, description="screening", total=None)


def _tell_errors(desk: Desk, response: screening_pb2.ImportScreeningListResponse, file: Path) -> None:
    errors = [
        licensing_pb2.ImportRowError(row=error.row, field=error.field, value=error.value, message=error.message)
        for error in response.errors
    ]
    desk.out.print(render.import_errors(errors))
    count = max(response.error_count, len(errors))
    more = f", the first {len(errors):,} shown" if count > len(errors) else ""
    desk.err.print(f"{file}: {plural(count, 'error')}{more}; the list in force stays")
