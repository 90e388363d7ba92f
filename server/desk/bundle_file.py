"""The file that a case is exported as: header and body (docs/protocol.md CB1, CB2, CB5).

The body goes to disk as it is made, so that a large case costs the memory of its rows and not of its file.
"""

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.store.bundle_types import BundleRow, LeftOut, Material, row_key
from server.store.journal_types import Proofs, ProvenEntry, ProvenRow, RowKey
from verifier.journal import notes
from verifier.journal.items import LONG_VALUE_BYTES, Value, commitment, row_bytes

MAX_BODY_BYTES = 256 << 20
"""As readers have it (docs/protocol.md CB1), compressed or not."""

_FORMAT = "trigpoint-case-bundle/1"
_PIECE_BYTES = 1 << 20

Plain: TypeAlias = Mapping[str, object]
"""A JSON object."""


class BundleTooLargeError(Exception):
    """The case does not fit into one bundle; the message says so."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Who exported a case, when and why; `jurisdiction`: for whom it is redacted, empty: it is whole."""

    at_us: int
    by: str
    jurisdiction: str
    reason: str


@dataclass(frozen=True, slots=True)
class Earlier:
    """A checkpoint that a challenge names: its note, and the proof that the bundle's checkpoint extends it."""

    note: str
    consistency: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """What a bundle is made of.

    Attributes:
        exported: By whom and why.
        proofs: The rows, proven to one checkpoint.
        earlier: The checkpoints that challenges name.
        rows: Which of the rows are withheld.
        materials: Files that verdicts were made with.
        results: The JWK set, JSON.
        left_out: What is not in it.
    """

    exported: Exported
    proofs: Proofs
    earlier: tuple[Earlier, ...]
    rows: Mapping[RowKey, BundleRow]
    materials: tuple[Material, ...]
    results: bytes
    left_out: tuple[LeftOut, ...]


def write_body(body: Body, file: IO[bytes]) -> None:
    """Write a body, compressed, as one member; raises `BundleTooLargeError`."""
    size = 0
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
        for text in _body(body):
            data = text.encode()
            size += len(data)
            if size > MAX_BODY_BYTES:
                raise BundleTooLargeError(f"the case is over the {MAX_BODY_BYTES >> 20} MiB that one bundle holds")
            packed.write(data)


def write_header(name: str, origin: str, key: Ed25519PrivateKey, body: IO[bytes]) -> bytes:
    """Return the header of a body (docs/protocol.md CB1), which is read from its beginning.

    Args:
        name: Resource name of the case.
        origin: Of the journal.
        key: The journal's.
        body: As `write_body` wrote it.
    """
    digest, size = sha256(), 0
    body.seek(0)
    while piece := body.read(_PIECE_BYTES):
        digest.update(piece)
        size += len(piece)
    text = f"{_FORMAT}\n{origin}\n{name}\n{size}\n{_b64(digest.digest())}\n"
    return bytes(notes.sign(text, origin, key)) + b"\n"


def _body(body: Body) -> Iterator[str]:
    """Yield the JSON of a body, piece by piece."""
    exported, proofs = body.exported, body.proofs
    told = {
        "at": exported.at_us,
        "by": exported.by,
        "jurisdiction": exported.jurisdiction,
        "reason": exported.reason,
    }
    earlier = [{"note": each.note, "consistency": _path(each.consistency)} for each in body.earlier]
    journal = {
        "checkpoint": proofs.checkpoint,
        "earlier": earlier,
        "entries": [_entry(entry) for entry in proofs.entries],
    }
    yield f'{{"exported":{_json(told)},"journal":{_json(journal)},'
    values = _Values()
    shown = (
        _item(row, body.rows[row_key(row)], values)
        for row in sorted(proofs.rows, key=lambda row: (row.entry, row.item))
    )
    yield from _joined('"items":[', (_json(item) for item in shown), "],")
    yield from _joined('"values":{', values.texts(), "},")
    files = (f'"{each.sha256.hex()}":{_json({"kind": each.kind, "data": _b64(each.data)})}' for each in body.materials)
    yield from _joined('"materials":{', files, "},")
    left_out = [*body.left_out, *values.left_out()]
    missing = [{"what": each.what, "count": each.count, "why": each.why} for each in left_out]
    yield f'"results":{_json(json.loads(body.results))},"left_out":{_json(missing)}}}'


class _Values:
    """Long values of the rows that are shown, each once."""

    def __init__(self) -> None:
        self._given: dict[bytes, bytes] = {}
        self._hidden: dict[bytes, str] = {}

    def write(self, value: Value, *, hidden: bool) -> object:
        """Return how a value stands in its row."""
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, bytes):
            return data
        if len(data) <= LONG_VALUE_BYTES:
            return value if isinstance(value, str) else {"b64": _b64(data)}
        digest = sha256(data).digest()
        if hidden:
            self._hidden[digest] = "of others, or over the size of one bundle"
        else:
            self._given[digest] = data
        return {"sha256": digest.hex(), "size": len(data)}

    def texts(self) -> Iterator[str]:
        """Yield the members of `values`."""
        for digest, data in self._given.items():
            yield f'"{digest.hex()}":"{_b64(data)}"'

    def left_out(self) -> list[LeftOut]:
        """Return how many values are not given."""
        missing = [why for digest, why in self._hidden.items() if digest not in self._given]
        return [LeftOut("values", missing.count(why), why) for why in sorted(set(missing))]


def _item(row: ProvenRow, asked: BundleRow, values: _Values) -> Plain:
    place = {"entry": row.entry, "item": row.item, "path": _path(row.path), "tag": _b64(row.tag)}
    if asked.withheld:
        # docs/protocol.md CB5: without the salt nobody can guess the row.
        committed = commitment(row.salt, row_bytes(row.table, row.columns))
        return {**place, "commitment": _b64(committed), "withheld": asked.withheld}
    columns = {name: values.write(value, hidden=name in asked.hidden) for name, value in sorted(row.columns.items())}
    return {**place, "salt": _b64(row.salt), "row": {"table": row.table, "columns": columns}}


def _entry(entry: ProvenEntry) -> Plain:
    return {"index": entry.index, "at": entry.at_us, "count": entry.count, "path": _path(entry.path)}


def _joined(begin: str, texts: Iterable[str], end: str) -> Iterator[str]:
    yield begin
    for at, text in enumerate(texts):
        yield f",{text}" if at else text
    yield end


def _path(hashes: Iterable[bytes]) -> list[str]:
    return [_b64(each) for each in hashes]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
