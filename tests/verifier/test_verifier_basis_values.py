"""Values of a basis, and columns of verdicts, read back as exactly what was written, whatever they are."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from verifier import basis_values as values
from verifier.continuity import DeviceState, SignedCounters
from verifier.errors import BasisError, Reason
from verifier.evidence.spdm import Counters
from verifier.license import BoardSwap, License, LicenseState, Presence
from verifier.place.answers import Assurance, Depths, DiscUse, PlaceAnswer, Told
from verifier.place.fix import Fix
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark
from verifier.place.ranging import VoidRange
from verifier.place.region_json import region_of_plain
from verifier.place.travel import SeenPlace
from verifier.setting import Setting
from verifier.units import CountryCode, Domain, LandmarkId, LandmarkKeyId, Pdi
from verifier.verdict import Finding, Rejection, ReportRejection, Severity
from verifier.verdict_json import (
    findings_to_json,
    fix_from_json,
    fix_to_json,
    report_rejections_to_json,
    void_ranges_to_json,
)

TEXTS = some.text(some.characters(exclude_categories=["Cs"]), max_size=12)
TIMES = some.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=some.just(UTC))  # noqa: DTZ001 - made aware
DURATIONS = some.timedeltas(timedelta(microseconds=1), timedelta(days=36_600))
POSITIONS = some.builds(Position, some.floats(-90, 90), some.floats(-180, 180))
REALS = some.floats(0, 30_000)
COUNTS = some.integers(0, 1 << 62)
PDIS = some.binary(min_size=8, max_size=8).map(Pdi)
COUNTERS = some.integers(0, (1 << 64) - 1)

LICENSES = some.builds(
    License,
    number=TEXTS,
    licensee=TEXTS,
    valid_from=some.just(datetime(1, 1, 1, tzinfo=UTC)),
    valid_until=TIMES.filter(lambda at: at > datetime(1, 1, 1, tzinfo=UTC)),
    presence=some.sampled_from(Presence),
    cadence=DURATIONS,
    grace=DURATIONS,
    revision=COUNTS,
    state=some.sampled_from(LicenseState),
    tolerated_domains=some.none() | COUNTS,
    assurance=some.sampled_from(Assurance),
    surprises_per_day=COUNTS,
)
PLACES = some.builds(
    SeenPlace, TIMES, TIMES, some.lists(some.tuples(POSITIONS, REALS), min_size=1, max_size=4).map(tuple)
)
SIGNED = some.builds(SignedCounters, some.builds(Counters, COUNTERS, COUNTERS), TIMES, TIMES)
STATES = some.builds(
    DeviceState, some.none() | SIGNED, some.frozensets(PDIS, max_size=4), some.booleans(), some.none() | PLACES
)
LANDMARKS = some.builds(
    Landmark,
    landmark_id=TEXTS.map(LandmarkId),
    public_key=some.binary(min_size=32, max_size=32),
    operator=TEXTS,
    hoster=TEXTS,
    position=POSITIONS,
    uncertainty_km=some.floats(0, 999),
    virtual_machine=some.booleans(),
    country=TEXTS.map(CountryCode),
    revision=COUNTS,
    revised_at=TIMES,
    valid_from=some.none() | TIMES,
    valid_until=some.none() | TIMES,
    ranged_by=some.lists(some.tuples(TEXTS.map(Domain), TIMES), max_size=3).map(tuple),
    distrusted=TEXTS,
    signed=some.booleans(),
)
SETTINGS = some.builds(
    Setting,
    materials=some.lists(some.tuples(TEXTS, some.binary(min_size=32, max_size=32)), max_size=3).map(tuple),
    borders_version=TEXTS,
    prohibited_version=TEXTS,
    tolerated_domains=COUNTS,
    border_margin_km=REALS,
    audited_within=some.none() | DURATIONS,
    standing_for=DURATIONS,
    operator=TEXTS,
)
NUMBERS = some.floats(0, 20_000)
DISCS = some.builds(
    DiscUse,
    landmark_id=TEXTS,
    domain=TEXTS,
    rtt_ns=COUNTS,
    radius_km=NUMBERS,
    licensed_region_km=NUMBERS,
    prohibited_km=NUMBERS,
    excludes_licensed_region=some.booleans(),
    within_licensed_region=some.booleans(),
    excludes_prohibited=some.booleans(),
    within_prohibited=some.booleans(),
    may_accuse=some.booleans(),
    may_prove_site=some.booleans(),
    position=POSITIONS,
    landmark_revision=COUNTS,
    fibre_radius_km=NUMBERS,
)
DEPTHS = some.builds(Depths, COUNTS, COUNTS, COUNTS, some.booleans())
FIXES = some.builds(
    Fix,
    ranged_by=PDIS,
    assurance=some.sampled_from(Assurance),
    in_licensed_region=some.sampled_from(PlaceAnswer),
    outside_prohibited=some.sampled_from(PlaceAnswer),
    tolerated_domains=COUNTS,
    least_violations=COUNTS,
    border_margin_km=NUMBERS,
    borders_version=TEXTS,
    prohibited_version=TEXTS,
    demonstration=some.booleans(),
    licensed_depths=DEPTHS,
    outside_depths=DEPTHS,
    told=some.builds(Told.of, some.lists(DISCS, max_size=3).map(tuple), TEXTS),
    contradicting=some.lists(TEXTS, max_size=3).map(tuple),
)


def read(written: str) -> Any:
    return json.loads(written)


@given(LICENSES)
def test_licenses(held: License) -> None:
    assert values.license_of(read(values.license_text(held))) == held


@given(STATES)
def test_states(state: DeviceState) -> None:
    assert values.state_of(read(values.text_of(values.state_plain(state)))) == state


@given(LANDMARKS)
def test_landmarks(landmark: Landmark) -> None:
    assert values.landmark_of(read(values.text_of(values.landmark_plain(landmark, landmark.ranged_by)))) == landmark


@given(SETTINGS)
def test_settings(setting: Setting) -> None:
    assert values.setting_of(read(values.text_of(values.setting_plain(setting)))) == setting


@given(some.none() | some.builds(BoardSwap, some.frozensets(PDIS, max_size=4), TIMES))
def test_swaps(swap: BoardSwap | None) -> None:
    assert values.swap_of(read(values.text_of(values.swap_plain(swap)))) == swap


@given(FIXES)
def test_fixes(fix: Fix) -> None:
    assert fix_from_json(fix_to_json(fix)) == fix


@pytest.mark.parametrize(
    ("take", "wrong"),
    [
        (values.text, 1),
        (values.whole, True),
        (values.whole, 1.0),
        (values.whole, (1 << 62) + 1),
        (values.counter, -1),
        (values.counter, 1 << 64),
        (values.number, True),
        (values.number, "1"),
        (values.flag, 1),
        (lambda value: values.octets(value, 8), "00"),
    ],
)
def test_what_is_of_another_kind_is_refused(take: Any, wrong: object) -> None:
    with pytest.raises(BasisError):
        take(wrong)


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"site": 7, "latitude": 1, "longitude": 1, "radius_km": 1},
        {"site": "x", "latitude": "1", "longitude": 1, "radius_km": 1},
        {"polygon": "x", "rings": [[[0, 0], [1, 1]]]},
        {"countries": [7]},
        {"countries": []},
        {"group": None},
        {"any_of": [{"group": "A:5"}, None]},
        {"outside": {}},
    ],
)
def test_what_is_no_region_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        region_of_plain(plain)


def test_columns_of_a_verdict() -> None:
    """As people and other programs read them: names, not numbers."""
    finding = Finding(Reason.RANGE_VOID, Severity.NOTICE, "«x»")
    assert findings_to_json([finding]) == '[["RANGE_VOID","NOTICE","«x»"]]'
    void = VoidRange(Pdi(bytes(8)), LandmarkKeyId(b"\xab" * 32), Reason.TOO_FEW_ROUNDS, "7 rounds")
    assert void_ranges_to_json([void]) == f'[["{"ab" * 32}","TOO_FEW_ROUNDS","7 rounds"]]'
    refused = ReportRejection(3, Rejection(Reason.NONCE_MISMATCH, "another"))
    assert report_rejections_to_json([refused]) == '[[3,"NONCE_MISMATCH","another"]]'
