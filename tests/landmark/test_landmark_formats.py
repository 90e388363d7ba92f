"""Datagrams, COSE, tickets and receipts, byte by byte against docs/protocol.md §1 and §7."""

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from landmark import cose
from landmark.clock import ClockSource
from landmark.datagrams import (
    MAX_RECEIPT_BYTES,
    MAX_TICKET_BYTES,
    Answer,
    Commit,
    Datagram,
    Hello,
    Nonce,
    ReceiptDatagram,
    Refused,
    Reveal,
    Round,
    Stop,
    parse_datagram,
)
from landmark.errors import (
    MalformedDatagramError,
    NotDeterministicError,
    SignatureInvalidError,
    TicketExpiredError,
    TicketInvalidError,
)
from landmark.keys import LandmarkKey
from landmark.statements import Receipt, Ticket, sign_receipt, verify_ticket
from tests.landmark.helpers import Issuer, answer, commit, dumps, hello, raw_public, read_receipt, reveal, sha256

TAG, NONCE_VALUE, COOKIE, KEY_ID = b"t" * 16, b"n" * 32, b"c" * 24, b"k" * 32
ISSUER = Issuer(Ed25519PrivateKey.from_private_bytes(b"t" * 32))
KEYS = {sha256(raw_public(ISSUER.key)): VerifyKey(raw_public(ISSUER.key))}
NOW = 1_800_000_000

u16 = st.integers(0, 65535)


def sized(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


DATAGRAMS = st.one_of(
    st.builds(Hello, sized(16), sized(32)),
    st.builds(Nonce, sized(16), sized(16), sized(32), sized(24)),
    st.builds(Commit, sized(16), sized(32), sized(24), sized(32), st.binary(max_size=MAX_TICKET_BYTES)),
    st.builds(Round, sized(16), u16, sized(16)),
    st.builds(Answer, sized(16), u16, sized(16)),
    st.builds(Stop, sized(16), u16),
    st.builds(Reveal, sized(16), sized(32)),
    st.builds(ReceiptDatagram, sized(16), st.binary(max_size=MAX_RECEIPT_BYTES)),
    st.builds(Refused, sized(16), u16),
)


@given(DATAGRAMS)
def test_what_was_encoded_parses_to_itself(datagram: Datagram) -> None:
    data = datagram.encode()
    assert len(data) <= 1200
    assert parse_datagram(data) == datagram
    for wrong in (data[:-1], data + b"\0", b"", data[:3], b"TP\x02" + data[3:], b"XP" + data[2:]):
        with pytest.raises(MalformedDatagramError):
            parse_datagram(wrong)


def test_layouts() -> None:
    assert Hello(b"h" * 16, KEY_ID).encode() == hello(b"h" * 16, KEY_ID)
    assert Commit(TAG, NONCE_VALUE, COOKIE, KEY_ID, b"ticket").encode() == (
        commit(TAG, NONCE_VALUE, COOKIE, KEY_ID, b"ticket")
    )
    assert Answer(TAG, 258, b"a" * 16).encode() == answer(TAG, 258, b"a" * 16)
    assert Reveal(TAG, b"s" * 32).encode() == reveal(TAG, b"s" * 32)
    assert Nonce(TAG, b"h" * 16, NONCE_VALUE, COOKIE).encode() == (
        (b"TP\x01\x02" + TAG + b"h" * 16 + NONCE_VALUE + COOKIE).ljust(96, b"\0")
    )
    assert Round(TAG, 258, b"a" * 16).encode() == b"TP\x01\x04" + TAG + b"\1\2" + bytes(26) + b"a" * 16
    assert Stop(TAG, 16).encode() == (b"TP\x01\x06" + TAG + b"\0\x10").ljust(64, b"\0")
    assert ReceiptDatagram(TAG, b"rrr").encode() == b"TP\x01\x08" + TAG + b"\0\3rrr"
    assert Refused(TAG, 6).encode() == (b"TP\x01\x09" + TAG + b"\0\6").ljust(64, b"\0")


def test_unused_bytes_are_not_checked() -> None:
    data = bytearray(Answer(TAG, 1, b"a" * 16).encode())
    data[30] = 7
    assert parse_datagram(bytes(data)) == Answer(TAG, 1, b"a" * 16)


def test_a_datagram_holds_no_value_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="16 bytes has 15"):
        Round(b"t" * 15, 0, bytes(16))
    with pytest.raises(ValueError, match="u16"):
        Stop(TAG, 65536)
    with pytest.raises(ValueError, match="does not fit"):
        Commit(TAG, NONCE_VALUE, COOKIE, KEY_ID, bytes(MAX_TICKET_BYTES + 1))
    with pytest.raises(ValueError, match="does not fit"):
        ReceiptDatagram(TAG, bytes(MAX_RECEIPT_BYTES + 1))


def test_a_receipt_longer_than_a_datagram_is_malformed() -> None:
    with pytest.raises(MalformedDatagramError):
        parse_datagram(b"TP\x01\x08" + TAG + (1179).to_bytes(2, "big") + bytes(1179))


@given(st.binary(max_size=1300), st.integers(0, 255))
def test_parsing_raises_nothing_but_its_own_error(data: bytes, kind: int) -> None:
    for candidate in (data, b"TP\x01" + bytes([kind]) + data):
        try:
            parse_datagram(candidate)
        except MalformedDatagramError:
            continue


def test_a_good_ticket() -> None:
    message = ISSUER.ticket(KEY_ID, challenge=b"x" * 32, expires=NOW, ticket_id=b"i" * 16)
    assert verify_ticket(message, KEY_ID, KEYS, NOW + 5) == Ticket(b"x" * 32, NOW, b"i" * 16)
    with pytest.raises(TicketExpiredError):
        verify_ticket(message, KEY_ID, KEYS, NOW + 6)


def test_a_ticket_lives_at_most_300_seconds() -> None:
    message = ISSUER.ticket(KEY_ID, expires=NOW)
    assert verify_ticket(message, KEY_ID, KEYS, NOW - 300).expires_unix_s == NOW
    with pytest.raises(TicketInvalidError):
        verify_ticket(message, KEY_ID, KEYS, NOW - 301)


def test_any_flipped_bit_of_a_ticket_is_refused() -> None:
    message = ISSUER.ticket(KEY_ID, expires=NOW)
    for bit in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TicketInvalidError):
            verify_ticket(bytes(flipped), KEY_ID, KEYS, NOW)


FIELDS: dict[object, object] = {1: b"x" * 32, 2: KEY_ID, 3: NOW, 4: b"i" * 16}


@pytest.mark.parametrize(
    "payload",
    [
        dumps(FIELDS | {5: 0}),
        dumps({key: value for key, value in FIELDS.items() if key != 4}),
        dumps(FIELDS | {1: b"x" * 31}),
        dumps(FIELDS | {1: "x" * 32}),
        dumps(FIELDS | {2: b"l" * 32}),
        dumps(FIELDS | {3: -1}),
        dumps(FIELDS | {3: True}),
        dumps(FIELDS | {3: float(NOW)}),
        dumps(FIELDS | {3: 2**64}),
        dumps(FIELDS | {4: b"i" * 17}),
        dumps({True: b"x" * 32, 2: KEY_ID, 3: NOW, 4: b"i" * 16}),
        dumps(list(FIELDS.values())),
        dumps(FIELDS) + b"\0",
        b"\xbf" + dumps(FIELDS)[1:] + b"\xff",
        b"\xb8\x04" + dumps(FIELDS)[1:],
        cbor2.dumps(dict(reversed(FIELDS.items()))),
        dumps(FIELDS)[:1] + b"\x18\x01" + dumps(FIELDS)[2:],
        b"",
        b"\xff",
    ],
)
def test_a_signed_payload_that_is_no_ticket_is_refused(payload: bytes) -> None:
    with pytest.raises(TicketInvalidError):
        verify_ticket(ISSUER.sign(payload), KEY_ID, KEYS, NOW)


def test_a_receipt_is_never_taken_for_a_ticket() -> None:
    with pytest.raises(TicketInvalidError):
        verify_ticket(ISSUER.sign(dumps(FIELDS), label=b"trigpoint-receipt-v1\0"), KEY_ID, KEYS, NOW)


@pytest.mark.parametrize(
    "header",
    [
        {1: -8, 4: next(iter(KEYS))},
        {1: -19},
        {1: -19, 4: next(iter(KEYS)), 2: [1]},
        {1: -19, 4: next(iter(KEYS))[:31]},
        {1: -19, 4: b"q" * 32},
    ],
)
def test_only_the_protected_header_of_c3_is_taken(header: dict[int, object]) -> None:
    with pytest.raises(TicketInvalidError):
        verify_ticket(ISSUER.sign(dumps(FIELDS), protected=dumps(header)), KEY_ID, KEYS, NOW)


def test_only_the_form_of_c3_is_taken() -> None:
    message = ISSUER.sign(dumps(FIELDS))
    protected, _, payload, signature = cbor2.loads(message).value
    cose.verify1(message, cose.TICKET_LABEL, KEYS)
    for wrong in (
        message[1:],
        message + b"\0",
        b"\xd8\x12" + message[1:],
        dumps(cbor2.CBORTag(18, [protected, {3: 0}, payload, signature])),
        dumps(cbor2.CBORTag(18, [protected, {}, None, signature])),
        dumps(cbor2.CBORTag(17, [protected, {}, payload, signature])),
        dumps(cbor2.CBORTag(18, [protected, {}, payload])),
        b"",
    ):
        with pytest.raises(NotDeterministicError):
            cose.verify1(wrong, cose.TICKET_LABEL, KEYS)


@given(st.binary(max_size=1090))
def test_a_ticket_of_random_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(TicketInvalidError):
        verify_ticket(data, KEY_ID, KEYS, NOW)


@given(st.binary(max_size=200))
def test_decoding_gives_back_only_what_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        value = cose.decode(data)
    except NotDeterministicError:
        return
    assert dumps(value) == data


@given(st.binary(max_size=700), st.binary(min_size=32, max_size=32))
def test_what_was_signed_verifies_under_its_key_and_label_alone(payload: bytes, seed: bytes) -> None:
    key = LandmarkKey.from_seed(seed)
    keys = {key.key_id: VerifyKey(key.public_key)}
    message = cose.sign1(payload, cose.RECEIPT_LABEL, key.key_id, key.sign)
    assert cose.verify1(message, cose.RECEIPT_LABEL, keys) == payload
    with pytest.raises(SignatureInvalidError):
        cose.verify1(message, cose.TICKET_LABEL, keys)
    with pytest.raises(SignatureInvalidError):
        cose.verify1(message, cose.RECEIPT_LABEL, KEYS)


def test_a_receipt_holds_its_fields_and_fits() -> None:
    key = LandmarkKey.from_seed(b"l" * 32)
    receipt = Receipt(
        b"S" * 32, b"x" * 32, NONCE_VALUE, b"C" * 32, b"e" * 32, 64, 2**64 - 1, 2**62, ClockSource.KERNEL_SOFTWARE,
        2**63 - 1, 2**40,
    )  # fmt: skip
    message = sign_receipt(receipt, key)
    assert len(message) <= 1024
    assert read_receipt(message, key.public_key) == {
        1: b"S" * 32,
        2: b"x" * 32,
        3: NONCE_VALUE,
        4: b"C" * 32,
        5: b"e" * 32,
        6: 64,
        7: b"\xff" * 8,
        8: 2**62,
        9: 2,
        10: 2**63 - 1,
        11: 2**40,
    }


def test_cbor2_acts_on_no_tag_in_bytes_that_nobody_signed() -> None:
    # A pattern that takes most of a second to compile, small enough for the ticket field of a COMMIT.
    pattern = cbor2.dumps(cbor2.CBORTag(35, "(?i)" + "[\x00-\U0010ffff]" * 130))
    with pytest.raises(NotDeterministicError):
        cose.decode(pattern)
    for tag in (*range(400), 1004, 43000, 55799):
        try:
            item = cose.decode(cbor2.dumps(cbor2.CBORTag(tag, [1]), canonical=True))
        except NotDeterministicError:
            continue
        assert isinstance(item, cbor2.CBORTag), tag
