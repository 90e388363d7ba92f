"""`trigpoint case export`: a case as one file that anybody can check offline (docs/protocol.md §18)."""

import contextlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn
from trigpoint.v1 import cases_pb2

from console import asked
from console.desk import UPLOAD_TIMEOUT_S, Desk, with_desk
from console.exits import CommandError, ExitCode
from console.text import plural


@with_desk
def export(
    desk: Desk,
    *,
    case: Annotated[str, typer.Argument(metavar="CASE")],
    file: Annotated[Path, typer.Option("--output", "-o", help="The file; it must not exist.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; it stands in the file.", show_default=False)],
    jurisdiction: Annotated[
        str, typer.Option(metavar="CC", help="Withhold what is not of this country.", show_default=False)
    ] = "",
) -> None:
    """Write a case as one file that anybody can check without this server.

    It holds the raw evidence, the records that it was held against, and proofs that nothing was changed since.
    """
    request = cases_pb2.ExportCaseRequest(
        name=asked.numbered(case, "cases"), reason=reason, jurisdiction=jurisdiction.upper()
    )
    digest, size = sha256(), 0
    with _new_file(file) as written, _progress(desk) as progress:
        task = progress.add_task("the server gathers and proves", total=None)
        for response in desk.cases.ExportCase(request, timeout=UPLOAD_TIMEOUT_S):
            written.write(response.data)
            digest.update(response.data)
            size += len(response.data)
            progress.update(task, description="receiving", completed=size)
    if desk.json:
        desk.print_json({"file": str(file), "size_bytes": size, "sha256": digest.hexdigest()})
        return
    desk.out.print(f"{file}\n  {plural(size, 'byte')}\n  SHA-256 {digest.hexdigest()}")
    desk.err.print(
        "It tells where devices are. Whoever has it checks it without this server:\n"
        f"  trigpoint verify {file} --journal-key VKEY --root-fingerprint SHA256\n"
        "with the keys of the journal and its witnesses and the fingerprint of the\n"
        "vendor's root from elsewhere, never from whoever brings the file."
    )


@contextlib.contextmanager
def _new_file(file: Path) -> Iterator[IO[bytes]]:
    """Open a file that does not exist yet; it is there whole, or not at all."""
    part = file.with_name(f"{file.name}.part")
    try:
        with file.open("xb"), part.open("wb") as written:
            yield written
        part.replace(file)
    except FileExistsError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{file} is there already") from error
    except BaseException as error:
        for left in (file, part):
            with contextlib.suppress(OSError):
                left.unlink()
        if isinstance(error, OSError):
            raise CommandError(ExitCode.UNUSABLE, f"{file}: {error.strerror}") from error
        raise


def _progress(desk: Desk) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=desk.err,
        transient=True,
        disable=not desk.err.is_terminal,
    )
