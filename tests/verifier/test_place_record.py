"""A landmark's record and its operator's signature: every lie about one is refused, with the field (LA8)."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verifier.helpers_place import canonical, public_key, sign1, signing_key
from verifier.errors import RecordNotSignedError, UsageError
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark
from verifier.place.record import verify_record
from verifier.units import CountryCode, LandmarkId

AAD = b"trigpoint-landmark-v1\0"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = datetime(2027, 1, 1, tzinfo=UTC)
SURVEY = "GNSS, 24 h"
LANDMARK = Landmark(
    landmark_id=LandmarkId("sg-1"),
    public_key=public_key("sg-1"),
    operator="Operator Ä",
    hoster="Hoster",
    position=Position(1.2903217, -103.8519599),
    uncertainty_km=0.125,
    virtual_machine=True,
    country=CountryCode("SG"),
    revision=0,
    revised_at=SINCE,
    valid_from=SINCE,
    valid_until=UNTIL,
)
CONTENT: Mapping[Any, Any] = {
    1: "sg-1",
    2: public_key("sg-1"),
    3: "Operator Ä",
    4: "Hoster",
    5: 12_903_217,
    6: -1_038_519_599,
    7: 125,
    8: SURVEY,
    9: True,
    10: "SG",
    11: 1_767_225_600,
    12: 1_798_761_600,
}


def protected(name: str = "operator") -> bytes:
    return canonical({1: -19, 4: hashlib.sha256(public_key(name)).digest()})


def signed(content: object = CONTENT, *, aad: bytes = AAD) -> bytes:
    payload = content if isinstance(content, bytes) else canonical(content)
    return sign1(payload, signing_key("operator"), aad, protected())


def check(
    signature: bytes | None = None,
    landmark: Landmark = LANDMARK,
    survey: str = SURVEY,
    operator_key: bytes = public_key("operator"),
) -> None:
    verify_record(landmark, survey, operator_key, signed() if signature is None else signature)


def refused(field: str, signature: bytes | None = None, words: str | None = None, **given_: Any) -> None:
    with pytest.raises(RecordNotSignedError, match=words) as caught:
        check(signature, **given_)
    assert caught.value.field == field
    assert str(caught.value) == f"{field}: {caught.value.message}"
    assert isinstance(caught.value, UsageError)


def test_a_record_holds_as_its_operator_signed_it() -> None:
    check()
    open_end = {key: value for key, value in CONTENT.items() if key not in (11, 12)}
    check(signed(open_end), replace(LANDMARK, valid_from=None, valid_until=None))
    elsewhere = timezone(timedelta(hours=8))
    check(landmark=replace(LANDMARK, valid_from=SINCE.astimezone(elsewhere)))
    # What the signature does not cover may differ.
    check(landmark=replace(LANDMARK, revision=7, revised_at=UNTIL, distrusted="so"))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"landmark_id": LandmarkId("sg-2")}),
        ("public_key", {"public_key": public_key("sg-2")}),
        ("operator", {"operator": "operator ä"}),
        ("hoster", {"hoster": "Hoster "}),
        ("latitude", {"position": Position(1.2903218, -103.8519599)}),
        ("longitude", {"position": Position(1.2903217, 103.8519599)}),
        ("uncertainty_km", {"uncertainty_km": 0.126}),
        ("virtual_machine", {"virtual_machine": False}),
        ("country", {"country": CountryCode("CN")}),
        ("valid_from", {"valid_from": SINCE + timedelta(seconds=1)}),
        ("valid_from", {"valid_from": None}),
        ("valid_until", {"valid_until": UNTIL - timedelta(seconds=1)}),
        ("valid_until", {"valid_until": None}),
    ],
)
def test_each_field_says_what_was_signed(field: str, changes: dict[str, Any]) -> None:
    refused(field, landmark=replace(LANDMARK, **changes), words="signed another value")


def test_the_survey_says_what_was_signed() -> None:
    refused("survey_method", survey="a map", words="signed another value")


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("latitude", {"position": Position(1.29032171, -103.8519599)}),
        ("longitude", {"position": Position(1.2903217, -103.85195991)}),
        ("uncertainty_km", {"uncertainty_km": 0.1251}),
        ("valid_from", {"valid_from": SINCE + timedelta(microseconds=1)}),
        ("valid_from", {"valid_from": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)}),
        ("valid_until", {"valid_until": UNTIL + timedelta(milliseconds=500)}),
    ],
)
def test_what_no_signature_can_say_is_refused_and_not_rounded(field: str, changes: dict[str, Any]) -> None:
    refused(field, landmark=replace(LANDMARK, **changes), words="whole")


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        (1, b"sg-1", "name"),
        (2, public_key("sg-1").hex(), "public_key"),
        (5, 1.2903217e7, "latitude"),
        (7, 125.0, "uncertainty_km"),
        (9, 1, "virtual_machine"),
        (11, -1, "valid_from"),
        (11, True, "valid_from"),
        (12, 2**64 - 1, "valid_until"),
        (12, [CONTENT[12]], "valid_until"),
    ],
)
def test_a_signed_value_of_another_type_is_another_value(key: int, value: object, field: str) -> None:
    refused(field, signed({**CONTENT, key: value}))


def test_null_is_not_an_absent_time() -> None:
    refused("valid_from", signed({**CONTENT, 11: None}), landmark=replace(LANDMARK, valid_from=None))
    refused("valid_until", signed({**CONTENT, 12: None}), landmark=replace(LANDMARK, valid_until=None))


def test_a_time_that_the_record_leaves_out_is_not_signed_away() -> None:
    for key, field in ((11, "valid_from"), (12, "valid_until")):
        refused(field, signed({k: v for k, v in CONTENT.items() if k != key}))


@pytest.mark.parametrize(
    "content",
    [
        *({k: v for k, v in CONTENT.items() if k != key} for key in range(1, 11)),
        {**CONTENT, 13: 0},
        {**CONTENT, "1": 0},
        {(1.0 if k == 1 else k): v for k, v in CONTENT.items()},
        [],
        "sg-1",
    ],
)
def test_the_payload_is_a_map_of_exactly_the_keys_of_a_record(content: object) -> None:
    refused("operator_signature", signed(content), words="not a map of the keys")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        canonical(CONTENT) + b"\0",
        canonical(CONTENT)[:-1],
        b"\xb8\x0c" + canonical(CONTENT)[1:],  # the number of pairs in two bytes
        b"\xbf" + canonical(CONTENT)[1:] + b"\xff",  # no definite length
        canonical(CONTENT).replace(b"\x07\x18\x7d", b"\x07\x19\x00\x7d"),  # 125 in two bytes
    ],
)
def test_a_payload_that_is_not_deterministic_is_refused(payload: bytes) -> None:
    assert payload != canonical(CONTENT)
    refused("operator_signature", signed(payload), words="its payload: not")


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        signed()[1:],  # no tag
        signed() + b"\0",
        b"\xd8\x12" + signed()[1:],  # the tag in two bytes
        sign1(canonical(CONTENT), signing_key("operator"), AAD, canonical({1: -8, 4: bytes(32)})),
        sign1(canonical(CONTENT), signing_key("operator"), AAD, protected(), {1: 1}),
    ],
)
def test_a_message_that_is_not_exactly_that_of_c3_is_refused(signature: bytes) -> None:
    refused("operator_signature", signature)


@pytest.mark.parametrize(
    "aad", [b"", AAD[:-1], b"trigpoint-receipt-v1\0", b"trigpoint-ticket-v1\0", b"trigpoint-prover-v1\0"]
)
def test_a_signature_for_another_use_is_refused(aad: bytes) -> None:
    refused("operator_signature", signed(aad=aad), words="does not hold")


def test_a_signature_of_another_key_is_refused() -> None:
    other = sign1(canonical(CONTENT), signing_key("landmark"), AAD, protected("landmark"))
    refused("operator_signature", other, words="does not hold")
    # It names the right key, and another one signed.
    lying = sign1(canonical(CONTENT), signing_key("landmark"), AAD, protected())
    refused("operator_signature", lying, words="does not hold")
    # The right key signed, and another one is named.
    refused(
        "operator_signature",
        sign1(canonical(CONTENT), signing_key("operator"), AAD, protected("landmark")),
        words="does not hold",
    )
    refused("operator_signature", operator_key=public_key("landmark"), words="does not hold")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_an_operators_key_has_32_bytes(size: int) -> None:
    refused("operator_key", operator_key=bytes(size), words=f"32 bytes, not {size}")


@given(st.integers(0, len(signed()) * 8 - 1))
def test_no_bit_of_a_signature_can_be_turned(bit: int) -> None:
    bent = bytearray(signed())
    bent[bit // 8] ^= 1 << bit % 8
    refused("operator_signature", bytes(bent))


@given(
    st.integers(-900_000_000, 900_000_000),
    st.integers(-1_800_000_000, 1_800_000_000),
    st.integers(0, 999_999),
    st.integers(0, 253_402_300_799),
)
def test_every_whole_number_meets_the_decimal_that_it_stands_for(
    latitude: int, longitude: int, uncertainty: int, since: int
) -> None:
    def decimal(number: int, digits: int) -> float:
        text = f"{abs(number):0{digits + 1}d}"
        return float(f"{'-' if number < 0 else ''}{text[:-digits]}.{text[-digits:]}")

    record = replace(
        LANDMARK,
        position=Position(decimal(latitude, 7), decimal(longitude, 7)),
        uncertainty_km=decimal(uncertainty, 3),
        valid_from=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=since),
    )
    check(signed({**CONTENT, 5: latitude, 6: longitude, 7: uncertainty, 11: since}), record)
