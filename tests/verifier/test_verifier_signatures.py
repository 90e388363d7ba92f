"""Both libraries of each pair give one answer, on good signatures and on those that only look like one."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_is_valid_point

from tests.verifier.helpers_evidence import P384_ORDER, flip, p384_key, raw_public, spki
from verifier import signatures
from verifier.errors import UsageError
from verifier.signatures import (
    AwsP384Key,
    CryptographyP384Key,
    P384Key,
    cryptography_ed25519_verifies,
    der_signature,
    ed25519_verifies,
    load_p384,
)

MESSAGE = b"what was signed"
KEY = p384_key("signer")
GOOD = KEY.sign(MESSAGE, ec.ECDSA(hashes.SHA384()))
R, S = decode_dss_signature(GOOD)
N = P384_ORDER
ED_KEY = ed25519.Ed25519PrivateKey.generate()
ED_PUBLIC = raw_public(ED_KEY)
ED_GOOD = ED_KEY.sign(MESSAGE)
ED_ORDER = 2**252 + 27742317777372353535851937790883648493


def p384_answer(signature: bytes, message: bytes = MESSAGE) -> bool:
    """The one answer of both libraries."""
    answers = {key.from_spki(spki(KEY)).verifies(signature, message) for key in (AwsP384Key, CryptographyP384Key)}
    assert len(answers) == 1
    return answers.pop()


def ed25519_answer(signature: bytes, public_key: bytes = ED_PUBLIC, message: bytes = MESSAGE) -> bool:
    answers = {f(public_key, signature, message) for f in (ed25519_verifies, cryptography_ed25519_verifies)}
    assert len(answers) == 1
    return answers.pop()


def test_p384_good() -> None:
    assert p384_answer(GOOD)
    assert not p384_answer(GOOD, MESSAGE + b"!")
    assert load_p384(spki(KEY)).verifies(GOOD, MESSAGE)


def _long_form(signature: bytes) -> bytes:
    return b"\x30\x81" + signature[1:]


def _der(r: bytes, s: bytes) -> bytes:
    """A sequence of two integers with these contents, whatever they are."""
    integers = b"".join(b"\x02" + bytes([len(value)]) + value for value in (r, s))
    return b"\x30" + bytes([len(integers)]) + integers


R_BYTES, S_BYTES = R.to_bytes(49, "big"), S.to_bytes(49, "big")


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0", id="a zero"),
        pytest.param(b"\x30\x00", id="empty sequence"),
        pytest.param(encode_dss_signature(0, S), id="r = 0"),
        pytest.param(encode_dss_signature(R, 0), id="s = 0"),
        pytest.param(encode_dss_signature(0, 0), id="both 0"),
        pytest.param(encode_dss_signature(N, S), id="r = n"),
        pytest.param(encode_dss_signature(R, N), id="s = n"),
        pytest.param(encode_dss_signature(R + N, S), id="r + n"),
        pytest.param(encode_dss_signature(R, S + N), id="s + n"),
        pytest.param(encode_dss_signature(1, 1), id="both 1"),
        pytest.param(_der(b"\xff" + R_BYTES[1:], S_BYTES), id="negative r"),
        pytest.param(_der(R_BYTES, b"\xff" + S_BYTES[1:]), id="negative s"),
        pytest.param(GOOD + b"\0", id="trailing byte"),
        pytest.param(GOOD[:-1], id="truncated"),
        pytest.param(_long_form(GOOD), id="BER length"),
        pytest.param(_der(b"\0" + R_BYTES, b"\0" + S_BYTES), id="padded integers"),
        pytest.param(encode_dss_signature(S, R), id="r and s exchanged"),
    ],
)
def test_p384_refuses(signature: bytes) -> None:
    assert not p384_answer(signature)


def test_p384_other_half_of_a_signature_is_one_too() -> None:
    assert p384_answer(encode_dss_signature(R, N - S))  # FIPS 186-5 sets no low-s rule


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 7))
def test_p384_refuses_any_flipped_bit(position: int, bit: int) -> None:
    assert not p384_answer(flip(GOOD, position, bit))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=120))
def test_p384_never_raises(signature: bytes) -> None:
    assert not p384_answer(signature)


@pytest.mark.parametrize("load", [load_p384, AwsP384Key.from_spki, CryptographyP384Key.from_spki])
def test_only_p384_keys_load(load: Callable[[bytes], P384Key]) -> None:
    p256 = ec.generate_private_key(ec.SECP256R1()).public_key()
    for other in (p256, ED_KEY.public_key()):
        with pytest.raises(UsageError):
            load(other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    for junk in (b"", b"\x30\x00", spki(KEY)[:-1]):
        with pytest.raises(UsageError):
            load(junk)


def test_p384_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "AwsKey", None)
    key = load_p384(spki(KEY))
    assert isinstance(key, CryptographyP384Key)
    assert key.verifies(GOOD, MESSAGE)
    assert not key.verifies(GOOD, MESSAGE + b"!")


def test_p384_by_its_fast_library() -> None:
    assert isinstance(load_p384(spki(KEY)), AwsP384Key)


def test_p384_fault_of_the_fast_library_is_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty:
        @classmethod
        def new_key_from_der_data(cls, _: bytes) -> "Faulty":
            return cls()

        def verify(self, _digest: bytes, _signature: bytes) -> bool:
            raise RuntimeError

    monkeypatch.setattr(signatures, "AwsKey", Faulty)
    assert not load_p384(spki(KEY)).verifies(GOOD, MESSAGE)


def test_der_signature_is_that_of_r_and_s() -> None:
    assert der_signature(R.to_bytes(48, "big") + S.to_bytes(48, "big")) == GOOD
    for length in (0, 95, 97):
        with pytest.raises(UsageError):
            der_signature(bytes(length))


def test_ed25519_good() -> None:
    assert ed25519_answer(ED_GOOD)
    assert not ed25519_answer(ED_GOOD, message=MESSAGE + b"!")


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(64), id="zeros"),
        pytest.param(b"\xff" * 64, id="ones"),
        pytest.param(ED_GOOD[:-1], id="truncated"),
        pytest.param(ED_GOOD + b"\0", id="trailing byte"),
        pytest.param(ED_GOOD[:32] + bytes(32), id="s = 0"),
        pytest.param(bytes(32) + ED_GOOD[32:], id="r = 0"),
        pytest.param(b"\x01" + bytes(63), id="neutral r, s = 0"),
        pytest.param(
            ED_GOOD[:32] + (int.from_bytes(ED_GOOD[32:], "little") + ED_ORDER).to_bytes(32, "little"), id="s + L"
        ),
        pytest.param(ED_GOOD[:32] + ED_ORDER.to_bytes(32, "little"), id="s = L"),
    ],
)
def test_ed25519_refuses(signature: bytes) -> None:
    assert not ed25519_answer(signature)


@pytest.mark.parametrize(
    "public_key",
    [b"", bytes(31), ED_PUBLIC[:31], ED_PUBLIC + b"\0", b"\xff" * 32, flip(ED_PUBLIC, 0)],
    ids=["empty", "zeros", "truncated", "trailing byte", "ones", "flipped"],
)
def test_ed25519_refuses_another_key(public_key: bytes) -> None:
    assert not ed25519_answer(ED_GOOD, public_key)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 63), st.integers(0, 7))
def test_ed25519_refuses_any_flipped_bit(position: int, bit: int) -> None:
    assert not ed25519_answer(flip(ED_GOOD, position, bit))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=70))
def test_ed25519_never_raises(signature: bytes) -> None:
    assert not ed25519_answer(signature)


def test_ed25519_signature_and_message_do_not_run_into_each_other() -> None:
    assert not ed25519_answer(ED_GOOD + MESSAGE[:4], message=MESSAGE[4:])
    assert not ed25519_answer(ED_GOOD[:60], message=ED_GOOD[60:] + MESSAGE)


def test_ed25519_refuses_a_key_under_which_anybody_can_sign() -> None:
    neutral = b"\x01" + bytes(31)  # under this key the neutral R with s = 0 "signs" every message
    assert not ed25519_verifies(neutral, neutral + bytes(32), MESSAGE)


@pytest.mark.parametrize("point", sorted(signatures._SMALL_ORDER))
@pytest.mark.parametrize("sign_bit", [0, 0x80])
def test_a_key_of_small_order_signs_nothing(point: bytes, sign_bit: int) -> None:
    key = point[:31] + bytes([point[31] | sign_bit])
    neutral = b"\x01" + bytes(31)
    for r in (neutral, key, point):
        assert not ed25519_answer(r + bytes(32), key)


def test_the_list_of_small_order_keys_is_libsodiums() -> None:
    assert not any(crypto_core_ed25519_is_valid_point(point) for point in signatures._SMALL_ORDER)
    assert crypto_core_ed25519_is_valid_point(ED_PUBLIC)
