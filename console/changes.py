"""`trigpoint change`: what waits for a second person. `trigpoint history`: what was changed."""

from collections.abc import Iterable
from typing import Annotated

import typer
from trigpoint.v1 import change_pb2, records_pb2

from console import asked, record_render
from console.desk import CALL_TIMEOUT_S, UPLOAD_TIMEOUT_S, Desk, with_desk
from console.exits import ExitCode
from console.plain import plain
from console.records import FilterOption, LimitOption
from console.text import plural

app = typer.Typer(no_args_is_help=True, help="Changes that take two people.")

NumbersArgument = Annotated[list[str], typer.Argument(metavar="CHANGE...", help="Their numbers.")]
WhyOption = Annotated[str, typer.Option("--reason", help="Why.", show_default=False)]


@app.command("list")
@with_desk
def list_(
    desk: Desk,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Those that are decided too.")] = False,
    filter_: FilterOption = "",
    limit: LimitOption = 100,
) -> None:
    """List changes that wait, the newest first."""
    expression = asked.joined(("state", "" if all_ else "OPEN"), extra=filter_)
    found: list[change_pb2.Change] = []
    token = ""
    while True:
        request = change_pb2.ListChangesRequest(
            page_size=min(1_000, limit - len(found)), page_token=token, filter=expression
        )
        page = desk.changes.ListChanges(request, timeout=CALL_TIMEOUT_S)
        found.extend(page.changes)
        token = page.next_page_token
        if not token or len(found) >= limit:
            break
    if desk.json:
        desk.print_json({"changes": [plain(change) for change in found], "more": bool(token)})
        return
    if found:
        desk.out.print(record_render.change_table(found, desk.now))
    desk.err.print(plural(len(found), "change") + ("; there are more, --limit shows them" if token else ""))


@app.command("get")
@with_desk
def get(desk: Desk, *, number: Annotated[str, typer.Argument(metavar="CHANGE")]) -> None:
    """Tell all about one change: who proposed what, and why."""
    request = change_pb2.GetChangeRequest(name=asked.numbered(number, "changes"))
    _show(desk, [desk.changes.GetChange(request, timeout=CALL_TIMEOUT_S).change])


@app.command("approve")
@with_desk
def approve(desk: Desk, *, numbers: NumbersArgument, reason: WhyOption = "") -> None:
    """Approve changes, each for itself: each is done at once, unless what it was based on has changed."""
    request = change_pb2.ApproveChangesRequest(names=_names(numbers), reason=reason)
    changes = desk.changes.ApproveChanges(request, timeout=UPLOAD_TIMEOUT_S).changes
    _show(desk, changes)
    if any(change.state != change_pb2.CHANGE_STATE_APPLIED for change in changes):
        raise typer.Exit(ExitCode.REFUSED)


@app.command("reject")
@with_desk
def reject(desk: Desk, *, numbers: NumbersArgument, reason: WhyOption) -> None:
    """Reject changes."""
    request = change_pb2.RejectChangesRequest(names=_names(numbers), reason=reason)
    _show(desk, desk.changes.RejectChanges(request, timeout=CALL_TIMEOUT_S).changes)


@app.command("withdraw")
@with_desk
def withdraw(desk: Desk, *, numbers: NumbersArgument, reason: WhyOption = "") -> None:
    """Take back changes that you proposed."""
    request = change_pb2.WithdrawChangesRequest(names=_names(numbers), reason=reason)
    _show(desk, desk.changes.WithdrawChanges(request, timeout=CALL_TIMEOUT_S).changes)


@with_desk
def history(
    desk: Desk,
    *,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="As licenses/D1234567; else all.")] = "",
    after: Annotated[str, typer.Option(help="Written at or after: a date or time.", show_default=False)] = "",
    before: Annotated[str, typer.Option(help="Written before.", show_default=False)] = "",
    filter_: FilterOption = "",
    limit: LimitOption = 100,
) -> None:
    """Tell who changed what on record, when and why, the newest first."""
    request = records_pb2.ListRevisionsRequest(name=name, filter=filter_)
    if after:
        request.after.CopyFrom(asked.moment(after, "--after"))
    if before:
        request.before.CopyFrom(asked.moment(before, "--before"))
    found: list[records_pb2.Revision] = []
    while True:
        request.page_size = min(1_000, limit - len(found))
        page = desk.records.ListRevisions(request, timeout=CALL_TIMEOUT_S)
        found.extend(page.revisions)
        request.page_token = page.next_page_token
        if not request.page_token or len(found) >= limit:
            break
    if desk.json:
        more = bool(request.page_token)
        desk.print_json({"revisions": [plain(revision) for revision in found], "more": more})
        return
    for revision in found:
        desk.out.print(record_render.revision_page(revision))
    desk.err.print(
        plural(len(found), "revision") + ("; there are more, --limit shows them" if request.page_token else "")
    )


def _names(numbers: list[str]) -> list[str]:
    return [asked.numbered(number, "changes") for number in numbers]


def _show(desk: Desk, changes: Iterable[change_pb2.Change]) -> None:
    found = list(changes)
    if desk.json:
        desk.print_json({"changes": [plain(change) for change in found]})
        return
    for change in found:
        desk.out.print(record_render.change_page(change, desk.now))
