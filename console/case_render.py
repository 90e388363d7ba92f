"""Cases for people, in 80 columns."""

from collections.abc import Iterable
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from trigpoint.v1 import cases_pb2, device_pb2, reason_pb2

from console.plain import enum_text
from console.record_facts import called
from console.record_render import indented, plain_table
from console.text import absolute, age, clean, instant, plural

_SEVERITY_STYLES = {"VIOLATION": "bold red", "WARNING": "yellow", "NOTICE": "dim"}
_STATE_STYLES = {"OPEN": "bold red", "ACKNOWLEDGED": "yellow", "INVESTIGATING": "yellow", "RESOLVED": "green"}
_ENTRY_STYLES = {"BROKE": "red", "JOINED": "red", "ENDED": "green", "PROVEN": "green", "NOTE": "cyan"}


def _severity(case: cases_pb2.Case) -> Text:
    name = enum_text(device_pb2.Severity.DESCRIPTOR, case.severity) or ""
    return Text(name, _SEVERITY_STYLES.get(name, ""))


def _state(case: cases_pb2.Case) -> Text:
    name = enum_text(cases_pb2.CaseState.DESCRIPTOR, case.state) or ""
    return Text(name, _STATE_STYLES.get(name, ""))


def _number(case: cases_pb2.Case) -> str:
    return case.name.removeprefix("cases/")


def table(cases: Iterable[cases_pb2.Case], now: datetime) -> Table:
    """Return cases as a table."""
    found = plain_table("CASE", "SEVERITY", "STATE", "AGE", "WHAT")
    for case in cases:
        what = Text(clean(case.title))
        if case.assignee:
            what.append(f" ({clean(case.assignee)})", "dim")
        found.add_row(_number(case), _severity(case), _state(case), age(instant(case.open_time), now), what)
    return found


def page(response: cases_pb2.GetCaseResponse, now: datetime) -> Group:
    """Return one case and its story."""
    case = response.case
    head = Text.assemble((f"Case {_number(case)}  ", "bold"), _severity(case), "  ", _state(case))
    opened = instant(case.open_time)
    where = called(case.site) if case.site else clean(case.license_number)
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for label, value in (
        ("licensee", clean(case.licensee)),
        ("license", where),
        ("devices", f"{plural(case.device_count, 'device')}, {case.open_device_count:,} with open findings"),
        ("open since", f"{absolute(opened)} ({age(opened, now)})"),
        ("quiet since", absolute(instant(case.quiet_since)) if case.HasField("quiet_since") else ""),
        ("assignee", clean(case.assignee)),
        ("resolution", clean(case.resolution)),
    ):
        if value:
            facts.add_row(label, value)
    parts: list[RenderableType] = [head, Text(clean(case.title)), facts, Text("\nStory", "bold")]
    for entry in response.story:
        kind = enum_text(cases_pb2.CaseEntryKind.DESCRIPTOR, entry.kind) or ""
        by = f" by {clean(entry.by)}" if entry.by else ""
        when = f"{absolute(instant(entry.time))}  "
        parts.append(Text.assemble((when, "dim"), (kind.lower(), _ENTRY_STYLES.get(kind, "")), by))
        parts.append(indented(entry.text, spaces=4))
    return Group(*parts)


def device_table(devices: Iterable[cases_pb2.CaseDevice], now: datetime) -> Table:
    """Return a case's findings as a table."""
    found = plain_table("PDI", "FINDING", "OPEN", "WHY")
    for entry in devices:
        began = instant(entry.open_time)
        span = (
            f"for {age(began, now)}"
            if not entry.HasField("end_time")
            else f"{age(began, instant(entry.end_time))}, over"
        )
        reason = enum_text(reason_pb2.Reason.DESCRIPTOR, entry.reason) or ""
        found.add_row(called(entry.device.replace("devices/", "deployments/")), reason, span, clean(entry.detail))
    return found
