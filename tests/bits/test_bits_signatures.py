"""awscrt and cryptography on signatures that are rare, and on those of a real report.

tests/verifier/test_verifier_signatures.py has the common edge cases. Here are those that need the curve's arithmetic:
a sum at infinity, a doubling, an x-coordinate above the group's order, extreme scalars.
"""

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.bits.evidence import Evidence, one_report
from tests.verifier.helpers_evidence import P384_ORDER as N
from tests.verifier.helpers_evidence import flip, raw_public
from verifier.signatures import (
    P384_RAW_BYTES,
    AwsP384Key,
    CryptographyP384Key,
    cryptography_ed25519_verifies,
    der_signature,
    ed25519_verifies,
    load_p384,
)

# FIPS 186-5, SP 800-186 §3.2.1.4
P = 2**384 - 2**128 - 2**96 + 2**32 - 1
B = int("b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef", 16)
MESSAGE = b"what was signed"
E = int.from_bytes(hashlib.sha384(MESSAGE).digest(), "big")

Point = tuple[int, int]


def times(scalar: int) -> Point:
    """scalar · G."""
    numbers = ec.derive_private_key(scalar % N, ec.SECP384R1()).public_key().public_numbers()
    return numbers.x, numbers.y


def add(a: Point, b: Point) -> Point:
    """The sum of two points of the curve that are neither equal nor opposite."""
    slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def double(a: Point) -> Point:
    slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) % P
    x = (slope * slope - 2 * a[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiple(scalar: int, point: Point) -> Point:
    """scalar · point, for scalars that meet neither equal nor opposite points on the way."""
    found: Point | None = None
    for bit in f"{scalar:b}":
        found = None if found is None else double(found)
        if bit == "1":
            found = point if found is None else add(found, point)
    assert found is not None
    return found


def key_of(point: Point) -> bytes:
    """DER SubjectPublicKeyInfo."""
    key = ec.EllipticCurvePublicNumbers(*point, ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def answer(spki: bytes, r: int, s: int, message: bytes = MESSAGE) -> bool:
    """The one answer of both libraries."""
    signature = encode_dss_signature(r, s)
    answers = {load.from_spki(spki).verifies(signature, message) for load in (AwsP384Key, CryptographyP384Key)}
    assert len(answers) == 1
    return answers.pop()


def test_an_x_coordinate_above_the_order_is_reduced() -> None:
    """r is x mod n: a point whose x lies between n and p verifies under the small r, and under no other."""
    x = next(x for x in range(N + 1, N + 100) if pow(x**3 - 3 * x + B, (P - 1) // 2, P) == 1)
    point = x, pow(x**3 - 3 * x + B, (P + 1) // 4, P)
    r, s = x - N, 12_345_678_901
    # Q = (s R - e G) / r verifies (r, s) by construction.
    inverse = pow(r, -1, N)
    key = key_of(add(multiple(s * inverse % N, point), times(-E * inverse)))
    assert answer(key, r, s)
    assert not answer(key, x, s)
    assert not answer(key, r + 1, s)
    assert not answer(key, r, s, MESSAGE + b"!")


def test_a_sum_at_infinity_is_no_signature() -> None:
    """With e + r d = 0 the sum u1 G + u2 Q is no point at all."""
    private = 987_654_321
    r = -E * pow(private, -1, N) % N
    for s in (1, 2, r, N - 1):
        assert not answer(key_of(times(private)), r, s)


def test_a_sum_of_equal_points_is_a_signature() -> None:
    """With e = r d both summands are one point, which a library must double."""
    nonce = 1_357_924_680
    r = times(nonce)[0] % N
    private = E * pow(r, -1, N) % N
    s = 2 * E * pow(nonce, -1, N) % N
    assert answer(key_of(times(private)), r, s)
    assert answer(key_of(times(private)), r, N - s)
    assert not answer(key_of(times(private)), r, s + 1)


@pytest.mark.parametrize("private", [1, 2, N - 1, N - 2])
def test_keys_at_the_ends_of_the_group(private: int) -> None:
    nonce = 24_681_357
    r = times(nonce)[0] % N
    s = pow(nonce, -1, N) * (E + r * private) % N
    assert answer(key_of(times(private)), r, s)
    assert not answer(key_of(times(private)), r, s ^ 1)


@pytest.mark.parametrize("nonce", [1, 2, N - 1, N - 2])
def test_nonces_at_the_ends_of_the_group(nonce: int) -> None:
    private = 24_681_357
    r = times(nonce)[0] % N
    s = pow(nonce, -1, N) * (E + r * private) % N
    assert answer(key_of(times(private)), r, s)
    assert not answer(key_of(times(private)), r ^ 1, s)


@pytest.mark.parametrize("r", [1, 2, N - 1, N + 1, P - 1, P, 2**384 - 1])
@pytest.mark.parametrize("s", [1, N - 1, N + 1, 2**384 - 1])
def test_extreme_numbers_are_no_signature(r: int, s: int) -> None:
    assert not answer(key_of(times(24_681_357)), r, s)


def test_short_numbers_are_padded_in_the_raw_form() -> None:
    """A signature whose r and s begin with zeros keeps its 96 bytes in a report (docs/protocol.md §4)."""
    private = 13_579
    key = key_of(times(private))
    nonce = next(k for k in range(1, 2_000) if times(k)[0] >> 376 == 0)
    r = times(nonce)[0] % N
    s = pow(nonce, -1, N) * (E + r * private) % N
    raw = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    assert raw[0] == 0
    assert load_p384(key).verifies(der_signature(raw), MESSAGE)
    assert answer(key, r, s)


def test_signature_of_a_report_under_both_libraries(tmp_path_factory: pytest.TempPathFactory) -> None:
    evidence: Evidence = one_report(tmp_path_factory.mktemp("sample"))
    report, chain = evidence.report, evidence.chain
    signed, raw = report[:-P384_RAW_BYTES], report[-P384_RAW_BYTES:]
    spki = _leaf_key(evidence)
    libraries = AwsP384Key.from_spki(spki), CryptographyP384Key.from_spki(spki)
    assert [k.verifies(der_signature(raw), signed) for k in (*libraries, chain.report_key)] == [True] * 3
    for position in range(len(raw)):
        for bit in range(8):
            bent = der_signature(flip(raw, position, bit))
            assert [k.verifies(bent, signed) for k in libraries] == [False, False]


def _leaf_key(evidence: Evidence) -> bytes:
    key = x509.load_der_x509_certificate(evidence.certificates[0]).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


ED_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"bits").digest())
ED_GOOD = ED_KEY.sign(MESSAGE)
ED_P = 2**255 - 19
ORDER_8_Y = int("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16)
# Every encoding of a point whose order divides 8, the non-canonical ones too (RFC 8032 §5.1.3).
SMALL_ORDER = [
    (y | sign << 255).to_bytes(32, "little")
    for y in (0, 1, ED_P - 1, ED_P, ED_P + 1, ORDER_8_Y, ED_P - ORDER_8_Y)
    for sign in (0, 1)
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_ed25519_refuses_keys_of_small_order(point: bytes) -> None:
    """Under such a key one signature may hold for many messages; a landmark could deny what it signed."""
    for r in SMALL_ORDER:
        assert not ed25519_verifies(point, r + bytes(32), MESSAGE)
    assert not ed25519_verifies(point, ED_GOOD, MESSAGE)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_ed25519_refuses_an_r_of_small_order(point: bytes) -> None:
    for s in (bytes(32), ED_GOOD[32:]):
        answers = {f(raw_public(ED_KEY), point + s, MESSAGE) for f in (ed25519_verifies, cryptography_ed25519_verifies)}
        assert answers == {False}


def test_ed25519_every_flipped_bit_under_both_libraries() -> None:
    public = raw_public(ED_KEY)
    libraries = ed25519_verifies, cryptography_ed25519_verifies
    assert [f(public, ED_GOOD, MESSAGE) for f in libraries] == [True, True]
    for position in range(64):
        for bit in range(8):
            assert [f(public, flip(ED_GOOD, position, bit), MESSAGE) for f in libraries] == [False, False]
    for position in range(32):
        for bit in range(8):
            assert [f(flip(public, position, bit), ED_GOOD, MESSAGE) for f in libraries] == [False, False]
