"""`trigpoint journal`: the log of all that was written. What can be checked here is checked here, not believed.

Keys that signatures are checked by come from elsewhere: from whoever runs the server, and from each witness
(docs/journal.md).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.progress import BarColumn, Progress, TextColumn
from trigpoint.v1 import journal_pb2

from console import asked, journal_render
from console.desk import CALL_TIMEOUT_S, UPLOAD_TIMEOUT_S, Desk, with_desk
from console.exits import CommandError, ExitCode
from console.offline_journal import (
    EntryPath,
    Keys,
    NotShownError,
    ReadCheckpoint,
    RowPath,
    ShownRow,
    UnusableNoteError,
    check_extends,
    check_rows,
    load_checkpoint,
    read_checkpoint,
    read_keys,
)
from console.plain import plain
from console.records import AllOption, DryRunOption, FilterOption, LimitOption
from console.text import instant, plural

AUDIT_TIMEOUT_S = 6 * 3_600.0
PAGE_SIZE = 1_000

app = typer.Typer(no_args_is_help=True, help="The journal: checkpoints, audits, proofs; who looked; what is kept.")

JournalKeyOption = Annotated[
    str, typer.Option("--journal-key", metavar="VKEY", help="The journal's key, from elsewhere.", show_default=False)
]
WitnessOption = Annotated[
    list[str] | None,
    typer.Option("--witness", metavar="VKEY", help="A witness's key; may be given again.", show_default=False),
]


@app.command("checkpoint")
@with_desk
def checkpoint(
    desk: Desk,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Keep the note in this new file.")] = None,
    journal_key: JournalKeyOption = "",
    witness: WitnessOption = None,
) -> None:
    """Show the newest checkpoint, and keep it: whoever has it notices if anything before it is changed."""
    with _checked():
        newest, response = _newest(desk, read_keys(journal_key, witness or []))
    if output is not None:
        _keep(output, response.note)
    if desk.json:
        desk.print_json(journal_render.checkpoint_json(newest))
        return
    desk.out.print(journal_render.checkpoint_page(newest, instant(response.sign_time), desk.now))
    if output is not None:
        desk.err.print(f"kept in {output}")


@app.command("audit")
@with_desk
def audit(
    desk: Desk,
    *,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="A checkpoint that you kept; may be given again.", show_default=False),
    ] = None,
    journal_key: JournalKeyOption = "",
    witness: WitnessOption = None,
) -> None:
    """Have the server recompute the whole journal and hold every table against it.

    That the journal extends the checkpoints that you kept is checked here. Exit 1: something is not as it says.
    """
    with _checked():
        keys = read_keys(journal_key, witness or [])
        kept = [load_checkpoint(path, keys) for path in checkpoints or []]
        outcome = _run_audit(desk, kept)
        newest = read_checkpoint(outcome.checkpoint, "the server's newest", keys) if outcome.checkpoint else None
    broken = [text for old in kept if (text := _contradiction(desk, old, newest))]
    if desk.json:
        desk.print_json(journal_render.audit_json(outcome, newest, broken))
    else:
        desk.out.print(journal_render.audit_page(outcome, newest, kept, broken))
    if outcome.fault_count or broken:
        raise typer.Exit(ExitCode.REFUSED)


@app.command("prove")
@with_desk
def prove(
    desk: Desk,
    *,
    name: Annotated[str, typer.Argument(help="As devices/4a1f0c22d85e9b01, cases/7, licenses/D1234567.")],
    journal_key: JournalKeyOption = "",
    witness: WitnessOption = None,
) -> None:
    """Show every row of one thing as it stands, and check that each stands so in the journal."""
    with _checked():
        keys = read_keys(journal_key, witness or [])
        response = desk.journal.ProveRows(journal_pb2.ProveRowsRequest(name=name), timeout=UPLOAD_TIMEOUT_S)
        under = read_checkpoint(response.checkpoint, "the server's checkpoint", keys)
        rows = check_rows(under.checkpoint, _entries(response), _rows(response))
    if desk.json:
        desk.print_json({"checkpoint": journal_render.checkpoint_json(under), "rows": _rows_json(rows)})
        return
    desk.out.print(journal_render.rows_page(rows))
    desk.err.print(journal_render.proven_text(len(rows), under))


@app.command("compare")
@with_desk
def compare(
    desk: Desk,
    *,
    notes: Annotated[list[Path], typer.Argument(metavar="NOTE [NOTE]", help="Two checkpoints, or one and the newest.")],
    journal_key: JournalKeyOption = "",
    witness: WitnessOption = None,
) -> None:
    """Check that of two checkpoints one log holds both: the larger extends the smaller.

    When none does, two people were shown two histories. Exit 1 then.
    """
    if len(notes) > 2:
        raise CommandError(ExitCode.UNUSABLE, "two checkpoints at most")
    with _checked():
        keys = read_keys(journal_key, witness or [])
        given = [load_checkpoint(path, keys) for path in notes]
        if len(given) == 1:
            given.append(_newest(desk, keys)[0])
        old, new = sorted(given, key=lambda each: each.checkpoint.size)
        _check_pair(desk, old, new)
    if desk.json:
        desk.print_json({"old": journal_render.checkpoint_json(old), "new": journal_render.checkpoint_json(new)})
        return
    desk.out.print(journal_render.extends_text(old, new))


@app.command("reads")
@with_desk
def reads(
    desk: Desk,
    *,
    by: Annotated[str, typer.Option(help="By this person, as officer/ann.", show_default=False)] = "",
    subject: Annotated[str, typer.Option(help="Of this, as devices/4a1f0c22d85e9b01.", show_default=False)] = "",
    filter_: FilterOption = "",
    limit: LimitOption = 100,
    all_: AllOption = False,
) -> None:
    """Tell who was shown where devices are, the newest first."""
    found: list[journal_pb2.PositionRead] = []
    request = journal_pb2.ListReadsRequest(filter=asked.joined(("by", by), ("subject", subject), extra=filter_))
    while True:
        request.page_size = PAGE_SIZE if all_ else min(PAGE_SIZE, limit - len(found))
        page = desk.journal.ListReads(request, timeout=CALL_TIMEOUT_S)
        found.extend(page.reads)
        request.page_token = page.next_page_token
        if not request.page_token or (not all_ and len(found) >= limit):
            break
    if desk.json:
        desk.print_json({"reads": [plain(read) for read in found], "more": bool(request.page_token)})
        return
    if found:
        desk.out.print(journal_render.reads_table(found))
    desk.err.print(plural(len(found), "read") + ("; there are more, --all shows them" if request.page_token else ""))


@app.command("retention")
@with_desk
def retention(
    desk: Desk,
    *,
    dry_run: DryRunOption = False,
    reason: Annotated[str, typer.Option(help="Why; it stands in the journal.", show_default=False)] = "",
) -> None:
    """Remove raw evidence that is old and stands for nothing any more; hashes and verdicts stay."""
    request = journal_pb2.ApplyRetentionRequest(validate_only=dry_run, reason=reason)
    response = desk.journal.ApplyRetention(request, timeout=AUDIT_TIMEOUT_S)
    if desk.json:
        desk.print_json(plain(response) | {"validate_only": dry_run})
        return
    desk.out.print(journal_render.retention_text(response, dry_run=dry_run))


def _newest(desk: Desk, keys: Keys) -> tuple[ReadCheckpoint, journal_pb2.GetCheckpointResponse]:
    response = desk.journal.GetCheckpoint(journal_pb2.GetCheckpointRequest(), timeout=CALL_TIMEOUT_S)
    return read_checkpoint(response.note, "the server's newest", keys), response


def _run_audit(desk: Desk, kept: Sequence[ReadCheckpoint]) -> journal_pb2.AuditOutcome:
    request = journal_pb2.AuditJournalRequest(checkpoints=[each.note for each in kept])
    outcome: journal_pb2.AuditOutcome | None = None
    with _progress(desk) as progress:
        task = progress.add_task("asking", total=None)
        for response in desk.journal.AuditJournal(request, timeout=AUDIT_TIMEOUT_S):
            if response.HasField("outcome"):
                outcome = response.outcome
                continue
            told = response.progress
            progress.update(task, description=told.stage, completed=told.done, total=told.total or None)
    if outcome is None:
        raise CommandError(ExitCode.UNREACHABLE, f"{desk.target}: the audit ended without an outcome")
    return outcome


def _contradiction(desk: Desk, old: ReadCheckpoint, newest: ReadCheckpoint | None) -> str:
    """Return why the server's log does not extend a checkpoint that was kept; empty when it does."""
    if newest is None:
        return f"{old.source}: the server shows no checkpoint"
    try:
        _check_pair(desk, old, newest)
    except NotShownError as error:
        return str(error)
    return ""


def _check_pair(desk: Desk, old: ReadCheckpoint, new: ReadCheckpoint) -> None:
    """Check that the larger extends the smaller, by a proof from the server where one is needed."""
    one_log = old.checkpoint.origin == new.checkpoint.origin
    if one_log and old.checkpoint.size > new.checkpoint.size:
        raise NotShownError(_cut(old))
    path: Sequence[bytes] = ()
    if one_log and old.checkpoint.size < new.checkpoint.size:
        request = journal_pb2.GetConsistencyProofRequest(old_size=old.checkpoint.size, new_size=new.checkpoint.size)
        try:
            proof = desk.journal.GetConsistencyProof(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise NotShownError(_cut(new)) from error
            raise
        for known, root in ((old, proof.old_root), (new, proof.new_root)):
            if known.checkpoint.root != root:
                raise NotShownError(
                    f"SPLIT VIEW: at {known.checkpoint.size:,} entries this server's log has another root than "
                    f"{known.source}."
                )
        path = proof.path
    check_extends(old, new, path)


def _cut(known: ReadCheckpoint) -> str:
    return (
        f"{known.source} has {known.checkpoint.size:,} entries, and the log that this server shows has fewer: it was "
        "cut, or replaced by an older copy."
    )


def _keep(output: Path, note: str) -> None:
    try:
        with output.open("x", encoding="utf-8", newline="") as file:
            file.write(note)
    except FileExistsError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{output} is there already") from error
    except OSError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{output}: {error.strerror}") from error


def _entries(response: journal_pb2.ProveRowsResponse) -> list[EntryPath]:
    return [
        EntryPath(entry.index, entry.write_time.ToMicroseconds(), entry.item_count, tuple(entry.path))
        for entry in response.entries
    ]


def _rows(response: journal_pb2.ProveRowsResponse) -> list[RowPath]:
    return [RowPath(row.entry, row.item, row.tag, row.salt, row.row, tuple(row.path)) for row in response.rows]


def _rows_json(rows: Sequence[ShownRow]) -> list[dict[str, object]]:
    return [journal_render.row_json(row) for row in rows]


@contextmanager
def _checked() -> Iterator[None]:
    """Turn what does not hold into one line and its exit code."""
    try:
        yield
    except UnusableNoteError as error:
        raise CommandError(ExitCode.UNUSABLE, str(error)) from error
    except NotShownError as error:
        raise CommandError(ExitCode.REFUSED, str(error)) from error


def _progress(desk: Desk) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}")
    return Progress(*columns, console=desk.err, transient=True, disable=not desk.err.is_terminal)
