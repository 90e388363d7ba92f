"""Files of the Consolidated Screening List: bytes to entries, row by row, and every error with its row.

The format is that of the public `consolidated.csv` (docs/screening.md): RFC 4180, UTF-8, a header that names the
columns, several values of one field joined by `;`. The file changes now and then, so only the columns that screening
needs must be there, and those that are not known are passed over. A file is read twice, first to check it, then to
store it, and is never held in memory.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

from trigpoint.v1 import screening_pb2

from server.records.names_alike import ListedNames
from server.store.screening_types import ListEntry

MAX_LISTED_ERRORS = 1_000
MAX_VALUE = 200
MAX_ROW_CHARACTERS = 1 << 20
"""The longest rows of the public file have some ten thousand. Without a bound one row would be held in memory whole."""

MAX_ENTRIES = 250_000
"""The public list has some 25,000. Names of all entries are held in memory, at about 1 KB each."""

MAX_NAMES = 1_000_000
MAX_NAME = 1_000
"""Characters of one name; longer ones are texts in the wrong column."""

MAX_ID = 128
MAX_FIELD = 65_536

NEEDED = ("source", "type", "name", "alt_names")
IDENTIFYING = ("_id", "entity_number")
"""One of them must be there. Files before `_id` came are told apart by what is screened (`_entry_id`)."""

_ID = "_id"


@dataclass(slots=True)
class ListReading:
    """What reading a list came to.

    Attributes:
        names: The names of its entries; of use when there is no error.
        entry_count: Entries read.
        name_count: Names in them, aliases included.
        error_count: All errors.
        errors: The first 1,000.
    """

    names: list[ListedNames] = field(default_factory=list)
    entry_count: int = 0
    name_count: int = 0
    error_count: int = 0
    errors: list[screening_pb2.ListRowError] = field(default_factory=list)

    def add_error(self, error: "ListRowProblem") -> None:
        """Count one error and list it while there is room."""
        self.error_count += 1
        if len(self.errors) < MAX_LISTED_ERRORS:
            self.errors.append(
                screening_pb2.ListRowError(
                    row=error.row,
                    field=error.column[:MAX_VALUE],
                    value=error.value[:MAX_VALUE],
                    message=error.message,
                )
            )


@dataclass(frozen=True, slots=True)
class ListRowProblem:
    """One thing wrong with one row.

    Attributes:
        row: Counted from 1, the header not counted; 0: the file as a whole.
        column: Which one, or empty.
        value: As it stands in the file.
        message: What is wrong.
    """

    row: int
    column: str
    value: str
    message: str


class _UnreadableError(Exception):
    """The file cannot be read on."""

    def __init__(self, problem: ListRowProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def read_list(file: IO[bytes]) -> ListReading:
    """Check all rows of a file, from its start."""
    reading = ListReading()
    rows_of: dict[str, int] = {}
    last = 0
    try:
        for number, read in _read(file):
            last = number
            if isinstance(read, ListRowProblem):
                reading.add_error(read)
                continue
            entry, is_own_id = read
            before = rows_of.setdefault(entry.entry_id, number)
            if before != number:
                if is_own_id:
                    message = f"rows {before} and {number} have the same id"
                    reading.add_error(ListRowProblem(number, _ID, entry.entry_id, message))
                continue
            reading.entry_count += 1
            reading.name_count += 1 + len(entry.alt_names)
            reading.names.append(ListedNames(entry.entry_id, entry.kind, (entry.title, *entry.alt_names)))
            _check_size(reading)
    except _UnreadableError as error:
        reading.add_error(error.problem)
    except UnicodeDecodeError as error:
        reading.add_error(ListRowProblem(0, "", "", f"not UTF-8: {error.reason} after row {last}"))
    if not reading.entry_count and not reading.error_count:
        # It would clear every hit.
        reading.add_error(ListRowProblem(0, "", "", "the list has no entries"))
    return reading


def _check_size(reading: ListReading) -> None:
    if reading.entry_count > MAX_ENTRIES or reading.name_count > MAX_NAMES:
        message = f"at most {MAX_ENTRIES:,} entries and {MAX_NAMES:,} names"
        raise _UnreadableError(ListRowProblem(0, "", "", message))


def list_entries(file: IO[bytes]) -> Iterator[ListEntry]:
    """Yield the entries of a file that `read_list` found no error in, from its start."""
    file.seek(0)
    seen: set[str] = set()
    for _, read in _read(file):
        if not isinstance(read, ListRowProblem) and read[0].entry_id not in seen:
            seen.add(read[0].entry_id)
            yield read[0]


def _read(file: IO[bytes]) -> Iterator[tuple[int, tuple[ListEntry, bool] | ListRowProblem]]:
    """Yield numbered entries, each with whether its id is the list's own, and the problems of rows."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    bounded = _BoundedLines(text)
    lines = csv.reader(bounded, strict=True)
    number = 0
    try:
        header = next(lines, None)
        if header is None:
            raise _UnreadableError(ListRowProblem(0, "", "", "the file is empty; its first row must name the columns"))
        columns = _header(header)
        bounded.next_row()
        for number, fields in enumerate(lines, start=1):
            bounded.next_row()
            if not any(fields):
                continue
            if len(fields) != len(columns):
                message = f"has {len(fields)} fields; the header has {len(columns)}"
                yield number, ListRowProblem(number, "", "", message)
            else:
                yield number, _entry_of(number, dict(zip(columns, map(str.strip, fields), strict=True)))
    except csv.Error as error:
        raise _UnreadableError(ListRowProblem(number + 1, "", "", f"not RFC 4180 CSV: {error}")) from error
    finally:
        text.detach()


def _header(header: list[str]) -> list[str]:
    columns = [name.strip() for name in header]
    for name in (*NEEDED, *IDENTIFYING):
        if columns.count(name) > 1:
            raise _UnreadableError(ListRowProblem(0, name, name, "the header names this column twice"))
    for name in NEEDED:
        if name not in columns:
            raise _UnreadableError(ListRowProblem(0, name, "", "the header lacks this column"))
    if not any(name in columns for name in IDENTIFYING):
        raise _UnreadableError(ListRowProblem(0, _ID, "", "the header lacks this column, and entity_number too"))
    return columns


def _entry_of(number: int, row: Mapping[str, str]) -> tuple[ListEntry, bool] | ListRowProblem:
    title, aliases = row["name"], _several(row["alt_names"])
    own_id = row.get(_ID, "")
    for column, value in row.items():
        if "\0" in value:
            return ListRowProblem(number, column, value, "holds a NUL character")
        if len(value) > MAX_FIELD:
            return ListRowProblem(number, column, value, f"has more than {MAX_FIELD:,} characters")
    for column in ("name", "source"):
        if not row[column]:
            return ListRowProblem(number, column, "", "is empty")
    for name, column in ((title, "name"), *((alias, "alt_names") for alias in aliases)):
        if len(name) > MAX_NAME:
            return ListRowProblem(number, column, name, f"has a name of more than {MAX_NAME:,} characters")
    if len(own_id) > MAX_ID:
        return ListRowProblem(number, _ID, own_id, f"has more than {MAX_ID} characters")
    entry = ListEntry(
        entry_id=own_id or _entry_id(row["source"], row.get("entity_number", ""), title, aliases),
        source=row["source"],
        kind=row["type"],
        title=title,
        alt_names=aliases,
        addresses=_several(row.get("addresses", "")),
        programs=_several(row.get("programs", "")),
        remarks=row.get("remarks", ""),
        source_url=row.get("source_list_url", ""),
    )
    return entry, bool(own_id)


def _several(value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for part in map(str.strip, value.split(";")) if part))


def _entry_id(source: str, number: str, title: str, aliases: tuple[str, ...]) -> str:
    """Name an entry without an id of its own by all that it is screened by: two with one name are one."""
    told = "\0".join((source, number, title, *aliases))
    return hashlib.sha256(told.encode()).hexdigest()[:40]


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
                message = f"a row has more than {MAX_ROW_CHARACTERS:,} characters"
                raise _UnreadableError(ListRowProblem(0, "", "", message))
            yield line
