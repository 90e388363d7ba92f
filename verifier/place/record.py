"""A landmark's record as its operator signed it (docs/protocol.md LA8).

Whoever keeps the registry cannot move a landmark that an accusation rests on. Addresses are not signed: they decide
nothing.
"""

import hashlib
from datetime import UTC, datetime, timedelta

from verifier import cbor, cose
from verifier.errors import RecordNotSignedError
from verifier.place.landmarks import Landmark

_AAD_RECORD = b"trigpoint-landmark-v1\0"
_KEY_BYTES = 32
_UNITS_PER_DEGREE = 10_000_000
_METERS_PER_KM = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_FIELDS = {
    1: "name",
    2: "public_key",
    3: "operator",
    4: "hoster",
    5: "latitude",
    6: "longitude",
    7: "uncertainty_km",
    8: "survey_method",
    9: "virtual_machine",
    10: "country",
    11: "valid_from",
    12: "valid_until",
}
"""Keys of the signed map, and what `trigpoint.v1.Landmark` calls the same."""

_OPTIONAL = frozenset({11, 12})
_REQUIRED = _FIELDS.keys() - _OPTIONAL


def verify_record(landmark: Landmark, survey_method: str, operator_key: bytes, signature: bytes) -> None:
    """Check that an operator signed a landmark's record, every field as it stands (docs/protocol.md LA8).

    That the operator has this one key over the whole registry, only the caller knows.

    Args:
        landmark: As registered; its position, uncertainty and validity must be what the signed whole numbers give.
        survey_method: As registered.
        operator_key: The operator's raw Ed25519 public key.
        signature: COSE_Sign1.

    Raises:
        RecordNotSignedError: The one point that fails first.
    """
    # 1. It is one whole message, and the operator signed it for this use.
    if len(operator_key) != _KEY_BYTES:
        raise RecordNotSignedError("operator_key", f"an Ed25519 key has 32 bytes, not {len(operator_key)}")
    try:
        message = cose.parse_sign1_of_bytes(signature)
    except cbor.NotDeterministicError as error:
        raise RecordNotSignedError("operator_signature", str(error)) from error
    if message.kid != hashlib.sha256(operator_key).digest() or not message.verifies(operator_key, _AAD_RECORD):
        raise RecordNotSignedError("operator_signature", "it does not hold under the operator's key")
    # 2. It holds a record, and nothing else.
    try:
        content = cbor.decode(message.untrusted_payload)
    except cbor.NotDeterministicError as error:
        raise RecordNotSignedError("operator_signature", f"its payload: {error}") from error
    if not cbor.has_keys(content, _REQUIRED, _OPTIONAL):
        raise RecordNotSignedError("operator_signature", "its payload is not a map of the keys of a record")
    # 3. Every field says what the record says. Encodings are compared: true equals 1 in Python, and is not.
    signed, stated = _encoded(content), _encoded(_content(landmark, survey_method))
    for key, field in _FIELDS.items():
        if signed.get(key) != stated.get(key):
            raise RecordNotSignedError(field, "the operator signed another value")


def _content(landmark: Landmark, survey_method: str) -> dict[int, object]:
    """Return what a signature over exactly this record holds."""
    content: dict[int, object] = {
        1: str(landmark.landmark_id),
        2: landmark.public_key,
        3: landmark.operator,
        4: landmark.hoster,
        5: _whole(landmark.position.latitude, _UNITS_PER_DEGREE, "latitude"),
        6: _whole(landmark.position.longitude, _UNITS_PER_DEGREE, "longitude"),
        7: _whole(landmark.uncertainty_km, _METERS_PER_KM, "uncertainty_km"),
        8: survey_method,
        9: landmark.virtual_machine,
        10: str(landmark.country),
    }
    for key, moment in ((11, landmark.valid_from), (12, landmark.valid_until)):
        if moment is not None:
            content[key] = _unix_s(moment, _FIELDS[key])
    return content


def _encoded(content: dict[int, object]) -> dict[int, bytes]:
    return {key: cbor.encode(value) for key, value in content.items()}


def _whole(value: float, units: int, field: str) -> int:
    # Division is rounded correctly, so a number that was written with these decimals is met exactly.
    number = round(value * units)
    if number / units != value:
        raise RecordNotSignedError(field, f"a signed record has whole multiples of 1/{units:,}")
    return number


def _unix_s(moment: datetime, field: str) -> int:
    seconds, rest = divmod(moment - _EPOCH, timedelta(seconds=1))
    if rest or seconds < 0:
        raise RecordNotSignedError(field, "a signed record has whole seconds since 1970")
    return seconds
