"""Ways to bend bytes: named malformations, and a seeded mutator that piles them up."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

OVERSIZE_BYTES: Final = 70_000
"""More than any parser here is meant for; above the 65,535 of every 16-bit length."""

# Pairs of one algorithm and another: COSE numbers, OIDs of hashes, signatures and curves, names of a format's version.
_ALGORITHMS: Final = (
    (bytes.fromhex("0132"), bytes.fromhex("0127")),  # alg -19 (Ed25519) and -8 (EdDSA)
    (bytes.fromhex("608648016503040202"), bytes.fromhex("608648016503040201")),  # SHA-384, SHA-256
    (bytes.fromhex("2a8648ce3d040303"), bytes.fromhex("2a8648ce3d040302")),  # ECDSA with either
    (bytes.fromhex("2b81040022"), bytes.fromhex("2b81040023")),  # P-384, P-521
    (bytes.fromhex("013300013000"), bytes.fromhex("012300012000")),  # measurement block of SHA-384, of SHA-256
    (b"attestation#1", b"attestation#2"),
    (b"trigpoint-reference-values/1", b"trigpoint-reference-values/2"),
)
_DEEP: Final = 4_000


def empty(data: bytes, rng: random.Random) -> bytes:
    """Nothing."""
    del data, rng
    return b""


def truncated(data: bytes, rng: random.Random) -> bytes:
    """Cut anywhere."""
    return data[: rng.randrange(max(1, len(data)))]


def trailing(data: bytes, rng: random.Random) -> bytes:
    """A few bytes more."""
    return data + rng.choice([b"\0", b"\xff", b"\n", rng.randbytes(5)])


def oversized(data: bytes, rng: random.Random) -> bytes:
    """Far too long: filled up in the middle or at the end, or said over and over."""
    at = rng.choice([len(data), rng.randrange(len(data) + 1)])
    filling = rng.choice([b"\0", b"\xff", b"A", data or b"\0"])
    return data[:at] + filling * (OVERSIZE_BYTES // len(filling)) + data[at:]


def duplicated(data: bytes, rng: random.Random) -> bytes:
    """A part, or all of it, twice."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice([data + data, data[:end] + data[start:end] + data[end:]])


def non_canonical(data: bytes, rng: random.Random) -> bytes:
    """A CBOR head or a DER length in a longer form than needed."""
    heads = [i for i, b in enumerate(data) if b & 0x1F < 24]
    if not heads:
        return data + b"\x18\x00"
    at = rng.choice(heads)
    head = data[at]
    longer = rng.choice([bytes([head & 0xE0 | 24, head & 0x1F]), b"\x81" + bytes([head])])
    return data[:at] + longer + data[at + 1 :]


def indefinite(data: bytes, rng: random.Random) -> bytes:
    """A CBOR item or a DER value without a length."""
    heads = [i for i, b in enumerate(data) if 0x40 <= b < 0xC0 and b & 0x1F < 24]
    if not heads:
        return data + b"\x9f\xff"
    at = rng.choice(heads)
    return rng.choice(
        [data[:at] + bytes([data[at] & 0xE0 | 31]) + data[at + 1 :] + b"\xff", data[:1] + b"\x80" + data[2:] + b"\0\0"]
    )


def wrong_algorithm(data: bytes, rng: random.Random) -> bytes:
    """Another algorithm, curve, hash or schema for the one that is named first; the same bytes where none is named."""
    del rng
    there = [pair for pair in _ALGORITHMS if pair[0] in data]
    return data.replace(*min(there, key=lambda pair: data.index(pair[0]))) if there else data


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One bit."""
    if not data:
        return b"\1"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def overwritten(data: bytes, rng: random.Random) -> bytes:
    """A few bytes that parsers find special, or random ones."""
    at = rng.randrange(len(data) + 1)
    special = rng.choice([b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", bytes(8), rng.randbytes(3)])
    return data[:at] + special + data[at + len(special) :]


def removed(data: bytes, rng: random.Random) -> bytes:
    """A part is left out."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[end:]


def nested(data: bytes, rng: random.Random) -> bytes:
    """Thousands of levels, in the brackets of each format."""
    return rng.choice([b"\x81", b"\xa1\x00", b"\xc1", b"[", b'{"features":', b"\x30\x80"]) * _DEEP + data


MALFORMATIONS: Final[Mapping[str, Callable[[bytes, random.Random], bytes]]] = {
    f.__name__: f
    for f in (empty, truncated, oversized, duplicated, non_canonical, indefinite, trailing, wrong_algorithm)
}
"""Those that the parsers' tests go through by name."""

_ALL: Final = (*MALFORMATIONS.values(), flipped, flipped, flipped, overwritten, overwritten, removed, nested)


def mutated(samples: Sequence[bytes], rng: random.Random) -> bytes:
    """One sample, bent up to four times."""
    data = rng.choice(samples)
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_ALL)(data, rng)[:OVERSIZE_BYTES]
    return data
