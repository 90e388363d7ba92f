"""Packing of small values into columns: lists of byte strings, sets of PDIs, counters, places. Exact both ways."""

import struct
from collections.abc import Iterable

from server.times import micros, moment
from verifier.evidence.spdm import Counters
from verifier.place.geodesy import Position
from verifier.place.travel import SeenPlace
from verifier.units import Pdi

PDI_BYTES = 8
_TIMES = struct.Struct(">qq")
_DISC = struct.Struct(">ddd")


def pack(items: Iterable[bytes]) -> bytes:
    """Join byte strings, each behind its length as u32be."""
    return b"".join(len(item).to_bytes(4, "big") + item for item in items)


def unpack(packed: bytes) -> tuple[bytes, ...]:
    """Split what `pack` joined."""
    items: list[bytes] = []
    at = 0
    while at < len(packed):
        end = at + 4 + int.from_bytes(packed[at : at + 4], "big")
        items.append(packed[at + 4 : end])
        at = end
    return tuple(items)


def pack_pdis(pdis: Iterable[Pdi]) -> bytes:
    """Join PDIs, sorted."""
    return b"".join(sorted(pdis))


def unpack_pdis(packed: bytes) -> frozenset[Pdi]:
    """Split what `pack_pdis` joined."""
    return frozenset(Pdi(packed[at : at + PDI_BYTES]) for at in range(0, len(packed), PDI_BYTES))


def pack_counters(counters: Counters) -> bytes:
    """Join boot and attestation counter, each as u64be."""
    return counters.boot.to_bytes(8, "big") + counters.attestation.to_bytes(8, "big")


def unpack_counters(packed: bytes) -> Counters:
    """Split what `pack_counters` joined."""
    return Counters(int.from_bytes(packed[:8], "big"), int.from_bytes(packed[8:], "big"))


def pack_place(place: SeenPlace) -> bytes:
    """Join both times, each as i64be of `micros`, and of each disc latitude, longitude and radius as binary64."""
    times = _TIMES.pack(micros(place.issued_at), micros(place.received_at))
    discs = (_DISC.pack(position.latitude, position.longitude, radius) for position, radius in place.discs)
    return times + b"".join(discs)


def unpack_place(packed: bytes) -> SeenPlace:
    """Split what `pack_place` joined."""
    issued_at, received_at = map(moment, _TIMES.unpack_from(packed))
    discs = _DISC.iter_unpack(packed[_TIMES.size :])
    return SeenPlace(issued_at, received_at, tuple((Position(a, b), radius) for a, b, radius in discs))
