"""Landmarks that judge each other: the two rules, the bound, and every lie about a range between two (LA2 to LA7)."""

import csv
import hashlib
import itertools
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verifier.helpers_place import (
    AAD_RECEIPT,
    CHALLENGE,
    LANDMARKS,
    LIGHT_KM_PER_NS,
    RangeWorld,
    atlas,
    canonical,
    countries,
    honest_world,
    landmark,
    mask_of,
    sign1,
    signing_key,
    sphere_km,
    travel,
    true_km_for,
    widening_at,
)
from verifier.errors import RangeError, Reason
from verifier.place.audit import (
    AuditRule,
    Distrust,
    PairRange,
    audit,
    position_bound_km,
    verify_prover_range,
)
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.units import Challenge, CountryCode, LandmarkId, Nanoseconds

AAD_STATEMENT = b"trigpoint-prover-v1\0"
WONDERPROXY = Path(__file__).parents[3] / "shared" / "data" / "rtt" / "wonderproxy-2020"
HOME = Position(10.0, 20.0)


# ranges between landmarks


@dataclass
class Proof:
    """What `lm-b` returns of one session with `lm-a`, all of it honest until a test changes a part."""

    world: RangeWorld
    prover: Landmark
    statement: bytes
    answered: bytes

    def verify(self) -> PairRange:
        return verify_prover_range(
            self.world.receipt(), self.statement, self.answered, CHALLENGE, self.prover, self.world.registry
        )

    def refused(self) -> Reason:
        with pytest.raises(RangeError) as caught:
            self.verify()
        return caught.value.reason


def stated(world: RangeWorld, signer: str = "lm-b", payload: bytes | None = None, aad: bytes = AAD_STATEMENT) -> bytes:
    entry = world.log[-1]
    told = entry.session + entry.commitment + entry.transcript if payload is None else payload
    kid = LANDMARKS[signer].key_id
    return sign1(told, signing_key(signer), aad, canonical({1: -19, 4: bytes(kid)}))


def honest_proof(sent: int = 16, answered: Sequence[int] | None = None, accepted: Sequence[int] | None = None) -> Proof:
    world = honest_world(sent=sent, answered=answered, accepted=accepted)
    return Proof(world, LANDMARKS["lm-b"], stated(world), world.answered.to_bytes(8, "big"))


def test_an_honest_range_between_landmarks_holds() -> None:
    pair = honest_proof(20, [0, 2, 3, 5, 6, 8, 11, 12, 13, 19], [2, 3, 5, 6, 8, 11, 12, 19]).verify()
    assert pair == PairRange(LandmarkId("lm-a"), LandmarkId("lm-b"), Nanoseconds(1_234_567))


def test_eight_rounds_are_enough_and_seven_are_not() -> None:
    honest_proof(64, range(56, 64)).verify()
    assert honest_proof(64, range(57, 64)).refused() is Reason.TOO_FEW_ROUNDS
    assert honest_proof(16, range(16), range(7)).refused() is Reason.TOO_FEW_ROUNDS


@pytest.mark.parametrize("answered", [b"", bytes(7), bytes(9), mask_of(range(16)).to_bytes(9, "big")])
def test_a_mask_has_eight_bytes(answered: bytes) -> None:
    proof = honest_proof()
    proof.answered = answered
    assert proof.refused() is Reason.MASK_INVALID


def test_accepted_within_answered_within_sent() -> None:
    proof = honest_proof(16, range(10))
    proof.answered = mask_of(range(9)).to_bytes(8, "big")  # round 9 was accepted
    assert proof.refused() is Reason.MASK_INVALID
    proof.answered = mask_of([*range(10), 16]).to_bytes(8, "big")  # round 16 was not sent
    assert proof.refused() is Reason.MASK_INVALID


def test_a_landmark_cannot_range_itself() -> None:
    proof = honest_proof()
    proof.prover, proof.statement = LANDMARKS["lm-a"], stated(proof.world, "lm-a")
    assert proof.refused() is Reason.RECEIPT_SIGNATURE_INVALID


def change_payload(key: int, value: object) -> Callable[[Proof], None]:
    def change(proof: Proof) -> None:
        proof.world.payload[key] = value

    return change


def change_world(**parts: object) -> Callable[[Proof], None]:
    def change(proof: Proof) -> None:
        for name, value in parts.items():
            setattr(proof.world, name, value)

    return change


def state(signer: str = "lm-b", payload: bytes | None = None, aad: bytes = AAD_STATEMENT) -> Callable[[Proof], None]:
    def change(proof: Proof) -> None:
        proof.statement = stated(proof.world, signer, payload, aad)

    return change


def change_statement(function: Callable[[bytes], bytes]) -> Callable[[Proof], None]:
    def change(proof: Proof) -> None:
        proof.statement = function(proof.statement)

    return change


def replay(proof: Proof) -> None:
    proof.statement = stated(honest_world(salt="another session"))


def claim_fewer_rounds(proof: Proof) -> None:
    """The landmark signed the transcript of 16 rounds and says that it answered 15."""
    proof.world.payload[7] = mask_of(range(15)).to_bytes(8, "big")
    proof.answered = mask_of(range(15)).to_bytes(8, "big")


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (change_world(change_receipt=lambda _: b""), Reason.RECEIPT_MALFORMED),
        (change_world(change_receipt=lambda receipt: receipt + bytes(1024)), Reason.RECEIPT_MALFORMED),
        (change_world(registry=LandmarkRegistry.build([LANDMARKS["lm-b"]])), Reason.LANDMARK_UNKNOWN),
        (change_world(signer=signing_key("lm-c")), Reason.RECEIPT_SIGNATURE_INVALID),
        (change_world(aad=AAD_STATEMENT), Reason.RECEIPT_SIGNATURE_INVALID),
        (change_payload(2, hashlib.sha256(b"another challenge").digest()), Reason.SESSION_MISMATCH),
        (change_payload(1, bytes(32)), Reason.SESSION_MISMATCH),
        (change_payload(3, bytes(32)), Reason.SESSION_MISMATCH),
        (change_payload(4, bytes(32)), Reason.STATEMENT_INVALID),
        (change_payload(5, bytes(32)), Reason.STATEMENT_INVALID),
        (state("lm-c"), Reason.STATEMENT_INVALID),
        (state(aad=AAD_RECEIPT), Reason.STATEMENT_INVALID),
        (state(payload=bytes(96)), Reason.STATEMENT_INVALID),
        (state(payload=b""), Reason.STATEMENT_INVALID),
        (replay, Reason.STATEMENT_INVALID),
        (claim_fewer_rounds, Reason.STATEMENT_INVALID),
        (change_statement(lambda _: b""), Reason.STATEMENT_INVALID),
        (change_statement(lambda statement: statement + b"\0"), Reason.STATEMENT_INVALID),
        (change_statement(lambda statement: statement[:-1]), Reason.STATEMENT_INVALID),
    ],
)
def test_every_lie_about_a_range_between_landmarks_is_dropped(lie: Callable[[Proof], None], reason: Reason) -> None:
    proof = honest_proof()
    lie(proof)
    assert proof.refused() is reason


def test_a_statement_under_the_key_id_of_another_is_refused() -> None:
    """The signature is the prover's, and `kid` is not (R9)."""
    proof = honest_proof()
    entry = proof.world.log[0]
    told = entry.session + entry.commitment + entry.transcript
    protected = canonical({1: -19, 4: bytes(LANDMARKS["lm-c"].key_id)})
    proof.statement = sign1(told, signing_key("lm-b"), AAD_STATEMENT, protected)
    assert proof.refused() is Reason.STATEMENT_INVALID


def test_a_statement_in_cbor_is_refused() -> None:
    proof = honest_proof()
    entry = proof.world.log[0]
    proof.statement = stated(proof.world, payload=canonical(entry.session + entry.commitment + entry.transcript))
    assert proof.refused() is Reason.STATEMENT_INVALID


def test_what_is_over_its_budget_is_not_looked_at() -> None:
    proof = honest_proof()
    proof.world.change_receipt = lambda receipt: receipt + bytes(1024)
    with pytest.raises(RangeError, match=r"the receipt has 1\d\d\d bytes; at most 1024"):
        proof.verify()
    proof = honest_proof()
    proof.statement = stated(proof.world, payload=bytes(1024))
    with pytest.raises(RangeError, match=r"the statement has 1\d\d\d bytes; at most 1024"):
        proof.verify()


def test_another_challenge_is_refused() -> None:
    proof = honest_proof()
    other = Challenge(hashlib.sha256(b"of another batch").digest())
    with pytest.raises(RangeError) as caught:
        verify_prover_range(
            proof.world.receipt(), proof.statement, proof.answered, other, proof.prover, proof.world.registry
        )
    assert caught.value.reason is Reason.SESSION_MISMATCH


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 206 * 8 - 1))
def test_any_flipped_bit_of_a_statement_is_refused(bit: int) -> None:
    proof = honest_proof()
    assert len(proof.statement) == 207
    flipped = bytearray(proof.statement)
    flipped[bit // 8] ^= 1 << bit % 8
    proof.statement = bytes(flipped)
    assert proof.refused() is Reason.STATEMENT_INVALID


# the audit


def station(name: str, where: Position, country: str = "XX", uncertainty_km: float = 0.0) -> Landmark:
    return replace(landmark(name, where, uncertainty_km=uncertainty_km), country=CountryCode(country))


def pair(by: str, of: str, rtt_ms: float) -> PairRange:
    return PairRange(LandmarkId(by), LandmarkId(of), Nanoseconds(round(rtt_ms * 1e6)))


def reach_km(rtt_ms: float) -> float:
    """LA4, once more."""
    return rtt_ms / 2 * 299.792458 * 2 / 3 * 1.1 + 25


def rtt_ms_for(reach: float) -> float:
    return (reach - 25) / 1.1 / 299.792458 / 2 * 3 * 2


def world_pairs(truth: dict[str, Position], slowness: float = 1.4) -> list[PairRange]:
    """All ordered pairs of landmarks that stand there, over ways that are longer than the great circle."""
    return [
        pair(a, b, sphere_km(truth[a], truth[b]) / (299.792458 * 2 / 3) * 2 * slowness + 0.1)
        for a, b in itertools.permutations(truth, 2)
    ]


def ids(found: Sequence[Distrust]) -> list[str]:
    return [str(distrust.landmark_id) for distrust in found]


def test_nothing_to_judge() -> None:
    assert audit([], [], atlas()) == ()
    assert audit([station("a", HOME)], [], atlas()) == ()
    # Ranges of landmarks that nobody registered say nothing, nor does one of a landmark with itself.
    assert audit([station("a", HOME)], [pair("a", "x", 0.0), pair("x", "a", 0.0), pair("a", "a", 0.0)], atlas()) == ()


@pytest.mark.parametrize("uncertainty_km", [0.0, 40.0])
def test_a_pair_contradicts_when_its_round_trip_is_too_short_and_not_before(uncertainty_km: float) -> None:
    apart = 1000.0
    a = station("a", HOME, uncertainty_km=uncertainty_km)
    b = station("b", travel(HOME, 70, apart), uncertainty_km=uncertainty_km / 4)
    reach = apart - uncertainty_km * 1.25
    assert audit([a, b], [pair("a", "b", rtt_ms_for(reach + 0.01))], atlas()) == ()
    found = audit([a, b], [pair("a", "b", rtt_ms_for(reach - 0.01))], atlas())
    assert [distrust.rule for distrust in found] == [AuditRule.LIGHT]
    (contradiction,) = found[0].contradictions
    assert (contradiction.by, contradiction.of) == ("a", "b")
    assert contradiction.rtt_ns == round(rtt_ms_for(reach - 0.01) * 1e6)
    assert contradiction.apart_km == pytest.approx(apart)
    assert contradiction.reach_km == pytest.approx(apart - 0.01)
    assert contradiction.excess_km == pytest.approx(0.01, abs=1e-3)


def test_the_shorter_of_both_directions_is_told_and_counts_once() -> None:
    a, b, c = station("a", HOME), station("b", travel(HOME, 70, 1000)), station("c", travel(HOME, 70, 5000))
    # a and b contradict both ways, which is one contradiction; c contradicts both, which is two.
    pairs = [pair("a", "b", 6.0), pair("b", "a", 5.0), pair("c", "a", 30.0), pair("b", "c", 20.0)]
    found = audit([a, b, c], pairs, atlas())
    assert ids(found) == ["c", "a"]
    assert [(d.by, d.of, d.rtt_ns) for d in found[0].contradictions] == [
        ("b", "c", 20_000_000),
        ("c", "a", 30_000_000),
    ]
    assert [(d.by, d.of, d.rtt_ns) for d in found[1].contradictions] == [("b", "a", 5_000_000)]
    # Of two equal ones the first direction by name is told.
    assert audit([a, b], [pair("b", "a", 5.0), pair("a", "b", 5.0)], atlas())[0].contradictions[0].by == "a"


def test_the_least_of_repeated_ranges_of_a_pair_counts() -> None:
    a, b = station("a", HOME), station("b", travel(HOME, 70, 1000))
    pairs = [pair("a", "b", 50.0), pair("a", "b", 1.0), pair("a", "b", 60.0)]
    assert audit([a, b], pairs, atlas())[0].contradictions[0].rtt_ns == 1_000_000


def test_a_landmark_that_lies_about_its_place_is_found_and_the_others_are_not() -> None:
    truth = {f"lm-{n}": travel(HOME, 40 * n, 300 * (n + 1)) for n in range(9)}
    landmarks = [station(name, where) for name, where in truth.items()]
    assert audit(landmarks, world_pairs(truth), atlas()) == ()
    liar = replace(landmarks[3], position=travel(truth["lm-3"], 200, 6000))
    found = audit([*landmarks[:3], liar, *landmarks[4:]], world_pairs(truth), atlas())
    assert ids(found) == ["lm-3"]
    assert found[0].rule is AuditRule.LIGHT
    assert len(found[0].contradictions) == 8
    excess = [contradiction.excess_km for contradiction in found[0].contradictions]
    assert excess == sorted(excess, reverse=True)
    largest = found[0].contradictions[0]
    other = largest.of if largest.by == "lm-3" else largest.by
    assert found[0].explanation == (
        "It and 8 other landmarks answer each other faster than light in fibre allows: the largest contradiction, a "
        f"round trip of {largest.rtt_ns / 1e6:,.3f} ms with {other}, allows {largest.reach_km:,.0f} km, and their "
        f"stated positions are {largest.apart_km:,.0f} km apart."
    )


def test_an_operator_does_not_outvote_others_with_many_landmarks() -> None:
    """Three landmarks of one operator say of an honest one, and of nobody else, that it answers at once."""
    truth = {f"lm-{n}": travel(HOME, 40 * n, 300 * (n + 1)) for n in range(9)}
    landmarks = [station(name, where) for name, where in truth.items()]
    rogues = [replace(r, operator="rogue", hoster="rogue") for r in landmarks[6:]]
    victims = [landmarks[1], landmarks[2]]
    lies = [pair(str(rogue.landmark_id), str(v.landmark_id), 0.0) for rogue in rogues for v in victims]
    found = audit([*landmarks[:6], *rogues], [*world_pairs(truth), *lies], atlas())
    # Two domains contradict each rogue, and one contradicts each victim.
    assert sorted(ids(found)) == ["lm-6", "lm-7", "lm-8"]


def test_domains_are_joined_over_the_whole_registry_and_not_over_those_that_are_judged_alone() -> None:
    near, far = travel(HOME, 70, 10), travel(HOME, 70, 5000)
    a = replace(station("a", HOME), operator="one", hoster="one")
    b = replace(station("b", near), operator="other", hoster="other")
    honest = station("c", far)
    joint = replace(station("d", HOME), operator="one", hoster="other")  # expired, say
    pairs = [pair("a", "c", 5.0), pair("b", "c", 6.0)]
    # Two domains contradict c. As one they have one vote, and of equals the first name falls.
    assert ids(audit([a, b, honest], pairs, atlas())) == ["c"]
    whole = LandmarkRegistry.build([a, b, honest, joint])
    assert ids(audit([a, b, honest], pairs, atlas(), whole)) == ["a", "b"]


def test_the_other_end_is_named_whoever_ranged() -> None:
    a, b = station("a", HOME), station("b", travel(HOME, 70, 1000))
    for by, of in (("a", "b"), ("b", "a")):
        (found,) = audit([a, b], [pair(by, of, 1.0)], atlas())
        assert found.explanation == (
            "It and another landmark answer each other faster than light in fibre allows: a round trip of 1.000 ms "
            f"with b allows {reach_km(1.0):,.0f} km, and their stated positions are 1,000 km apart."
        )


def test_ties_fall_on_the_larger_contradictions_then_on_the_first_name() -> None:
    a, b = station("a", HOME), station("b", travel(HOME, 70, 3000))
    c, d = station("c", travel(HOME, 70, 6000)), station("d", travel(HOME, 70, 9000))
    # A path: a-b, b-c, c-d; b and c have two contradictions each, and c's are larger.
    pairs = [pair("a", "b", 20.0), pair("b", "c", 20.0), pair("c", "d", 1.0)]
    assert ids(audit([a, b, c, d], pairs, atlas())) == ["c", "a"]
    # Its mirror image: b's are larger.
    pairs = [pair("a", "b", 1.0), pair("b", "c", 20.0), pair("c", "d", 20.0)]
    assert ids(audit([a, b, c, d], pairs, atlas())) == ["b", "c"]
    # More contradictions go before larger ones.
    e = station("e", travel(HOME, 160, 4000))
    pairs = [pair("a", "b", 20.0), pair("b", "c", 20.0), pair("d", "e", 0.0)]
    assert ids(audit([a, b, c, d, e], pairs, atlas())) == ["b", "d"]


def test_what_a_distrusted_landmark_contradicted_speaks_against_nobody_else() -> None:
    truth = {f"lm-{n}": travel(HOME, 40 * n, 300 * (n + 1)) for n in range(6)}
    far = {"lm-0": travel(HOME, 10, 7000), "lm-1": travel(HOME, 10, 7300)}
    landmarks = [station(name, far.get(name, where)) for name, where in truth.items()]
    assert ids(audit(landmarks, world_pairs(truth), atlas())) == ["lm-1", "lm-0"]


def test_a_landmark_out_of_its_country_is_distrusted_and_judges_nobody() -> None:
    singapore = Position(1.35, 103.82)
    good = station("good", singapore, "SG")
    wrong = station("wrong", Position(48.86, 2.35), "SG")
    found = audit([wrong, good], [pair("good", "wrong", 1.0), pair("wrong", "good", 1.0)], atlas())
    assert ids(found) == ["wrong"]
    assert found[0].rule is AuditRule.COUNTRY
    assert found[0].contradictions == ()
    distance = found[0].explanation.removeprefix("Its stated position, 48.86, 2.35, is ").split(" km from SG, ")
    assert 10_500 < float(distance[0].replace(",", "")) < 10_900
    assert distance[1] == "the country that it says it stands in."


def test_a_country_without_a_shape_is_not_judged() -> None:
    assert audit([station("a", HOME, "XX"), station("b", Position(0, 0), "")], [], atlas()) == ()


def test_borders_are_taken_with_25_km_of_tolerance() -> None:
    """Due north of the Swiss border with Germany, at 47.8 north and 8.57 east."""
    basel = travel(Position(47.81, 8.57), 0, 0)
    off = atlas().distances(countries("CH"), basel).to_region_km
    near, far = travel(basel, 0, 24.9 - off), travel(basel, 0, 25.2 - off)
    measured = [atlas().distances(countries("CH"), place).to_region_km for place in (near, far)]
    assert measured[0] < 25 < measured[1], "the border runs otherwise; choose another place"
    assert audit([station("a", near, "CH")], [], atlas()) == ()
    assert ids(audit([station("a", far, "CH")], [], atlas())) == ["a"]


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(2, 9))
def test_the_order_of_what_is_given_does_not_matter_and_no_pair_contradicts_afterwards(
    rng: random.Random, count: int
) -> None:
    landmarks = [station(f"lm-{n}", Position(rng.uniform(-80, 80), rng.uniform(-179, 179))) for n in range(count)]
    names = [r.landmark_id for r in landmarks]
    pairs = [PairRange(a, b, Nanoseconds(rng.randrange(200_000_000))) for a, b in itertools.permutations(names, 2)]
    found = audit(landmarks, pairs, atlas())
    shuffled_landmarks, shuffled_pairs = rng.sample(landmarks, len(landmarks)), rng.sample(pairs, len(pairs))
    assert audit(shuffled_landmarks, shuffled_pairs, atlas()) == found
    assert len(set(ids(found))) == len(found)
    left = [r for r in landmarks if r.landmark_id not in set(ids(found))]
    assert audit(left, pairs, atlas()) == ()
    where = {r.landmark_id: r.position for r in landmarks}
    for distrust in found:
        assert distrust.contradictions
        for told in distrust.contradictions:
            assert distrust.landmark_id in {told.by, told.of}
            assert sphere_km(where[told.by], where[told.of]) == pytest.approx(told.apart_km, abs=1e-6)
            assert told.reach_km == pytest.approx(reach_km(told.rtt_ns / 1e6))
            assert told.apart_km > told.reach_km


def test_800_landmarks_are_audited_in_seconds() -> None:
    rng = random.Random(1)
    landmarks = [station(f"lm-{n:03}", Position(rng.uniform(-60, 70), rng.uniform(-179, 179))) for n in range(800)]
    names = [r.landmark_id for r in landmarks]
    # Every round trip is long enough, but those with the first 20, whose positions are wrong.
    wrong = set(names[:20])
    pairs = [
        PairRange(a, b, Nanoseconds(1_000_000 if {a, b} & wrong else 300_000_000))
        for a, b in itertools.permutations(names, 2)
    ]
    began = time.process_time()
    found = audit(landmarks, pairs, atlas())
    assert time.process_time() - began < 20
    assert set(ids(found)) == wrong


def test_real_round_trips_show_which_of_a_real_list_of_places_are_wrong() -> None:
    if not WONDERPROXY.is_dir():
        pytest.skip(f"no measurements in {WONDERPROXY}")
    landmarks = [
        station(row["id"], Position(float(row["lat"]), float(row["lon"])), row["country"])
        for row in csv.DictReader((WONDERPROXY / "landmarks.csv").read_text().splitlines())
    ]
    pairs = [
        pair(row["from_id"], row["to_id"], float(row["min_ms"]))
        for row in csv.DictReader((WONDERPROXY / "rtt.csv").read_text().splitlines())
        if row["from_id"] != row["to_id"]
    ]
    found = set(ids(audit(landmarks, pairs, atlas())))
    known = set((WONDERPROXY / "known_bad_ids.txt").read_text().split())
    assert len(found & known) / len(found) >= 0.85, f"precision: {found - known} are not known to be wrong"
    assert len(found & known) / len(known) >= 0.85, f"recall: {known - found} were not found"


# the bound


def rtt_ms_of_radius(radius_km: float, at: Landmark) -> float:
    return true_km_for(radius_km, at.position.latitude) / 1.0002 * 2 / LIGHT_KM_PER_NS / 1e6


def ring(*distances_km: float, uncertainty_km: float = 0.0) -> tuple[Landmark, list[Landmark]]:
    """A landmark, and others at these distances from it, each of its own domain."""
    others = [
        landmark(f"by-{n}", travel(HOME, 50 * n, km), uncertainty_km=uncertainty_km)
        for n, km in enumerate(distances_km)
    ]
    return landmark("of", HOME), others


def test_the_bound_is_what_f_wrong_domains_cannot_lower() -> None:
    of, others = ring(100, 200, 300)
    registry = LandmarkRegistry.build([of, *others])
    pairs = [pair(f"by-{n}", "of", rtt_ms_of_radius(radius, others[n])) for n, radius in enumerate((900, 400, 500))]
    # distance + radius: 1,000, 600, 800.
    for tolerated, expected in enumerate((600, 800, 1000)):
        bound = position_bound_km(of, pairs, registry, tolerated)
        assert bound == pytest.approx(expected, abs=1e-3)
    assert position_bound_km(of, pairs, registry, 3) is None
    assert position_bound_km(of, [], registry, 0) is None


def test_each_domain_bounds_once_by_its_best() -> None:
    of, others = ring(100, 200, 300)
    others[1] = replace(others[1], operator=others[0].operator)
    registry = LandmarkRegistry.build([of, *others])
    pairs = [pair(f"by-{n}", "of", rtt_ms_of_radius(radius, others[n])) for n, radius in enumerate((900, 400, 500))]
    assert position_bound_km(of, pairs, registry, 0) == pytest.approx(600, abs=1e-3)
    assert position_bound_km(of, pairs[::-1], registry, 1) == pytest.approx(800, abs=1e-3)
    assert position_bound_km(of, pairs, registry, 2) is None


def test_uncertainty_and_clock_widen_the_bound() -> None:
    of, others = ring(100, uncertainty_km=10)
    bound = position_bound_km(of, [pair("by-0", "of", 2.0)], LandmarkRegistry.build([of, *others]), 0)
    true_km = 299.792458 * 1.0002 + 10
    assert bound == pytest.approx(100 + true_km * widening_at(others[0].position.latitude, true_km), abs=1e-6)


def test_who_bounds_nothing() -> None:
    of, others = ring(100, 200, 300)
    own = replace(others[0], hoster=of.operator)
    distrusted = replace(others[1], distrusted="its position is not in its country")
    registry = LandmarkRegistry.build([of, own, distrusted, others[2]])
    pairs = [pair(by, "of", 1.0) for by in ("by-0", "by-1", "unknown")] + [pair("by-2", "by-1", 1.0)]
    assert position_bound_km(of, pairs, registry, 0) is None
    assert position_bound_km(of, [*pairs, pair("by-2", "of", 1.0)], registry, 0) is not None


def test_a_bound_beyond_half_the_earth_bounds_nothing() -> None:
    of, others = ring(100)
    registry = LandmarkRegistry.build([of, *others])
    half = math.pi * 6371
    assert position_bound_km(of, [pair("by-0", "of", rtt_ms_of_radius(half - 101, others[0]))], registry, 0) is not None
    assert position_bound_km(of, [pair("by-0", "of", rtt_ms_of_radius(half - 99, others[0]))], registry, 0) is None
