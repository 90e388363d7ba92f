"""docs/protocol.md RC3 and RC4 as tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from server.records.rules import RuleError, check_transition, licenses_of, needs_two_people
from server.records.summary import MAX_LINE, MAX_LINES, summary_line, summary_of
from server.records.values import (
    ByBoard,
    ByPdi,
    DeploymentRecord,
    LicenseRecord,
    MaintenanceWindow,
    Party,
    PartyRole,
    Record,
    Shipment,
    Site,
)
from verifier.license import BoardSwap, License, LicenseState, Presence
from verifier.place.geodesy import Position
from verifier.place.regions import Countries, Polygon, SiteDisc
from verifier.units import CountryCode, Pdi

DRAFT, ACTIVE, SUSPENDED, REVOKED = LicenseState
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALLOWED = {
    (None, DRAFT),
    (DRAFT, DRAFT),
    (DRAFT, ACTIVE),
    (DRAFT, REVOKED),
    (DRAFT, None),
    (ACTIVE, ACTIVE),
    (ACTIVE, SUSPENDED),
    (ACTIVE, REVOKED),
    (SUSPENDED, SUSPENDED),
    (SUSPENDED, ACTIVE),
    (SUSPENDED, REVOKED),
    (REVOKED, REVOKED),
    (None, None),
}


def held(state: LicenseState = DRAFT, number: str = "D1") -> LicenseRecord:
    terms = License(number, "Example Cloud", NOW, NOW + 9 * HOUR, Presence.SITE, HOUR, HOUR, 0, state)
    return LicenseRecord(terms)


def belongings(number: str) -> list[Record]:
    return [
        Site(number, "fra", "Frankfurt", Countries(frozenset({CountryCode("DE")}))),
        DeploymentRecord(ByPdi(Pdi(b"12345678")), number, "fra"),
        Shipment("s1", number, "fra", NOW, NOW + HOUR),
        MaintenanceWindow("w1", number, "", NOW, NOW + HOUR),
    ]


@pytest.mark.parametrize("before", [None, *LicenseState])
@pytest.mark.parametrize("after", [None, *LicenseState])
def test_states_follow_each_other_as_rc3_says(before: LicenseState | None, after: LicenseState | None) -> None:
    if (before, after) in ALLOWED:
        check_transition(before, after)
    else:
        with pytest.raises(RuleError) as refused:
            check_transition(before, after)
        assert refused.value.field == "license.state"


@pytest.mark.parametrize(
    ("before", "after", "two"),
    [
        (None, Party("acme", "Acme"), False),
        (Party("acme", "Acme"), None, False),
        (None, held(), False),
        (held(), held(), False),
        (held(), None, False),
        (held(), held(ACTIVE), True),
        (held(), held(REVOKED), True),
        (held(ACTIVE), held(ACTIVE), True),
        (held(ACTIVE), held(SUSPENDED), True),
        (held(SUSPENDED), held(ACTIVE), True),
        (held(REVOKED), held(REVOKED), True),
    ],
)
def test_who_writes_parties_and_licenses_alone(before: Record | None, after: Record | None, two: bool) -> None:  # noqa: FBT001 - a table
    assert needs_two_people(before, after, lambda _: True) is two


@pytest.mark.parametrize("index", range(4))
def test_what_belongs_to_a_license_in_force_takes_two_on_either_side(index: int) -> None:
    draft, force = belongings("D1")[index], belongings("F1")[index]
    for before, after, two in [
        (None, draft, False),
        (draft, None, False),
        (draft, draft, False),
        (None, force, True),
        (force, None, True),
        (draft, force, True),
        (force, draft, True),
    ]:
        assert needs_two_people(before, after, lambda number: number == "F1") is two


def test_a_write_concerns_the_licenses_before_and_after() -> None:
    assert list(licenses_of(belongings("A")[1], belongings("B")[1])) == ["A", "B"]
    assert list(licenses_of(held(), None)) == ["D1"]
    assert list(licenses_of(Party("acme", "Acme"), None)) == []


def test_lines_tell_what_changes() -> None:
    assert summary_line("licenses/D1", held(), held(ACTIVE)) == "licenses/D1: state DRAFT -> ACTIVE"
    site = belongings("D1")[0]
    assert isinstance(site, Site)
    near = replace(site, region=SiteDisc("fra", Position(50.111111, 8.0), 25.0))
    far = replace(site, region=SiteDisc("fra", Position(50.111112, 8.0), 25.0))
    line = summary_line("licenses/D1/sites/fra", near, far)
    assert line == (
        "licenses/D1/sites/fra: region changes: 25.0 km around 50.111111, 8.0 -> 25.0 km around 50.111112, 8.0"
    )
    window = MaintenanceWindow("w1", "D1", "", NOW, NOW + HOUR)
    later = replace(window, ends_at=NOW + 2 * HOUR, reason="more")
    assert summary_line("maintenanceWindows/w1", window, later) == (
        "maintenanceWindows/w1: ends_at 2026-07-01T13:00:00Z -> 2026-07-01T14:00:00Z, reason changes"
    )
    assert summary_line("parties/acme", None, Party("acme", "Acme", country="DE")) == (
        "parties/acme: new, title Acme, country DE"
    )
    assert summary_line("parties/acme", Party("acme", "Acme"), None) == "parties/acme: ends"


def test_every_change_of_a_field_is_told() -> None:
    license_ = replace(held(), parties=(("acme", PartyRole.LICENSEE),), quantity=3)
    assert (
        summary_line("licenses/D1", held(), license_)
        == "licenses/D1: quantity none -> 3, parties none -> acme LICENSEE"
    )
    board = DeploymentRecord(ByBoard(Pdi(b"12345678"), 4), "D1", "fra")
    more = replace(board, selector=ByBoard(Pdi(b"12345678"), 8))
    assert summary_line("x", board, more) == "x: devices 4 -> 8"
    device = DeploymentRecord(ByPdi(Pdi(b"12345678")), "D1", "fra")
    swapped = replace(device, swap=BoardSwap(frozenset({Pdi(b"87654321")}), NOW))
    assert summary_line("x", device, swapped) == "x: swap none -> to 3837363534333231 until 2026-07-01T12:00:00Z"
    hourly = replace(held(), terms=replace(held().terms, cadence=36 * HOUR, grace=timedelta(seconds=90)))
    assert "cadence 36 h" in summary_line("x", None, hourly)
    assert "grace 90 s" in summary_line("x", None, hourly)
    assert summary_line("x", device, replace(device, site_id="ber", shipment_id="s1")) == (
        "x: site licenses/D1/sites/fra -> licenses/D1/sites/ber, shipment none -> s1"
    )


def test_a_summary_has_a_hundred_lines_and_says_how_many_more() -> None:
    assert summary_of(["a"] * MAX_LINES) == ("a",) * 100
    assert summary_of(["a"] * 1200) == (*["a"] * 99, "and 1,101 more")
    assert len(summary_line("x", None, Party("x", "y" * 3_000))) == MAX_LINE


def test_a_drawing_that_moves_is_told_even_with_as_many_points() -> None:
    """Who approves must see it (docs/protocol.md RC4)."""
    rings = ((8.0, 50.0), (9.0, 50.0), (9.0, 51.0))
    near = Site("D1", "fra", "fra", Polygon("fra", (rings,)))
    far = replace(near, region=Polygon("fra", (tuple((x + 29, y) for x, y in rings),)))
    bent = replace(near, region=Polygon("fra", (((8.0, 50.0), (9.0, 50.5), (9.0, 51.0)),)))
    for after in (far, bent):
        was, _, will_be = summary_line("x", near, after).partition(" changes: ")[2].partition(" -> ")
        assert was != will_be
    assert "longitude 37.0 to 38.0" in summary_line("x", near, far)
