"""Vectors of kind `claims`: docs/protocol.md §3 and C2, each rule kept and broken."""

from collections.abc import Iterator, Sequence
from typing import Any

import cbor2

from tests.vectors.builder import Session, encode, fill, key_id, mask_of, sha256

Vector = dict[str, Any]
CHALLENGE = fill("challenge")
A, B = bytes.fromhex("1122334455667788"), bytes.fromhex("a1a2a3a4a5a6a7a8")
HOST = "host-1"
HOST_TIME = 1_900_000_000
LANDMARK = key_id("landmark a")
RECEIPT = Session().receipt()
ANSWERED = [0, LANDMARK, mask_of(range(16)), RECEIPT]
BAD = "CLAIMS_MALFORMED"


def claims(**changes: Any) -> dict[Any, Any]:
    """An honest claims-set: `nonce`, `profile`, `host`, `time`, `devices`, `ranges`, `location`; None drops one."""
    values: dict[str, Any] = {
        "nonce": CHALLENGE,
        "location": None,
        "profile": "tag:trigpoint.dev,2026:attestation#1",
        "host": HOST,
        "time": HOST_TIME,
        "devices": [A, B],
        "ranges": [],
        **changes,
    }
    keys = {"nonce": 10, "location": 264, "profile": 265, "host": -70001, "time": -70002, "devices": -70003}
    return {{**keys, "ranges": -70004}[k]: v for k, v in values.items() if v is not None}


def vector(
    name: str,
    rule: str,
    expect: str,
    why: str,
    data: bytes | dict[Any, Any],
    pdis: Sequence[bytes] = (A, B),
    host: str = HOST,
) -> Vector:
    """One vector."""
    encoded = encode(data) if isinstance(data, dict) else data
    made = {
        "name": f"{rule.replace('§', 'S')}-{name}",
        "rule": rule,
        "kind": "claims",
        "expect": expect,
        "why": why,
        "claims": encoded.hex(),
        "host_id": host,
        "challenge": CHALLENGE.hex(),
        "report_count": len(pdis),
        "report_pdis": [p.hex() for p in pdis],
    }
    if expect == "AUTHENTIC":
        made["requester_nonce"] = sha256(b"trigpoint-attestation-v1\0", encoded).hex()  # CL1
    return made


def good(name: str, rule: str, why: str, pdis: Sequence[bytes] = (A, B), **changes: Any) -> Vector:
    """Claims that hold."""
    return vector(name, rule, "AUTHENTIC", why, claims(**changes), pdis, changes.get("host", HOST))


def vectors() -> Iterator[Vector]:
    """All of them."""
    yield from encoding()
    yield from members()
    yield from ranges()
    yield from binding()


def encoding() -> Iterator[Vector]:
    data = encode(claims())
    yield good("good-claims", "C2", "The deterministic encoding.")
    time = encode(HOST_TIME)
    located = encode(claims(location={1: 1.5, 2: 2.5}))
    entries = [encode(k) + encode(v) for k, v in claims().items()]
    in_order = sorted(entries)
    shown = [
        ("trailing-byte", data + b"\0", "A byte follows."),
        ("second-item", data + data, "The claims stand there twice."),
        ("truncated", data[:-1], "The last byte is missing."),
        ("empty", b"", "There are no claims."),
        (
            "long-integer",
            data.replace(time, b"\x1b" + HOST_TIME.to_bytes(8, "big")),
            "An integer is longer than needed.",
        ),
        ("long-float", located.replace(encode(1.5), b"\xfa\x3f\xc0\0\0"), "A float is longer than needed."),
        ("long-length", data.replace(b"\x66host-1", b"\x78\x06host-1"), "A length is longer than needed."),
        ("unsorted", b"\xa6" + b"".join(reversed(in_order)), "The keys are in another order."),
        ("length-first", b"\xa6" + b"".join([*in_order[1:], in_order[0]]), "The shortest key stands last."),
        ("duplicate-key", b"\xa7" + b"".join([in_order[0], *in_order]), "A key occurs twice."),
        ("indefinite-map", b"\xbf" + data[1:] + b"\xff", "The map has no length."),
        ("indefinite-text", data.replace(b"\x66host-1", b"\x7f\x66host-1\xff"), "A text has no length."),
        ("indefinite-array", data.replace(b"\x82\x48", b"\x9f\x48").replace(B, B + b"\xff"), "A list has no length."),
        ("text-encoding", data.replace(b"host-1", b"host-\xff"), "A text is no UTF-8."),
        ("break-alone", b"\xff", "A break stands alone."),
        ("reserved", b"\x1c", "A reserved length."),
        ("simple", b"\xf8\x18", "A reserved simple value."),
    ]
    for name, other, why in shown:
        assert other != data, name
        yield vector(f"lie-{name}", "C2", BAD, why, other)


def members() -> Iterator[Vector]:
    yield good("good-required", "CL3", "The required claims alone.")
    yield good("good-location", "CL3", "The optional location, in floats.", location={1: 1.5, 2: -179.5})
    yield good("good-location-integers", "CL3", "The optional location, in integers.", location={1: 1, 2: -179})
    for key, name in ((11, "integer"), (-70005, "private"), ("10", "text")):
        yield vector(f"lie-unknown-{name}", "CL3", BAD, f"The unknown key {key!r}.", {**claims(), key: 1})
    located = {1: 1.5, 2: 2.5, 3: 10.0}
    yield vector("lie-altitude", "CL3", BAD, "An unknown key in the location.", claims(location=located))
    for name in ("nonce", "profile", "host", "time", "devices", "ranges"):
        yield vector(f"lie-no-{name}", "§3", BAD, f"The claim of {name} is missing.", claims(**{name: None}))
    yield good("good-long-host", "§3", "The longest host id.", host="h" * 128)
    for name, changes, why in (
        ("short-nonce", {"nonce": CHALLENGE[:31]}, "The nonce has 31 bytes."),
        ("text-nonce", {"nonce": CHALLENGE.hex()[:32]}, "The nonce is a text."),
        ("profile", {"profile": "tag:trigpoint.dev,2026:attestation#2"}, "Another profile."),
        ("profile-bytes", {"profile": b"tag:trigpoint.dev,2026:attestation#1"}, "The profile in bytes."),
        ("empty-host", {"host": ""}, "The host id is empty."),
        ("long-host", {"host": "h" * 129}, "The host id has 129 bytes."),
        ("bytes-host", {"host": b"host-1"}, "The host id in bytes."),
        ("float-time", {"time": 1.5}, "The host's time is a float."),
        ("boolean-time", {"time": True}, "The host's time is true."),
        ("bignum-time", {"time": 2**70}, "The host's time is a bignum."),
        ("empty-devices", {"devices": []}, "The device list is empty."),
        ("devices", {"devices": A}, "The device list is no list."),
        ("short-pdi", {"devices": [A, B[:7]]}, "A PDI has 7 bytes."),
        ("long-pdi", {"devices": [A, B + b"\0"]}, "A PDI has 9 bytes."),
        ("text-pdi", {"devices": [A, "aaaaaaaa"]}, "A PDI is a text."),
        ("location-list", {"location": [1.5, 2.5]}, "The location is a list."),
        ("half-location", {"location": {1: 1.5}}, "The location has no longitude."),
        ("text-location", {"location": {1: "1", 2: 2}}, "A latitude in text."),
    ):
        yield vector(f"lie-{name}", "§3", BAD, why, claims(**changes))
    yield vector("lie-list", "§3", BAD, "The claims are a list.", encode([claims()]))
    yield vector("lie-tagged", "§3", BAD, "A tag stands before the claims.", encode(cbor2.CBORTag(601, claims())))
    many = [n.to_bytes(8, "big") for n in range(1, 65)]
    yield good("good-64-devices", "§3", "As many devices as one attestation may have.", many, devices=many)


def ranges() -> Iterator[Vector]:
    both = [ANSWERED, [1, LANDMARK, 1], [1, key_id("landmark b"), 6]]
    yield good("good-ranges", "§3", "Ranges with and without a receipt.", ranges=both)
    highest = [[0, LANDMARK, b"\x80" + bytes(7), RECEIPT]]
    yield good("good-mask", "C4", "A mask of round 63 alone.", ranges=highest)
    for name, rule, entry, why in (
        ("short-mask", "C4", [0, LANDMARK, bytes(7), RECEIPT], "A mask of 7 bytes."),
        ("long-mask", "C4", [0, LANDMARK, bytes(9), RECEIPT], "A mask of 9 bytes."),
        ("integer-mask", "C4", [0, LANDMARK, 0xFFFF, RECEIPT], "A mask that is an integer."),
        ("range-device", "§3", [2, *ANSWERED[1:]], "A range of a device that is not listed."),
        ("range-negative", "§3", [-1, *ANSWERED[1:]], "A range of device minus 1."),
        ("range-boolean", "§3", [False, *ANSWERED[1:]], "A device index that is false."),
        ("range-landmark", "§3", [0, LANDMARK[:31], *ANSWERED[2:]], "A landmark key id of 31 bytes."),
        ("range-empty-receipt", "§3", [*ANSWERED[:3], b""], "An empty receipt."),
        ("range-text-receipt", "§3", [*ANSWERED[:3], "receipt"], "A receipt in text."),
        ("range-why-zero", "§3", [0, LANDMARK, 0], "There is no reason 0."),
        ("range-why-seven", "§3", [0, LANDMARK, 7], "There is no reason 7."),
        ("range-long", "§3", [*ANSWERED, 0], "A range of five members."),
        ("range-short", "§3", [0, LANDMARK], "A range of two members."),
        ("range-map", "§3", dict(enumerate(ANSWERED)), "A range that is a map."),
    ):
        yield vector(f"lie-{name}", rule, BAD, why, claims(ranges=[ANSWERED, entry]))
    yield vector("lie-ranges", "§3", BAD, "The ranges are no list.", claims(ranges={}))


def binding() -> Iterator[Vector]:
    yield good("good-nonce", "CL1", "The requester nonce is the hash of label and claims.", ranges=[ANSWERED])
    yield good("good-list", "CL2", "The devices that report, in their order.")
    bad = "DEVICE_LIST_MISMATCH"
    for name, pdis, why in (
        ("fewer-reports", [A], "Two devices are listed and one reports."),
        ("more-reports", [A, B, fill("third", 8)], "Two devices are listed and three report."),
        ("other-device", [A, fill("third", 8)], "Another device reports than is listed."),
        ("order", [B, A], "The devices report in another order."),
        ("byte-order", [A[::-1], B], "A PDI is listed reversed."),
    ):
        yield vector(f"lie-{name}", "CL2", bad, why, claims(), pdis)
    twice = claims(devices=[A, A])
    yield vector("lie-repeated", "CL2", "DEVICE_REPEATED", "One device is listed and reports twice.", twice, [A, A])
    bad = "CHALLENGE_UNKNOWN"
    yield good("good-answer", "CH2", "The claims answer the challenge, for the host that it was issued to.")
    older = claims(nonce=fill("older challenge"))
    yield vector("lie-challenge", "CH2", bad, "The claims answer an older challenge.", older)
    yield vector("lie-host", "CH2", bad, "The claims speak of another host.", claims(host="host-2"))
