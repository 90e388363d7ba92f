"""Claims against docs/protocol.md §3, read by hand."""

import hashlib

import cbor2
import pytest

from agent.claims import ClaimsError, Location, Ranged, bound_nonce, encode_claims
from agent.sources.base import Answered, Why

CHALLENGE = b"\x11" * 32
GPU = b"\x41\x01\x02\x03\x04\x05\x06\x07"
SWITCH = b"\x50\x01\x02\x03\x04\x05\x06\x07"
LANDMARK = b"\x22" * 32


def test_claims_bytes_are_those_of_the_cddl() -> None:
    claims = encode_claims(
        challenge=CHALLENGE,
        host_id="rack-7",
        host_time_s=1_700_000_000,
        devices=[GPU, SWITCH],
        ranges=[
            Ranged(GPU, LANDMARK, Answered(b"\xd2\x84", 0x8000_0000_0000_0001)),
            Ranged(SWITCH, LANDMARK, Why.CANNOT_RANGE),
        ],
        location=Location(1.5, 103.8),
    )
    by_hand = bytes.fromhex(
        "a7"  # map of 7
        "0a 5820" + "11" * 32 +  # 10: challenge
        "19 0108 a2 01 f9 3e00 02 fb 4059f33333333333"  # 264: {1: 1.5, 2: 103.8}
        "19 0109 78 24" + b"tag:trigpoint.dev,2026:attestation#1".hex() +  # 265: profile
        "3a 00011170 66" + b"rack-7".hex() +  # -70001
        "3a 00011171 1a 6553f100"  # -70002
        "3a 00011172 82 48 4101020304050607 48 5001020304050607"  # -70003
        "3a 00011173 82"  # -70004
        "84 00 5820" + "22" * 32 + "48 8000000000000001 42 d284"
        "83 01 5820" + "22" * 32 + "05"
    )  # fmt: skip
    assert claims == by_hand


def test_claims_decode_and_encode_to_the_same_bytes_with_sorted_keys() -> None:
    claims = encode_claims(challenge=CHALLENGE, host_id="h", host_time_s=-1, devices=[GPU], ranges=[])
    decoded = cbor2.loads(claims)
    assert list(decoded) == [10, 265, -70001, -70002, -70003, -70004]
    assert cbor2.dumps(decoded, canonical=True) == claims


def test_nonce_is_the_labeled_hash() -> None:
    assert bound_nonce(b"claims") == hashlib.sha256(b"trigpoint-attestation-v1\x00claims").digest()


@pytest.mark.parametrize(
    "change",
    [
        {"challenge": b"short"},
        {"host_id": ""},
        {"host_id": "h" * 129},
        {"host_id": "\u00e9" * 65},
        {"devices": []},
        {"devices": [GPU, GPU]},
        {"devices": [b"\x41"]},
        {"devices": [n.to_bytes(8, "big") for n in range(65)]},
        {"ranges": [Ranged(SWITCH, LANDMARK, Why.NO_REPLY)]},
        {"ranges": [Ranged(GPU, b"short", Why.NO_REPLY)]},
        {"ranges": [Ranged(GPU, LANDMARK, Answered(b"", 1))]},
        {"ranges": [Ranged(GPU, LANDMARK, Answered(b"r" * 1025, 1))]},
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object]) -> None:
    fitting: dict[str, object] = {
        "challenge": CHALLENGE,
        "host_id": "h",
        "host_time_s": 0,
        "devices": [GPU],
        "ranges": [],
    }
    with pytest.raises(ClaimsError):
        encode_claims(**(fitting | change))  # type: ignore[arg-type]
