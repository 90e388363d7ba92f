"""Files of the Consolidated Screening List: what is read of them, and what is refused with which row."""

import io
from collections.abc import Iterable

import pytest

from server.records.names_alike import ListedNames
from server.rpc import screening_file
from server.rpc.screening_file import list_entries, read_list
from tests.screening.list_file import COLUMNS, ROWS, SOURCE, entry, file_of

Told = list[tuple[int, str, str, str]]


def told(content: bytes) -> Told:
    reading = read_list(io.BytesIO(content))
    assert reading.error_count == len(reading.errors)
    return [(error.row, error.field, error.value, error.message) for error in reading.errors]


def ids(content: bytes) -> list[str]:
    assert told(content) == []
    return [each.entry_id for each in list_entries(io.BytesIO(content))]


def without(*names: str) -> Iterable[str]:
    return [name for name in COLUMNS if name not in names]


def test_a_file_is_read_whole() -> None:
    content = file_of(ROWS)
    reading = read_list(io.BytesIO(content))
    assert (reading.entry_count, reading.name_count, reading.errors) == (3, 5, [])
    assert reading.names[0] == ListedNames("e1", "", ("Zarvelin Dynamics Co., Ltd.", "ZD Optronics", "ЗАРВЕЛИН"))
    first, second, third = list_entries(io.BytesIO(content))
    assert (first.source, first.programs, first.remarks) == (SOURCE, ("X-EO1", "X-EO2"), "for tests")
    assert second.addresses == ("1 Example Street, Nowhere", "2 Other Road")
    assert (third.title, third.kind, third.alt_names) == ("QORVATHIA", "Vessel", ())


def test_byte_order_mark_empty_rows_blanks_and_unknown_columns_are_taken() -> None:
    rows = [{**row, "brand_new": "x", "name": f"  {row['name']} "} for row in ROWS]
    content = b"\xef\xbb\xbf" + file_of([*rows, dict.fromkeys(COLUMNS, "")], [*COLUMNS, "brand_new"])
    assert ids(content) == ["e1", "e2", "e3"]
    assert next(list_entries(io.BytesIO(content))).title == "Zarvelin Dynamics Co., Ltd."


def test_only_what_screening_needs_must_be_there() -> None:
    assert ids(file_of(ROWS, ("_id", "source", "type", "name", "alt_names"))) == ["e1", "e2", "e3"]
    for name in ("source", "type", "name", "alt_names"):
        assert told(file_of(ROWS, without(name))) == [(0, name, "", "the header lacks this column")]
    assert told(file_of(ROWS, without("_id", "entity_number"))) == [
        (0, "_id", "", "the header lacks this column, and entity_number too")
    ]


def test_older_files_get_ids_of_what_is_screened() -> None:
    rows = [entry("", "Zarvelin", entity_number="7"), entry("", "Zarvelin", entity_number="8"), *ROWS]
    old = ids(file_of(rows, without("_id", "ids")))
    assert len(set(old)) == 5
    assert all(len(each) == 40 for each in old)
    assert ids(file_of(rows[1:], without("_id"))) == old[1:], "an id depends on its own row alone"
    repeated = [*rows, {**rows[0], "addresses": "elsewhere"}]
    reading = read_list(io.BytesIO(file_of(repeated, without("_id"))))
    assert (reading.entry_count, len(reading.names), reading.errors) == (5, 5, [])
    assert ids(file_of(repeated, without("_id"))) == old


def test_rows_that_are_wrong_are_numbered() -> None:
    rows = [
        entry("e1", "Zarvelin"),
        entry("e2", ""),
        entry("e1", "Zarvelin Two"),
        entry("e4", "Good", source=""),
        entry("e" * 129, "Long id"),
        entry("e6", "n" * 1_001),
        entry("e7", "Good", "fine", "a" * 1_001),
        entry("e8", "Good", remarks="r" * 65_537),
        entry("e9", "Nul \0"),
    ]
    found = told(file_of(rows))
    assert [(row, column) for row, column, _, _ in found] == [
        (2, "name"),
        (3, "_id"),
        (4, "source"),
        (5, "_id"),
        (6, "name"),
        (7, "alt_names"),
        (8, "remarks"),
        (9, "name"),
    ]
    assert found[1] == (3, "_id", "e1", "rows 1 and 3 have the same id")
    assert max(len(value) for _, _, value, _ in found) == 200


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        (b"", 0, "the file is empty"),
        (file_of([]), 0, "the list has no entries"),
        (file_of(ROWS) + b"e4,short\r\n", 4, "has 2 fields; the header has 29"),
        (file_of(ROWS) + b'e4,"a"b\r\n', 4, "not RFC 4180 CSV"),
        (file_of(ROWS) + b"\xff\r\n", 0, "not UTF-8"),
        (file_of(ROWS) + b'"x\n",' * 300_000, 0, "a row has more than 1,048,576 characters"),
        (file_of(ROWS) + b"x" * 200_000, 4, "not RFC 4180 CSV: field larger"),
        (file_of(ROWS, [*COLUMNS, "name"]), 0, "the header names this column twice"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(content: bytes, row: int, message: str) -> None:
    ((found, _, _, words),) = told(content)
    assert found == row
    assert message in words


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening_file, "MAX_ENTRIES", 2)
    assert told(file_of(ROWS)) == [(0, "", "", "at most 2 entries and 1,000,000 names")]
    monkeypatch.setattr(screening_file, "MAX_ENTRIES", 10)
    monkeypatch.setattr(screening_file, "MAX_NAMES", 4)
    assert told(file_of(ROWS)) == [(0, "", "", "at most 10 entries and 4 names")]


def test_errors_are_listed_up_to_a_thousand() -> None:
    reading = read_list(io.BytesIO(file_of([entry(f"e{n}", "") for n in range(1_200)])))
    assert (reading.error_count, len(reading.errors), reading.entry_count) == (1_200, 1_000, 0)
