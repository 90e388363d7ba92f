"""`trigpoint deployment import`: sends a file to the server, which checks every row; all rows or none."""

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from trigpoint.v1 import licensing_pb2

from console import as_json, record_render, render
from console.desk import UPLOAD_TIMEOUT_S, Desk, with_desk
from console.exits import CommandError, ExitCode
from console.text import clean, plural

PIECE_BYTES = 256 * 1024


@enum.unique
class FileFormat(enum.StrEnum):
    """What the file holds."""

    CSV = "csv"
    JSON = "json"


_FORMATS = {FileFormat.CSV: licensing_pb2.IMPORT_FORMAT_CSV, FileFormat.JSON: licensing_pb2.IMPORT_FORMAT_JSON}


@with_desk
def import_deployments(
    desk: Desk,
    *,
    file: Annotated[Path, typer.Argument(help="CSV or JSON.")],
    format_: Annotated[FileFormat | None, typer.Option("--format", help="Else the file's suffix tells.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count, change nothing.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it stands in the history.", show_default=False)] = "",
) -> None:
    """Import deployments from a file: all rows or none. Errors are numbered by row, the CSV header not counted.

    New licenses are drafts. A file that touches a license in force waits for a second person.
    """
    chosen = format_ or _by_suffix(file)
    options = licensing_pb2.ImportOptions(format=_FORMATS[chosen], validate_only=dry_run, reason=reason)
    try:
        with file.open("rb") as content, _progress(desk) as progress:
            pieces = _pieces(content, progress, file.stat().st_size)
            response = desk.licensing.ImportDeployments(_requests(options, pieces), timeout=UPLOAD_TIMEOUT_S)
    except OSError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{file}: {error.strerror or error}") from error
    if desk.json:
        desk.print_json(as_json.deployment_import(response))
    else:
        _report(desk, response, file)
    if response.error_count or response.errors:
        raise typer.Exit(ExitCode.REFUSED)


def _by_suffix(file: Path) -> FileFormat:
    try:
        return FileFormat(file.suffix.lower().removeprefix("."))
    except ValueError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{file}: neither .csv nor .json; give --format") from error


def _progress(desk: Desk) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=desk.err,
        transient=True,
        disable=not desk.err.is_terminal,
    )


def _pieces(content: BinaryIO, progress: Progress, size_bytes: int) -> Iterator[bytes]:
    task = progress.add_task("sending", total=size_bytes)
    while piece := content.read(PIECE_BYTES):
        yield piece
        progress.advance(task, len(piece))


def _requests(
    options: licensing_pb2.ImportOptions, pieces: Iterator[bytes]
) -> Iterator[licensing_pb2.ImportDeploymentsRequest]:
    yield licensing_pb2.ImportDeploymentsRequest(options=options)
    for piece in pieces:
        yield licensing_pb2.ImportDeploymentsRequest(data=piece)


def _report(desk: Desk, response: licensing_pb2.ImportDeploymentsResponse, file: Path) -> None:
    if response.error_count or response.errors:
        desk.out.print(render.import_errors(response.errors))
        count = max(response.error_count, len(response.errors))
        more = f", the first {len(response.errors):,} shown" if count > len(response.errors) else ""
        desk.err.print(f"{file}: {plural(count, 'error')}{more}; nothing was imported")
        return
    for warning in response.warnings:
        desk.err.print(
            f"note: row {warning.row}: {clean(warning.field)} {clean(warning.value)}: {clean(warning.message)}"
        )
    verb = "would be " if response.validate_only or response.HasField("change") else ""
    desk.out.print(
        f"{plural(response.row_count, 'row')}: {response.created_count:,} {verb}created, "
        f"{response.updated_count:,} {verb}updated, {response.unchanged_count:,} unchanged"
    )
    if response.HasField("change"):
        desk.out.print(record_render.waiting(response.change))
