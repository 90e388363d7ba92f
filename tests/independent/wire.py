"""What the second reader stands on: reasons, labels, and strict readers of deterministic CBOR and DER.

Specified in docs/protocol.md §1, §10 and I1. Written without a CBOR or ASN.1 library on purpose: a bug in one that the
other readers use would not show. Reads only the subset that the protocol uses; the rest is refused.
"""

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_DEPTH_MAX: Final = 8  # the deepest item of the protocol, an answered range in the claims, is at depth 3
_NAN_SHORTEST: Final = b"\x7e\x00"


class Reason(StrEnum):
    """The reasons of proto/trigpoint/v1/reason.proto that these checks can give."""

    CLAIMS_MALFORMED = "CLAIMS_MALFORMED"
    CHALLENGE_UNKNOWN = "CHALLENGE_UNKNOWN"
    DEVICE_LIST_MISMATCH = "DEVICE_LIST_MISMATCH"
    DEVICE_REPEATED = "DEVICE_REPEATED"
    CHAIN_MALFORMED = "CHAIN_MALFORMED"
    CHAIN_UNTRUSTED_ROOT = "CHAIN_UNTRUSTED_ROOT"
    CHAIN_SIGNATURE_INVALID = "CHAIN_SIGNATURE_INVALID"
    CHAIN_CONSTRAINT_VIOLATED = "CHAIN_CONSTRAINT_VIOLATED"
    CHAIN_EXPIRED = "CHAIN_EXPIRED"
    REPORT_MALFORMED = "REPORT_MALFORMED"
    REPORT_SIGNATURE_INVALID = "REPORT_SIGNATURE_INVALID"
    NONCE_MISMATCH = "NONCE_MISMATCH"
    FWID_MISMATCH = "FWID_MISMATCH"
    PDI_MISMATCH = "PDI_MISMATCH"
    RECEIPT_MALFORMED = "RECEIPT_MALFORMED"
    RECEIPT_SIGNATURE_INVALID = "RECEIPT_SIGNATURE_INVALID"
    LANDMARK_UNKNOWN = "LANDMARK_UNKNOWN"
    SESSION_MISMATCH = "SESSION_MISMATCH"
    TRANSCRIPT_NOT_LOGGED = "TRANSCRIPT_NOT_LOGGED"
    MASK_INVALID = "MASK_INVALID"
    TOO_FEW_ROUNDS = "TOO_FEW_ROUNDS"
    FIRMWARE_CANNOT_RANGE = "FIRMWARE_CANNOT_RANGE"
    COMMITMENT_REUSED = "COMMITMENT_REUSED"


class TicketFault(StrEnum):
    """Why a landmark refuses a ticket: the names of D6."""

    INVALID = "ticket invalid"
    EXPIRED = "ticket expired"


class RefusedError(Exception):
    """A rule is broken; `reason` is its name."""

    def __init__(self, reason: Reason | TicketFault, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def check(holds: bool, reason: Reason | TicketFault, detail: str) -> None:  # noqa: FBT001 - reads as an assertion
    """Refuse with `reason` unless `holds`."""
    if not holds:
        raise RefusedError(reason, detail)


def digest(*parts: bytes) -> bytes:
    """H of §1 over the joined parts."""
    return hashlib.sha256(b"".join(parts)).digest()


def label(name: str) -> bytes:
    """A label of C1."""
    return b"trigpoint-" + name.encode() + b"-v1\0"


class WireError(Exception):
    """The bytes are not the one encoding that the protocol allows."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged CBOR item."""

    number: int
    item: "Cbor"


Cbor = int | float | bytes | str | list["Cbor"] | dict[int, "Cbor"] | Tag


def cbor(data: bytes) -> Cbor:
    """Decode one item of deterministic CBOR that fills `data`.

    Map keys are integers, as all of the protocol's are: a float key 1.0 must not pass for 1. true, false, null and
    undefined occur in no message of the protocol and are refused here.

    Raises:
        WireError: on any other encoding.
    """
    item, end = _cbor_at(data, 0, 0)
    if end != len(data):
        raise WireError("bytes after the item")
    return item


def _cbor_at(data: bytes, at: int, depth: int) -> tuple[Cbor, int]:
    if depth > _DEPTH_MAX:
        raise WireError("too deep")
    major, info = _take(data, at, 1)[0] >> 5, data[at] & 31
    at += 1
    if major == 7:
        return _cbor_float(data, at, info)
    argument, at = _cbor_argument(data, at, info)
    item: Cbor
    if major in {0, 1}:
        item = argument if major == 0 else -1 - argument
    elif major in {2, 3}:
        body = _take(data, at, argument)
        item, at = (body if major == 2 else _utf8(body)), at + argument
    elif major == 4:
        items: list[Cbor] = []
        for _ in range(argument):
            item, at = _cbor_at(data, at, depth + 1)
            items.append(item)
        item = items
    elif major == 5:
        item, at = _cbor_map(data, at, argument, depth)
    else:
        inner, at = _cbor_at(data, at, depth + 1)
        item = Tag(argument, inner)
    return item, at


def _cbor_argument(data: bytes, at: int, info: int) -> tuple[int, int]:
    if info < 24:
        return info, at
    if info > 27:  # 28..30 are reserved, 31 is indefinite length: RFC 8949 §4.2.1
        raise WireError("indefinite or reserved length")
    size = 1 << (info - 24)
    value = int.from_bytes(_take(data, at, size), "big")
    if value < (24 if size == 1 else 1 << (4 * size)):  # it would have fitted the next shorter form
        raise WireError("integer is not the shortest")
    return value, at + size


def _cbor_float(data: bytes, at: int, info: int) -> tuple[float, int]:
    forms = {25: (2, ">e"), 26: (4, ">f"), 27: (8, ">d")}
    if info not in forms:
        raise WireError("simple values have no place in the protocol")
    size, form = forms[info]
    raw = _take(data, at, size)
    value: float = struct.unpack(form, raw)[0]
    if math.isnan(value):
        if raw != _NAN_SHORTEST:
            raise WireError("NaN is not the shortest")
    elif any(_float_fits(value, shorter) for length, shorter in forms.values() if length < size):
        raise WireError("float is not the shortest")
    return value, at + size


def _float_fits(value: float, form: str) -> bool:
    try:
        return bool(struct.unpack(form, struct.pack(form, value))[0] == value)
    except OverflowError:
        return False


def _cbor_map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[int, Cbor], int]:
    pairs: dict[int, Cbor] = {}
    last = b""
    for _ in range(count):
        key, value_at = _cbor_at(data, at, depth + 1)
        encoded = data[at:value_at]
        if type(key) is not int:
            raise WireError("map key is not an integer")
        if encoded <= last:  # covers unsorted and repeated keys
            raise WireError("map keys are not sorted and unique")
        last = encoded
        pairs[key], at = _cbor_at(data, value_at, depth + 1)
    return pairs, at


def _take(data: bytes, at: int, size: int) -> bytes:
    if size > len(data) - at:
        raise WireError("cut short")
    return data[at : at + size]


def _utf8(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise WireError("text is not UTF-8") from error


@dataclass(frozen=True, slots=True)
class Der:
    """One DER element: its identifier octet, its contents and the whole of it."""

    tag: int
    body: bytes
    raw: bytes

    def children(self) -> list["Der"]:
        """The elements inside a constructed one."""
        if not self.tag & 0x20:
            raise WireError("not constructed")
        return list(_der_elements(self.body))

    def expect(self, tag: int) -> "Der":
        """This element, if its identifier octet is `tag`."""
        if self.tag != tag:
            raise WireError(f"expected DER tag {tag:#x}, found {self.tag:#x}")
        return self

    def integer(self) -> bytes:
        """The contents of an INTEGER in its shortest form, two's complement, big-endian."""
        body = self.expect(0x02).body
        # X.690 §8.3.2: the first nine bits are neither all zero nor all one.
        if not body or (len(body) > 1 and (body[0], body[1] >> 7) in {(0x00, 0), (0xFF, 1)}):
            raise WireError("INTEGER is not the shortest")
        return body

    def boolean(self) -> bool:
        """A BOOLEAN whose default is FALSE: X.690 §11.1 and §11.5 leave only TRUE to be written."""
        if self.expect(0x01).body != b"\xff":
            raise WireError("BOOLEAN is not DER")
        return True


def der(data: bytes) -> Der:
    """Read one DER element that fills `data`.

    Raises:
        WireError: on BER, long tags, a truncated element and trailing bytes.
    """
    elements = list(_der_elements(data))
    if len(elements) != 1:
        raise WireError("not one DER element")
    return elements[0]


def _der_elements(data: bytes) -> Iterator[Der]:
    at = 0
    while at < len(data):
        start, tag = at, data[at]
        if tag & 0x1F == 0x1F:
            raise WireError("long tag")
        length, at = _take(data, at + 1, 1)[0], at + 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(_take(data, at, size), "big")
            if not 1 <= size <= 4 or length < 0x80 or length < 1 << (8 * (size - 1)):
                raise WireError("length is not the shortest")
            at += size
        body = _take(data, at, length)
        at += length
        yield Der(tag, body, data[start:at])
