"""Records, changes and revisions for people, in 80 columns."""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text
from trigpoint.v1 import change_pb2, place_pb2, records_pb2

from console import record_facts
from console.plain import enum_text
from console.record_facts import called, last_day, region
from console.text import absolute, age, clean, instant, plural

Row = Sequence[RenderableType]

_STATE_STYLES = {"ACTIVE": "green", "DRAFT": "yellow", "SUSPENDED": "bold red", "REVOKED": "bold red"}
MOST_SITES = 20
"""Sites whose provability is told; `landmark plan` tells of all."""

LONGEST_NAME = 34
_CHANGE_STYLES = {"OPEN": "yellow", "APPLIED": "green", "STALE": "red", "REJECTED": "red"}


@dataclass(frozen=True, slots=True)
class Indented:
    """A paragraph, set in. Unlike Rich's Padding it leaves no spaces at the ends of lines."""

    text: Text
    spaces: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield its lines."""
        for line in self.text.wrap(console, max(options.max_width - self.spaces, 1)):
            line.rstrip()
            yield Text.assemble(" " * self.spaces, line)


def indented(line: str, style: str = "", *, spaces: int = 2) -> Indented:
    """Return a paragraph of other people's text, set in."""
    return Indented(Text(clean(line), style), spaces)


def plain_table(*columns: str) -> Table:
    """Return an empty table in our looks; the first column is never cut."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    return table


def license_state(message: records_pb2.License) -> Text:
    """Return a license's state in its color."""
    name = enum_text(records_pb2.LicenseState.DESCRIPTOR, message.state) or "DRAFT"
    return Text(name, _STATE_STYLES.get(name, ""))


def table(kind: records_pb2.RecordKind.ValueType, records: Iterable[records_pb2.Record], now: datetime) -> Table:
    """Return records of one kind as a table."""
    columns, row = _TABLES[kind]
    found = plain_table(*columns)
    for entry in records:
        found.add_row(*row(entry, now))
    return found


def page(response: records_pb2.GetRecordResponse, now: datetime, *, counted: bool) -> Group:
    """Return all about one record."""
    entry = response.record
    kind = entry.WhichOneof("record") or "record"
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for label, text in record_facts.facts(getattr(entry, kind)):
        facts.add_row(label, text)
    if counted:
        facts.add_row("deployed", plural(response.deployed_count, "device"))
    facts.add_row("revision", f"{entry.etag}, {_since(entry, now)}")
    return Group(Text(f"{kind.capitalize()} {called(entry.name)}", "bold"), facts)


def provability(entries: Iterable[records_pb2.Provability]) -> list[RenderableType]:
    """Return for each site whether its license's question can be answered; where not, what could be asked instead."""
    by_site: dict[str, list[records_pb2.Provability]] = {}
    for entry in entries:
        by_site.setdefault(entry.site, []).append(entry)
    lines: list[RenderableType] = []
    for name, (first, *others) in list(by_site.items())[:MOST_SITES]:  # the first is what the license asks
        for entry in (first,) if first.provable else (first, *others):
            asked = (enum_text(place_pb2.Presence.DESCRIPTOR, entry.presence) or "").lower()
            answer = Text("provable", "green") if entry.provable else Text("not provable today", "yellow")
            lines += [Text.assemble(f"{called(name)}, {asked}: ", answer), indented(entry.detail)]
    more = len(by_site) - MOST_SITES
    return [*lines, f"and {plural(more, 'more site')}: trigpoint landmark plan"] if more > 0 else lines


def waiting(change: change_pb2.Change) -> Group:
    """Return what waits for a second person, and how it goes on."""
    number = change.name.removeprefix("changes/")
    return Group(
        *map(indented, change.summary),
        Text(f"Change {number} waits for a second person: trigpoint change approve {number}", "yellow"),
    )


def change_state(change: change_pb2.Change) -> Text:
    """Return a change's state in its color."""
    name = enum_text(change_pb2.ChangeState.DESCRIPTOR, change.state) or ""
    return Text(name, _CHANGE_STYLES.get(name, ""))


def change_table(changes: Iterable[change_pb2.Change], now: datetime) -> Table:
    """Return changes as a table."""
    found = plain_table("CHANGE", "STATE", "AGE", "BY", "WHAT")
    for change in changes:
        first = clean(change.summary[0]) if change.summary else ""
        more = f" (and {len(change.summary) - 1} more)" if len(change.summary) > 1 else ""
        number = change.name.removeprefix("changes/")
        proposed = age(instant(change.propose_time), now)
        found.add_row(number, change_state(change), proposed, clean(change.proposed_by), first + more)
    return found


def change_page(change: change_pb2.Change, now: datetime) -> Group:
    """Return all about one change."""
    when = instant(change.propose_time)
    lines: list[RenderableType] = [
        Text.assemble((f"Change {change.name.removeprefix('changes/')}  ", "bold"), change_state(change)),
        Text(
            f"proposed by {clean(change.proposed_by)} {age(when, now)} ago ({absolute(when)}): {clean(change.reason)}"
        ),
    ]
    if change.decided_by or change.decision_reason:
        told = f": {clean(change.decision_reason)}" if change.decision_reason else ""
        lines.append(Text(f"decided by {clean(change.decided_by)}, {absolute(instant(change.decide_time))}{told}"))
    return Group(*lines, *map(indented, change.summary))


def revision_page(revision: records_pb2.Revision) -> Group:
    """Return one revision: who, when, why, and each field that it changed."""
    by = clean(revision.by) + (f", approved by {clean(revision.approved_by)}" if revision.approved_by else "")
    head = Text.assemble(
        (f"{clean(revision.name)} ", "bold"),
        f"revision {revision.revision}, {absolute(instant(revision.revise_time))}, {by}",
    )
    return Group(head, indented(f"why: {clean(revision.reason)}", "dim"), *map(indented, _differences(revision)))


def _differences(revision: records_pb2.Revision) -> Iterable[str]:
    after = _held(revision.after) if revision.HasField("after") else None
    before = _held(revision.before) if revision.HasField("before") else None
    return ["ended"] if after is None else record_facts.differences(before, after)


def _held(entry: records_pb2.Record) -> Message | None:
    kind = entry.WhichOneof("record")
    return None if kind is None else getattr(entry, kind)


def _since(entry: records_pb2.Record, now: datetime) -> str:
    when = instant(entry.revise_time)
    return f"{age(when, now)} ago ({absolute(when)})"


def _day(stamp: Timestamp) -> str:
    return f"{instant(stamp):%Y-%m-%d}"


def _party_row(entry: records_pb2.Record, _now: datetime) -> Row:
    party = entry.party
    return called(entry.name), clean(party.title), clean(party.country), clean(", ".join(party.aliases))


def _license_row(entry: records_pb2.Record, now: datetime) -> Row:
    held = entry.license
    ends = instant(held.valid_until)
    until = Text(last_day(held.valid_until), "red" if ends <= now else "")
    presence = (enum_text(place_pb2.Presence.DESCRIPTOR, held.presence) or "").lower()
    return called(entry.name), license_state(held), until, presence, clean(held.licensee)


def _site_row(entry: records_pb2.Record, _now: datetime) -> Row:
    site = entry.site
    return called(entry.name), clean(site.title), region(site), clean(site.jurisdiction)


def _deployment_row(entry: records_pb2.Record, _now: datetime) -> Row:
    held = entry.deployment
    count = f"{held.adopted}/{held.devices or 1} seen" if "-" in called(entry.name) else ""
    swap = "swap" if held.HasField("swap") else ""
    # A device key's id alone is nearly as wide as a terminal.
    name = "\n".join(textwrap.wrap(called(entry.name), LONGEST_NAME, break_on_hyphens=False))
    return name, called(held.site), called(held.shipment), count or swap


def _shipment_row(entry: records_pb2.Record, now: datetime) -> Row:
    held = entry.shipment
    late = Text(last_day(held.activation_by), "red" if instant(held.activation_by) <= now else "")
    return called(entry.name), called(held.site), _day(held.shipped_at), late, clean(held.reference)


def _window_row(entry: records_pb2.Record, _now: datetime) -> Row:
    held = entry.window
    begins, ends = (f"{instant(stamp):%Y-%m-%d %H:%M}" for stamp in (held.starts_at, held.ends_at))
    return called(entry.name), called(held.scope), begins, ends, clean(held.reason)


_TABLES: Mapping[int, tuple[Sequence[str], Callable[[records_pb2.Record, datetime], Row]]] = {
    records_pb2.RECORD_KIND_PARTY: (("PARTY", "NAME", "COUNTRY", "ALIASES"), _party_row),
    records_pb2.RECORD_KIND_LICENSE: (("LICENSE", "STATE", "UNTIL", "PRESENCE", "LICENSEE"), _license_row),
    records_pb2.RECORD_KIND_SITE: (("SITE", "NAME", "REGION", "JURISDICTION"), _site_row),
    records_pb2.RECORD_KIND_DEPLOYMENT: (("DEVICE", "SITE", "SHIPMENT", "NOTE"), _deployment_row),
    records_pb2.RECORD_KIND_SHIPMENT: (("SHIPMENT", "TO", "SHIPPED", "IN SERVICE BY", "REFERENCE"), _shipment_row),
    records_pb2.RECORD_KIND_WINDOW: (("WINDOW", "WHERE", "FROM, UTC", "UNTIL", "WHY"), _window_row),
}
