"""What records say in words, and what people type, read: without a server."""

from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from trigpoint.v1 import records_pb2

from console import asked, record_facts, record_render
from console.exits import CommandError
from server.escapes import escape


@given(st.text(min_size=1, max_size=40).filter(lambda number: not number.startswith("licenses/")))
def test_a_license_is_named_as_the_server_names_it(number: str) -> None:
    name = asked.license_of(number)
    assert name == f"licenses/{escape(number)}"
    assert asked.number_of(name) == number
    assert asked.license_of(name) == name
    assert asked.site_of(f"{number}/hall-1") == f"{name}/sites/hall-1"


def test_others_text_does_not_steer_the_terminal() -> None:
    held = records_pb2.Party(title="evil\x1b[31m", aliases=["a\nb"])
    assert dict(record_facts.facts(held)) == {"name": "evil\ufffd[31m", "aliases": "a\ufffdb"}


def test_differences_are_never_silent() -> None:
    before = records_pb2.Site(title="One", polygon='{"type":"Polygon","coordinates":[]}')
    after = records_pb2.Site(title="One", polygon='{"type":"Polygon","coordinates":[[]]}')
    assert list(record_facts.differences(before, after)) == ["polygon: changed"]
    moved = records_pb2.Site(title="One", circle=records_pb2.SiteCircle(latitude=1.000001, longitude=2, radius_km=3))
    near = records_pb2.Site(title="One", circle=records_pb2.SiteCircle(latitude=1.000002, longitude=2, radius_km=3))
    assert list(record_facts.differences(moved, near)) == [
        "disc: 3 km around 1.000001, 2.0 -> 3 km around 1.000002, 2.0"
    ]
    trusting = records_pb2.License(tolerated_domains=0)
    assert list(record_facts.differences(records_pb2.License(), trusting)) == ["tolerated domains (f): nothing -> 0"]


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=90), "90 s"),
        (timedelta(minutes=90), "90 min"),
        (timedelta(hours=24), "24 h"),
        (timedelta(hours=25), "25 h"),
        (timedelta(days=7), "7 d"),
        (timedelta(days=7, seconds=1), "604,801 s"),
    ],
)
def test_spans_are_told_as_they_are_typed(length: timedelta, text: str) -> None:
    assert record_facts.span(length) == text
    typed = asked.span(text.replace(" ", "").replace(",", ""), "--cadence")
    assert typed.ToTimedelta() == length


def test_the_last_day_of_a_time() -> None:
    midnight, noon = Timestamp(), Timestamp()
    midnight.FromJsonString("2027-12-01T00:00:00Z")
    noon.FromJsonString("2027-12-01T12:00:00Z")
    assert (record_facts.last_day(midnight), record_facts.last_day(noon)) == ("2027-11-30", "2027-12-01")
    assert asked.moment("2027-11-30", "--valid-until", end_of_day=True) == midnight


@pytest.mark.parametrize("text", ["2026-07-01T08:00:00", "tomorrow", "2026-02-30", "0001-01-01T00:00:00+14:00", ""])
def test_times_need_a_zone_and_a_day_that_is(text: str) -> None:
    with pytest.raises(CommandError, match="--from must be a date"):
        asked.moment(text, "--from")


def _entry(name: str, presence: int, *, provable: bool) -> records_pb2.Provability:
    asked_for = records_pb2.Provability(site=name, provable=provable, detail="So it is.")
    asked_for.presence = presence  # type: ignore[assignment]  # an enum's number
    return asked_for


def test_what_could_be_asked_instead_is_told_only_where_it_helps() -> None:
    entries = [
        _entry("licenses/D1/sites/a", 1, provable=True),
        _entry("licenses/D1/sites/a", 2, provable=False),
        *(_entry(f"licenses/D1/sites/s{n}", 1, provable=False) for n in range(25)),
    ]
    told = [str(line) for line in record_render.provability(entries)]
    assert told[0] == "D1/a, site: provable"
    assert not any("country" in line for line in told)
    assert told[-1] == "and 6 more sites: trigpoint landmark plan"
