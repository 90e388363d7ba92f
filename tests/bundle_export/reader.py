"""Takes a bundle apart and recomputes all that its hashes and signatures say (docs/protocol.md CB1, CB2)."""

import base64
import gzip
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tests.bundle_export.export_world import KEY, ORIGIN
from verifier import cbor
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.items import LONG_VALUE_BYTES, commitment, entry_leaf
from verifier.journal.merkle import leaf_hash, verify_consistency, verify_inclusion
from verifier.journal.notes import Note, NoteKey

MEMBERS = ["exported", "journal", "items", "values", "materials", "results", "left_out"]
OURS = NoteKey.of(ORIGIN, KEY)


@dataclass
class Opened:
    """A bundle whose proofs hold.

    Attributes:
        case: Name of the case.
        body: The JSON.
        rows: Shown rows by table: their columns, long values filled in where they are given.
        withheld: Items that are not shown.
    """

    case: str
    body: dict[str, Any]
    rows: dict[str, list[dict[str, Any]]]
    withheld: list[dict[str, Any]]


def opened(file: bytes) -> Opened:
    """Read a bundle; fails when anything in it does not hold."""
    header, gap, packed = file.partition(b"\n\n")
    signature, gap, packed = packed.partition(b"\n\n")
    assert gap
    note = Note.parse(header + b"\n\n" + signature + b"\n")
    assert note.signed_by(OURS)
    assert len(note.signatures) == 1
    form, origin, case, size, digest, end = note.text.split("\n")
    assert (form, origin, end) == ("trigpoint-case-bundle/1", ORIGIN, "")
    assert int(size) == len(packed)
    assert base64.b64decode(digest) == sha256(packed).digest()
    assert packed[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"  # no name, no time
    body = json.loads(gzip.decompress(packed))
    assert list(body) == MEMBERS
    rows: dict[str, list[dict[str, Any]]] = {}
    withheld: list[dict[str, Any]] = []
    checkpoint = _checkpoint(body["journal"]["checkpoint"])
    for earlier in body["journal"]["earlier"]:
        old = _checkpoint(earlier["note"])
        path = _path(earlier["consistency"])
        assert verify_consistency(old.size, checkpoint.size, old.root, checkpoint.root, path)
    entries = {entry["index"]: entry for entry in body["journal"]["entries"]}
    named: set[str] = set()
    for item in body["items"]:
        if "row" in item:
            row = item["row"]
            committed = commitment(_bytes(item["salt"]), _row(row, named))
            rows.setdefault(row["table"], []).append(_filled(row, body["values"]))
        else:
            committed = _bytes(item["commitment"])
            withheld.append(item)
        _holds(item, committed, entries[item["entry"]], checkpoint)
    for key, text in body["values"].items():
        assert sha256(_bytes(text)).hexdigest() == key
        assert len(_bytes(text)) > LONG_VALUE_BYTES
    assert body["values"].keys() <= named
    counted = sum(each["count"] for each in body["left_out"] if each["what"] == "values")
    assert len(named - body["values"].keys()) == counted
    assert entries.keys() == {item["entry"] for item in body["items"]}
    for key, material in body["materials"].items():
        assert sha256(_bytes(material["data"])).hexdigest() == key
    return Opened(case, body, rows, withheld)


def _holds(item: dict[str, Any], committed: bytes, entry: dict[str, Any], checkpoint: Checkpoint) -> None:
    hashed = leaf_hash(_bytes(item["tag"]) + committed)
    root = _root(hashed, item["item"], entry["count"], _path(item["path"]))
    leaf = leaf_hash(entry_leaf(entry["at"], entry["count"], root))
    assert verify_inclusion(leaf, entry["index"], checkpoint.size, _path(entry["path"]), checkpoint.root)


def _root(hashed: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that a path leads to (RFC 9162 §2.1.3.2)."""
    number, last = index, size - 1
    for step in path:
        if number & 1 or number == last:
            hashed = sha256(b"\1" + step + hashed).digest()
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            hashed = sha256(b"\1" + hashed + step).digest()
        number, last = number >> 1, last >> 1
    assert last == 0
    return hashed


def _checkpoint(text: str) -> Checkpoint:
    note = Note.parse(text.encode())
    assert note.signed_by(OURS)
    return Checkpoint.parse(note.text)


def _row(row: dict[str, Any], named: set[str]) -> bytes:
    parts: list[object] = [row["table"]]
    for name, value in sorted(row["columns"].items()):
        parts += (name, _value(value, named))
    return cbor.encode(parts)


def _value(value: Any, named: set[str]) -> object:
    if not isinstance(value, dict):
        return value
    if value.keys() == {"b64"}:
        return _bytes(value["b64"])
    assert value.keys() == {"sha256", "size"}
    named.add(value["sha256"])
    return [value["size"], bytes.fromhex(value["sha256"])]


def _filled(row: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    def fill(value: Any) -> Any:
        if isinstance(value, dict) and "b64" in value:
            return _bytes(value["b64"])
        if isinstance(value, dict) and value["sha256"] in values:
            return _bytes(values[value["sha256"]])
        return value

    return {name: fill(value) for name, value in row["columns"].items()}


def _path(texts: list[str]) -> list[bytes]:
    return [_bytes(text) for text in texts]


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
