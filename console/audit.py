"""`trigpoint landmark audit`: what landmarks' ranges of each other say of each of them."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from trigpoint.v1 import landmark_pb2

from console import as_json
from console.desk import CALL_TIMEOUT_S, Desk, with_desk
from console.text import absolute, age, clean, instant, plural

PAGE_SIZE = 1000

SHOWN_CONTRADICTIONS = 5
"""Of each landmark; --json tells all that the server sends."""


@with_desk
def audit_landmarks(desk: Desk) -> None:
    """Show which landmarks count, who has ranged them, and which are distrusted and why."""
    audits, page = read_audits(desk)
    if desk.json:
        time = as_json.time_of(page, "audit_time")
        desk.print_json({"audits": [audit_json(entry) for entry in audits], "audit_time": time})
        return
    if audits:
        desk.out.print(audit_page(audits, desk.now))
    counting = sum(entry.counts for entry in audits)
    distrusted = sum(bool(entry.rule) for entry in audits)
    when = f"{age(instant(page.audit_time), desk.now)} ago" if page.HasField("audit_time") else "never"
    desk.err.print(
        f"{plural(len(audits), 'landmark')}, {counting:,} counting, {distrusted:,} distrusted; audited {when}"
    )


def read_audits(desk: Desk) -> tuple[list[landmark_pb2.LandmarkAudit], landmark_pb2.ListLandmarkAuditsResponse]:
    """Return all audits in the order of the landmarks' names, and the last page, which says when they were made."""
    audits: list[landmark_pb2.LandmarkAudit] = []
    token = ""
    while True:
        request = landmark_pb2.ListLandmarkAuditsRequest(page_size=PAGE_SIZE, page_token=token)
        page = desk.landmarks.ListLandmarkAudits(request, timeout=CALL_TIMEOUT_S)
        audits.extend(page.audits)
        token = page.next_page_token
        if not token:
            return audits, page


def audit_page(audits: Sequence[landmark_pb2.LandmarkAudit], now: datetime) -> Group:
    """Return a table of all landmarks and, below it, a paragraph for each that is distrusted."""
    parts: list[RenderableType] = [audit_table(audits, now)]
    for entry in audits:
        if entry.rule:
            parts += [Text(""), *_paragraph(entry, now)]
    return Group(*parts)


def audit_table(audits: Iterable[landmark_pb2.LandmarkAudit], now: datetime) -> Table:
    """Return one row a landmark."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold dim")
    table.add_column("LANDMARK", overflow="fold")
    table.add_column("DOMAIN", overflow="fold")
    table.add_column("COUNTS", overflow="fold")
    table.add_column("RANGED\nBY", justify="right", no_wrap=True, min_width=6)
    table.add_column("LAST", no_wrap=True, min_width=6)
    table.add_column("WITHIN\nkm", justify="right", no_wrap=True, min_width=6)
    for entry in audits:
        last = age(instant(entry.last_range_time), now) if entry.HasField("last_range_time") else "never"
        bound = f"{math.ceil(entry.position_bound_km):,}" if entry.position_bound_km else "-"
        table.add_row(
            clean(_id(entry)), clean(entry.domain), _counts(entry), f"{entry.ranged_by_domains:,}", last, bound
        )
    return table


def audit_json(entry: landmark_pb2.LandmarkAudit) -> as_json.Json:
    """Return what an audit says of one landmark."""
    return {
        "name": entry.name,
        "domain": entry.domain or None,
        "counts": entry.counts,
        "why_not": entry.why_not or None,
        "rule": as_json.set_enum_name(landmark_pb2.AuditRule.Name, entry.rule, "AUDIT_RULE_"),
        "explanation": entry.explanation or None,
        "distrust_time": as_json.time_of(entry, "distrust_time"),
        "contradictions": [
            {
                "by_landmark_id": told.by_landmark_id,
                "of_landmark_id": told.of_landmark_id,
                "rtt_ns": told.rtt_ns,
                "apart_km": as_json.finite(told.apart_km),
                "reach_km": as_json.finite(told.reach_km),
            }
            for told in entry.contradictions
        ],
        "ranged_by_domains": entry.ranged_by_domains,
        "last_range_time": as_json.time_of(entry, "last_range_time"),
        "position_bound_km": entry.position_bound_km or None,
    }


def _counts(entry: landmark_pb2.LandmarkAudit) -> Text:
    if entry.rule:
        return Text("no, distrusted", "bold red")
    if entry.counts:
        return Text("yes", "green")
    # The sentence begins with the landmark's name, which stands in the row already.
    why = clean(entry.why_not).removeprefix(f"{_id(entry)} ")
    return Text(f"no: {why}" if why else "no", "yellow")


def _paragraph(entry: landmark_pb2.LandmarkAudit, now: datetime) -> list[RenderableType]:
    head = Text.assemble((clean(_id(entry)), "bold"), ("  distrusted", "bold red"))
    if entry.HasField("distrust_time"):
        since = instant(entry.distrust_time)
        head.append(f" for {age(since, now)} (since {absolute(since)})", "dim")
    parts: list[RenderableType] = [head, Padding(Text(clean(entry.explanation), overflow="fold"), (0, 0, 0, 2))]
    if entry.contradictions:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("RANGED BY", overflow="fold")
        table.add_column("ANSWERED", overflow="fold")
        table.add_column("RTT ms", justify="right", no_wrap=True)
        table.add_column("ALLOWS km", justify="right", no_wrap=True)
        table.add_column("APART km", justify="right", no_wrap=True)
        for told in entry.contradictions[:SHOWN_CONTRADICTIONS]:
            table.add_row(
                clean(told.by_landmark_id),
                clean(told.of_landmark_id),
                f"{told.rtt_ns / 1e6:,.3f}",
                f"{told.reach_km:,.0f}",
                f"{told.apart_km:,.0f}",
            )
        parts.append(Padding(table, (0, 0, 0, 2)))
        more = len(entry.contradictions) - SHOWN_CONTRADICTIONS
        if more > 0:
            parts.append(Padding(Text(f"and {more} more (--json shows them)", "dim"), (0, 0, 0, 2)))
    return parts


def _id(entry: landmark_pb2.LandmarkAudit) -> str:
    return entry.name.removeprefix("landmarks/")
