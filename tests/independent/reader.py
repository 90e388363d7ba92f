"""The second reader's claims, receipts and tickets, read from docs/protocol.md §3 and §7 alone.

It exists to find out whether the page says enough. Chains and reports are in identity.py, CBOR and DER in wire.py; only
hashes and signatures come from libraries. Bytes and values in, values out. It keeps no state, so CH2 beyond the
comparison and TK1's "once" are not here. Where the page leaves a choice, "Reading:" says which one was taken.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.independent.identity import LogEntry
from tests.independent.wire import Cbor, Reason, RefusedError, Tag, TicketFault, WireError, cbor, check, digest, label


def requester_nonce(claims: bytes) -> bytes:
    """The nonce that every report of an attestation carries. docs/protocol.md CL1."""
    return digest(label("attestation"), claims)


@dataclass(frozen=True, slots=True)
class Range:
    """One entry of -70004: answered with a receipt, or not, and why."""

    device: int
    landmark: bytes
    mask: bytes = b""
    receipt: bytes = b""
    why: int = 0


@dataclass(frozen=True, slots=True)
class Claims:
    """A claims-set that parses; true or not. docs/protocol.md §3."""

    challenge: bytes
    host: str
    untrusted_time: int
    untrusted_location: tuple[float, float] | None
    devices: tuple[bytes, ...]
    ranges: tuple[Range, ...]


_T = TypeVar("_T")


def _as(kind: type[_T], value: Cbor) -> _T:
    """`value` if it is exactly a `kind`; a bool is no int and an int no float here."""
    if type(value) is not kind:
        raise WireError(f"expected {kind.__name__}")
    return value


def _bytes(value: Cbor, least: int, most: int) -> bytes:
    data = _as(bytes, value)
    if not least <= len(data) <= most:
        raise WireError("wrong size")
    return data


def _uint(value: Cbor, least: int = 0, most: int = 2**64 - 1) -> int:
    number = _as(int, value)
    if not least <= number <= most:
        raise WireError("out of range")
    return number


def _keys(value: Cbor, needed: set[int], optional: set[int] | None = None) -> dict[int, Cbor]:
    fields = _as(dict, value)
    if not needed <= fields.keys() <= needed | (optional or set()):  # CL3
        raise WireError("missing or unknown key")
    return fields


def read_claims(data: bytes) -> Claims:
    """Parse a claims-set.

    Raises:
        RefusedError: CLAIMS_MALFORMED.
    """
    try:
        return _claims(cbor(data))
    except WireError as error:
        raise RefusedError(Reason.CLAIMS_MALFORMED, str(error)) from error


def _claims(item: Cbor) -> Claims:
    fields = _keys(item, {10, 265, -70001, -70002, -70003, -70004}, {264})
    location = None
    if 264 in fields:
        place = _keys(fields[264], {1, 2})
        latitude, longitude = (value if type(value) is float else _as(int, value) for value in place.values())
        location = (float(latitude), float(longitude))
    if _as(str, fields[265]) != "tag:trigpoint.dev,2026:attestation#1":
        raise WireError("another profile")
    host = _as(str, fields[-70001])
    devices = tuple(_bytes(pdi, 8, 8) for pdi in _as(list, fields[-70003]))
    # RFC 8610 §3.8.1: the size of a tstr counts bytes.
    if not 1 <= len(host.encode()) <= 128 or not 1 <= len(devices) <= 64:
        raise WireError("host or devices")
    ranges = tuple(_range(entry, len(devices)) for entry in _as(list, fields[-70004]))
    return Claims(
        challenge=_bytes(fields[10], 32, 32),
        host=host,
        untrusted_time=_as(int, fields[-70002]),
        untrusted_location=location,
        devices=devices,
        ranges=ranges,
    )


def _range(entry: Cbor, devices: int) -> Range:
    parts = _as(list, entry)
    if len(parts) not in {3, 4}:
        raise WireError("neither an answered nor an unanswered range")
    # Reading: an index to no device is malformed, as `device` "is an index into -70003".
    device, landmark = _uint(parts[0], most=devices - 1), _bytes(parts[1], 32, 32)
    if len(parts) == 3:
        return Range(device, landmark, why=_uint(parts[2], 1, 6))
    return Range(device, landmark, mask=_bytes(parts[2], 8, 8), receipt=_bytes(parts[3], 1, 1024))


def match_claims(claims: Claims, challenge: bytes, host: str, pdis: Sequence[bytes]) -> None:
    """Hold parsed claims against the attestation that carries them: its challenge, host and the PDIs of its chains.

    Raises:
        RefusedError: CHALLENGE_UNKNOWN, DEVICE_REPEATED or DEVICE_LIST_MISMATCH, in this order (a reading).
    """
    # CH2. Reading: the host in the claims is the one that the challenge was issued for.
    check(claims.challenge == challenge, Reason.CHALLENGE_UNKNOWN, "CH2: another challenge")
    check(claims.host == host, Reason.CHALLENGE_UNKNOWN, "CH2: another host")
    # CL2. Reading: twice in the list, or twice among the chains, is "one device reports twice".
    once = len(set(claims.devices)) == len(claims.devices) and len(set(pdis)) == len(pdis)
    check(once, Reason.DEVICE_REPEATED, "CL2")
    check(claims.devices == tuple(pdis), Reason.DEVICE_LIST_MISMATCH, "CL2")


def _signed(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Kid, protected header, payload and signature of a COSE_Sign1_Tagged. docs/protocol.md C3."""
    message = _as(Tag, cbor(data))
    if message.number != 18:
        raise WireError("not COSE_Sign1")
    parts = _as(list, message.item)
    if len(parts) != 4 or _keys(parts[1], set()):
        raise WireError("not COSE_Sign1, or an unprotected header")
    protected, payload = _as(bytes, parts[0]), _as(bytes, parts[2])
    header = _keys(cbor(protected), {1, 4})
    if _as(int, header[1]) != -19:
        raise WireError("not Ed25519")
    # Reading: C3 gives the signature no size, so one of another size is not malformed, it does not hold.
    return _bytes(header[4], 32, 32), protected, payload, _as(bytes, parts[3])


def _head(major: int, length: int) -> bytes:
    """The head of a CBOR string or array that is shorter than 64 KiB."""
    if length < 24:
        return bytes([major << 5 | length])
    return bytes([major << 5 | 24, length]) if length < 256 else bytes([major << 5 | 25]) + length.to_bytes(2, "big")


def to_be_signed(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    """The Sig_structure of RFC 9052 §4.4."""
    strings = (_head(2, len(part)) + part for part in (protected, external_aad, payload))
    return b"\x84\x6aSignature1" + b"".join(strings)


def _ed25519_holds(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt that parses, with what is needed to check its signature. docs/protocol.md §7 Receipt."""

    kid: bytes
    session: bytes
    challenge: bytes
    nonce: bytes
    commitment: bytes
    seed: bytes
    sent: int
    accepted: int
    rtt_ns: int
    signature: bytes
    signed: bytes


def read_receipt(data: bytes) -> Receipt:
    """Parse a receipt.

    Raises:
        RefusedError: RECEIPT_MALFORMED.
    """
    try:
        kid, protected, payload, signature = _signed(data)
        fields = _keys(cbor(payload), set(range(1, 12)))
        session, challenge, nonce, commitment, seed = (_bytes(fields[key], 32, 32) for key in range(1, 6))
        _uint(fields[9], 1, 2)
        _uint(fields[10])
        _as(int, fields[11])
        return Receipt(
            kid=kid,
            session=session,
            challenge=challenge,
            nonce=nonce,
            commitment=commitment,
            seed=seed,
            sent=_uint(fields[6], 1, 64),
            accepted=int.from_bytes(_bytes(fields[7], 8, 8), "big"),  # C4
            rtt_ns=_uint(fields[8]),
            signature=signature,
            signed=to_be_signed(protected, label("receipt"), payload),
        )
    except WireError as error:
        raise RefusedError(Reason.RECEIPT_MALFORMED, str(error)) from error


def transcript(session: bytes, commitment: bytes, seed: bytes, answered: int) -> bytes:
    """T of R4 for the rounds in the mask `answered`, with the round challenges of R3."""
    rounds = [i for i in range(64) if answered >> i & 1]
    stream = hashlib.shake_256(seed).digest(64 * 16)
    link = digest(label("log"), session, commitment)
    for i in rounds:
        link = digest(link, i.to_bytes(2, "big"), stream[16 * i : 16 * i + 16])
    return digest(label("close"), link, len(rounds).to_bytes(2, "big"))


@dataclass(frozen=True, slots=True)
class Ranger:
    """What a range is held against: one device's signed log, and whether its firmware may range (R8)."""

    log: tuple[LogEntry, ...]
    can_range: bool


@dataclass(frozen=True, slots=True)
class Ranged:
    """A range that holds: rtt in nanoseconds as the receipt states it, not widened by R5's 200 ppm."""

    landmark: bytes
    rtt_ns: int


def read_ranges(
    challenge: bytes, ranges: Sequence[Range], rangers: Sequence[Ranger], landmarks: Iterable[bytes]
) -> list[Ranged | Reason | None]:
    """Appraise all ranges of one attestation, in order: a range, the reason it is void, or None for an unanswered one.

    `landmarks` are the registered landmarks' raw Ed25519 keys. Reading of the precedence: R8, then R7 in its own order.
    """
    keys = {digest(key): key for key in landmarks}
    receipts: list[Receipt | Reason | None] = []
    for entry in ranges:
        try:
            receipts.append(None if entry.why else read_receipt(entry.receipt))
        except RefusedError as error:
            receipts.append(Reason(error.reason))
    # R7. Reading: every receipt that parses names a commitment and a session, whether or not its range holds.
    parsed = [receipt for receipt in receipts if isinstance(receipt, Receipt)]
    named = Counter(receipt.commitment for receipt in parsed), Counter(receipt.session for receipt in parsed)
    outcomes: list[Ranged | Reason | None] = []
    for entry, receipt in zip(ranges, receipts, strict=True):
        if receipt is None:
            outcomes.append(None)
            continue
        try:
            check(rangers[entry.device].can_range, Reason.FIRMWARE_CANNOT_RANGE, "R8")
            held = _held(challenge, entry, receipt, rangers[entry.device].log, keys)
            reused = named[0][held.commitment] > 1 or named[1][held.session] > 1
            check(not reused, Reason.COMMITMENT_REUSED, "R7: another range names it too")
            outcomes.append(Ranged(entry.landmark, held.rtt_ns))
        except RefusedError as error:
            outcomes.append(Reason(error.reason))
    return outcomes


def _held(
    challenge: bytes,
    entry: Range,
    receipt: Receipt | Reason,
    log: Sequence[LogEntry],
    keys: Mapping[bytes, bytes],
) -> Receipt:
    """What R7 asks of a range by itself, in the order of its list."""
    if isinstance(receipt, Reason):
        raise RefusedError(receipt, "C2, C3, §7 Receipt")
    check(entry.landmark in keys, Reason.LANDMARK_UNKNOWN, "R7: not registered")
    # Reading: a receipt whose kid is not the landmark of the claims is "not signed by the landmark it names".
    own = receipt.kid == entry.landmark
    signed = own and _ed25519_holds(keys[entry.landmark], receipt.signature, receipt.signed)
    check(signed, Reason.RECEIPT_SIGNATURE_INVALID, "R7: signature")
    check(receipt.challenge == challenge, Reason.SESSION_MISMATCH, "R7: another challenge")
    session = digest(label("session"), challenge, entry.landmark, receipt.nonce)  # R1
    check(receipt.session == session, Reason.SESSION_MISMATCH, "R1: not the hash of its parts")
    answered = int.from_bytes(entry.mask, "big")  # C4
    t = transcript(session, receipt.commitment, receipt.seed, answered)
    within = not receipt.accepted & ~answered and not answered >> receipt.sent  # accepted ⊆ answered ⊆ sent
    check(within, Reason.MASK_INVALID, "R7: masks")
    check(receipt.accepted.bit_count() >= 8, Reason.TOO_FEW_ROUNDS, "R5, R7")
    check(LogEntry(session, receipt.commitment, t) in log, Reason.TRANSCRIPT_NOT_LOGGED, "R7: not in the signed log")
    return receipt


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket that a landmark accepts, if it has not seen its id. docs/protocol.md §7 Ticket."""

    challenge: bytes
    expires: int
    ticket_id: bytes


def read_ticket(data: bytes, server_key: bytes, landmark: bytes, now: int, skew_s: int = 0) -> Ticket:
    """Check a ticket as the landmark with the key id `landmark` does, at `now` in Unix seconds. docs/protocol.md TK1.

    Raises:
        RefusedError: with a TicketFault.
    """
    try:
        kid, protected, payload, signature = _signed(data)
        fields = _keys(cbor(payload), {1, 2, 3, 4})
        names = _bytes(fields[2], 32, 32)
        ticket = Ticket(_bytes(fields[1], 32, 32), _uint(fields[3]), _bytes(fields[4], 16, 16))
    except WireError as error:
        raise RefusedError(TicketFault.INVALID, str(error)) from error
    signed = to_be_signed(protected, label("ticket"), payload)
    authentic = kid == digest(server_key) and _ed25519_holds(server_key, signature, signed)
    check(authentic, TicketFault.INVALID, "TK1: signature")
    check(names == landmark, TicketFault.INVALID, "TK1: another landmark's")
    # Reading: at the second `expires` it has expired. The page gives no code for it; D6 has one of that name.
    check(now < ticket.expires + skew_s, TicketFault.EXPIRED, "TK1")
    check(ticket.expires <= now + 300, TicketFault.INVALID, "TK1: too far ahead")
    return ticket
