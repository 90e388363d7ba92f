"""Vectors of kind `report`: docs/protocol.md §4 and §5, each rule kept and broken."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.vectors.builder import (
    BLOCK_HEAD,
    DER_SHA256,
    DIGESTS,
    NONCE,
    OID_COMPOSITE,
    OID_UNKNOWN,
    P384_ORDER,
    SWITCH,
    Device,
    block,
    composite,
    counters,
    curve_key,
    ed_key,
    fill,
    flip,
    fwid_of,
    sha256,
    signed,
    spki,
    tcb_info,
    tlv,
    unsigned,
    usage,
)

Vector = dict[str, Any]
G, S = Device(), Device(bytes.fromhex("a1a2a3a4a5a6a7a8"), SWITCH)
GPU_CHAIN, SWITCH_CHAIN = G.chain(), S.chain()
GPU_KEY = curve_key(f"{G.label} {G.firmware}")
PAST, FUTURE = datetime(2021, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
FREE = b"\xff" * 8
NO_USAGE = usage(signs=True, certifies=False)
UNKNOWN = x509.UnrecognizedExtension(OID_UNKNOWN, b"\x05\x00")


def log_entry(label: str) -> bytes:
    """96 bytes of a ranging log."""
    return fill(f"log {label}", 96)


def good(name: str, rule: str, why: str, device: Device = G, tlvs: Any = (), **parts: Any) -> Vector:
    """A good report; `links`, `log` and `counters` say what a reader must find, the rest is passed to the builder."""
    chain = parts.pop("chain", None) or device.chain()
    shows = {
        "kind": "switch" if device.prefix == SWITCH else "gpu",
        "pdi": device.pdi.hex(),
        "device_key_id": sha256(spki(device.label)).hex(),
        "chain_id": sha256(*chain).hex(),
        "fwid": device.fwid.hex(),
        "linked": sorted(p.hex() for p in parts.pop("links", ())),
        "log": parts.pop("log", 0),
        "counters": parts.pop("counters", None),
    }
    roots, report = parts.pop("roots", None), parts.pop("report", None)
    vector = lie(name, rule, "AUTHENTIC", why, report or device.report(tlvs, **parts), chain, roots)
    return {**vector, "shows": shows}


def lie(
    name: str,
    rule: str,
    expect: str,
    why: str,
    report: bytes | None = None,
    chain: Sequence[bytes] = GPU_CHAIN,
    roots: Sequence[bytes] | None = None,
) -> Vector:
    """A report that is refused; without `report`, an honest one of the GPU."""
    return {
        "name": f"{rule}-{name}",
        "rule": rule,
        "kind": "report",
        "expect": expect,
        "why": why,
        "roots": [r.hex() for r in roots or [GPU_CHAIN[4]]],
        "chain": [c.hex() for c in chain],
        "report": (G.report() if report is None else report).hex(),
        "nonce": NONCE.hex(),
        "now": "2030-01-01T00:00:00Z",
    }


def vectors() -> Iterator[Vector]:
    """All of them."""
    yield from layout()
    yield from fields()
    yield from signature()
    yield from firmware_fields()
    yield from chain_form()
    yield from chain_links()
    yield from constraints()
    yield from identity()


def layout() -> Iterator[Vector]:
    yield good("good-gpu", "E1", "A GPU's report as the table lays it out.", tlvs=[(3, b"570.1\0"), (36, b"\2\0")])
    yield good("good-switch", "E1", "A switch's report as the table lays it out.", S, [(22, S.pdi)])
    honest = G.report()
    bad = "REPORT_MALFORMED"
    yield lie("lie-empty", "E1", bad, "There is no report.", b"")
    yield lie("lie-trailing-byte", "E1", bad, "A byte follows the signature.", honest + b"\0")
    yield lie("lie-truncated", "E1", bad, "The last byte of the signature is missing.", honest[:-1])
    yield lie("lie-no-signature", "E1", bad, "The signature is missing.", honest[:-96])
    yield lie("lie-signed-trailing-byte", "E1", bad, "A byte stands before the signature.", _sign(unsigned() + b"\0"))
    yield lie("lie-count", "E1", bad, "Three blocks are said and two are there.", G.report(count=3))
    yield lie("lie-record-length", "E1", bad, "The record is said to be a block longer.", G.report(record_length=165))
    longer = [*(block(i, d) for i, d in DIGESTS.items()), b"\0"]
    yield lie("lie-record-remainder", "E1", bad, "The record is 55 n + 1 bytes.", G.report(blocks=longer, count=2))
    yield lie("lie-opaque-too-long", "E1", bad, "One opaque byte is said and none is there.", G.report(opaque_length=1))
    yield lie(
        "lie-opaque-too-short",
        "E1",
        bad,
        "Opaque bytes beyond the said length.",
        G.report([(36, b"")], opaque_length=0),
    )
    slot = bytearray(unsigned())
    slot[36] = 1
    yield lie("lie-slot", "E1", bad, "Another slot's chain was asked for.", _sign(bytes(slot)))
    yield lie("lie-request-version", "E1", bad, "The request is SPDM 1.2.", G.report(request="12e001ff"))
    yield lie("lie-request-code", "E1", bad, "The request is another one.", G.report(request="118101ff"))
    yield lie("lie-request-attributes", "E1", bad, "No signature was requested.", G.report(request="11e000ff"))
    yield lie("lie-response-code", "E1", bad, "The response is another one.", G.report(response="11610000"))
    for what, at, value in (("specification", 0, 2), ("size", 1, 50), ("type", 3, 0x81), ("length", 4, 32)):
        head = bytearray(BLOCK_HEAD)
        head[at] = value
        blocks = [block(1, DIGESTS[1]), block(2, DIGESTS[2], bytes(head))]
        yield lie(
            f"lie-block-{what}", "E1", bad, f"A block's {what} is not that of the table.", G.report(blocks=blocks)
        )
    yield good("good-indices", "E2", "Indices 1 and 255 are the bounds.", blocks=_blocks(255, 1))
    yield lie("lie-index-zero", "E2", bad, "A block has index 0.", G.report(blocks=_blocks(0, 1)))
    yield lie("lie-index-twice", "E2", bad, "Two blocks have one index.", G.report(blocks=_blocks(7, 7)))


def _sign(message: bytes) -> bytes:
    return signed(message, GPU_KEY)


def _blocks(*indices: int) -> list[bytes]:
    return [block(i, fill(f"block {n}", 48)) for n, i in enumerate(indices)]


def fields() -> Iterator[Vector]:
    bad = "REPORT_MALFORMED"
    unknown = [(0xFFFE, b"?"), (36, b""), (0, b"0")]
    yield good("good-unknown-type", "E3", "Unknown types are kept and ignored, and data may be empty.", tlvs=unknown)
    yield lie("lie-type-twice", "E3", bad, "One type occurs twice.", G.report([(36, b"\2"), (36, b"\2")]))
    yield lie("lie-truncated-data", "E3", bad, "A field's data end early.", G.report(opaque=tlv(36, b"abc")[:-1]))
    yield lie("lie-truncated-head", "E3", bad, "A field ends within its length.", G.report(opaque=tlv(36, b"")[:3]))
    rest = tlv(36, b"") + b"\0"
    yield lie("lie-one-byte-left", "E3", bad, "A byte is left after the last field.", G.report(opaque=rest))
    full = counters(2**64 - 1, 2**64 - 1)
    both = [2**64 - 1, 2**64 - 1]
    yield good("good-counters", "E5", "The largest counters.", tlvs=[(0x5402, full)], counters=both)
    yield good("good-no-counters", "E5", "Firmware that keeps no counters.")
    for size in (0, 15, 17):
        data = (full + b"\0")[:size]
        yield lie(f"lie-counters-of-{size}", "E5", bad, f"Counters of {size} bytes.", G.report([(0x5402, data)]))
    log = b"".join(log_entry(str(n)) for n in range(128))
    yield good("good-log", "E6", "A log of 128 sessions, the most.", tlvs=[(0x5401, log)], log=128)
    yield good("good-empty-log", "E6", "A log without an entry.", tlvs=[(0x5401, b"")])
    one, two = log[:96], log[96:192]
    same = one + two[:64] + one[64:]
    yield good("good-transcript-twice", "E6", "Only sessions and commitments are unique.", tlvs=[(0x5401, same)], log=2)
    for name, data, why in (
        ("short", one[:95], "A log of 95 bytes."),
        ("long", one + b"\0", "A log of 97 bytes."),
        ("129", log + log_entry("128"), "A log of 129 entries."),
        ("session-twice", one + one[:32] + two[32:], "One session occurs twice."),
        ("commitment-twice", one + two[:32] + one[32:64] + two[64:], "One commitment occurs twice."),
    ):
        yield lie(f"lie-log-{name}", "E6", bad, why, G.report([(0x5401, data)]))
    a, b = fill("switch a", 8), fill("switch b", 8)
    links = a[::-1] + FREE + b[::-1] + a[::-1] + bytes(8) + FREE * 13
    yield good(
        "good-links",
        "B1",
        "A GPU's links are reversed; unused, zero and repeated ones fall.",
        G,
        [(22, links)],
        links=[a, b],
    )
    slots = a + FREE + b + a + bytes(8) + FREE * 3 + b"\0" * 64
    yield good("good-slots", "B1", "A switch's slots are not reversed.", S, [(22, S.pdi), (26, slots)], links=[a, b])
    named = FREE * 8 + a * 8
    yield good("good-link-map", "B1", "The link map of a switch names nobody.", S, [(22, S.pdi), (26, named)])
    yield lie(
        "lie-slots", "B1", bad, "A slot list without its link map.", S.report([(22, S.pdi), (26, a * 8)]), SWITCH_CHAIN
    )


def signature() -> Iterator[Vector]:
    bad = "REPORT_SIGNATURE_INVALID"
    honest = G.report([(0x5402, counters(1, 2))])
    message, r, s = honest[:-96], honest[-96:-48], honest[-48:]
    other = (P384_ORDER - int.from_bytes(s, "big")).to_bytes(48, "big")
    yield good(
        "good-other-half", "E4", "s and n less s are both signatures.", report=message + r + other, counters=[1, 2]
    )
    yield lie("lie-other-key", "E4", bad, "Signed by a stranger.", signed(message, curve_key("stranger")))
    yield lie(
        "lie-device-key", "E4", bad, "Signed by the ROM's key, not the leaf's.", signed(message, curve_key(G.label))
    )
    updated = curve_key(f"{G.label} other firmware")
    yield lie(
        "lie-leaf-of-other-firmware", "E4", bad, "Signed by its leaf under other firmware.", signed(message, updated)
    )
    yield lie("lie-sha256", "E4", bad, "Signed over SHA-256.", signed(message, GPU_KEY, hashes.SHA256()))
    yield lie("lie-little-endian", "E4", bad, "r and s are little-endian.", message + r[::-1] + s[::-1])
    yield lie("lie-exchanged", "E4", bad, "s stands before r.", message + s + r)
    yield lie("lie-zero", "E4", bad, "r and s are 0.", message + bytes(96))
    order = P384_ORDER.to_bytes(48, "big")
    yield lie("lie-r-is-order", "E4", bad, "r is the group's order.", message + order + s)
    yield lie("lie-s-is-order", "E4", bad, "s is the group's order.", message + r + order)
    for what, at in (("nonce", 4), ("digest", 60), ("responder-nonce", 160), ("field", len(message) - 1)):
        why = f"One bit of a signed {what.replace('-', ' ')} is flipped."
        # The nonce that is asked for is flipped too, so that the signature alone tells.
        vector = lie(f"lie-flipped-{what}", "E4", bad, why, flip(honest, at))
        yield {**vector, "nonce": flip(NONCE, 0).hex()} if at == 4 else vector
    bad = "NONCE_MISMATCH"
    yield good("good-nonce", "CL1", "The report carries the nonce that was asked for.")
    yield lie("lie-nonce", "CL1", bad, "Signed over another nonce: a replay.", G.report(nonce=fill("older nonce")))
    yield lie("lie-zero-nonce", "CL1", bad, "Signed over no nonce.", G.report(nonce=bytes(32)))


def firmware_fields() -> Iterator[Vector]:
    yield good("good-fwid", "I6", "TLV 20 repeats the chain's firmware id.", tlvs=[(20, G.fwid)])
    bad = "FWID_MISMATCH"
    yield lie("lie-fwid", "I6", bad, "TLV 20 names other firmware.", G.report([(20, fwid_of("other"))]))
    yield lie("lie-empty-fwid", "I6", bad, "TLV 20 is there and empty.", G.report([(20, b"")]))
    yield lie("lie-short-fwid", "I6", bad, "TLV 20 is cut.", G.report([(20, G.fwid[:47])]))
    yield good("good-switch-pdi", "I7", "A switch tells its own PDI.", S, [(22, S.pdi)])
    bad = "PDI_MISMATCH"
    for name, tlvs, why in (
        ("pdi", [(22, G.pdi)], "A switch tells another PDI."),
        ("reversed", [(22, S.pdi[::-1])], "A switch tells its PDI reversed."),
        ("twice", [(22, S.pdi * 2)], "A switch tells its PDI twice."),
        ("none", [], "A switch tells no PDI."),
    ):
        yield lie(f"lie-{name}", "I7", bad, why, S.report(tlvs), SWITCH_CHAIN)


def chain_form() -> Iterator[Vector]:
    bad = "CHAIN_MALFORMED"
    yield good("good-chain", "I1", "Five P-384 certificates.")
    yield lie("lie-none", "I1", bad, "The chain is empty.", chain=[])
    yield lie("lie-four", "I1", bad, "The provisioner is left out.", chain=[*GPU_CHAIN[:2], *GPU_CHAIN[3:]])
    yield lie("lie-six", "I1", bad, "The root stands twice.", chain=[*GPU_CHAIN, GPU_CHAIN[4]])
    yield lie("lie-no-root", "I1", bad, "The root is left out.", chain=GPU_CHAIN[:4])
    yield lie("lie-junk", "I1", bad, "A certificate is junk.", chain=_with(2, fill("junk", 300)))
    yield lie("lie-trailing-byte", "I1", bad, "A byte follows a certificate.", chain=_with(2, GPU_CHAIN[2] + b"\0"))
    yield lie("lie-truncated", "I1", bad, "A certificate is cut.", chain=_with(0, GPU_CHAIN[0][:-1]))
    why = "A signature's last zero bit is called unused: no whole DER of r and s."
    yield lie("lie-unused-bit", "I1", bad, why, chain=_with(2, _unused_bit()))
    p256, p521 = curve_key("p256", ec.SECP256R1()), curve_key("p521", ec.SECP521R1())
    leaf = {"signer": G.label}
    yield lie("lie-leaf-p256", "I1", bad, "The leaf's key is P-256.", chain=G.chain(0, key=p256, **leaf))
    yield lie("lie-leaf-p521", "I1", bad, "The leaf's key is P-521.", chain=G.chain(0, key=p521, **leaf))
    yield lie("lie-leaf-ed25519", "I1", bad, "The leaf's key is Ed25519.", chain=G.chain(0, key=ed_key("leaf"), **leaf))
    for position in (0, 2):
        why = f"Certificate {position} is signed over SHA-256."
        chain = G.chain(position, hash_algorithm=hashes.SHA256())
        yield lie(f"lie-sha256-{position}", "I1", bad, why, chain=chain)


def _unused_bit() -> bytes:
    """Certificate [2] whose signature ends in a zero bit that its BIT STRING calls unused."""
    for serial in range(100, 200):
        made = G.chain(2, serial=serial)[2]
        size = len(x509.load_der_x509_certificate(made).signature)
        if not made[-1] & 1:
            return made[: -size - 1] + b"\1" + made[-size:]
    raise AssertionError("no signature ends in a zero bit")


def _with(position: int, certificate: bytes) -> list[bytes]:
    return [*GPU_CHAIN[:position], certificate, *GPU_CHAIN[position + 1 :]]


def chain_links() -> Iterator[Vector]:
    other = replace(G, vendor="other vendor")
    roots = [other.chain()[4], GPU_CHAIN[4]]
    yield good("good-one-of-two-roots", "I2", "One of two pinned roots.", roots=roots)
    bad = "CHAIN_UNTRUSTED_ROOT"
    yield lie("lie-foreign", "I2", bad, "A vendor of the same names, not pinned.", other.report(), other.chain())
    again = G.chain(4, serial=15)
    yield lie("lie-root-again", "I2", bad, "Another certificate of the pinned root's key and name.", chain=again)
    bad = "CHAIN_SIGNATURE_INVALID"
    for position in range(4):
        why = f"Certificate {position} is signed by a stranger of the right name."
        yield lie(f"lie-signer-{position}", "I2", bad, why, chain=G.chain(position, signer="stranger"))
        why = f"The signature of certificate {position} has a flipped bit."
        flipped = flip(GPU_CHAIN[position], len(GPU_CHAIN[position]) - 1)
        yield lie(f"lie-flipped-{position}", "I2", bad, why, chain=_with(position, flipped))
    for position in range(4):
        why = f"Certificate {position} names another issuer."
        chain = G.chain(position, issuer="somebody")
        yield lie(f"lie-issuer-{position}", "I2", "CHAIN_CONSTRAINT_VIOLATED", why, chain=chain)


def constraints() -> Iterator[Vector]:
    bound = G.certificates()[0].more
    chain = G.chain(0, more=(*bound, (UNKNOWN, False)))
    yield good("good-unknown-extension", "I3", "An unknown extension that is not critical.", chain=chain)
    bad = "CHAIN_CONSTRAINT_VIOLATED"
    yield lie("lie-leaf-ca", "I3", bad, "The leaf is a CA.", chain=G.chain(0, ca=True))
    both = usage(signs=True, certifies=True)
    yield lie(
        "lie-leaf-ca-that-certifies",
        "I3",
        bad,
        "The leaf is a CA and may certify.",
        chain=G.chain(0, ca=True, usage=both),
    )
    not_a_ca: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("no-ca", {"ca": False}, "is no CA"),
        ("no-constraints", {"ca": None}, "does not say that it is a CA"),
        ("no-cert-sign", {"usage": NO_USAGE}, "may not sign certificates"),
    )
    for position in range(1, 5):
        for name, changes, why in not_a_ca:
            chain = G.chain(position, **changes)
            told = f"Certificate {position} {why}."
            yield lie(f"lie-{name}-{position}", "I3", bad, told, None, chain, [chain[4]])
    for position in (0, 1, 3):
        more = (*G.certificates()[position].more, (UNKNOWN, True))
        why = f"Certificate {position} has an unknown critical extension."
        yield lie(f"lie-critical-{position}", "I3", bad, why, chain=G.chain(position, more=more))
    bad = "CHAIN_EXPIRED"
    over, early = {"end": PAST}, {"start": FUTURE}
    for position, name, when in ((0, "over", over), (0, "early", early), (1, "over", over), (3, "early", early)):
        why = f"Certificate {position} is {'over' if name == 'over' else 'not valid yet'}."
        yield lie(f"lie-{name}-{position}", "I3", bad, why, chain=G.chain(position, **when))
    chain = G.chain(4, **over)
    yield lie("lie-over-4", "I3", bad, "The pinned root is over.", None, chain, [chain[4]])


def identity() -> Iterator[Vector]:
    updated = replace(G, firmware="other firmware")
    yield good("good-firmware", "I4", "The device key under one firmware …")
    yield good("good-other-firmware", "I4", "… and the same device key under another.", updated)
    rom = "another device's ROM"
    more = ((composite(G.fwid, spki(rom)), False),)
    certificates = G.certificates()
    certificates[0] = replace(certificates[0], more=more)
    certificates[1] = replace(certificates[1], key=rom)
    chain = [c.made() for c in certificates]
    why = "The leaf was made by another device key than that of [1]."
    yield lie("lie-other-device-key", "I4", "CHAIN_SIGNATURE_INVALID", why, chain=chain)
    zeros = Device(bytes(7) + b"\1")
    yield good("good-gpu", "I5", "A GPU, whose PDI begins with zeros.", zeros)
    yield good("good-switch", "I5", "A switch.", S, [(22, S.pdi)])
    bad = "CHAIN_CONSTRAINT_VIOLATED"
    pdi = int.from_bytes(G.pdi, "big")
    for name, serial, why in (
        ("prefix", 0x42 << 64 | pdi, "The serial begins with neither 0x41 nor 0x50."),
        ("no-prefix", pdi, "The serial is a PDI alone."),
        ("ten-bytes", (0x41 << 64 | pdi) << 8, "The serial has ten bytes."),
        ("eight-bytes", 0x41 << 56 | pdi >> 8, "The PDI has seven bytes."),
    ):
        yield lie(f"lie-{name}", "I5", bad, why, chain=G.chain(1, serial=serial))
    info = G.chain(0, more=((tcb_info(G.fwid), False),))
    yield good("good-tcb-info", "I6", "DiceTcbInfo binds the firmware.", chain=info)
    own = spki(G.label)
    bindings: tuple[tuple[str, tuple[x509.ExtensionType, ...], str], ...] = (
        ("unbound", (), "The leaf binds no firmware."),
        ("other-key", (composite(G.fwid, spki("stranger")),), "The extension names another device key."),
        ("version", (composite(G.fwid, own, version=2),), "The extension's version is 2."),
        ("hash", (composite(G.fwid, own, hash_oid=DER_SHA256),), "The firmware id is said to be SHA-256."),
        ("sha256", (composite(hashlib.sha256(b"").digest(), own, hash_oid=DER_SHA256),), "It is a SHA-256."),
        ("length", (composite(G.fwid[:47], own),), "The firmware id has 47 bytes."),
        ("junk", (x509.UnrecognizedExtension(OID_COMPOSITE, b"\x30\x00"),), "The extension is empty."),
    )
    for name, extensions, why in bindings:
        chain = G.chain(0, more=tuple((e, False) for e in extensions))
        yield lie(f"lie-binding-{name}", "I6", bad, why, chain=chain)
    yield good("good-id", "I8", "A chain's id is the hash of its five certificates.", S, [(22, S.pdi)])
