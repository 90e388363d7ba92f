"""Ranging over a network with real delays, from the landmark's receipt to the verdict that the officer reads."""

import pytest

from tests.network_delay.scenario import JITTER_NS, LANDMARKS, LINKS, LOSS, MS, VERDICTS, Outcome, base_ns

OVERHEAD_NS = 5 * MS
"""More than wake-ups on a busy machine take from the fastest of 16 rounds."""


def test_the_landmarks_differ_by_the_delays_that_were_set() -> None:
    assert {name: base_ns(name) for name in LANDMARKS} == {
        "beside": 0,
        "near": 10 * MS,
        "far": 15 * MS,
        "rough": 20 * MS,
    }


@pytest.mark.parametrize("landmark", ["beside", "near", "far"])
def test_the_least_round_trip_is_the_delay_and_little_more(outcome: Outcome, landmark: str) -> None:
    for round_trips_ns in outcome.round_trips_ns:
        assert base_ns(landmark) <= round_trips_ns[landmark] < base_ns(landmark) + OVERHEAD_NS


def test_jitter_and_loss_never_shorten_a_round_trip(outcome: Outcome) -> None:
    measured_ns = [trips["rough"] for trips in outcome.round_trips_ns if "rough" in trips]
    assert len(measured_ns) >= VERDICTS
    assert min(measured_ns) >= base_ns("rough")
    assert max(measured_ns) < base_ns("rough") + 2 * JITTER_NS + OVERHEAD_NS
    # The link lost what it should, or this shows nothing.
    for way in (("board", "rough"), ("rough", "board")):
        carried, lost = outcome.carried[way]["carried"], outcome.carried[way]["lost"]
        assert LOSS / 4 < lost / (carried + lost) < LOSS * 4


def test_landmarks_keep_their_order(outcome: Outcome) -> None:
    assert base_ns("far") - base_ns("near") == 5 * MS
    for round_trips_ns in outcome.round_trips_ns:
        assert round_trips_ns["near"] < round_trips_ns["far"]
        # The verdict tells the smallest disc first.
        assert list(round_trips_ns) == [name for name in LANDMARKS if name in round_trips_ns]


def test_a_slow_network_proves_no_place_and_accuses_nobody(outcome: Outcome) -> None:
    for device in outcome.devices:
        assert device["standing"] == "UNPROVEN"
        assert [finding["reason"] for finding in device["findings"]] == ["LOCATION_UNPROVEN"]
        fix = device["last_fix"]
        assert fix["assurance"] == "DEVICE_RANGED"
        assert fix["ranged_by"] == device["pdi"]
        assert fix["in_licensed_region"] == "UNPROVEN"
        assert fix["least_violations"] == 0
        assert [disc["landmark_id"] for disc in fix["discs"] if disc["within_licensed_region"]] == ["beside"]


def test_everything_went_over_the_network(outcome: Outcome) -> None:
    assert set(outcome.carried) == {(link.source, link.target) for link in LINKS}
    assert all(link["carried"] > 0 for link in outcome.carried.values())
    lossless = [link for way, link in outcome.carried.items() if "rough" not in way]
    assert [link["lost"] for link in lossless] == [0] * len(lossless)
