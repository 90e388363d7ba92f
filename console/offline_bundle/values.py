"""JSON of a bundle as typed values, and rows as the journal commits to them (docs/protocol.md J2, CB2)."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from console.offline_bundle.refusal import BundleRefusedError, NotHereError, Part
from console.offline_bundle.tables import TABLES, Type
from verifier import cbor
from verifier.journal.merkle import HASH_BYTES, MAX_PATH

_MAX_INTEGER: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class TypedObject:
    """A JSON object whose members are read with the type that they must have."""

    members: Mapping[str, Any]
    part: Part
    where: str

    def exactly(self, names: AbstractSet[str]) -> None:
        """Refuse other members than these (docs/protocol.md CB1)."""
        if self.members.keys() != names:
            has, must = (", ".join(sorted(each)) for each in (self.members, names))
            raise self.refused(f"has the members {has[:80]}, not {must}")

    def text(self, name: str) -> str:
        """Return a text."""
        text: str = self._typed(name, str, "a text")
        return text

    def integer(self, name: str) -> int:
        """Return a whole number that is not negative and fits 63 bits."""
        number: int = self._typed(name, int, "a whole number")
        if isinstance(number, bool) or not 0 <= number <= _MAX_INTEGER:
            raise self.refused(f"has a {name} that is out of range")
        return number

    def array(self, name: str) -> list[Any]:
        """Return an array."""
        array: list[Any] = self._typed(name, list, "an array")
        return array

    def object(self, name: str) -> "TypedObject":
        """Return an object."""
        return TypedObject(self._typed(name, dict, "an object"), self.part, f"{self.where}, {name}")

    def objects(self, name: str) -> Iterator["TypedObject"]:
        """Return the objects of an array."""
        for number, each in enumerate(self.array(name)):
            yield object_of(each, self.part, f"{self.where}, {name} {number}")

    def blob(self, name: str, size: int | None = None) -> bytes:
        """Return bytes from base64."""
        return b64_of(self.text(name), self.part, f"{self.where}, {name}", size=size)

    def refused(self, what: str) -> BundleRefusedError:
        """Return the refusal that says what this object has."""
        return BundleRefusedError(self.part, f"{self.where} {what}")

    def _typed(self, name: str, kind: type[Any], said: str) -> Any:
        value = self.members.get(name)
        if not isinstance(value, kind):
            raise self.refused(f"has a {name} that is not {said}")
        return value


def object_of(value: object, part: Part, where: str) -> TypedObject:
    """Return a JSON object; raises `BundleRefusedError`."""
    if not isinstance(value, dict):
        raise BundleRefusedError(part, f"{where} is no object")
    return TypedObject(value, part, where)


def b64_of(text: str, part: Part, where: str, *, size: int | None = None) -> bytes:
    """Return what base64 holds, in its one spelling; raises `BundleRefusedError`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BundleRefusedError(part, f"{where} is no base64") from error
    if base64.b64encode(data).decode() != text or (size is not None and len(data) != size):
        raise BundleRefusedError(part, f"{where} is base64 of another spelling or size")
    return data


def hashes_of(member: TypedObject, name: str) -> tuple[bytes, ...]:
    """Return the hashes of a proof."""
    texts = member.array(name)
    if len(texts) > MAX_PATH or not all(isinstance(text, str) for text in texts):
        raise member.refused(f"has a {name} that is no list of hashes")
    return tuple(b64_of(text, member.part, f"{member.where}, {name}", size=HASH_BYTES) for text in texts)


@dataclass(frozen=True, slots=True)
class Long:
    """A value of more than 256 bytes: what stands in the row, and the bytes; None: the bundle lacks them."""

    size: int
    sha256: bytes
    data: bytes | None


Column: TypeAlias = int | float | str | bytes | Long | None
"""What stands in a row."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of one table, as the journal has it. Columns that the reader reads have the types of tables.py.

    Attributes:
        table: Its name.
        columns: By name: a number, text, bytes, a long value, or None.
        committed: The bytes that its commitment covers (docs/protocol.md J2).
    """

    table: str
    columns: Mapping[str, Column]
    committed: bytes = field(repr=False)

    def text(self, name: str) -> str:
        """Return a text; raises `NotHereError` when it is a long one that the bundle lacks."""
        value = self._value(name)
        if isinstance(value, Long):
            try:
                return self._here(name, value).decode()
            except UnicodeDecodeError as error:
                raise self._of_another_type(name) from error
        if not isinstance(value, str):
            raise self._of_another_type(name)
        return value

    def blob(self, name: str) -> bytes:
        """Return bytes; raises as `text`."""
        value = self._value(name)
        if isinstance(value, Long):
            return self._here(name, value)
        if not isinstance(value, bytes):
            raise self._of_another_type(name)
        return value

    def integer(self, name: str) -> int:
        """Return a whole number."""
        value = self._value(name)
        if not isinstance(value, int):
            raise self._of_another_type(name)
        return value

    def number(self, name: str) -> float:
        """Return a number with a fraction, as a database keeps it."""
        value = self._value(name)
        if not isinstance(value, float):
            raise self._of_another_type(name)
        return value

    def optional_integer(self, name: str) -> int | None:
        """Return a whole number, or None."""
        return None if self._value(name) is None else self.integer(name)

    def optional_text(self, name: str) -> str | None:
        """Return a text, or None."""
        return None if self._value(name) is None else self.text(name)

    def optional_blob(self, name: str) -> bytes | None:
        """Return bytes, or None."""
        return None if self._value(name) is None else self.blob(name)

    def check_types(self) -> None:
        """Refuse a row of a table that is read, when a column of it is missing or of another type."""
        read = {
            Type.INTEGER: self.integer,
            Type.NUMBER: self.number,
            Type.TEXT: self.text,
            Type.BYTES: self.blob,
            Type.INTEGER_OR_NULL: self.optional_integer,
            Type.TEXT_OR_NULL: self.optional_text,
            Type.BYTES_OR_NULL: self.optional_blob,
        }
        for name, kind in TABLES.get(self.table, {}).items():
            with suppress(NotHereError):
                read[kind](name)

    def _value(self, name: str) -> Column:
        if name not in self.columns:
            raise BundleRefusedError(Part.BODY, f"a row of {self.table} has no column {name}")
        return self.columns[name]

    def _here(self, name: str, value: Long) -> bytes:
        if value.data is None:
            raise NotHereError(f"{name} of a row of {self.table} ({value.size:,} bytes) is not in the bundle")
        return value.data

    def _of_another_type(self, name: str) -> BundleRefusedError:
        return BundleRefusedError(Part.BODY, f"a row of {self.table} has a {name} of another type")


def row_of(member: TypedObject, values: Mapping[bytes, bytes]) -> Row:
    """Return a row with its long values, and the bytes that its commitment covers (docs/protocol.md J2)."""
    member.exactly({"table", "columns"})
    table, columns = member.text("table"), member.object("columns")
    read = {name: _column(columns, name, values) for name in columns.members}
    parts: list[object] = [table]
    for name in sorted(read):
        value = read[name]
        parts += (name, [value.size, value.sha256] if isinstance(value, Long) else value)
    try:
        row = Row(table, read, cbor.encode(parts))
    except ValueError as error:  # half of a surrogate pair
        raise BundleRefusedError(Part.BODY, f"a row of {table!r} holds what no row can") from error
    row.check_types()
    return row


def value_names(row: Row) -> Iterator[bytes]:
    """Return the SHA-256 of each long value of a row."""
    return (value.sha256 for value in row.columns.values() if isinstance(value, Long))


def _column(columns: TypedObject, name: str, values: Mapping[bytes, bytes]) -> Column:
    value = columns.members[name]
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_INTEGER:
        return value
    if not isinstance(value, dict):
        raise columns.refused(f"has a {name} that no column holds")
    inner = columns.object(name)
    if "b64" in value:
        inner.exactly({"b64"})
        return inner.blob("b64")
    inner.exactly({"sha256", "size"})
    size, text = inner.integer("size"), inner.text("sha256")
    try:
        digest = bytes.fromhex(text)
    except ValueError as error:
        raise inner.refused("has a sha256 that is no hex") from error
    data = values.get(digest)
    if digest.hex() != text or len(digest) != HASH_BYTES or (data is not None and len(data) != size):
        raise inner.refused("names a long value of another size, or by no SHA-256")
    return Long(size, digest, data)
