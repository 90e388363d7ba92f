"""`trigpoint case` and `trigpoint landmark`: what the accused say, and what they are answered (docs/protocol.md K4)."""

import hashlib
import mimetypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from trigpoint.v1 import exhibit_pb2

from console import asked
from console.desk import CALL_TIMEOUT_S, UPLOAD_TIMEOUT_S, Desk, with_desk
from console.exits import CommandError, ExitCode
from console.plain import plain
from console.record_render import indented
from console.text import absolute, age, instant, plural

MAX_FILE_BYTES = 4 << 20

_MEDIA = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")
_EXHIBIT = re.compile(r"([^/]+)/(?:exhibits/)?([1-9][0-9]{0,8})")

CaseArgument = Annotated[str, typer.Argument(metavar="CASE")]
LandmarkArgument = Annotated[str, typer.Argument(metavar="ID")]
FileArgument = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="What shows it, up to 4 MiB.", show_default=False)
]
BehalfOption = Annotated[str, typer.Option("--on-behalf-of", help="Whose statement it is.", show_default=False)]
StatementOption = Annotated[str, typer.Option("--statement", help="What they say.", show_default=False)]
AnswerOption = Annotated[str, typer.Option("--answer", help="What they are told.", show_default=False)]
NumberOption = Annotated[
    int | None, typer.Option("--file-of", min=1, metavar="N", help="Write the file of exhibit N.", show_default=False)
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where to; it must not exist.", show_default=False)
]


@with_desk
def rebut(
    desk: Desk,
    *,
    case: CaseArgument,
    file: FileArgument = None,
    on_behalf_of: BehalfOption,
    statement: StatementOption,
) -> None:
    """Add what the accused say to a case, with a file or without one. It stands for good, and needs an answer."""
    _add(desk, asked.numbered(case, "cases"), on_behalf_of, statement, file)


@with_desk
def case_exhibits(desk: Desk, *, case: CaseArgument, file_of: NumberOption = None, output: OutputOption = None) -> None:
    """Show what the accused said in a case and what they were answered, or write the file of one exhibit."""
    _show(desk, asked.numbered(case, "cases"), file_of, output)


@with_desk
def answer_rebuttal(
    desk: Desk,
    *,
    exhibit: Annotated[str, typer.Argument(metavar="CASE/N", help="Exhibit N of a case, as 7/1.")],
    answer: AnswerOption,
) -> None:
    """Answer an exhibit of a case, once. While one is not answered the case cannot be resolved."""
    case, number = _exhibit(exhibit.removeprefix("cases/"), "CASE/N, as 7/1")
    _answer(desk, f"{asked.numbered(case, 'cases')}/exhibits/{number}", answer)


@with_desk
def appeal(
    desk: Desk,
    *,
    landmark: LandmarkArgument,
    file: FileArgument = None,
    on_behalf_of: BehalfOption,
    statement: StatementOption,
) -> None:
    """Add what a landmark's operator says against its distrust, with a file or without one."""
    _add(desk, _landmark(landmark), on_behalf_of, statement, file)


@with_desk
def appeals(
    desk: Desk, *, landmark: LandmarkArgument, file_of: NumberOption = None, output: OutputOption = None
) -> None:
    """Show the appeals of a landmark and what they were answered, or write the file of one."""
    _show(desk, _landmark(landmark), file_of, output)


@with_desk
def answer_appeal(
    desk: Desk,
    *,
    exhibit: Annotated[str, typer.Argument(metavar="ID/N", help="Appeal N of a landmark, as dallas/1.")],
    answer: AnswerOption,
) -> None:
    """Answer an appeal of a landmark, once."""
    landmark, number = _exhibit(exhibit.removeprefix("landmarks/"), "ID/N, as dallas/1")
    _answer(desk, f"{_landmark(landmark)}/exhibits/{number}", answer)


def _landmark(landmark: str) -> str:
    return f"landmarks/{landmark.removeprefix('landmarks/')}"


def _exhibit(text: str, like: str) -> tuple[str, str]:
    match = _EXHIBIT.fullmatch(text)
    if match is None:
        raise CommandError(ExitCode.UNUSABLE, f"an exhibit is {like}, not {text!r}")
    return match[1], match[2]


def _add(desk: Desk, parent: str, on_behalf_of: str, statement: str, file: Path | None) -> None:
    request = exhibit_pb2.AddExhibitRequest(parent=parent, on_behalf_of=on_behalf_of, statement=statement)
    if file is not None:
        guessed, _ = mimetypes.guess_type(file.name)
        request.file_name, request.data = file.name, _read(file)
        request.media_type = guessed if guessed and _MEDIA.fullmatch(guessed) else ""
    exhibit = desk.exhibits.AddExhibit(request, timeout=UPLOAD_TIMEOUT_S).exhibit
    _tell(desk, exhibit)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{file}: {error.strerror or error}") from error
    if not 1 <= len(data) <= MAX_FILE_BYTES:
        raise CommandError(ExitCode.UNUSABLE, f"{file}: a file of 1 byte to 4 MiB")
    return data


def _answer(desk: Desk, name: str, answer: str) -> None:
    request = exhibit_pb2.AnswerExhibitRequest(name=name, answer=answer)
    _tell(desk, desk.exhibits.AnswerExhibit(request, timeout=CALL_TIMEOUT_S).exhibit)


def _tell(desk: Desk, exhibit: exhibit_pb2.Exhibit) -> None:
    if desk.json:
        desk.print_json(plain(exhibit))
    else:
        desk.out.print(_page(desk, exhibit))


def _show(desk: Desk, parent: str, file_of: int | None, output: Path | None) -> None:
    if (file_of is None) != (output is None):
        raise CommandError(ExitCode.UNUSABLE, "--file-of and --output go together")
    if file_of is not None and output is not None:
        _save(desk, f"{parent}/exhibits/{file_of}", output)
        return
    found: list[exhibit_pb2.Exhibit] = []
    token = ""
    while True:
        request = exhibit_pb2.ListExhibitsRequest(parent=parent, page_size=1_000, page_token=token)
        page = desk.exhibits.ListExhibits(request, timeout=CALL_TIMEOUT_S)
        found.extend(page.exhibits)
        token = page.next_page_token
        if not token:
            break
    if desk.json:
        desk.print_json({"exhibits": [plain(exhibit) for exhibit in found]})
        return
    for exhibit in found:
        desk.out.print(_page(desk, exhibit))
    waiting = sum(not exhibit.HasField("answer_time") for exhibit in found)
    desk.err.print(plural(len(found), "exhibit") + (f", {waiting:,} not answered" if waiting else ""))


def _save(desk: Desk, name: str, output: Path) -> None:
    response = desk.exhibits.GetExhibit(exhibit_pb2.GetExhibitRequest(name=name), timeout=UPLOAD_TIMEOUT_S)
    if not response.exhibit.file_name:
        raise CommandError(ExitCode.REFUSED, f"{name} has no file")
    digest = hashlib.sha256(response.data).digest()
    if digest != response.exhibit.sha256:
        raise CommandError(ExitCode.REFUSED, f"{name}: the file that came is not the one that it names")
    try:
        with output.open("xb") as file:
            file.write(response.data)
    except FileExistsError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{output} is there already") from error
    except OSError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{output}: {error.strerror or error}") from error
    if desk.json:
        told = {"file": str(output), "size_bytes": len(response.data), "sha256": digest.hex()}
        desk.print_json(told)
    else:
        desk.out.print(f"{output}\n  {plural(len(response.data), 'byte')}\n  SHA-256 {digest.hex()}")


def _page(desk: Desk, exhibit: exhibit_pb2.Exhibit) -> Group:
    at = instant(exhibit.time)
    answered = exhibit.HasField("answer_time")
    state = Text("answered", "green") if answered else Text("waits for an answer", "bold yellow")
    number = exhibit.name.rpartition("/")[2]
    parts: list[RenderableType] = [
        Text.assemble((f"Exhibit {number}  ", "bold"), f"{absolute(at)} ({age(at, desk.now)})  ", state),
        indented(f"{exhibit.on_behalf_of} says, added by {exhibit.by}:", "dim"),
        *_paragraphs(exhibit.statement),
    ]
    if exhibit.file_name:
        parts.append(indented(f"file: {exhibit.file_name}, {exhibit.media_type}, {exhibit.size_bytes:,} bytes"))
        parts.append(indented(f"SHA-256 {exhibit.sha256.hex()}", "dim"))
    if answered:
        parts.append(indented(f"answered {absolute(instant(exhibit.answer_time))} by {exhibit.answered_by}:", "dim"))
        parts.extend(_paragraphs(exhibit.answer))
    return Group(*parts)


def _paragraphs(text: str) -> Iterator[RenderableType]:
    for line in text.split("\n"):
        yield indented(line, spaces=4)
