"""Compact JWS and JWK sets: RFC vectors, PyJWT as the other writer, and everything that is refused."""

import base64
import hashlib
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from verifier import limits
from verifier.jws import JwsError, KeySet, decode_base64url, read_object, thumbprint, unverified_parts, verify_jws

# RFC 7515 Appendix A.3.1: key, and payload and signature over the header {"alg":"ES256"}.
RFC_X = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
RFC_Y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
RFC_PRIVATE = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
RFC_TOKEN = (
    "eyJhbGciOiJFUzI1NiJ9"
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
CLAIMS = {"iat": 1, "a": "b"}


def jwk_of(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    jwk: dict[str, Any] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return jwk


def key_set(*jwks: dict[str, Any]) -> KeySet:
    return KeySet.parse(json.dumps({"keys": jwks}).encode())


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def kid(key: ec.EllipticCurvePrivateKey) -> str:
    jwk = jwk_of(key)
    return thumbprint(jwk["x"], jwk["y"])


@pytest.fixture(scope="module")
def token(key: ec.EllipticCurvePrivateKey, kid: str) -> str:
    return jwt.encode(CLAIMS, key, "ES256", {"kid": kid})


def test_what_another_library_signs(key: ec.EllipticCurvePrivateKey, token: str) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    keys = key_set(jwk_of(other), {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kty": "EC", "crv": "P-384"}, jwk_of(key))
    assert len(keys.keys) == 2
    assert json.loads(verify_jws(token, keys)) == CLAIMS


def test_the_thumbprint_is_the_rfc_s() -> None:
    """RFC 7638 §3: the required members in the order of their names, without spaces. The key is RFC 7515 A.3's."""
    required = json.dumps({"y": RFC_Y, "x": RFC_X, "kty": "EC", "crv": "P-256"}, sort_keys=True, separators=(",", ":"))
    assert thumbprint(RFC_X, RFC_Y) == b64(hashlib.sha256(required.encode()).digest())
    assert thumbprint(RFC_X, RFC_Y) == "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"


def test_the_rfc_s_signature() -> None:
    """RFC 7515 A.3 names no key, which this reader asks for; what its private key signs, its public key verifies."""
    keys = key_set({"kty": "EC", "crv": "P-256", "x": RFC_X, "y": RFC_Y})
    with pytest.raises(JwsError, match="names its key"):
        verify_jws(RFC_TOKEN, keys)
    private = ec.derive_private_key(int.from_bytes(decode_base64url(RFC_PRIVATE)), ec.SECP256R1())
    signed = jwt.encode({"iss": "joe"}, private, "ES256", {"kid": thumbprint(RFC_X, RFC_Y)})
    assert json.loads(verify_jws(signed, keys)) == {"iss": "joe"}


def test_every_flipped_character_is_refused(key: ec.EllipticCurvePrivateKey, token: str) -> None:
    keys = key_set(jwk_of(key))
    for index, character in enumerate(token):
        for other in {"A", "B", "."} - {character}:
            with pytest.raises(JwsError):
                verify_jws(token[:index] + other + token[index + 1 :], keys)


def test_another_key_is_refused(token: str, kid: str) -> None:
    other = jwk_of(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(JwsError, match="no key of the set"):
        verify_jws(token, key_set({**other, "kid": kid}))  # what a set calls a key does not matter


def resigned(key: ec.EllipticCurvePrivateKey, headers: dict[str, Any], payload: bytes = b"{}") -> str:
    """A token with any header, signed as ES256 whatever the header says."""
    signed = f"{b64(json.dumps(headers).encode())}.{b64(payload)}"
    return f"{signed}.{b64(ECAlgorithm(ECAlgorithm.SHA256).sign(signed.encode(), key))}"


def test_what_the_header_must_say(key: ec.EllipticCurvePrivateKey, kid: str) -> None:
    keys = key_set(jwk_of(key))
    good = {"alg": "ES256", "kid": kid}
    assert verify_jws(resigned(key, good), keys) == b"{}"
    for bent in (
        {**good, "alg": "none"},
        {**good, "alg": "HS256"},
        {**good, "alg": "ES384"},
        {**good, "alg": ["ES256"]},
        {"kid": kid},
        {"alg": "ES256"},
        {**good, "kid": 1},
        {**good, "kid": "\ud800"},
        {**good, "crit": ["b64"]},
    ):
        with pytest.raises(JwsError):
            verify_jws(resigned(key, bent), keys)


@pytest.mark.parametrize("bent", ["", "a.b", "a.b.c.d", "é.e30.AA", "e30.e30.AA"])
def test_no_token(key: ec.EllipticCurvePrivateKey, bent: str) -> None:
    with pytest.raises(JwsError):
        verify_jws(bent, key_set(jwk_of(key)))


def test_a_token_has_three_parts_whatever_was_signed(key: ec.EllipticCurvePrivateKey, kid: str) -> None:
    header = b64(json.dumps({"alg": "ES256", "kid": kid}).encode())
    for signed in (f"{header}.e30.e30", header):
        signature = b64(ECAlgorithm(ECAlgorithm.SHA256).sign(signed.encode(), key))
        with pytest.raises(JwsError, match="three parts"):
            verify_jws(f"{signed}.{signature}", key_set(jwk_of(key)))


def test_coordinates_that_are_cut_elsewhere(key: ec.EllipticCurvePrivateKey) -> None:
    """64 bytes in all are not enough: one key would have many names."""
    jwk = jwk_of(key)
    both = decode_base64url(jwk["x"]) + decode_base64url(jwk["y"])
    with pytest.raises(JwsError, match="coordinate"):
        key_set({**jwk, "x": b64(both[:31]), "y": b64(both[31:])})


def test_signatures_that_are_no_pair(key: ec.EllipticCurvePrivateKey, token: str) -> None:
    keys, (signed, _, signature) = key_set(jwk_of(key)), token.rpartition(".")
    raw = decode_base64url(signature)
    half = len(raw) // 2
    # The last is the same pair of numbers in another spelling.
    for bent in (b"", raw[:-1], raw + b"\0", bytes(64), b"\xff" * 64, raw[:half] + b"\0" + raw[half:]):
        with pytest.raises(JwsError):
            verify_jws(f"{signed}.{b64(bent)}", keys)


def test_a_token_over_its_budget(token: str) -> None:
    with pytest.raises(JwsError, match=str(limits.MAX_RESULT_BYTES)):
        unverified_parts(token.ljust(limits.MAX_RESULT_BYTES + 1, "A"))
    assert unverified_parts(token)[1] == json.dumps(CLAIMS, separators=(",", ":")).encode()


@pytest.mark.parametrize("text", ["A", "AA==", "A+//", "AB", "A A", "A\n", "é"])
def test_base64url_has_one_spelling(text: str) -> None:
    with pytest.raises(JwsError):
        decode_base64url(text)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b'"a"', b"[" * 200_000, b'{"a": 1, "a": 1}', b'{"a": Infinity}', b"1" * 5000]
)
def test_no_object(data: bytes) -> None:
    with pytest.raises(JwsError):
        read_object(data)


def test_a_set_over_its_budget() -> None:
    with pytest.raises(JwsError, match=str(limits.MAX_JWKS_BYTES)):
        KeySet.parse(b'{"keys": []}'.ljust(limits.MAX_JWKS_BYTES + 1))


@pytest.mark.parametrize("data", [b"{}", b'{"keys": {}}', b'{"keys": null}'])
def test_no_set(data: bytes) -> None:
    with pytest.raises(JwsError, match="the member keys"):
        KeySet.parse(data)


@pytest.mark.parametrize("bent", [{"x": None}, {"y": 1}, {"x": "AA"}, {"x": RFC_Y}, {"y": "!"}])
def test_no_key(bent: dict[str, Any]) -> None:
    with pytest.raises(JwsError):
        key_set({"kty": "EC", "crv": "P-256", "x": RFC_X, "y": RFC_Y, **bent})


def test_what_is_no_object_in_a_set_is_passed_over() -> None:
    assert KeySet.parse(b'{"keys": [1, null, "a", []]}').keys == {}
