"""Audits of the journal (docs/protocol.md J9), each in a process of its own that ends with whoever asked for it.

The audit itself is server/store/journal_audit.py; here it is started, followed and ended.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from server.store.journal_types import SignedCheckpoint

MAX_LISTED = 1_000
"""Faults that are told one by one."""

_MAX_LINE_BYTES = 16 << 20
"""The outcome is one line, with every fault that is listed."""


class AuditRunningError(Exception):
    """Another audit is under way; it reads the whole store, so there is one at a time."""


class AuditFailedError(Exception):
    """The audit ended without an outcome. Its log lines say why."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an audit is: rows or entries `done` of `total` (0: not known) in a stage."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as the journal says: in which table (or `journal`), of which key, and what."""

    table: str
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an audit found.

    Attributes:
        entries: Of the log.
        rows: That were held against it.
        faults: The first of them.
        fault_count: All.
        checkpoint: The newest, a signed note; empty when none was signed.
    """

    entries: int
    rows: int
    faults: tuple[Fault, ...]
    fault_count: int
    checkpoint: str


class JournalAuditor:
    """Runs audits, one at a time.

    Args:
        path: The store's file.
        vkey: The journal's key, which its checkpoints must be signed by.
        newest: Returns the newest checkpoint that this process signed. The log must extend it too, since whoever
            rewrites the log rewrites the checkpoints that the store keeps.
    """

    def __init__(self, path: Path, vkey: str, newest: Callable[[], SignedCheckpoint | None] = lambda: None) -> None:
        self._path = path
        self._vkey = vkey
        self._newest = newest
        self._running = asyncio.Lock()

    async def run(self, known: Sequence[bytes]) -> AsyncGenerator[Progress | Outcome, None]:
        """Audit, and yield how far it is and last what it found. Close the iterator to end the audit.

        Args:
            known: Checkpoints from elsewhere, signed notes: the log must extend each.

        Raises:
            AuditRunningError: Another is under way.
            AuditFailedError: It ended without an outcome.
        """
        if self._running.locked():
            raise AuditRunningError("another audit of the journal is under way")
        async with self._running:
            outcome: Outcome | None = None
            newest = self._newest()
            if newest is not None:
                known = [*known, newest.note.encode()]
            with tempfile.TemporaryDirectory(prefix="trigpoint-audit-") as folder:
                files = await asyncio.to_thread(_write_notes, Path(folder), known)
                async with contextlib.aclosing(self._lines(files)) as lines:
                    async for line in lines:
                        if "outcome" in line:
                            outcome = _outcome(line["outcome"])
                        else:
                            yield Progress(**line["progress"])
            if outcome is None:
                raise AuditFailedError("the audit ended without an outcome; the server's log says more")
            yield outcome

    async def _lines(self, files: Sequence[Path]) -> AsyncGenerator[dict[str, Any], None]:
        options = ["--store", str(self._path), "--json", "--key", self._vkey]
        options += [part for file in files for part in ("--checkpoint", str(file))]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "server.store.journal_audit", *options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is the server's to hear
        )
        if process.stdout is None or process.stderr is None:
            raise AssertionError  # both are pipes
        errors = asyncio.create_task(process.stderr.read())
        try:
            while line := await process.stdout.readline():
                yield json.loads(line)
            said = (await errors).decode(errors="replace").strip()
            if await process.wait() not in {0, 1}:
                structlog.get_logger().error("journal audit failed", status=process.returncode, said=said[-2_000:])
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            errors.cancel()
            await process.wait()


def _write_notes(folder: Path, notes: Sequence[bytes]) -> list[Path]:
    files = [folder / f"{index}.note" for index in range(len(notes))]
    for file, note in zip(files, notes, strict=True):
        file.write_bytes(note)
    return files


def _outcome(told: dict[str, Any]) -> Outcome:
    return Outcome(
        told["entry_count"],
        told["row_count"],
        tuple(Fault(**fault) for fault in told["faults"][:MAX_LISTED]),
        told["fault_count"],
        told["checkpoint"],
    )
