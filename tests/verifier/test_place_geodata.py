"""The data that ship: readable, of the form that the core takes, and named in verdicts."""

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest

import geodata

SHARED = Path(__file__).resolve().parents[3] / "shared/data/country_groups.csv"


def test_borders_are_a_feature_collection() -> None:
    data = json.loads(geodata.read_borders())
    assert data["type"] == "FeatureCollection"
    assert len(data["features"]) > 250
    shapes = [f["geometry"] for f in data["features"] if f["geometry"] is not None]
    assert {g["type"] for g in shapes} == {"MultiPolygon"}
    points = [p for g in shapes for polygon in g["coordinates"] for ring in polygon for p in ring]
    assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in points)


def test_country_groups_have_their_columns_and_no_row_twice() -> None:
    rows = list(csv.DictReader(io.StringIO(geodata.read_country_groups().decode())))
    assert set(rows[0]) == {"group", "iso2", "as_of", "source", "sureness"}
    assert {r["group"] for r in rows} == {"A:5", "A:6", "D:1", "D:4", "D:5", "E:1", "E:2"}
    pairs = [(r["group"], r["iso2"]) for r in rows]
    assert len(set(pairs)) == len(pairs)
    assert all(len(r["iso2"]) == 2 and r["iso2"].isupper() for r in rows)
    assert {r["sureness"] for r in rows} <= {"high", "medium", "low"}


def test_the_version_of_the_groups_is_the_newest_date_in_them() -> None:
    rows = csv.DictReader(io.StringIO(geodata.read_country_groups().decode()))
    newest = max(r["as_of"] for r in rows if r["as_of"] != "unknown")
    assert f"country-groups-{newest}" == geodata.COUNTRY_GROUPS_VERSION
    assert geodata.BORDERS_VERSION.startswith("country-coder-")


@pytest.mark.skipif(not SHARED.exists(), reason="the facts that the groups were copied from are not on this machine")
def test_the_groups_are_those_that_were_collected() -> None:
    mine, theirs = ({(r["group"], r["iso2"]) for r in csv.DictReader(io.StringIO(d.decode()))} for d in _both())
    assert mine == theirs


def _both() -> tuple[bytes, bytes]:
    return geodata.read_country_groups(), SHARED.read_bytes()


def test_reading_twice_gives_the_same_bytes() -> None:
    assert hashlib.sha256(geodata.read_borders()).digest() == hashlib.sha256(geodata.read_borders()).digest()
