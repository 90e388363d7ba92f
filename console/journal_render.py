"""What `trigpoint journal` shows, in 80 columns."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from trigpoint.v1 import journal_pb2

from console.offline_journal import ReadCheckpoint, ShownRow
from console.plain import Json, enum_text, plain
from console.text import absolute, age, clean, instant, plural

_MOST_TEXT = 300
"""Characters of one value; --json shows all."""

_WHY_KEPT = {
    journal_pb2.KEEP_REASON_TRANSITION: "a finding opened or ended, or a standing changed",
    journal_pb2.KEEP_REASON_OPEN_CASE: "a device of it is in a case that is not resolved",
    journal_pb2.KEEP_REASON_LAST_PROOF: "the last that proved where a device is",
    journal_pb2.KEEP_REASON_NEWEST: "the newest of a device",
}


def checkpoint_page(newest: ReadCheckpoint, signed_at: datetime, now: datetime) -> Table:
    """Return what a checkpoint says and who signed it."""
    told = newest.checkpoint
    grid = _facts()
    grid.add_row("journal", clean(told.origin))
    grid.add_row("entries", f"{told.size:,}")
    grid.add_row("root", told.root.hex())
    grid.add_row("hash", told.hash.hex())
    grid.add_row("signed", f"{age(signed_at, now)} ago ({absolute(signed_at)})")
    grid.add_row("signature", _signature(newest))
    for line in _witnesses(newest):
        grid.add_row("witnesses", line)
    return grid


def checkpoint_json(read: ReadCheckpoint) -> Json:
    """Return a checkpoint with its note."""
    return {
        "origin": read.checkpoint.origin,
        "size": read.checkpoint.size,
        "root": read.checkpoint.root.hex(),
        "hash": read.checkpoint.hash.hex(),
        "signature_checked": read.signature_checked,
        "cosigned": [{"witness": name, "time": _rfc3339(time)} for name, time in read.cosigned],
        "not_cosigned": list(read.not_cosigned),
        "unchecked_signatures": list(read.unchecked),
        "note": read.note,
    }


def audit_page(
    outcome: journal_pb2.AuditOutcome,
    newest: ReadCheckpoint | None,
    kept: Sequence[ReadCheckpoint],
    broken: Sequence[str],
) -> Group:
    """Return what an audit found, and what was checked here besides."""
    looked = f"{plural(outcome.entry_count, 'entry', 'entries')}, {plural(outcome.row_count, 'row')}"
    parts: list[RenderableType] = []
    if outcome.fault_count:
        parts.append(Text(f"{plural(outcome.fault_count, 'FAULT', 'FAULTS')} in {looked}", "bold red"))
        parts.append(_fault_table(outcome.faults))
        if outcome.fault_count > len(outcome.faults):
            parts.append(Text(f"the first {len(outcome.faults):,} are shown", "dim"))
    elif broken:
        parts.append(Text(f"the server itself finds no fault in {looked}, but:", "yellow"))
    else:
        parts.append(Text(f"all is as the journal says: {looked}", "green"))
    parts.extend(Text(clean(text), "bold red", overflow="fold") for text in broken)
    if kept and not broken:
        parts.append(Text(f"it extends {plural(len(kept), 'checkpoint')} that you kept (checked here)", "green"))
    if not kept:
        parts.append(
            Text("held against no checkpoint of yours: --checkpoint FILE shows that nothing older was cut", "yellow")
        )
    if newest is not None:
        parts.append(Text(f"newest checkpoint: {newest.checkpoint.size:,} entries, {_signature(newest)}"))
        parts.extend(Text(line) for line in _witnesses(newest))
    return Group(*parts)


def audit_json(outcome: journal_pb2.AuditOutcome, newest: ReadCheckpoint | None, broken: Sequence[str]) -> Json:
    """Return the outcome, the newest checkpoint as it was checked here, and checkpoints that it does not extend."""
    told = plain(outcome)
    return told | {"checkpoint": None if newest is None else checkpoint_json(newest), "contradictions": list(broken)}


def rows_page(rows: Iterable[ShownRow]) -> Group:
    """Return each row with its values, which are folded."""
    parts: list[RenderableType] = []
    for row in rows:
        parts.append(Text.assemble((clean(row.table), "bold"), f"  entry {row.entry:,}, written {absolute(row.at)}"))
        grid = _facts()
        for name, value in row.columns.items():
            if value is not None and value != "":
                grid.add_row(clean(name), _value(value))
        parts.append(Padding(grid, (0, 0, 0, 2)))
    return Group(*parts)


def row_json(row: ShownRow) -> Json:
    """Return a row; bytes in hex, a long value by its size and hash."""
    columns = {name: _value_json(value) for name, value in row.columns.items()}
    return {"table": row.table, "entry": row.entry, "write_time": _rfc3339(row.at), "columns": columns}


def proven_text(count: int, under: ReadCheckpoint) -> Text:
    """Return the sentence that follows proven rows."""
    lines = [f"{plural(count, 'row')}, each checked here to stand in the journal of {under.checkpoint.size:,} entries"]
    lines += [f"its {_signature(under)}", *_witnesses(under)]
    return Text("\n".join(lines))


def extends_text(old: ReadCheckpoint, new: ReadCheckpoint) -> Text:
    """Return what a comparison that holds shows."""
    one, other = old.checkpoint.size, new.checkpoint.size
    if one == other:
        said = f"the same log: {plural(one, 'entry', 'entries')}, one root"
    else:
        said = f"one log: {other:,} entries extend the {one:,} (proof checked here)"
    return Text(f"{said}\n{_signature(new)}")


def reads_table(reads: Iterable[journal_pb2.PositionRead]) -> Table:
    """Return one row a read."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold dim")
    table.add_column("TIME", no_wrap=True)
    table.add_column("WHO", overflow="fold")
    table.add_column("CALL", overflow="fold")
    table.add_column("SHOWN", justify="right", no_wrap=True)
    table.add_column("OF", overflow="fold")
    for read in reads:
        when = f"{instant(read.time).astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        table.add_row(when, clean(read.by), clean(read.call), f"{read.device_count:,}", clean(read.subject) or "all")
    return table


def retention_text(response: journal_pb2.ApplyRetentionResponse, *, dry_run: bool) -> Text:
    """Return what was removed, or would be, and what is kept and why."""
    verb = "would be removed" if dry_run else "removed"
    lines = [
        f"evidence older than {absolute(instant(response.older_than_time))}:",
        f"  {plural(response.removed_count, 'attestation')}, {plural(response.removed_bytes, 'byte')} {verb}",
    ]
    for kept in sorted(response.kept, key=lambda kept: kept.why):
        why = _WHY_KEPT.get(kept.why) or enum_text(journal_pb2.KeepReason.DESCRIPTOR, kept.why)
        lines.append(f"  {kept.count:,} kept: {why}")
    return Text("\n".join(lines))


def _signature(read: ReadCheckpoint) -> str:
    return "signature holds" if read.signature_checked else "signature not checked: give --journal-key"


def _witnesses(read: ReadCheckpoint) -> list[str]:
    """Return a line for each witness; docs/protocol.md J7: a checkpoint without cosignatures is called unwitnessed."""
    lines = [f"{clean(name)} cosigned at {absolute(time)}" for name, time in read.cosigned]
    lines += [f"{clean(name)} has NOT cosigned" for name in read.not_cosigned]
    # Without the journal's key its own signature is among those that were not checked.
    others = [name for name in read.unchecked if name != read.checkpoint.origin]
    lines += [f"{clean(name)}: a signature that was not checked (--witness)" for name in others]
    return lines or ["UNWITNESSED: nobody but the server has signed it"]


def _fault_table(faults: Iterable[journal_pb2.AuditFault]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold dim")
    for name in ("TABLE", "KEY", "WHAT"):
        table.add_column(name, overflow="fold")
    for fault in faults:
        table.add_row(clean(fault.table), clean(fault.key), clean(fault.text))
    return table


def _facts() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"{value[0]:,} bytes, SHA-256 {value[1].hex()}"
    text = value.hex() if isinstance(value, bytes) else clean(str(value))
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."


def _value_json(value: object) -> object:
    if isinstance(value, list):
        return {"size": value[0], "sha256": value[1].hex()}
    return value.hex() if isinstance(value, bytes) else value


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
