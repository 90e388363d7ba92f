"""A journal and a bundle as docs/protocol.md §17 and §18 have them, made here by the plainest means.

Nothing of `verifier.journal` or of the server is used, so that a bug cannot stand on both sides.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.store.schema import METADATA

Value = int | float | str | bytes | None
LONG = 256


def digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 §2.1, over leaf hashes, by its definition."""
    if not leaves:
        return digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    return digest(b"\1", tree_hash(leaves[:middle]), tree_hash(leaves[middle:]))


def audit_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return []
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    if index < middle:
        return [*audit_path(index, leaves[:middle]), tree_hash(leaves[middle:])]
    return [*audit_path(index - middle, leaves[middle:]), tree_hash(leaves[:middle])]


def consistency(old: int, leaves: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """RFC 6962 §2.1.2."""
    if old in {0, len(leaves)}:
        return [] if whole else [tree_hash(leaves)]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= middle:
        return [*consistency(old, leaves[:middle], whole=whole), tree_hash(leaves[middle:])]
    return [*consistency(old - middle, leaves[middle:], whole=False), tree_hash(leaves[:middle])]


@dataclass(frozen=True)
class Signer:
    """An Ed25519 key with its name: of a journal, or of a witness."""

    name: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    cosigns: bool = False

    @property
    def typed(self) -> bytes:
        return bytes([4 if self.cosigns else 1]) + self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def key_id(self) -> bytes:
        return digest(self.name.encode(), b"\n", self.typed)[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{b64(self.typed)}"

    def line(self, text: str, time_s: int = 0) -> str:
        """The signature line under a text."""
        if self.cosigns:
            signed = f"cosignature/v1\ntime {time_s}\n{text}".encode()
            made = time_s.to_bytes(8, "big") + self.key.sign(signed)
        else:
            made = self.key.sign(text.encode())
        return f"— {self.name} {b64(self.key_id + made)}\n"

    def note(self, text: str) -> str:
        return f"{text}\n{self.line(text)}"


@dataclass
class Kept:
    """A row in an entry."""

    table: str
    columns: Mapping[str, Value]
    salt: bytes
    tag: bytes
    commitment: bytes


def row_cbor(table: str, columns: Mapping[str, Value]) -> bytes:
    """J2, by its words."""
    parts: list[object] = [table]
    for name in sorted(columns):
        value = columns[name]
        data = value.encode() if isinstance(value, str) else value
        long = isinstance(data, bytes) and len(data) > LONG
        parts += [name, [len(data), digest(data)] if isinstance(data, bytes) and long else value]
    return cbor2.dumps(parts, canonical=True)


class Log:
    """A journal that grows, with all that it holds."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self.leaves: list[bytes] = []
        self.entries: list[tuple[int, list[Kept]]] = []

    def write(self, at_us: int, *rows: tuple[str, Mapping[str, Value]]) -> None:
        """One transaction: one entry."""
        kept = []
        for table, columns in rows:
            schema = METADATA.tables[table]
            assert columns.keys() == {column.name for column in schema.columns}, table
            row = row_cbor(table, columns)
            key = cbor2.dumps([table, *(columns[c.name] for c in schema.primary_key.columns)], canonical=True)
            salt, tag = digest(b"salt key", row)[:16], digest(b"tag key", key)[:16]
            kept.append(Kept(table, columns, salt, tag, digest(b"trigpoint-item-v1\0", salt, row)))
        self.entries.append((at_us, kept))
        root = tree_hash(self.item_leaves(len(self.entries) - 1))
        count = len(kept).to_bytes(4, "big")
        leaf = digest(b"trigpoint-entry-v1\0", at_us.to_bytes(8, "big"), count, root)
        self.leaves.append(digest(b"\0", leaf))

    def item_leaves(self, index: int) -> list[bytes]:
        return [digest(b"\0", kept.tag, kept.commitment) for kept in self.entries[index][1]]

    def checkpoint(self, size: int | None = None) -> str:
        """The text of the checkpoint of this size; the newest."""
        leaves = self.leaves[:size]
        return f"{self.signer.name}\n{len(leaves)}\n{b64(tree_hash(leaves))}\n"


def column_json(value: Value, values: dict[str, str]) -> object:
    """CB2; long values are put beside."""
    data = value.encode() if isinstance(value, str) else value
    if isinstance(data, bytes) and len(data) > LONG:
        values[digest(data).hex()] = b64(data)
        return {"sha256": digest(data).hex(), "size": len(data)}
    return {"b64": b64(value)} if isinstance(value, bytes) else value


@dataclass
class Draft:
    """A bundle before it is written: its body, to be bent, and who signs its header."""

    signer: Signer
    case: int
    body: dict[str, Any]

    def written(self, *, signer: Signer | None = None, header: str | None = None, body: bytes | None = None) -> bytes:
        """The file."""
        packed = gzip.compress(json.dumps(self.body).encode(), 1, mtime=0) if body is None else body
        lines = ("trigpoint-case-bundle/1", self.signer.name, f"cases/{self.case}", len(packed), b64(digest(packed)))
        text = "".join(f"{line}\n" for line in lines) if header is None else header
        return (signer or self.signer).note(text).encode() + b"\n" + packed

    def items(self, table: str) -> list[dict[str, Any]]:
        """Items of a table whose rows are here."""
        return [item for item in self.body["items"] if "row" in item and item["row"]["table"] == table]


def draft(
    log: Log,
    case: int,
    *,
    exported: Mapping[str, Any],
    earlier: Sequence[int],
    materials: Mapping[str, Any],
    results: Mapping[str, Any],
    witnesses: Sequence[Signer] = (),
    time_s: int = 0,
) -> Draft:
    """The bundle of everything in a log but rows that no case has (table `meta`)."""
    text = log.checkpoint()
    note = log.signer.note(text) + "".join(witness.line(text, time_s) for witness in witnesses)
    items: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    values: dict[str, str] = {}
    for index, (at_us, kept) in enumerate(log.entries):
        leaves = log.item_leaves(index)
        taken = [number for number, row in enumerate(kept) if row.table != "meta"]
        items += [
            {
                "entry": index,
                "item": number,
                "path": list(map(b64, audit_path(number, leaves))),
                "tag": b64(kept[number].tag),
                "salt": b64(kept[number].salt),
                "row": {
                    "table": kept[number].table,
                    "columns": {name: column_json(v, values) for name, v in kept[number].columns.items()},
                },
            }
            for number in taken
        ]
        if taken:
            path = list(map(b64, audit_path(index, log.leaves)))
            entries.append({"index": index, "at": at_us, "count": len(kept), "path": path})
    body = {
        "exported": dict(exported),
        "journal": {
            "checkpoint": note,
            "earlier": [
                {
                    "note": log.signer.note(log.checkpoint(size)),
                    "consistency": list(map(b64, consistency(size, log.leaves))),
                }
                for size in earlier
            ],
            "entries": entries,
        },
        "items": items,
        "values": values,
        "materials": dict(materials),
        "results": dict(results),
        "left_out": [],
    }
    return Draft(log.signer, case, body)


def withhold(made: Draft, item: dict[str, Any], why: str = "a device of another jurisdiction") -> None:
    """Withhold a row as CB5 has it."""
    columns = item["row"]["columns"]
    read = {name: _column(made, value) for name, value in columns.items()}
    row = row_cbor(item["row"]["table"], read)
    commitment = digest(b"trigpoint-item-v1\0", base64.b64decode(item["salt"]), row)
    del item["salt"], item["row"]
    item |= {"commitment": b64(commitment), "withheld": why}
    prune(made)


def prune(made: Draft) -> None:
    """Leave no long value that no row names."""
    named = {
        value["sha256"]
        for item in made.body["items"]
        for value in item.get("row", {"columns": {}})["columns"].values()
        if isinstance(value, dict) and "sha256" in value
    }
    made.body["values"] = {name: value for name, value in made.body["values"].items() if name in named}


def _column(made: Draft, value: Any) -> Value:
    if isinstance(value, dict):
        return base64.b64decode(value["b64"] if "b64" in value else made.body["values"][value["sha256"]])
    read: Value = value
    return read
