"""What the journal shows of a bundle: checkpoint, cosignatures, every item, every entry (docs/protocol.md §17).

Steps of `verify_journal`; each raises `BundleRefusedError` at the first thing that does not hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from console.offline_bundle.reading import Bundle, Entry, Item
from console.offline_bundle.refusal import BundleRefusedError, Part
from console.offline_bundle.tables import KEYS
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.items import MAX_ITEMS, REMOVED, commitment, entry_leaf
from verifier.journal.merkle import inclusion_root, leaf_hash, verify_consistency, verify_inclusion
from verifier.journal.notes import Note, NoteError, NoteKey


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A witness that signed the checkpoint too, and when, Unix seconds by its own clock."""

    name: str
    time_s: int


@dataclass(frozen=True, slots=True)
class Journaled:
    """What stands in the journal, once all proofs hold.

    Attributes:
        checkpoint: That every proof leads to.
        cosigned: By which of the witnesses that the reader knows.
        not_cosigned: Names of those that did not.
        others: Names of further signatures on it, of keys that the reader did not name. They say nothing.
        earlier: By hash, the checkpoints that the journal is proven to extend; `checkpoint` is among them.
    """

    checkpoint: Checkpoint
    cosigned: tuple[Cosigned, ...]
    not_cosigned: tuple[str, ...]
    others: tuple[str, ...]
    earlier: Mapping[bytes, Checkpoint]


def verify_journal(bundle: Bundle, key: NoteKey, witnesses: Sequence[NoteKey]) -> Journaled:
    """Check every proof of a bundle.

    Args:
        bundle: As read.
        key: The journal's.
        witnesses: Those that the reader knows; when there are any, one at least must have signed.

    Raises:
        BundleRefusedError: A proof does not hold, or no witness signed.
    """
    # 1. The checkpoint, under the journal's key.
    note, checkpoint = _checkpoint(bundle.checkpoint, key, "the checkpoint")
    # 2. Its cosignatures.
    cosigned, missing = _cosigned(note, witnesses)
    if witnesses and not cosigned:
        raise BundleRefusedError(Part.WITNESSES, "no witness that you named has signed the checkpoint")
    # 3. Earlier checkpoints that challenges name: the journal extends each.
    earlier = {checkpoint.hash: checkpoint}
    for each in bundle.earlier:
        _, old = _checkpoint(each.note, key, "an earlier checkpoint")
        if not verify_consistency(old.size, checkpoint.size, old.root, checkpoint.root, each.consistency):
            raise BundleRefusedError(
                Part.CHECKPOINT, f"the journal of {checkpoint.size:,} entries does not extend its own of {old.size:,}"
            )
        earlier[old.hash] = old
    # 4. No row in two of its versions: what is said of it then would depend on which one is read.
    if len({item.tag for item in bundle.items}) != len(bundle.items):
        raise BundleRefusedError(Part.PROOFS, "a row is in the bundle twice, as two entries left it")
    _check_once(bundle)
    # 5. Every item in its entry, and every entry in the tree of the checkpoint.
    roots: dict[int, bytes] = {}
    for item in bundle.items:
        root = _entry_root(item, bundle.entries[item.entry])
        if roots.setdefault(item.entry, root) != root:
            raise BundleRefusedError(Part.PROOFS, f"items of entry {item.entry:,} lead to different roots")
    for index, root in roots.items():
        entry = bundle.entries[index]
        leaf = leaf_hash(entry_leaf(entry.at_us, entry.count, root))
        if not verify_inclusion(leaf, index, checkpoint.size, entry.path, checkpoint.root):
            raise BundleRefusedError(Part.PROOFS, f"entry {index:,} does not stand in the journal")
    signers = {key.name, *(witness.name for witness in witnesses)}
    others = sorted({signature.name for signature in note.signatures} - signers)
    return Journaled(checkpoint, cosigned, missing, tuple(others), earlier)


def _check_once(bundle: Bundle) -> None:
    """Refuse two rows of one key whatever their tags: a service that lies makes tags as it likes."""
    for table, columns in KEYS.items():
        rows = bundle.rows(table)
        if len({tuple(row.columns[name] for name in columns) for row in rows}) != len(rows):
            raise BundleRefusedError(Part.PROOFS, f"a row of {table} is in the bundle twice, under two tags")


def _checkpoint(text: str, key: NoteKey, what: str) -> tuple[Note, Checkpoint]:
    try:
        note = Note.parse(text.encode())
        checkpoint = Checkpoint.parse(note.text)
    except (NoteError, UnicodeEncodeError) as error:
        raise BundleRefusedError(Part.CHECKPOINT, f"{what} is none: {error}") from error
    if checkpoint.origin != key.name or not note.signed_by(key):
        raise BundleRefusedError(Part.CHECKPOINT, f"{what} is not signed by the key of {key.name} that you gave")
    return note, checkpoint


def _cosigned(note: Note, witnesses: Sequence[NoteKey]) -> tuple[tuple[Cosigned, ...], tuple[str, ...]]:
    times = {witness: note.cosigned_by(witness) for witness in witnesses}
    signed = {(signature.name, signature.key_id) for signature in note.signatures}
    for witness, time_s in times.items():
        # C2SP signed-note: a signature that names a key that is known, and does not hold, spoils the note.
        if time_s is None and (witness.name, witness.key_id) in signed:
            raise BundleRefusedError(Part.WITNESSES, f"a cosignature in the name of {witness.name} does not hold")
    return (
        tuple(Cosigned(witness.name, time_s) for witness, time_s in times.items() if time_s is not None),
        tuple(witness.name for witness, time_s in times.items() if time_s is None),
    )


def _entry_root(item: Item, entry: Entry) -> bytes:
    """Return the root of an entry that an item's path leads to (docs/protocol.md J3)."""
    where = f"item {item.number:,} of entry {item.entry:,}"
    if not 1 <= entry.count <= MAX_ITEMS:  # docs/protocol.md J1
        raise BundleRefusedError(Part.PROOFS, f"entry {entry.index:,} has {entry.count:,} items")
    said = item.commitment if item.row is None else commitment(item.salt, item.row.committed)
    if said == REMOVED:
        raise BundleRefusedError(Part.PROOFS, f"{where} says that its row is gone")
    root = inclusion_root(leaf_hash(item.tag + said), item.number, entry.count, item.path)
    if root is None:
        raise BundleRefusedError(Part.PROOFS, f"the path of {where} does not fit an entry of {entry.count:,} items")
    return root
