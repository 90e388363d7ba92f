"""`trigpoint case`: what happened, and what was done about it."""

from collections.abc import Sequence
from typing import Annotated

import typer
from trigpoint.v1 import cases_pb2

from console import asked, case_export, case_render, exhibits
from console.desk import CALL_TIMEOUT_S, Desk, with_desk
from console.plain import plain
from console.records import AllOption, FilterOption, LimitOption
from console.text import plural

app = typer.Typer(no_args_is_help=True, help="Cases: events that somebody must look at.")

app.command("export")(case_export.export)
app.command("rebuttal")(exhibits.rebut)
app.command("exhibits")(exhibits.case_exhibits)
app.command("answer")(exhibits.answer_rebuttal)

CasesArgument = Annotated[list[str], typer.Argument(metavar="CASE...", help="Their numbers.")]
TextOption = Annotated[str, typer.Option("--note", help="What there is to say.", show_default=False)]


@app.command("list")
@with_desk
def list_(
    desk: Desk,
    *,
    state: Annotated[
        str,
        typer.Option(help="open, acknowledged, investigating, resolved; else all but the last.", show_default=False),
    ] = "",
    licensee: Annotated[str, typer.Option(help="Of this licensee.", show_default=False)] = "",
    device: Annotated[str, typer.Option(help="That touch this device (PDI).", show_default=False)] = "",
    filter_: FilterOption = "",
    limit: LimitOption = 100,
    all_: AllOption = False,
) -> None:
    """List cases, the gravest first, then the oldest."""
    expression = asked.joined(("state", state.upper()), ("licensee", licensee), ("device", device), extra=filter_)
    found: list[cases_pb2.Case] = []
    token = ""
    while True:
        size = 1_000 if all_ else min(1_000, limit - len(found))
        request = cases_pb2.ListCasesRequest(page_size=size, page_token=token, filter=expression)
        page = desk.cases.ListCases(request, timeout=CALL_TIMEOUT_S)
        found.extend(page.cases)
        token = page.next_page_token
        if not token or (not all_ and len(found) >= limit):
            break
    if desk.json:
        desk.print_json({"cases": [plain(case) for case in found], "total_size": page.total_size})
        return
    if found:
        desk.out.print(case_render.table(found, desk.now))
    whole = len(found) >= page.total_size
    told = plural(page.total_size, "case")
    desk.err.print(told if whole else f"{len(found):,} of {told}; --all shows the rest")


@app.command("get")
@with_desk
def get(desk: Desk, *, case: Annotated[str, typer.Argument(metavar="CASE")]) -> None:
    """Tell one case as a story: what was licensed, what was proven last, what broke, what was done."""
    request = cases_pb2.GetCaseRequest(name=asked.numbered(case, "cases"))
    response = desk.cases.GetCase(request, timeout=CALL_TIMEOUT_S)
    if desk.json:
        desk.print_json(plain(response))
    else:
        desk.out.print(case_render.page(response, desk.now))


@app.command("devices")
@with_desk
def devices(
    desk: Desk,
    *,
    case: Annotated[str, typer.Argument(metavar="CASE")],
    limit: LimitOption = 100,
    all_: AllOption = False,
) -> None:
    """List the findings of a case, device by device."""
    found: list[cases_pb2.CaseDevice] = []
    token = ""
    while True:
        size = 1_000 if all_ else min(1_000, limit - len(found))
        request = cases_pb2.ListCaseDevicesRequest(name=asked.numbered(case, "cases"), page_size=size, page_token=token)
        page = desk.cases.ListCaseDevices(request, timeout=CALL_TIMEOUT_S)
        found.extend(page.devices)
        token = page.next_page_token
        if not token or (not all_ and len(found) >= limit):
            break
    if desk.json:
        desk.print_json({"devices": [plain(entry) for entry in found], "more": bool(token)})
        return
    if found:
        desk.out.print(case_render.device_table(found, desk.now))
    desk.err.print(plural(len(found), "finding") + ("; there are more, --all shows them" if token else ""))


@app.command("note")
@with_desk
def note(desk: Desk, *, cases: CasesArgument, text: TextOption) -> None:
    """Write a note into cases."""
    _work(desk, cases, cases_pb2.CASE_ACTION_NOTE, text=text)


@app.command("assign")
@with_desk
def assign(
    desk: Desk,
    *,
    cases: CasesArgument,
    to: Annotated[str, typer.Option("--to", help="Who; empty: nobody.", show_default=False)],
    text: TextOption = "",
) -> None:
    """Give cases to somebody."""
    _work(desk, cases, cases_pb2.CASE_ACTION_ASSIGN, text=text, assignee=to)


@app.command("acknowledge")
@with_desk
def acknowledge(desk: Desk, *, cases: CasesArgument, text: TextOption = "") -> None:
    """Say that cases are known."""
    _work(desk, cases, cases_pb2.CASE_ACTION_ACKNOWLEDGE, text=text)


@app.command("investigate")
@with_desk
def investigate(desk: Desk, *, cases: CasesArgument, text: TextOption = "") -> None:
    """Begin to work on cases."""
    _work(desk, cases, cases_pb2.CASE_ACTION_INVESTIGATE, text=text)


@app.command("resolve")
@with_desk
def resolve(
    desk: Desk,
    *,
    cases: CasesArgument,
    reason: Annotated[str, typer.Option("--reason", help="What it was.", show_default=False)],
    accept_risk: Annotated[bool, typer.Option("--accept-risk", help="Though findings are open.")] = False,
) -> None:
    """End cases, with a reason."""
    _work(desk, cases, cases_pb2.CASE_ACTION_RESOLVE, text=reason, accept_risk=accept_risk)


@app.command("reopen")
@with_desk
def reopen(
    desk: Desk,
    *,
    cases: CasesArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why.", show_default=False)],
) -> None:
    """Open cases again."""
    _work(desk, cases, cases_pb2.CASE_ACTION_REOPEN, text=reason)


def _work(
    desk: Desk,
    cases: Sequence[str],
    action: cases_pb2.CaseAction.ValueType,
    *,
    text: str,
    assignee: str = "",
    accept_risk: bool = False,
) -> None:
    refs = [cases_pb2.CaseRef(name=asked.numbered(case, "cases")) for case in cases]
    request = cases_pb2.WorkCasesRequest(
        cases=refs, action=action, text=text, assignee=assignee, accept_risk=accept_risk
    )
    response = desk.cases.WorkCases(request, timeout=CALL_TIMEOUT_S)
    if desk.json:
        desk.print_json(plain(response))
    else:
        desk.out.print(case_render.table(response.cases, desk.now))
