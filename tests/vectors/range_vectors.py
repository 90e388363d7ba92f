"""Vectors of kind `range`: docs/protocol.md §7, C3 and C4, each rule kept and broken."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cbor2

from tests.vectors.builder import ED25519_ORDER, Session, encode, fill, key_id, mask_of, public_key, sha256, sign1

Vector = dict[str, Any]
HONEST = Session()
OTHER = Session(label="older session")
LANDMARKS = ("landmark a", "landmark b")
TICKET_LABEL = b"trigpoint-ticket-v1\0"
BAD = "RECEIPT_MALFORMED"


def vector(
    name: str,
    rule: str,
    expect: str,
    why: str,
    session: Session = HONEST,
    *,
    receipt: bytes | None = None,
    mask: bytes | None = None,
    log: Sequence[dict[str, str]] | None = None,
    others: Sequence[tuple[str, bytes, bytes]] = (),
    can_range: bool = True,
    challenge: bytes = HONEST.challenge,
    landmark: str | None = None,
) -> Vector:
    """One vector: the honest range of `session` but for what is named."""
    made: dict[str, Any] = {
        "name": f"{rule.replace('§', 'S')}-{name}",
        "rule": rule,
        "kind": "range",
        "expect": expect,
        "why": why,
        "challenge": challenge.hex(),
        "landmarks": [public_key(label).hex() for label in LANDMARKS],
        "can_range": can_range,
        "log": [session.entry()] if log is None else list(log),
        "landmark": key_id(landmark or session.landmark).hex(),
        "mask": (mask_of(session.answered) if mask is None else mask).hex(),
        "receipt": (session.receipt() if receipt is None else receipt).hex(),
        "others": [{"landmark": key_id(n).hex(), "mask": m.hex(), "receipt": r.hex()} for n, m, r in others],
    }
    if expect == "AUTHENTIC":
        made["rtt_ns"] = session.rtt_ns
    return made


def good(name: str, rule: str, why: str, session: Session = HONEST, **parts: Any) -> Vector:
    """A range that holds."""
    return vector(name, rule, "AUTHENTIC", why, session, **parts)


def vectors() -> Iterator[Vector]:
    """All of them."""
    yield from encoding()
    yield from message()
    yield from payload()
    yield from session_and_landmark()
    yield from masks()
    yield from transcripts()
    yield from uses()


def encoding() -> Iterator[Vector]:
    receipt, data = HONEST.receipt(), encode(HONEST.payload())
    yield good("good-receipt", "C2", "The deterministic encoding.")
    for name, other, why in (
        ("receipt-trailing-byte", receipt + b"\0", "A byte follows the receipt."),
        ("receipt-truncated", receipt[:-1], "The last byte of the receipt is missing."),
        ("receipt-long-tag", b"\xd8\x12" + receipt[1:], "The tag is longer than needed."),
        ("receipt-indefinite", b"\xd2\x9f" + receipt[2:] + b"\xff", "The message has no length."),
    ):
        yield vector(f"lie-{name}", "C2", BAD, why, receipt=other)
    entries = [encode(k) + encode(v) for k, v in HONEST.payload().items()]
    for name, other, why in (
        ("trailing-byte", data + b"\0", "A byte follows the payload."),
        ("unsorted", b"\xab" + b"".join(reversed(entries)), "The payload's keys are in another order."),
        ("duplicate-key", b"\xac" + entries[0] + b"".join(entries), "A key of the payload occurs twice."),
        ("indefinite", b"\xbf" + data[1:] + b"\xff", "The payload has no length."),
        ("long-integer", data.replace(b"\x06\x10", b"\x06\x18\x10"), "An integer is longer than needed."),
        ("empty", b"", "The payload is empty."),
    ):
        assert other != data, name
        # The landmark signed exactly this.
        yield vector(f"lie-payload-{name}", "C2", BAD, why, receipt=sign1(other, HONEST.landmark))


def message() -> Iterator[Vector]:
    data, kid = encode(HONEST.payload()), key_id(HONEST.landmark)

    def signed(**parts: Any) -> bytes:
        return sign1(data, HONEST.landmark, **parts)

    whole = cbor2.loads(HONEST.receipt()).value
    protected, _, content, signature = whole
    yield good("good-message", "C3", "COSE_Sign1_Tagged with one protected header.")
    for name, receipt, why in (
        ("untagged", signed(tag=None), "There is no tag."),
        ("other-tag", signed(tag=98), "The tag is that of COSE_Sign."),
        ("eddsa", signed(header={1: -8, 4: kid}), "The algorithm is EdDSA by its old number."),
        ("es256", signed(header={1: -7, 4: kid}), "The algorithm is another one."),
        ("no-algorithm", signed(header={4: kid}), "There is no algorithm."),
        ("no-kid", signed(header={1: -19}), "There is no kid."),
        ("short-kid", signed(header={1: -19, 4: kid[:31]}), "The kid has 31 bytes."),
        ("crit", signed(header={1: -19, 2: [7], 4: kid}), "There is a third header."),
        ("unprotected", signed(unprotected={4: kid}), "The kid stands in the unprotected header too."),
        ("detached", encode(cbor2.CBORTag(18, [protected, {}, None, signature])), "The payload is detached."),
        ("five-parts", encode(cbor2.CBORTag(18, [protected, {}, content, signature, b""])), "There is a fifth part."),
        ("header-map", encode(cbor2.CBORTag(18, [{1: -19, 4: kid}, {}, content, signature])), "A header not in bytes."),
        ("text", encode("receipt"), "The receipt is a text."),
    ):
        yield vector(f"lie-{name}", "C3", BAD, why, receipt=receipt)
    bad = "RECEIPT_SIGNATURE_INVALID"
    s = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    large = signature[:32] + s.to_bytes(32, "little")
    for name, receipt, why in (
        ("ticket-label", signed(aad=TICKET_LABEL), "It was signed as a ticket."),
        ("no-label", signed(aad=b""), "It was signed without a label."),
        (
            "flipped",
            encode(cbor2.CBORTag(18, [protected, {}, content, bytes([*signature[:-1], signature[-1] ^ 1])])),
            "One bit of the signature is flipped.",
        ),
        ("zeros", encode(cbor2.CBORTag(18, [protected, {}, content, bytes(64)])), "The signature is zeros."),
        (
            "large-s",
            encode(cbor2.CBORTag(18, [protected, {}, content, large])),
            "S is not below the order (RFC 8032 §5.1.7).",
        ),
        ("short", encode(cbor2.CBORTag(18, [protected, {}, content, signature[:63]])), "The signature has 63 bytes."),
    ):
        yield vector(f"lie-signature-{name}", "C3", bad, why, receipt=receipt)


def payload() -> Iterator[Vector]:
    yield good("good-payload", "§7", "All eleven fields.")
    software = replace(HONEST, rtt_ns=0)
    yield good("good-clock-2", "§7", "Kernel stamps and a round trip of 0.", software, receipt=software.receipt(f9=2))
    for name, rule, changes, why in (
        ("unknown-field", "§7", {"f12": 0}, "There is an unknown field."),
        ("no-time", "§7", {"f11": None}, "Field 11 is missing."),
        ("no-seed", "§7", {"f5": None}, "The seed is missing."),
        ("short-session", "§7", {"f1": HONEST.session[:31]}, "The session has 31 bytes."),
        ("long-seed", "§7", {"f5": HONEST.seed + b"\0"}, "The seed has 33 bytes."),
        ("text-commitment", "§7", {"f4": "C" * 32}, "The commitment is a text."),
        ("float-round-trip", "§7", {"f8": 1.5}, "The round trip is a float."),
        ("negative-round-trip", "§7", {"f8": -1}, "The round trip is negative."),
        ("boolean-clock", "§7", {"f9": True}, "The clock is true."),
        ("clock-0", "§7", {"f9": 0}, "There is no clock 0."),
        ("clock-3", "§7", {"f9": 3}, "There is no clock 3."),
        ("negative-revision", "§7", {"f10": -1}, "The revision is negative."),
        ("text-time", "§7", {"f11": "now"}, "The landmark's time is a text."),
        ("no-round", "R3", {"f6": 0}, "No round was sent."),
        ("65-rounds", "R3", {"f6": 65}, "65 rounds were sent."),
        ("accepted-7-bytes", "C4", {"f7": bytes(7)}, "The mask of accepted rounds has 7 bytes."),
        ("accepted-integer", "C4", {"f7": 0xFFFF}, "The mask of accepted rounds is an integer."),
    ):
        yield vector(f"lie-{name}", rule, BAD, why, receipt=HONEST.receipt(**changes))
    data = sign1(encode([1, 2]), HONEST.landmark)
    yield vector("lie-list", "§7", BAD, "The payload is a list.", receipt=data)


def session_and_landmark() -> Iterator[Vector]:
    yield good("good-session", "R1", "The session is the hash of challenge, landmark and nonce.")
    bad = "SESSION_MISMATCH"
    older = replace(HONEST, challenge=fill("older challenge"))
    yield vector("lie-older", "R1", bad, "All of it is of an older challenge.", older)
    relabeled = older.receipt(f2=HONEST.challenge)
    yield vector("lie-relabeled", "R1", bad, "An older session under this challenge.", older, receipt=relabeled)
    yield vector("lie-nonce", "R1", bad, "Another landmark nonce.", receipt=HONEST.receipt(f3=fill("another nonce")))
    no_label = sha256(HONEST.challenge, key_id(HONEST.landmark), HONEST.nonce)
    log = [HONEST.entry(session=no_label)]
    yield vector(
        "lie-no-label",
        "R1",
        bad,
        "The session is hashed without its label.",
        receipt=HONEST.receipt(f1=no_label),
        log=log,
    )
    theirs = replace(HONEST, landmark="landmark b")
    swapped = sign1(encode(theirs.payload()), "landmark a")
    yield vector(
        "lie-landmark",
        "R1",
        bad,
        "The session is one with another landmark.",
        theirs,
        receipt=swapped,
        landmark="landmark a",
    )
    yield good("good-challenge", "R7", "The receipt is for this attestation's challenge.")
    other = fill("another attestation's challenge")
    yield vector("lie-challenge", "R7", bad, "The receipt is for another attestation's challenge.", challenge=other)
    yield vector(
        "lie-stated", "R7", bad, "It states another challenge than its session.", receipt=HONEST.receipt(f2=other)
    )
    yield good("good-second-landmark", "R7", "The key decides which landmark signed.", theirs)
    stranger = replace(HONEST, landmark="stranger")
    yield vector("lie-unregistered", "R7", "LANDMARK_UNKNOWN", "The landmark is not registered.", stranger)
    bad = "RECEIPT_SIGNATURE_INVALID"
    forged = sign1(encode(HONEST.payload()), "stranger", named="landmark a")
    yield vector("lie-forged", "R7", bad, "A stranger signed in a landmark's name.", receipt=forged)
    forged = sign1(encode(HONEST.payload()), "landmark b", named="landmark a")
    yield vector("lie-other-landmark", "R7", bad, "Another landmark signed in its name.", receipt=forged)


def masks() -> Iterator[Vector]:
    fewer = replace(HONEST, answered=(0, 1, *range(3, 15)), accepted=(*range(4, 14),))
    yield good("good-subsets", "R7", "Fewer accepted than answered than sent.", fewer)
    last = replace(HONEST, sent=64, answered=tuple(range(40, 64)))
    yield good("good-mask-big-endian", "C4", "Bit 63 stands for round 63.", last)
    bad = "MASK_INVALID"
    more = replace(HONEST, answered=tuple(range(15)), accepted=tuple(range(16)))
    yield vector("lie-accepted", "R7", bad, "A round is accepted that was not answered.", more)
    more = replace(HONEST, answered=(*range(16), 20), accepted=tuple(range(16)))
    yield vector("lie-answered", "R7", bad, "A round is answered that was not sent.", more)
    more = replace(HONEST, sent=15)
    yield vector("lie-sent", "R7", bad, "A round is accepted and answered that was not sent.", more)
    none = replace(HONEST, answered=(), accepted=tuple(range(16)))
    yield vector("lie-nothing-answered", "R7", bad, "Nothing is answered and all is accepted.", none)
    backwards = sum(1 << 63 - i for i in range(64) if i >= 40).to_bytes(8, "big")
    yield vector("lie-bit-order", "C4", bad, "The mask begins with its highest bit.", last, mask=backwards)
    eight = replace(HONEST, accepted=tuple(range(8)))
    yield good("good-eight", "R5", "Eight rounds are enough.", eight)
    seven = replace(HONEST, accepted=tuple(range(7)))
    yield vector("lie-seven", "R5", "TOO_FEW_ROUNDS", "Seven rounds are too few.", seven)
    none = replace(HONEST, accepted=())
    yield vector("lie-none", "R5", "TOO_FEW_ROUNDS", "No round is accepted.", none)
    alone = replace(HONEST, answered=tuple(range(7)), accepted=tuple(range(7)))
    yield vector("lie-seven-answered", "R5", "TOO_FEW_ROUNDS", "Only seven rounds were answered.", alone)
    yield good("good-64-rounds", "R3", "All of 64 rounds.", replace(HONEST, sent=64, answered=tuple(range(64))))


def transcripts() -> Iterator[Vector]:
    bad = "TRANSCRIPT_NOT_LOGGED"

    def logged(**parts: bytes) -> list[dict[str, str]]:
        return [HONEST.entry(**parts)]

    yield good("good-gaps", "R4", "Rounds 3, 7 and 11 were not answered.", replace(HONEST, answered=_gaps()))
    yield good("good-among-others", "R4", "Other sessions stand in the log.", log=[OTHER.entry(), HONEST.entry()])
    yield vector(
        "lie-open",
        "R4",
        bad,
        "The last link is missing: it was not closed.",
        log=logged(transcript=HONEST.transcript(closed=False)),
    )
    fewer = replace(HONEST, answered=tuple(range(15)))
    yield vector(
        "lie-hidden-round",
        "R4",
        bad,
        "The host hides a round that was answered.",
        replace(fewer, accepted=tuple(range(12))),
        log=logged(),
    )
    gaps = replace(HONEST, answered=_gaps(), accepted=(0, 1, 2, 4, 5, 6, 8, 9))
    full = mask_of(range(16))
    yield vector("lie-invented-round", "R4", bad, "The host tells rounds that were not answered.", gaps, mask=full)
    shifted = replace(HONEST, answered=tuple(range(1, 15)), accepted=tuple(range(2, 12)))
    mask = mask_of(range(14))
    yield vector("lie-shifted-rounds", "R4", bad, "As many rounds, but other ones.", shifted, mask=mask)
    rounds = hashlib.shake_128(HONEST.seed).digest(64 * 16)
    yield good("good-rounds", "R3", "The rounds are SHAKE-256 of the seed.")
    yield vector(
        "lie-shake-128",
        "R3",
        bad,
        "The rounds are SHAKE-128 of the seed.",
        log=logged(transcript=HONEST.transcript(rounds=rounds)),
    )
    seed = fill("another seed")
    yield vector("lie-seed", "R3", bad, "The landmark tells another seed.", receipt=HONEST.receipt(f5=seed))
    backwards = b"".join(
        hashlib.shake_256(HONEST.seed).digest(64 * 16)[16 * i : 16 * i + 16] for i in reversed(range(64))
    )
    yield vector(
        "lie-order",
        "R4",
        bad,
        "The rounds were logged in another order.",
        log=logged(transcript=HONEST.transcript(rounds=backwards)),
    )
    yield good("good-commitment", "R2", "The commitment that the device logged.")
    other = fill("another commitment")
    yield vector(
        "lie-commitment", "R2", bad, "The landmark tells another commitment.", receipt=HONEST.receipt(f4=other)
    )
    yield vector(
        "lie-logged-commitment", "R2", bad, "The device logged another commitment.", log=logged(commitment=other)
    )
    yield good("good-log", "R7", "Session, commitment and transcript in one entry.")
    yield vector("lie-empty-log", "R7", bad, "The device's log is empty.", log=[])
    yield vector("lie-other-log", "R7", bad, "The log holds another session.", log=[OTHER.entry()])
    torn = [HONEST.entry(transcript=OTHER.transcript()), OTHER.entry(transcript=HONEST.transcript())]
    yield vector("lie-two-entries", "R7", bad, "The three stand in two entries.", log=torn)


def _gaps() -> tuple[int, ...]:
    return tuple(i for i in range(16) if i not in {3, 7, 11})


def uses() -> Iterator[Vector]:
    theirs = Session(landmark="landmark b", label="their session")
    full = mask_of(theirs.answered)
    log = [HONEST.entry(), theirs.entry()]
    other = ("landmark b", full, theirs.receipt())
    yield good(
        "good-two-ranges", "R7", "Two ranges with sessions and commitments of their own.", log=log, others=[other]
    )
    bad = "COMMITMENT_REUSED"
    again = ("landmark a", full, HONEST.receipt())
    yield vector("lie-told-twice", "R7", bad, "One range is told twice.", others=[again])
    other = ("landmark b", full, theirs.receipt(f4=HONEST.commitment))
    why = "Another landmark's receipt names the same commitment."
    yield vector("lie-shared-commitment", "R7", bad, why, log=log, others=[other])
    other = ("landmark b", full, theirs.receipt(f1=HONEST.session))
    why = "Another landmark's receipt names the same session."
    yield vector("lie-shared-session", "R7", bad, why, log=log, others=[other])
    yield good("good-firmware", "R8", "Firmware that is known to keep the rules.")
    bad = "FIRMWARE_CANNOT_RANGE"
    yield vector("lie-firmware", "R8", bad, "Firmware that is not known to keep the rules.", can_range=False)
