"""An audit's first half: entries from their items, the tree from the entries, checkpoints from the tree (J9)."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from server.store.journal_spill import Spill
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.items import ITEM_BYTES, entry_of
from verifier.journal.merkle import Frontier, leaf_hash
from verifier.journal.notes import Note, NoteError, NoteKey

MAX_FAULTS = 1_000
"""Faults that are listed; all are counted."""

PROGRESS_EVERY = 10_000
JOURNAL = "journal"

Progress = Callable[[str, int, int], None]
"""Hears what is looked at, how many are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as the journal says.

    Attributes:
        table: The table, or `journal`.
        key: Which row.
        text: What is wrong.
    """

    table: str
    key: str
    text: str


@dataclass(slots=True)
class Faults:
    """What was found so far."""

    listed: list[Fault] = field(default_factory=list)
    count: int = 0

    def add(self, table: str, key: str, text: str) -> None:
        """Take a fault."""
        self.count += 1
        if len(self.listed) < MAX_FAULTS:
            self.listed.append(Fault(table, key, text))


@dataclass(frozen=True, slots=True)
class _Claim:
    """A checkpoint: what the root is at a size."""

    name: str
    checkpoint: Checkpoint


class LogAudit:
    """Recomputes the log.

    Args:
        database: In the read transaction of the audit.
        faults: Takes what is wrong.
        spill: Takes the items, in their order.
        given: Checkpoints from elsewhere that the journal must extend, signed notes.
        key: The journal's, whose signature each checkpoint of its origin must have; None: no signature is checked.
    """

    def __init__(
        self, database: sqlite3.Connection, faults: Faults, spill: Spill, given: Sequence[bytes], key: NoteKey | None
    ) -> None:
        self._database = database
        self._faults = faults
        self._spill = spill
        self._key = key
        self._nodes = _Nodes(database, faults)
        self._frontier = Frontier(0, lambda _level, _number: b"")
        # A tree cannot be continued behind a gap; the items can.
        self._whole = True
        self._given = sorted(self._given_claims(given), key=lambda claim: claim.checkpoint.size)

    def run(self, progress: Progress) -> int:
        """Recompute all, and return how many entries there are."""
        total: int = self._database.execute("SELECT count(*) FROM journal_entries").fetchone()[0]
        kept, given = _Claims(self._kept_claims()), _Claims(self._given)
        rows = self._database.execute("SELECT entry, at, items, leaf FROM journal_entries ORDER BY entry")
        expected = 0
        for done, (entry, at, items, leaf) in enumerate(rows):
            if not isinstance(entry, int):  # SQLite lets anything stand anywhere; such rows come last
                self._faults.add(JOURNAL, f"entry {entry!r}", "has no number")
                continue
            if entry != expected and self._whole:
                self._whole = False
                self._faults.add(
                    JOURNAL, f"entry {expected}", f"missing: {entry} follows; the tree behind it cannot be recomputed"
                )
            expected = entry + 1
            self._entry(entry, at, items, leaf)
            if self._whole:
                self._append(leaf, (kept, given))
            if done % PROGRESS_EVERY == 0:
                progress(JOURNAL, done, total)
        if self._whole:
            self._nodes.finish()
        self._check((kept, given), end=True)
        progress(JOURNAL, total, total)
        return total

    def _entry(self, entry: int, at: object, items: object, leaf: object) -> None:
        """Check that an entry's leaf is that of its time and its items (docs/protocol.md J3)."""
        try:
            same = entry_of(at, items) == leaf  # type: ignore[arg-type]  # whatever stands in the file
        except (ValueError, TypeError, AttributeError, OverflowError):
            same = False
        if not same:
            self._faults.add(JOURNAL, f"entry {entry}", "its time or its items are not those that its leaf stands for")
        if isinstance(items, bytes):
            whole = len(items) // ITEM_BYTES
            self._spill.add(items[: whole * ITEM_BYTES], entry, range(whole))

    def _append(self, leaf: object, claims: Sequence["_Claims"]) -> None:
        self._check(claims)
        for level, number, node in self._frontier.append(leaf_hash(leaf if isinstance(leaf, bytes) else b"")):
            self._nodes.check(level, number, node)

    def _check(self, claims: Sequence["_Claims"], *, end: bool = False) -> None:
        """Check the checkpoints of the size that the tree has now; at the end those of larger sizes too."""
        size = self._frontier.size
        for some in claims:
            for claim in some.up_to(None if end else size):
                if claim.checkpoint.size == size:
                    if claim.checkpoint.root != self._frontier.root():
                        self._faults.add(JOURNAL, claim.name, f"the tree of {size} entries has another root")
                elif self._whole:
                    self._faults.add(
                        JOURNAL, claim.name, f"is of {claim.checkpoint.size} entries; the journal ends at {size}"
                    )
                else:
                    self._faults.add(JOURNAL, claim.name, "cannot be recomputed: entries before it are missing")

    def _given_claims(self, given: Sequence[bytes]) -> Iterator[_Claim]:
        for number, note in enumerate(given, start=1):
            claim = self._claim(f"given checkpoint {number}", note)
            if claim is not None:
                yield claim

    def _kept_claims(self) -> Iterator[_Claim]:
        for size, digest, note in self._database.execute(
            "SELECT size, hash, note FROM journal_checkpoints ORDER BY size"
        ):
            name = f"checkpoint {size}"
            claim = self._claim(name, note.encode() if isinstance(note, str) else b"")
            if claim is None:
                continue
            if claim.checkpoint.size != size or claim.checkpoint.hash != digest:
                self._faults.add(JOURNAL, name, "is kept under another size or hash than its note's")
            else:
                yield claim

    def _claim(self, name: str, data: bytes) -> _Claim | None:
        try:
            note = Note.parse(data)
            checkpoint = Checkpoint.parse(note.text)
        except NoteError as error:
            self._faults.add(JOURNAL, name, f"is no signed checkpoint: {error}")
            return None
        if self._key is not None and checkpoint.origin == self._key.name and not note.signed_by(self._key):
            self._faults.add(JOURNAL, name, "is not signed by the journal's key")
        return _Claim(name, checkpoint)


class _Claims:
    """Checkpoints in the order of their sizes, taken as the tree comes to them."""

    def __init__(self, claims: Iterable[_Claim]) -> None:
        self._claims = iter(claims)
        self._next = next(self._claims, None)

    def up_to(self, size: int | None) -> Iterator[_Claim]:
        """Yield those up to a size that were not yielded yet; None: all."""
        while self._next is not None and (size is None or self._next.checkpoint.size <= size):
            claim, self._next = self._next, next(self._claims, None)
            yield claim


class _Nodes:
    """The nodes that are kept, level by level beside those that are recomputed."""

    def __init__(self, database: sqlite3.Connection, faults: Faults) -> None:
        self._faults = faults
        levels = [level for (level,) in database.execute("SELECT DISTINCT level FROM journal_nodes ORDER BY level")]
        query = "SELECT number, hash FROM journal_nodes WHERE level = ? ORDER BY number"
        self._levels = {level: database.execute(query, (level,)) for level in levels}
        self._next = {level: rows.fetchone() for level, rows in self._levels.items()}

    def check(self, level: int, number: int, node: bytes) -> None:
        """Hold a recomputed node against the one that is kept."""
        row = self._next.get(level)
        while row is not None and row[0] < number:
            self._superfluous(level, row[0])
            row = self._advance(level)
        if row is None or row[0] != number:
            self._faults.add(JOURNAL, f"node {level}/{number}", "missing")
            return
        if row[1] != node:
            self._faults.add(JOURNAL, f"node {level}/{number}", "is not the hash of what is below it")
        self._advance(level)

    def finish(self) -> None:
        """Complain of all that no recomputed node was found for."""
        for level, row in list(self._next.items()):
            left = row
            while left is not None:
                self._superfluous(level, left[0])
                left = self._advance(level)

    def _advance(self, level: int) -> tuple[int, bytes] | None:
        row: tuple[int, bytes] | None = self._levels[level].fetchone()
        self._next[level] = row
        return row

    def _superfluous(self, level: int, number: int) -> None:
        self._faults.add(JOURNAL, f"node {level}/{number}", "stands for entries that the journal has not")
