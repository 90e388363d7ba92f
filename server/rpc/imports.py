"""Deployment files: bytes to rows, row by row, and every error with its row.

A file is never held in memory: it is spooled to disk, cut into rows, checked and staged there. Columns are rows.py's
business, what stands in the store already is the store's.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from json import JSONDecodeError
from typing import IO, Any, Literal

from trigpoint.v1 import licensing_pb2

from server.rpc.rows import (
    COLUMN_OF,
    COLUMNS,
    POLYGON_COLUMN,
    REQUIRED,
    SELECTOR_COLUMNS,
    SHIPMENT_COLUMNS,
    RowProblem,
    RowRules,
    read_row,
)
from server.store.staging import Clash, Staging
from server.store.types import ImportRow
from verifier.place.regions import Region

FileFormat = Literal["csv", "json"]

MAX_LISTED_ERRORS = 1_000
MAX_WARNINGS = 8
MAX_VALUE = 200
MAX_MESSAGE = 500
MAX_ROW_CHARACTERS = 65_536
"""A row has about 200 characters. Without a bound one endless row would be held in memory whole."""

_READ_CHARACTERS = 65_536
_SHIPMENT_WORDS = {"shipment": "license or site"}


class FileError(Exception):
    """The file cannot be read on. What stands before is reported too.

    Attributes:
        row: Row number, 0 for the file as a whole.
        column: The column it concerns, or empty.
        value: As it stands in the file.
        message: What is wrong.
    """

    def __init__(self, row: int, message: str, column: str = "", value: str = "") -> None:
        super().__init__(message)
        self.row = row
        self.column = column
        self.value = value
        self.message = message


@dataclass(slots=True)
class Reading:
    """What reading a file came to. `errors` holds the first 1,000, `warnings` the first 8 of different sites."""

    row_count: int = 0
    error_count: int = 0
    errors: list[licensing_pb2.ImportRowError] = field(default_factory=list)
    warnings: list[licensing_pb2.ImportRowError] = field(default_factory=list)
    _warned: set[tuple[str, Region]] = field(default_factory=set)

    def add_error(self, row: int, column: str, value: object, message: str) -> None:
        """Count one error and list it while there is room."""
        self.error_count += 1
        if len(self.errors) < MAX_LISTED_ERRORS:
            self.errors.append(_told(row, column, value, message))

    def add_warning(self, row: int, values: Mapping[str, object], read: ImportRow, message: str) -> None:
        """List what a license says of a site, once, while there is room."""
        about = (read.license.terms.number, read.region)
        if about in self._warned or len(self.warnings) >= MAX_WARNINGS:
            return
        self._warned.add(about)
        column = "site_name" if read.site_title else "country"
        self.warnings.append(_told(row, column, values.get(column, ""), message))


def read_file(file: IO[bytes], file_format: FileFormat, rules: RowRules, staging: Staging) -> Reading:
    """Read all rows of a file and stage the good ones.

    Args:
        file: At its start.
        file_format: CSV or JSON.
        rules: What rows are checked against.
        staging: Where rows are kept and compared with each other.
    """
    reading = Reading()
    try:
        rows = _csv_rows(file) if file_format == "csv" else _json_rows(file)
        for number, values in rows:
            reading.row_count += 1
            if isinstance(values, RowProblem):
                reading.add_error(number, values.column, "", values.message)
                continue
            _read_one(reading, number, values, rules, staging)
    except FileError as error:
        reading.add_error(error.row, error.column, error.value, error.message)
    except UnicodeDecodeError as error:
        reading.add_error(0, "", "", f"not UTF-8: {error.reason} after row {reading.row_count}")
    return reading


def _read_one(reading: Reading, number: int, values: Mapping[str, object], rules: RowRules, staging: Staging) -> None:
    read = read_row(values, rules)
    if not isinstance(read, ImportRow):
        for problem in read:
            reading.add_error(number, problem.column, values.get(problem.column, ""), problem.message)
        return
    for clash in staging.add(number, read):
        column, message = _clash(number, values, read, clash)
        reading.add_error(number, column, values.get(column, ""), message)
    if prohibited := rules.destinations.prohibited(read.region):
        message = f"the site of license {read.license.terms.number} {prohibited}"
        reading.add_warning(number, values, read, message)


def _clash(number: int, values: Mapping[str, object], read: ImportRow, clash: Clash) -> tuple[str, str]:
    """Return the column that contradicts an earlier row, and what to tell."""
    rows = f"rows {clash.other_line} and {number}"
    if clash.condition == "selector":
        column = next(name for name in SELECTOR_COLUMNS if values.get(name) is not None)
        return column, f"{rows} name the same {'board' if column == 'board' else 'device'}"
    license_number = read.license.terms.number
    if clash.condition in {"title", "region"}:
        column = "site_name" if clash.condition == "title" else _region_column(values)
        return column, f"{rows} of license {license_number} tell site {read.site_title or read.region} in two ways"
    column = COLUMN_OF[clash.condition]
    if column in SHIPMENT_COLUMNS and read.shipment is not None:
        return column, f"{rows} of shipment {read.shipment.shipment_id} differ in {_SHIPMENT_WORDS.get(column, column)}"
    return column, f"{rows} of license {license_number} differ in {column}"


def _region_column(values: Mapping[str, object]) -> str:
    return next((name for name in (POLYGON_COLUMN, "country") if values.get(name) is not None), "site_latitude")


def _csv_rows(file: IO[bytes]) -> Iterator[tuple[int, Mapping[str, object] | RowProblem]]:
    """Yield numbered rows of RFC 4180 CSV. A row without any value is counted, and skipped."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    bounded = _BoundedLines(text)
    lines = csv.reader(bounded, strict=True)
    number = 0
    try:
        header = next(lines, None)
        if header is None:
            raise FileError(0, "the file is empty; its first row must name the columns")
        columns = _header(header)
        bounded.next_row()
        for number, fields in enumerate(lines, start=1):
            bounded.next_row()
            if not any(fields):
                continue
            if len(fields) != len(columns):
                yield number, RowProblem("", f"has {len(fields)} fields; the header has {len(columns)}")
            else:
                yield number, {name: value for name, value in zip(columns, fields, strict=True) if value.strip()}
    except csv.Error as error:
        raise FileError(number + 1, f"not RFC 4180 CSV: {error}") from error
    finally:
        text.detach()


def _header(header: list[str]) -> list[str]:
    columns = [name.strip() for name in header]
    for name in columns:
        if name not in COLUMNS:
            raise FileError(0, f"unknown column; the columns are {', '.join(COLUMNS)}", name, name)
        if columns.count(name) > 1:
            raise FileError(0, "the header names this column twice", name, name)
    if not any(name in columns for name in SELECTOR_COLUMNS):
        text = f"the header lacks this column; rows name their devices by {', '.join(SELECTOR_COLUMNS)}"
        raise FileError(0, text, SELECTOR_COLUMNS[0])
    for name in REQUIRED:
        if name not in columns:
            raise FileError(0, "the header lacks this column", name)
    return columns


class _BoundedLines:
    """Lines for the csv reader, which bounds its fields (128 KiB) but would gather a row of any number of them."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._left = MAX_ROW_CHARACTERS

    def next_row(self) -> None:
        """Begin a new row: a quoted line break does not."""
        self._left = MAX_ROW_CHARACTERS

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(self._left + 1):
            self._left -= len(line)
            if self._left < 0:
                raise FileError(0, f"a row has more than {MAX_ROW_CHARACTERS} characters")
            yield line


def _json_rows(file: IO[bytes]) -> Iterator[tuple[int, Mapping[str, object] | RowProblem]]:
    """Yield the numbered objects of one JSON array, reading on as they are asked for."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig")
    try:
        cutter = _Cutter(text)
        cutter.expect("[", 0, "the file must be a JSON array of objects")
        number = 0
        if cutter.peek() != "]":
            while True:
                number += 1
                yield number, cutter.take_object(number)
                if cutter.peek() != ",":
                    break
                cutter.expect(",", number, "")
        cutter.expect("]", number, f"expected , or ] after row {number}")
        if cutter.peek():
            raise FileError(0, "something follows the JSON array")
    finally:
        text.detach()


class _Cutter:
    """Cuts a JSON text into values, holding one of them at a time."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._buffer = ""
        self._at = 0
        self._decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)

    def peek(self) -> str:
        """Return the next character that is no blank, and stay before it; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in " \t\r\n":
                    return self._buffer[self._at]
                self._at += 1
            if not self._read_on():
                return ""

    def expect(self, character: str, row: int, message: str) -> None:
        """Step over a character."""
        if self.peek() != character:
            raise FileError(row, message)
        self._at += 1

    def take_object(self, row: int) -> Mapping[str, object] | RowProblem:
        """Take the object that begins here."""
        if self.peek() != "{":
            raise FileError(row, "a row must be a JSON object")
        while True:
            # An object ends in its own brace, so a cut one never parses as a shorter one.
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except _KeyRepeatedError as error:
                raise FileError(row, f"the key {error} stands twice") from error
            except JSONDecodeError as error:
                if len(self._buffer) - self._at > MAX_ROW_CHARACTERS:
                    raise FileError(row, f"no JSON object within {MAX_ROW_CHARACTERS} characters") from error
                if not self._read_on():
                    raise FileError(row, f"not JSON: {error.msg}") from error
            except (RecursionError, ValueError) as error:
                raise FileError(row, f"not a row: {error}") from error
            else:
                self._at = end
                return _flat(value)

    def _read_on(self) -> bool:
        more = self._text.read(_READ_CHARACTERS)
        self._buffer = self._buffer[self._at :] + more
        self._at = 0
        return bool(more)


class _KeyRepeatedError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise _KeyRepeatedError(next(name for name in names if names.count(name) > 1))
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _flat(values: Mapping[str, object]) -> Mapping[str, object] | RowProblem:
    for name, value in values.items():
        if isinstance(value, list | dict) and name != POLYGON_COLUMN:
            return RowProblem(name, "must be text or a number")
    return values


def _told(row: int, column: str, value: object, message: str) -> licensing_pb2.ImportRowError:
    text = value if isinstance(value, str) else json.dumps(value)
    return licensing_pb2.ImportRowError(
        row=row,
        field=_sendable(column[:MAX_VALUE]),
        value=_sendable(text[:MAX_VALUE]),
        message=_sendable(message[:MAX_MESSAGE]),
    )


def _sendable(text: str) -> str:
    """Make it valid UTF-8: JSON may escape half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()
