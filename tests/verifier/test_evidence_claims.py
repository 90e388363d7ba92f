"""Claims: each rule of docs/protocol.md §3 by a claims-set that breaks it alone."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verifier.helpers_evidence import dumps, sha256
from verifier.errors import ClaimsMalformedError, EvidenceError, LimitExceededError, Reason
from verifier.evidence.claims import PROFILE, Claims, StatedRange, parse_claims, requester_nonce, verify_binding
from verifier.units import Challenge, LandmarkKeyId, Pdi

NONCE = bytes(range(32))
A, B = b"aaaaaaaa", b"bbbbbbbb"
LANDMARK = b"L" * 32
MASK = (0b1011).to_bytes(8, "big")
ANSWERED = [0, LANDMARK, MASK, b"receipt"]
UNANSWERED = [1, LANDMARK, 4]
GOOD: dict[int, Any] = {
    10: NONCE,
    265: PROFILE,
    -70001: "host-1",
    -70002: 1_700_000_000,
    -70003: [A, B],
    -70004: [ANSWERED, UNANSWERED],
}


def refused(data: bytes) -> Reason:
    with pytest.raises(EvidenceError) as caught:
        parse_claims(data)
    return caught.value.reason


def bent(key: int, value: object) -> bytes:
    return dumps({**GOOD, key: value})


def without(key: int) -> bytes:
    return dumps({k: v for k, v in GOOD.items() if k != key})


def test_good_claims() -> None:
    assert parse_claims(dumps(GOOD)) == Claims(
        nonce=Challenge(NONCE),
        host_id="host-1",
        untrusted_host_time_s=1_700_000_000,
        untrusted_location=None,
        devices=(Pdi(A), Pdi(B)),
        ranges=(StatedRange(0, LandmarkKeyId(LANDMARK), 0b1011, b"receipt"),),
        unanswered=((1, LandmarkKeyId(LANDMARK), 4),),
    )


@pytest.mark.parametrize("location", [{1: 48.25, 2: -4}, {1: -90, 2: 180}, {1: 90, 2: -180.0}])
def test_location(location: dict[int, float]) -> None:
    assert parse_claims(bent(264, location)).untrusted_location == (location[1], location[2])


def test_cl1_nonce_is_that_of_the_bytes() -> None:
    data = dumps(GOOD)
    assert requester_nonce(data) == sha256(b"trigpoint-attestation-v1\0", data)
    assert requester_nonce(data) != requester_nonce(bent(-70002, 1_700_000_001))


@pytest.mark.parametrize("data", [b"", b"\xa0\0", dumps([]), dumps(NONCE), dumps(GOOD) + b"\0", dumps(GOOD)[:-1]])
def test_no_claims(data: bytes) -> None:
    assert refused(data) is Reason.CLAIMS_MALFORMED


def test_c2_other_encodings_are_refused() -> None:
    data = dumps(GOOD)
    time = dumps(1_700_000_000)
    assert time in data
    assert refused(data.replace(time, b"\x1b" + (1_700_000_000).to_bytes(8, "big"))) is Reason.CLAIMS_MALFORMED
    unsorted = b"\xa6" + b"".join(dumps(k) + dumps(v) for k, v in reversed(GOOD.items()))
    assert refused(unsorted) is Reason.CLAIMS_MALFORMED


@pytest.mark.parametrize("key", GOOD)
def test_claim_is_missing(key: int) -> None:
    assert refused(without(key)) is Reason.CLAIMS_MALFORMED


@pytest.mark.parametrize("key", [1, 11, 256, -70000, -70005, "10"])
def test_cl3_unknown_claim(key: int) -> None:
    assert refused(bent(key, 1)) is Reason.CLAIMS_MALFORMED


def test_no_device() -> None:
    assert refused(dumps({**GOOD, -70003: [], -70004: []})) is Reason.CLAIMS_MALFORMED


def test_cl3_number_that_only_equals_the_key() -> None:
    floats = {float(k) if k == 10 else k: v for k, v in GOOD.items()}
    assert floats == GOOD  # to Python they are one
    assert refused(dumps(floats)) is Reason.CLAIMS_MALFORMED


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (10, NONCE[:31]),
        (10, NONCE + b"\0"),
        (10, NONCE.hex()),
        (265, "tag:trigpoint.dev,2026:attestation#2"),
        (265, PROFILE.encode()),
        (-70001, ""),
        (-70001, "h" * 129),
        (-70001, "\N{GREEK SMALL LETTER ALPHA}" * 65),
        (-70001, b"host-1"),
        (-70002, 1.5),
        (-70002, True),
        (-70002, "now"),
        (-70002, 1 << 63),
        (-70002, -(1 << 63)),
        (-70003, []),
        (-70003, A),
        (-70003, {A: 1, B: 2}),
        (-70003, [A, B[:7]]),
        (-70003, [A, B + b"\0"]),
        (-70003, [A, "bbbbbbbb"]),
        (-70004, None),
        (-70004, {}),
        (-70004, [{0: 0, 1: bytes(32), 2: 1}]),  # a map that answers to the indices of a list
        (264, None),
        (264, {1: 10.0}),
        (264, {1: 10.0, 2: 10.0, 3: 10.0}),
        (264, [10.0, 10.0]),
        (264, {True: 10.0, 2: 10.0}),
        (264, {1: 10.0, 2.0: 10.0}),
        (264, {1: "10", 2: 10}),
        (264, {1: 10, 2: True}),
        (264, {1: 90.5, 2: 10}),
        (264, {1: -90.5, 2: 10}),
        (264, {1: 10, 2: 180.5}),
        (264, {1: 10, 2: -180.5}),
        (264, {1: float("nan"), 2: 10}),
        (264, {1: 10, 2: float("nan")}),
    ],
)
def test_claim_of_another_form(key: int, value: object) -> None:
    assert refused(bent(key, value)) is Reason.CLAIMS_MALFORMED


@pytest.mark.parametrize("host_id", ["h", "h" * 128])
def test_host_id_lengths(host_id: str) -> None:
    assert parse_claims(bent(-70001, host_id)).host_id == host_id


def test_host_time_limits() -> None:
    for time in (0, (1 << 63) - 1, -(1 << 63) + 1):
        assert parse_claims(bent(-70002, time)).untrusted_host_time_s == time


@pytest.mark.parametrize(
    "entry",
    [
        "range",
        [],
        [0, LANDMARK],
        [*ANSWERED, 0],
        [2, *ANSWERED[1:]],
        [-1, *ANSWERED[1:]],
        [True, *ANSWERED[1:]],
        [b"\0", *ANSWERED[1:]],
        [0, LANDMARK[:31], MASK, b"receipt"],
        [0, "L" * 32, MASK, b"receipt"],
        [0, LANDMARK, MASK[:7], b"receipt"],
        [0, LANDMARK, 0b1011, b"receipt"],
        [0, LANDMARK, MASK, b""],
        [0, LANDMARK, MASK, "receipt"],
        [0, LANDMARK, 0],
        [0, LANDMARK, 7],
        [0, LANDMARK, True],
        [0, LANDMARK, b"\x01"],
        [0, LANDMARK[:31], 1],
        [2, LANDMARK, 1],
    ],
)
def test_range_of_another_form(entry: object) -> None:
    assert refused(bent(-70004, [ANSWERED, entry])) is Reason.CLAIMS_MALFORMED


@pytest.mark.parametrize("why", range(1, 7))
def test_reasons_for_no_receipt(why: int) -> None:
    assert parse_claims(bent(-70004, [[1, LANDMARK, why]])).unanswered == ((1, LandmarkKeyId(LANDMARK), why),)


def test_mask_is_big_endian() -> None:
    claims = parse_claims(bent(-70004, [[0, LANDMARK, b"\x80" + bytes(6) + b"\x01", b"r"]]))
    assert claims.ranges[0].untrusted_answered == 1 << 63 | 1


def test_limits() -> None:
    assert len(parse_claims(bent(-70003, [bytes([n]) * 8 for n in range(64)])).devices) == 64
    assert refused(bent(-70003, [bytes([n]) * 8 for n in range(65)])) is Reason.LIMIT_EXCEEDED
    assert len(parse_claims(bent(-70004, [ANSWERED] * 128)).ranges) == 128
    assert refused(bent(-70004, [ANSWERED] * 129)) is Reason.LIMIT_EXCEEDED
    assert len(parse_claims(bent(-70004, [[0, LANDMARK, MASK, bytes(1024)]])).ranges) == 1
    assert refused(bent(-70004, [[0, LANDMARK, MASK, bytes(1025)]])) is Reason.LIMIT_EXCEEDED


def binding(claims: dict[int, Any], host_id: str = "host-1", challenge: bytes = NONCE, count: int = 2) -> Reason | None:
    try:
        verify_binding(parse_claims(dumps(claims)), host_id, Challenge(challenge), report_count=count)
    except EvidenceError as error:
        return error.reason
    return None


def test_binding() -> None:
    assert binding(GOOD) is None
    assert binding(GOOD, challenge=bytes(32)) is Reason.CHALLENGE_UNKNOWN
    assert binding(GOOD, host_id="host-2") is Reason.CHALLENGE_UNKNOWN
    assert binding(GOOD, count=1) is Reason.DEVICE_LIST_MISMATCH
    assert binding(GOOD, count=3) is Reason.DEVICE_LIST_MISMATCH
    assert binding({**GOOD, -70003: [A, A]}) is Reason.DEVICE_REPEATED


RANGES = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=8, max_size=8),
        st.binary(min_size=1, max_size=30),
    )
    | st.tuples(st.integers(0, 1), st.binary(min_size=32, max_size=32), st.integers(1, 6)),
    max_size=5,
)


def test_the_profile_is_that_of_the_protocol() -> None:
    assert PROFILE == "tag:trigpoint.dev,2026:attestation#1"  # docs/protocol.md §3


@settings(deadline=None, max_examples=80)
@given(st.text(min_size=1, max_size=32), st.integers(-(2**63) + 1, 2**63 - 1), RANGES)
def test_parsed_is_what_was_written(host_id: str, time: int, ranges: list[tuple[Any, ...]]) -> None:
    claims = parse_claims(dumps({**GOOD, -70001: host_id, -70002: time, -70004: ranges}))
    assert (claims.host_id, claims.untrusted_host_time_s) == (host_id, time)
    stated = [(r.device, r.landmark, r.untrusted_answered.to_bytes(8, "big"), r.receipt) for r in claims.ranges]
    assert stated == [r for r in ranges if len(r) == 4]
    assert list(claims.unanswered) == [r for r in ranges if len(r) == 3]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([*GOOD, 264]), VALUES)
def test_parsing_is_total(key: int, value: object) -> None:
    with suppress(ClaimsMalformedError, LimitExceededError):
        parse_claims(bent(key, value))


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=80))
def test_parsing_any_bytes_is_total(data: bytes) -> None:
    assert refused(data) is Reason.CLAIMS_MALFORMED


def test_a_claim_key_of_another_type_is_unknown() -> None:
    claims: dict[Any, Any] = dict(GOOD)
    claims[10.0] = claims.pop(10)
    assert refused(dumps(claims)) is Reason.CLAIMS_MALFORMED
