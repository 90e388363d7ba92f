"""Reads a case bundle (docs/protocol.md §18): header, body, and every member, strictly. Nothing in it is believed yet.

The header's signature and the body's hash are checked before anything in the body is looked at. What the members prove
is checked in journal.py and its neighbors.
"""

import enum
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from console.offline_bundle.refusal import BundleRefusedError, Part
from console.offline_bundle.values import Row, TypedObject, b64_of, hashes_of, object_of, row_of, value_names
from verifier.journal.notes import Note, NoteError, NoteKey

FORMAT: Final = "trigpoint-case-bundle/1"
MAX_BODY_BYTES: Final = 256 * 1024 * 1024
"""docs/protocol.md CB1, of the body as it stands in the file and as JSON alike."""

MAX_HEADER_BYTES: Final = 4_096
"""Five short lines and one signature have under 800 bytes."""

MAX_VALUES: Final = 8_000_000
"""Objects, arrays and members of the JSON. Nearly all of a large bundle is base64, which has none."""

_HEADER_LINES: Final = 5
_VALUES: Final = "values"
"""What `left_out` calls long values that a row names and that are not in the bundle."""

_GAP: Final = b"\n\n"
_GZIP_BEGIN: Final = b"\x1f\x8b\x08\0\0\0\0\0"
"""RFC 1952 §2.3: deflate, no flags, no time."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_MEMBERS: Final = frozenset({"exported", "journal", "items", "values", "materials", "results", "left_out"})


class MaterialKind(enum.StrEnum):
    """What a material is."""

    BORDERS = "borders"
    COUNTRY_GROUPS = "country_groups"
    REFERENCE_VALUES = "reference_values"
    ROOT = "root"
    REGION = "region"


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the body.

    Attributes:
        origin: Name of the journal.
        case: Number of the case.
        size: Bytes of the body as it stands in the file.
        sha256: Of the same.
        note: The five lines with their one signature.
    """

    origin: str
    case: int
    size: int
    sha256: bytes
    note: Note


@dataclass(frozen=True, slots=True)
class Exported:
    """Who made the bundle, when, why, and for whom. The exporting service says so; nobody else does."""

    at_us: int
    by: str
    jurisdiction: str
    reason: str


@dataclass(frozen=True, slots=True)
class EarlierCheckpoint:
    """A checkpoint that a challenge names, and the proof that the newest extends it."""

    note: str
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the journal, with the inclusion proof of its leaf."""

    index: int
    at_us: int
    count: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """An item of an entry: a row with what it commits to, or a commitment alone and why its row is withheld.

    Attributes:
        entry: Index of its entry.
        number: Its number in the entry.
        path: Its audit path in the entry.
        tag: 16 bytes.
        salt: 16 bytes; empty when the row is withheld.
        row: None when it is withheld.
        commitment: As given; empty when the row is here, since it is worked out from it.
        withheld: Why; empty when the row is here.
    """

    entry: int
    number: int
    path: tuple[bytes, ...]
    tag: bytes
    salt: bytes
    row: Row | None
    commitment: bytes
    withheld: str


@dataclass(frozen=True, slots=True)
class Material:
    """A file that verdicts were made with."""

    kind: MaterialKind
    data: bytes


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What belongs to the case and is not here, by the exporter's own account."""

    what: str
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose header is signed by the journal's key and whose body is the one that it names.

    Attributes:
        header: As signed.
        exported: By whom and why.
        checkpoint: Signed note that every proof leads to.
        earlier: Those that challenges name.
        entries: By index.
        items: In the order of the file.
        materials: By SHA-256.
        results_json: The JWK set.
        left_out: What belongs to the case and is not here.
    """

    header: Header
    exported: Exported
    checkpoint: str
    earlier: tuple[EarlierCheckpoint, ...]
    entries: Mapping[int, Entry]
    items: tuple[Item, ...]
    materials: Mapping[bytes, Material]
    results_json: bytes
    left_out: tuple[LeftOut, ...]

    def rows(self, table: str) -> list[Row]:
        """Return the rows of a table that are here, in the order of the bundle."""
        return [row for _, row in self.placed(table)]

    def placed(self, table: str) -> list[tuple[int, Row]]:
        """Return the same rows, each with the index of the entry that wrote it."""
        return [(item.entry, item.row) for item in self.items if item.row is not None and item.row.table == table]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is withheld or left out, by the exporter's own account."""
        return not self.left_out and all(item.row is not None for item in self.items)


def is_bundle(path: Path) -> bool:
    """Return whether a file begins as a bundle does. One that cannot be read is none; whoever reads it says why."""
    try:
        with path.open("rb") as file:
            return file.read(len(FORMAT) + 1) == FORMAT.encode() + b"\n"
    except OSError:
        return False


def read_bundle(data: bytes, key: NoteKey) -> Bundle:
    """Return what a file holds.

    Args:
        data: The file.
        key: The journal's, which the reader has from elsewhere.

    Raises:
        BundleRefusedError: It is not a bundle of this journal, or not exactly one.
    """
    # 1. Header: five lines under the one signature of the journal's key.
    header, body = _split(data, key)
    # 2. Body: the bytes that the header names. Nothing was unpacked before.
    if len(body) != header.size or sha256(body).digest() != header.sha256:
        raise BundleRefusedError(Part.BODY, "the body is not the one that the header names: the file was changed")
    # 3. JSON, in bounds.
    members = object_of(_json(_unpacked(body)), Part.BODY, "the body")
    members.exactly(_MEMBERS)
    # 4. Every member.
    return _bundle(header, members)


def _split(data: bytes, key: NoteKey) -> tuple[Header, bytes]:
    text_end = data.find(_GAP, 0, MAX_HEADER_BYTES)
    note_end = data.find(_GAP, text_end + len(_GAP), MAX_HEADER_BYTES) if text_end >= 0 else -1
    if note_end < 0:
        raise BundleRefusedError(Part.HEADER, "the file has no header of a bundle")
    try:
        note = Note.parse(data[: note_end + 1])
    except NoteError as error:
        raise BundleRefusedError(Part.HEADER, f"the header is no signed note: {error}") from error
    lines = note.text.split("\n")
    if len(lines) != _HEADER_LINES + 1 or lines[0] != FORMAT or len(note.signatures) != 1:
        raise BundleRefusedError(Part.HEADER, "the header is not five lines and one signature")
    if lines[1] != key.name:
        raise BundleRefusedError(Part.HEADER, f"it is of the journal {lines[1]}, and the key is that of {key.name}")
    if not note.signed_by(key):
        raise BundleRefusedError(Part.HEADER, f"the header is not signed by the key of {key.name} that you gave")
    case, size = (_decimal(text) for text in (lines[2].removeprefix("cases/"), lines[3]))
    if case is None or size is None or lines[2] != f"cases/{case}" or size > MAX_BODY_BYTES:
        raise BundleRefusedError(Part.HEADER, "the header names no case, or a body of no allowed size")
    digest = b64_of(lines[4], Part.HEADER, "the body's SHA-256", size=sha256().digest_size)
    return Header(lines[1], case, size, digest, note), data[note_end + len(_GAP) :]


def _decimal(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 and str(int(text)) == text else None


def _unpacked(body: bytes) -> bytes:
    """Return the JSON of a gzip stream of exactly one member; at most one byte too many is ever unpacked."""
    if not body.startswith(_GZIP_BEGIN):  # docs/protocol.md CB1
        raise BundleRefusedError(Part.BODY, "the body is no gzip member without a name and a time")
    stream = zlib.decompressobj(_GZIP)
    try:
        text = stream.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise BundleRefusedError(Part.BODY, f"the body is no gzip ({error})") from error
    if len(text) > MAX_BODY_BYTES:
        raise BundleRefusedError(Part.BODY, f"the body has more than {MAX_BODY_BYTES // 1024 // 1024} MiB")
    if not stream.eof or stream.unused_data:
        raise BundleRefusedError(Part.BODY, "the body is not one whole gzip member and nothing else")
    return text


def _json(text: bytes) -> object:
    if sum(text.count(sign) for sign in (b",", b"[", b"{")) > MAX_VALUES:
        raise BundleRefusedError(Part.BODY, f"the body has more than {MAX_VALUES:,} values")
    try:
        return json.loads(text.decode(), object_pairs_hook=_members_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BundleRefusedError(Part.BODY, f"the body is no JSON ({error})") from error


def _members_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _bundle(header: Header, members: TypedObject) -> Bundle:
    exported = members.object("exported")
    exported.exactly({"at", "by", "jurisdiction", "reason"})
    journal = members.object("journal")
    journal.exactly({"checkpoint", "earlier", "entries"})
    values = _values(members.object("values"))
    items = tuple(_item(each, values) for each in members.objects("items"))
    if len({(item.entry, item.number) for item in items}) != len(items):
        raise BundleRefusedError(Part.BODY, "an item stands twice in the body")
    entries = {entry.index: entry for entry in map(_entry, journal.objects("entries"))}
    if len(entries) != len(journal.array("entries")) or entries.keys() != {item.entry for item in items}:
        raise BundleRefusedError(Part.BODY, "the entries are not those of the items, each once")
    left_out = tuple(_left_out(each) for each in members.objects("left_out"))
    named = {name for item in items if item.row is not None for name in value_names(item.row)}
    told = sum(each.count for each in left_out if each.what == _VALUES)
    if values.keys() - named or len(named - values.keys()) != told:
        raise BundleRefusedError(Part.BODY, "the long values are not those that the rows name, less those left out")
    return Bundle(
        header=header,
        exported=Exported(
            exported.integer("at"), exported.text("by"), exported.text("jurisdiction"), exported.text("reason")
        ),
        checkpoint=journal.text("checkpoint"),
        earlier=tuple(_earlier(each) for each in journal.objects("earlier")),
        entries=entries,
        items=items,
        materials=_materials(members.object("materials")),
        results_json=json.dumps(members.object("results").members).encode(),
        left_out=left_out,
    )


def _earlier(member: TypedObject) -> EarlierCheckpoint:
    member.exactly({"note", "consistency"})
    return EarlierCheckpoint(member.text("note"), hashes_of(member, "consistency"))


def _entry(member: TypedObject) -> Entry:
    member.exactly({"index", "at", "count", "path"})
    return Entry(member.integer("index"), member.integer("at"), member.integer("count"), hashes_of(member, "path"))


def _item(member: TypedObject, values: Mapping[bytes, bytes]) -> Item:
    entry, number, path = member.integer("entry"), member.integer("item"), hashes_of(member, "path")
    tag = member.blob("tag", 16)
    if "withheld" in member.members:
        member.exactly({"entry", "item", "path", "tag", "commitment", "withheld"})
        why = member.text("withheld")
        if not why:
            raise BundleRefusedError(Part.BODY, "an item is withheld and does not say why")
        return Item(entry, number, path, tag, b"", None, member.blob("commitment", 32), why)
    member.exactly({"entry", "item", "path", "tag", "salt", "row"})
    return Item(entry, number, path, tag, member.blob("salt", 16), row_of(member.object("row"), values), b"", "")


def _values(member: TypedObject) -> dict[bytes, bytes]:
    values = {_digest(name): member.blob(name) for name in member.members}
    for digest, value in values.items():
        if sha256(value).digest() != digest:
            raise BundleRefusedError(Part.BODY, f"the long value {digest.hex()[:16]} has another SHA-256")
    return values


def _materials(member: TypedObject) -> dict[bytes, Material]:
    materials: dict[bytes, Material] = {}
    for name in member.members:
        each = member.object(name)
        each.exactly({"kind", "data"})
        kind, data, digest = each.text("kind"), each.blob("data"), _digest(name)
        if kind not in set(MaterialKind):
            raise BundleRefusedError(Part.BODY, f"a material of the kind {kind!r}")
        if sha256(data).digest() != digest:
            raise BundleRefusedError(Part.BODY, f"the material {name[:16]} has another SHA-256")
        materials[digest] = Material(MaterialKind(kind), data)
    return materials


def _digest(name: str) -> bytes:
    try:
        digest = bytes.fromhex(name)
    except ValueError:
        digest = b""
    if digest.hex() != name or len(digest) != sha256().digest_size:
        raise BundleRefusedError(Part.BODY, f"{name[:80]!r} is no SHA-256 in hex")
    return digest


def _left_out(member: TypedObject) -> LeftOut:
    member.exactly({"what", "count", "why"})
    return LeftOut(member.text("what"), member.integer("count"), member.text("why"))
