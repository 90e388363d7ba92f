"""What the console checks of the journal by itself, so that it need not believe the server (docs/protocol.md §17).

Values in, values out: no server, no terminal. Notes are untrusted until a key that the reader has from elsewhere holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from verifier import cbor
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.items import MAX_ITEMS, commitment, entry_leaf
from verifier.journal.merkle import inclusion_root, leaf_hash, verify_consistency, verify_inclusion
from verifier.journal.notes import MAX_NOTE_BYTES, MAX_TIME_S, Note, NoteError, NoteKey

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US = MAX_TIME_S * 1_000_000


class UnusableNoteError(Exception):
    """A file or option is no note or no key; nothing was checked."""


class NotShownError(Exception):
    """Something does not hold; the message says what, for a person."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What the reader has from elsewhere.

    Attributes:
        journal: The journal's key; None: signatures of the journal are not checked.
        witnesses: Keys of witnesses.
    """

    journal: NoteKey | None = None
    witnesses: tuple[NoteKey, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadCheckpoint:
    """A checkpoint and who signed it.

    Attributes:
        source: Where it is from, for the reader.
        note: As it came.
        checkpoint: What it says.
        signature_checked: The journal's signature holds; False: no key was given to check it by.
        cosigned: Witnesses whose keys were given and that cosigned it, and when.
        not_cosigned: Witnesses whose keys were given and that did not.
        unchecked: Names of other signatures, of keys that were not given. They say nothing.
    """

    source: str
    note: str
    checkpoint: Checkpoint
    signature_checked: bool
    cosigned: tuple[tuple[str, datetime], ...]
    not_cosigned: tuple[str, ...]
    unchecked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EntryPath:
    """An entry as a proof has it: index, microseconds since 1970 UTC, items, audit path in the log."""

    index: int
    at_us: int
    count: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RowPath:
    """A row as a proof has it: entry, number of its item, tag, salt, deterministic CBOR, audit path in the entry."""

    entry: int
    item: int
    tag: bytes
    salt: bytes
    row: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row that stands in the journal.

    Attributes:
        table: Its table.
        columns: Values by column; a long one is `[size, SHA-256]`.
        entry: Index of the entry that wrote it.
        at: When.
    """

    table: str
    columns: dict[str, object]
    entry: int
    at: datetime


def read_keys(journal: str, witnesses: Sequence[str]) -> Keys:
    """Read vkeys; raises `UnusableNoteError`."""
    try:
        keys = Keys(NoteKey.parse(journal) if journal else None, tuple(map(NoteKey.parse, witnesses)))
    except NoteError as error:
        raise UnusableNoteError(str(error)) from error
    if keys.journal is not None and keys.journal.cosigns:
        raise UnusableNoteError("--journal-key is a witness's key")
    if not all(key.cosigns for key in keys.witnesses):
        raise UnusableNoteError("--witness is a key that does not cosign")
    return keys


def load_checkpoint(path: Path, keys: Keys) -> ReadCheckpoint:
    """Read a file that holds a signed note.

    Raises:
        UnusableNoteError: It cannot be read, or is no checkpoint.
        NotShownError: It is not signed by the journal's key.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_NOTE_BYTES + 1)
    except OSError as error:
        raise UnusableNoteError(f"{path}: {error.strerror}") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UnusableNoteError(f"{path}: a note is UTF-8") from error
    return read_checkpoint(text, str(path), keys)


def read_checkpoint(text: str, source: str, keys: Keys) -> ReadCheckpoint:
    """Read a signed note and check its signatures by the keys that are given.

    Raises:
        UnusableNoteError: It is no checkpoint.
        NotShownError: It is not signed by the journal's key.
    """
    try:
        note = Note.parse(text.encode())
        checkpoint = Checkpoint.parse(note.text)
    except (NoteError, UnicodeEncodeError) as error:
        raise UnusableNoteError(f"{source}: {error}") from error
    if keys.journal is not None and not (checkpoint.origin == keys.journal.name and note.signed_by(keys.journal)):
        raise NotShownError(f"{source}: not signed by the key of {keys.journal.name}")
    times = [(key.name, note.cosigned_by(key)) for key in keys.witnesses]
    known = {(key.name, key.key_id) for key in (*keys.witnesses, *([keys.journal] if keys.journal else []))}
    return ReadCheckpoint(
        source,
        text,
        checkpoint,
        keys.journal is not None,
        tuple((name, datetime.fromtimestamp(time, UTC)) for name, time in times if time is not None),
        tuple(name for name, time in times if time is None),
        tuple(s.name for s in note.signatures if (s.name, s.key_id) not in known),
    )


def check_extends(old: ReadCheckpoint, new: ReadCheckpoint, path: Sequence[bytes]) -> None:
    """Check that a log of one checkpoint is the beginning of that of another (docs/protocol.md J4).

    Args:
        old: The smaller.
        new: The larger, or one of the same size.
        path: The consistency proof; empty for equal sizes.

    Raises:
        NotShownError: It is not, or the proof does not show it.
    """
    one, other = old.checkpoint, new.checkpoint
    if one.origin != other.origin:
        raise NotShownError(f"{old.source} is of {one.origin}, {new.source} of {other.origin}: two logs")
    if one.size == other.size and one.root != other.root:
        raise NotShownError(
            f"SPLIT VIEW: {old.source} and {new.source} both have {one.size:,} entries and different roots. "
            "No log holds both."
        )
    if not verify_consistency(one.size, other.size, one.root, other.root, path):
        raise NotShownError(
            f"SPLIT VIEW: nothing shows that {new.source} ({other.size:,} entries) extends {old.source} "
            f"({one.size:,} entries)."
        )


def check_rows(checkpoint: Checkpoint, entries: Sequence[EntryPath], rows: Sequence[RowPath]) -> list[ShownRow]:
    """Check that rows stand in the journal that a checkpoint covers (docs/protocol.md J2, J3).

    Raises:
        NotShownError: One does not.
    """
    by_index = {entry.index: entry for entry in entries}
    shown: list[ShownRow] = []
    for row in rows:
        entry = by_index.get(row.entry)
        if entry is None or not 0 < entry.count <= MAX_ITEMS or not 0 <= entry.at_us <= _LAST_US:  # docs/protocol.md J1
            raise NotShownError(f"no entry {row.entry:,} that can be comes with its row")
        item = leaf_hash(row.tag + commitment(row.salt, row.row))
        root = inclusion_root(item, row.item, entry.count, row.path)
        leaf = b"" if root is None else leaf_hash(entry_leaf(entry.at_us, entry.count, root))
        if not leaf or not verify_inclusion(leaf, entry.index, checkpoint.size, entry.path, checkpoint.root):
            raise NotShownError(f"a row of entry {row.entry:,} does not stand in the journal")
        table, columns = _decoded(row.row)
        shown.append(ShownRow(table, columns, entry.index, _EPOCH + timedelta(microseconds=entry.at_us)))
    return shown


def _decoded(row: bytes) -> tuple[str, dict[str, object]]:
    try:
        decoded = cbor.decode(row)
    except cbor.NotDeterministicError as error:
        raise NotShownError("a row is no deterministic CBOR") from error
    if not isinstance(decoded, list) or len(decoded) % 2 != 1 or not all(isinstance(n, str) for n in decoded[::2][:1]):
        raise NotShownError("a row is not a table with its columns")
    table, names, values = decoded[0], decoded[1::2], decoded[2::2]
    if not all(isinstance(name, str) for name in names) or names != sorted(set(names)):
        raise NotShownError("a row's columns are not in their order")
    if not all(map(_is_value, values)):
        raise NotShownError("a row holds what no column does")
    return table, dict(zip(names, values, strict=True))


def _is_value(value: object) -> bool:
    """Return whether a value is as J2 writes it: itself, or size and hash of a long one."""
    if isinstance(value, list):
        return len(value) == 2 and type(value[0]) is int and isinstance(value[1], bytes)
    return value is None or (isinstance(value, int | float | str | bytes) and not isinstance(value, bool))
