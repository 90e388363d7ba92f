"""One value, one encoding; one form of COSE_Sign1 and no other."""

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verifier.helpers_evidence import dumps, flip, raw_public, sha256, sign1
from verifier import cbor, cose
from verifier.cbor import NotDeterministicError

KEY = Ed25519PrivateKey.generate()
PUBLIC = raw_public(KEY)
KID = sha256(PUBLIC)
AAD = b"trigpoint-receipt-v1\0"
PAYLOAD = dumps({1: b"payload"})

ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-(2**64), 2**64 - 1) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
).filter(lambda item: depth(item) <= cbor.MAX_DEPTH)


def depth(item: object) -> int:
    if isinstance(item, dict):
        return 1 + max(map(depth, item.values()), default=0)
    return 1 + max(map(depth, item), default=0) if isinstance(item, list) else 0


@settings(deadline=None, max_examples=80)
@given(ITEMS)
def test_what_is_encoded_is_decoded(item: object) -> None:
    assert cbor.decode(cbor.encode(item)) == item


@settings(deadline=None, max_examples=80)
@given(ITEMS, st.binary(min_size=1, max_size=3))
def test_nothing_may_follow(item: object, more: bytes) -> None:
    with pytest.raises(NotDeterministicError):
        cbor.decode(cbor.encode(item) + more)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | st.binary(max_size=12).map(lambda tail: b"\xd8" + tail))
def test_decoding_is_total(data: bytes) -> None:
    try:
        item = cbor.decode(data)
    except NotDeterministicError:
        return
    assert cbor.encode(item) == data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="nothing"),
        pytest.param("1801", id="long integer"),
        pytest.param("190001", id="longer integer"),
        pytest.param("5801aa", id="long length"),
        pytest.param("5f41aaff", id="indefinite bytes"),
        pytest.param("9f01ff", id="indefinite list"),
        pytest.param("bf0101ff", id="indefinite map"),
        pytest.param("a202010101", id="unsorted keys"),
        pytest.param("a201010102", id="repeated key"),
        pytest.param("fb3ff0000000000000", id="long float"),
        pytest.param("fa7fc00000", id="long NaN"),
        pytest.param("c24101", id="bignum that is none"),
        pytest.param("61ff", id="not UTF-8"),
        pytest.param("d81c81d81d00", id="cycle"),
        pytest.param("c1fb7ff8000000000000", id="a time that is none"),
        pytest.param("d8236128", id="a pattern that is none"),
        pytest.param("81" * 3000 + "01", id="deep"),
        pytest.param("9b7fffffffffffffff", id="huge length"),
    ],
)
def test_other_encodings_are_refused(data: str) -> None:
    with pytest.raises(NotDeterministicError):
        cbor.decode(bytes.fromhex(data))


def test_good_message() -> None:
    message = cose.parse_sign1(sign1(KEY, PAYLOAD, AAD))
    assert (message.kid, message.untrusted_payload) == (KID, {1: b"payload"})
    assert message.verifies(PUBLIC, AAD)
    assert not message.verifies(PUBLIC, b"trigpoint-ticket-v1\0")
    assert not message.verifies(raw_public(Ed25519PrivateKey.generate()), AAD)


HEADER = dumps({1: -19, 4: KID})
SIGNATURE = bytes(64)


def tagged(*parts: object, tag: int = 18) -> bytes:
    return dumps(cbor2.CBORTag(tag, list(parts)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(dumps([HEADER, {}, PAYLOAD, SIGNATURE]), id="no tag"),
        pytest.param(tagged(HEADER, {}, PAYLOAD, SIGNATURE, tag=17), id="another tag"),
        pytest.param(dumps(cbor2.CBORTag(18, PAYLOAD)), id="no list"),
        pytest.param(dumps(cbor2.CBORTag(18, 4)), id="a number"),
        pytest.param(tagged(HEADER, {}, PAYLOAD), id="three parts"),
        pytest.param(tagged(HEADER, {}, PAYLOAD, SIGNATURE, b""), id="five parts"),
        pytest.param(tagged({1: -19, 4: KID}, {}, PAYLOAD, SIGNATURE), id="header not in bytes"),
        pytest.param(tagged(HEADER, {4: KID}, PAYLOAD, SIGNATURE), id="unprotected header"),
        pytest.param(tagged(HEADER, [], PAYLOAD, SIGNATURE), id="unprotected list"),
        pytest.param(tagged(HEADER, {}, None, SIGNATURE), id="detached payload"),
        pytest.param(tagged(HEADER, {}, "payload", SIGNATURE), id="payload in text"),
        pytest.param(tagged(HEADER, {}, PAYLOAD, "signature"), id="signature in text"),
        pytest.param(tagged(b"", {}, PAYLOAD, SIGNATURE), id="empty header"),
        pytest.param(tagged(dumps([1, -19]), {}, PAYLOAD, SIGNATURE), id="header is a list"),
        pytest.param(tagged(dumps({4: KID}), {}, PAYLOAD, SIGNATURE), id="no algorithm"),
        pytest.param(tagged(dumps({1: -8, 4: KID}), {}, PAYLOAD, SIGNATURE), id="EdDSA by its old number"),
        pytest.param(tagged(dumps({1: -7, 4: KID}), {}, PAYLOAD, SIGNATURE), id="another algorithm"),
        pytest.param(tagged(dumps({1: -19.0, 4: KID}), {}, PAYLOAD, SIGNATURE), id="algorithm as a float"),
        pytest.param(tagged(dumps({True: -19, 4: KID}), {}, PAYLOAD, SIGNATURE), id="true for 1"),
        pytest.param(tagged(dumps({1: -19, 4.0: KID}), {}, PAYLOAD, SIGNATURE), id="4.0 for 4"),
        pytest.param(tagged(dumps({1: -19}), {}, PAYLOAD, SIGNATURE), id="no kid"),
        pytest.param(tagged(dumps({1: -19, 2: [1], 4: KID}), {}, PAYLOAD, SIGNATURE), id="crit"),
        pytest.param(tagged(dumps({1: -19, 4: KID[:31]}), {}, PAYLOAD, SIGNATURE), id="short kid"),
        pytest.param(tagged(dumps({1: -19, 4: "k" * 32}), {}, PAYLOAD, SIGNATURE), id="kid in text"),
        pytest.param(tagged(HEADER + b"\0", {}, PAYLOAD, SIGNATURE), id="bytes after the header"),
        pytest.param(tagged(HEADER, {}, b"\x18\x01", SIGNATURE), id="payload in another encoding"),
        pytest.param(tagged(HEADER, {}, PAYLOAD, SIGNATURE) + b"\0", id="bytes after the message"),
    ],
)
def test_other_forms_are_refused(data: bytes) -> None:
    with pytest.raises(NotDeterministicError):
        cose.parse_sign1(data)


def test_signature_of_another_length_does_not_verify() -> None:
    for signature in (b"", bytes(63), bytes(65)):
        assert not cose.parse_sign1(tagged(HEADER, {}, PAYLOAD, signature)).verifies(PUBLIC, AAD)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_any_flipped_bit_is_refused(position: int, bit: int) -> None:
    message = sign1(KEY, PAYLOAD, AAD)
    try:
        parsed = cose.parse_sign1(flip(message, position % len(message), bit))
    except NotDeterministicError:
        return
    assert parsed.kid != KID or not parsed.verifies(PUBLIC, AAD)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60).map(lambda tail: b"\xd2\x84" + tail))
def test_parsing_is_total(data: bytes) -> None:
    with pytest.raises(NotDeterministicError):
        cose.parse_sign1(data)


@pytest.mark.parametrize("head", [b"\xa1", b"\xd9\x01\x02\x81", b"\x81", b"\xd2", b"\xd8\x1c"])
def test_deep_nesting_is_refused_at_once(head: bytes) -> None:
    with pytest.raises(NotDeterministicError):
        cbor.decode(head * 60 + b"\x01" + b"\x01" * 60)
    with pytest.raises(NotDeterministicError):
        cbor.decode(head * 60 + b"\x01")


def test_cbor2_acts_on_no_tag() -> None:
    # A pattern that takes a minute to compile, if anybody does.
    pattern = cbor2.dumps(cbor2.CBORTag(35, "(?i)" + "[\x00-\U0010ffff]" * 5000))
    with pytest.raises(NotDeterministicError):
        cbor.decode(pattern)
    payloads: list[object] = [1, "a", b"a", [1], {1: 1}, [1, b"a"], [1, [1]]]
    for tag in (*range(400), 1004, 43000, 43001, 55799, 55800):
        for payload in payloads:
            try:
                item = cbor.decode(cbor2.dumps(cbor2.CBORTag(tag, payload), canonical=True))
            except NotDeterministicError:
                continue
            assert isinstance(item, cbor2.CBORTag), tag
