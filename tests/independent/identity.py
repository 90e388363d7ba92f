"""The second reader's chains, reports and boards, read from docs/protocol.md §4 to §6 alone.

Bytes and values in, values out. It keeps no state, so E5 over time is not here, and neither are reference values (§8).
Where the page leaves a choice, a comment beginning "Reading:" says which one was taken.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA384

from tests.independent.wire import Der, Reason, RefusedError, WireError, check, der, digest

_ECDSA_SHA384: Final = bytes.fromhex("300a06082a8648ce3d040303")
_P384_KEY: Final = bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004")  # then x[48] and y[48]
_BASIC_CONSTRAINTS: Final = bytes.fromhex("551d13")
_KEY_USAGE: Final = bytes.fromhex("551d0f")
_DICE_DEVICE: Final = bytes.fromhex("678105050401")  # 2.23.133.5.4.1
_DICE_TCB: Final = bytes.fromhex("67810505040101")  # 2.23.133.5.4.1.1
_SHA384: Final = bytes.fromhex("608648016503040202")  # 2.16.840.1.101.3.4.2.2
# Reading: an extension is known when this page says what to do with it.
_KNOWN: Final = frozenset({_BASIC_CONSTRAINTS, _KEY_USAGE, _DICE_DEVICE, _DICE_TCB})
_KINDS: Final[Mapping[int, Literal["gpu", "switch"]]] = {0x41: "gpu", 0x50: "switch"}


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate, parsed; nothing about it is believed yet."""

    tbs: bytes
    serial: bytes
    issuer: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime
    spki: bytes
    key: ec.EllipticCurvePublicKey
    signature: bytes
    extensions: Mapping[bytes, bytes]
    critical: frozenset[bytes]
    is_ca: bool
    path_length: int | None
    signs_certificates: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """What a good chain says. docs/protocol.md §5."""

    chain_id: bytes
    device_key_id: bytes
    kind: Literal["gpu", "switch"]
    pdi: bytes
    fwid: bytes
    report_key: ec.EllipticCurvePublicKey


def read_chain(roots: Iterable[bytes], chain: Sequence[bytes], now: datetime) -> Chain:
    """Verify five certificates, leaf first.

    Raises:
        RefusedError: with a CHAIN_ reason. Reading: of several, the first in the order of the proto file.
    """
    check(len(chain) == 5, Reason.CHAIN_MALFORMED, "I1: not five certificates")
    try:
        parsed = [_certificate(data) for data in chain]
    except (WireError, ValueError) as error:
        raise RefusedError(Reason.CHAIN_MALFORMED, str(error)) from error
    check(chain[4] in set(roots), Reason.CHAIN_UNTRUSTED_ROOT, "I2: not a pinned root")
    # Reading: the root is pinned, so its own signature says nothing; "each" in I2 is [0] to [3].
    for lower, upper in pairwise(parsed):
        signed = _p384_holds(upper.key, lower.signature, lower.tbs)
        check(signed, Reason.CHAIN_SIGNATURE_INVALID, "I2: not signed by the next")
    # Reading: names are compared as DER bytes.
    for lower, upper in pairwise(parsed):
        check(lower.issuer == upper.subject, Reason.CHAIN_CONSTRAINT_VIOLATED, "I2: issuer is not the next subject")
    for index, certificate in enumerate(parsed):
        check(certificate.critical <= _KNOWN, Reason.CHAIN_CONSTRAINT_VIOLATED, "I3: unknown critical extension")
        may_sign = certificate.is_ca and certificate.signs_certificates
        fits = may_sign if index else not certificate.is_ca
        check(fits, Reason.CHAIN_CONSTRAINT_VIOLATED, "I3: CA flag or key usage")
        # Reading: I3 is silent on the path length; RFC 5280 §4.2.1.9 holds where it is stated.
        short = certificate.path_length is not None and certificate.path_length < index - 1
        check(not short, Reason.CHAIN_CONSTRAINT_VIOLATED, "I3: path length")
    serial = parsed[1].serial
    shaped = len(serial) == 9 and serial[0] in _KINDS
    check(shaped, Reason.CHAIN_CONSTRAINT_VIOLATED, "I5: serial is no PDI")
    # Reading: I6 names no reason for a leaf that binds none, several, or one in another way; all get the same.
    try:
        fwids = _fwids(parsed[0], parsed[1].spki)
    except (WireError, ValueError) as error:
        raise RefusedError(Reason.CHAIN_CONSTRAINT_VIOLATED, f"I6: {error}") from error
    check(len(fwids) == 1, Reason.CHAIN_CONSTRAINT_VIOLATED, "I6: not exactly one FWID")
    for certificate in parsed:
        alive = certificate.not_before <= now <= certificate.not_after
        check(alive, Reason.CHAIN_EXPIRED, "I3: not valid now")
    return Chain(
        chain_id=digest(*chain),
        device_key_id=digest(parsed[1].spki),
        kind=_KINDS[serial[0]],
        pdi=serial[1:],
        fwid=next(iter(fwids)),
        report_key=parsed[0].key,
    )


def _certificate(data: bytes) -> Certificate:
    """RFC 5280 §4.1, version 3, with the algorithms of I1 and no others."""
    tbs, algorithm, signature = der(data).expect(0x30).children()
    version, serial, inner_algorithm, issuer, validity, subject, key, *tail = tbs.expect(0x30).children()
    if version.raw != bytes.fromhex("a003020102"):
        raise WireError("not version 3")
    extensions: dict[bytes, bytes] = {}
    critical: set[bytes] = set()
    while tail and tail[0].tag in {0x81, 0x82}:  # unique identifiers, unused
        tail = tail[1:]
    [sequence] = tail[0].expect(0xA3).children() if len(tail) == 1 else [None]
    if sequence is None:
        raise WireError("no extensions, or fields after them")
    for extension in sequence.expect(0x30).children():
        oid, *flag, value = extension.expect(0x30).children()
        if oid.expect(0x06).body in extensions or len(flag) > 1:
            raise WireError("extension repeated or malformed")
        extensions[oid.body] = value.expect(0x04).body
        if flag and flag[0].boolean():
            critical.add(oid.body)
    if not algorithm.raw == inner_algorithm.raw == _ECDSA_SHA384:  # I1
        raise WireError("not ecdsa-with-SHA384")
    if not key.raw.startswith(_P384_KEY) or len(key.raw) != 120 or signature.expect(0x03).body[:1] != b"\0":
        raise WireError("not a P-384 key and signature")
    not_before, not_after = (_time(node) for node in validity.expect(0x30).children())
    is_ca, path_length = _basic_constraints(extensions.get(_BASIC_CONSTRAINTS))
    return Certificate(
        tbs=tbs.raw,
        serial=serial.integer(),
        issuer=issuer.expect(0x30).raw,
        subject=subject.expect(0x30).raw,
        not_before=not_before,
        not_after=not_after,
        spki=key.raw,
        key=ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), key.raw[23:]),
        signature=signature.body[1:],
        extensions=extensions,
        critical=frozenset(critical),
        is_ca=is_ca,
        path_length=path_length,
        signs_certificates=_signs_certificates(extensions.get(_KEY_USAGE)),
    )


def _time(node: Der) -> datetime:
    text = node.body.decode("ascii")
    if node.tag == 0x17 and len(text) == 13:  # UTCTime, RFC 5280 §4.1.2.5.1
        text = ("20" if text[:2] < "50" else "19") + text
    elif node.tag != 0x18 or len(text) != 15:
        raise WireError("not a time")
    if not text[:14].isdigit():
        raise WireError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _basic_constraints(value: bytes | None) -> tuple[bool, int | None]:
    nodes = der(value).expect(0x30).children() if value is not None else []
    is_ca = bool(nodes) and nodes[0].tag == 0x01 and nodes.pop(0).boolean()
    path_length = int.from_bytes(nodes.pop(0).integer(), "big", signed=True) if nodes else None
    if nodes or (path_length is not None and (path_length < 0 or not is_ca)):
        raise WireError("basic constraints")
    return is_ca, path_length


def _signs_certificates(value: bytes | None) -> bool:
    if value is None:  # I3: "with keyCertSign", so it has to be stated
        return False
    bits = der(value).expect(0x03).body
    return len(bits) >= 2 and bool(bits[1] & 0x04)  # bit 5 of RFC 5280 §4.2.1.3


def _fwids(leaf: Certificate, device_spki: bytes) -> frozenset[bytes]:
    """The FWIDs that the leaf states. I6: in one of two extensions; both MAY stand if they agree (a reading)."""
    found: set[bytes] = set()
    if (value := leaf.extensions.get(_DICE_DEVICE)) is not None:
        version, key, fwid = der(value).expect(0x30).children()
        if version.integer() != b"\x01":
            raise WireError("DICE extension is not version 1")
        found.add(_fwid(fwid) if key.raw == device_spki else b"")
    if (value := leaf.extensions.get(_DICE_TCB)) is not None:
        # TCG DICE Attestation Architecture: `fwids [6] IMPLICIT FWIDLIST`. The page does not show the structure.
        for node in der(value).expect(0x30).children():
            if node.tag == 0xA6:
                found.update(_fwid(fwid) for fwid in node.children())
    return frozenset() if b"" in found else frozenset(found)


def _fwid(node: Der) -> bytes:
    algorithm, value = node.expect(0x30).children()
    if algorithm.expect(0x06).body != _SHA384 or len(value.expect(0x04).body) != 48:
        raise WireError("FWID is not a SHA-384")
    return value.body


def _p384_holds(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message, ec.ECDSA(SHA384()))
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One closed session in TLV 0x5401."""

    session: bytes
    commitment: bytes
    transcript: bytes


@dataclass(frozen=True, slots=True)
class Device:
    """An authentic report under its chain. docs/protocol.md §4."""

    chain: Chain
    blocks: Mapping[int, bytes]
    driver: str | None
    vbios: str | None
    linked: frozenset[bytes]
    log: tuple[LogEntry, ...]
    counters: tuple[int, int] | None

    @property
    def pdi(self) -> bytes:
        """The PDI of the chain."""
        return self.chain.pdi


def read_device(roots: Iterable[bytes], chain: Sequence[bytes], report: bytes, nonce: bytes, now: datetime) -> Device:
    """Verify one report, its chain first. `nonce` is the requester nonce of CL1.

    Raises:
        RefusedError: with a CHAIN_ reason, or one of REPORT_MALFORMED, REPORT_SIGNATURE_INVALID, NONCE_MISMATCH,
            FWID_MISMATCH, PDI_MISMATCH, in this order. Reading: whatever the signature covers is read after it holds,
            but for the lengths that say where it stands.
    """
    identity = read_chain(roots, chain, now)
    blocks_end, signature_at = _frame(report)
    r, s = (int.from_bytes(report[at : at + 48], "big") for at in (signature_at, signature_at + 48))
    signature = utils.encode_dss_signature(r, s)
    holds = _p384_holds(identity.report_key, signature, report[:signature_at])
    check(holds, Reason.REPORT_SIGNATURE_INVALID, "§4: not signed by the leaf")
    check(report[4:36] == nonce, Reason.NONCE_MISMATCH, "CL1")
    blocks = _blocks(report[45:blocks_end])
    values = _opaque(report[blocks_end + 34 : signature_at])
    vbios = values.get(6)
    # Reading: a TLV 20 or a switch's TLV 22 of another size is not malformed, it does not equal.
    check(values.get(20, identity.fwid) == identity.fwid, Reason.FWID_MISMATCH, "I6")
    counters = _sized(values, 0x5402, 16)
    device = Device(
        chain=identity,
        blocks=blocks,
        driver=_driver(values.get(3)) if identity.kind == "gpu" else None,
        vbios=None if vbios is None else _vbios(vbios, identity.kind),
        linked=frozenset(),
        log=_log(values.get(0x5401, b"")),
        counters=None if counters is None else _counters(counters),
    )
    if identity.kind == "gpu":
        entries = _split(_sized(values, 22, 144) or b"", 8)
        return replace(device, linked=_named(entry[::-1] for entry in entries))  # §4: byte-reversed
    check(values.get(22) == identity.pdi, Reason.PDI_MISMATCH, "I7")  # Reading: nor does an absent one
    return replace(device, linked=_named(_split((_sized(values, 26, 128) or b"")[:64], 8)))


def _frame(report: bytes) -> tuple[int, int]:
    """Offsets of the end of the blocks and of the signature, in a report that its lengths fill. docs/protocol.md E1."""
    check(len(report) >= 45, Reason.REPORT_MALFORMED, "E1: cut short")
    fixed = report[:4] == b"\x11\xe0\x01\xff" and report[36:41] == b"\0\x11\x60\0\0"
    check(fixed, Reason.REPORT_MALFORMED, "§4: headers")
    blocks_end = 45 + int.from_bytes(report[42:45], "little")
    check(blocks_end == 45 + 55 * report[41], Reason.REPORT_MALFORMED, "§4: L1 is not 55 n")
    opaque_length = int.from_bytes(report[blocks_end + 32 : blocks_end + 34], "little")
    signature_at = blocks_end + 34 + opaque_length
    check(len(report) == signature_at + 96, Reason.REPORT_MALFORMED, "E1: lengths do not fill the report")
    return blocks_end, signature_at


def _blocks(data: bytes) -> dict[int, bytes]:
    blocks: dict[int, bytes] = {}
    for block in _split(data, 55):
        check(block[1:7] == b"\x01\x33\x00\x01\x30\x00", Reason.REPORT_MALFORMED, "§4: block header")
        unique = block[0] != 0 and block[0] not in blocks
        check(unique, Reason.REPORT_MALFORMED, "E2: block index")
        blocks[block[0]] = block[7:]
    return blocks


def _opaque(data: bytes) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        head, length = data[at : at + 4], int.from_bytes(data[at + 2 : at + 4], "little")
        value = data[at + 4 : at + 4 + length]
        check(len(head) == 4 and len(value) == length, Reason.REPORT_MALFORMED, "E3: truncated TLV")
        kind = int.from_bytes(head[:2], "little")
        check(kind not in values, Reason.REPORT_MALFORMED, "E3: TLV twice")
        values[kind] = value
        at += 4 + length
    return values


def _sized(values: Mapping[int, bytes], kind: int, size: int) -> bytes | None:
    value = values.get(kind)
    check(value is None or len(value) == size, Reason.REPORT_MALFORMED, f"§4: size of TLV {kind}")
    return value


def _log(data: bytes) -> tuple[LogEntry, ...]:
    fits = len(data) % 96 == 0 and len(data) // 96 <= 128
    check(fits, Reason.REPORT_MALFORMED, "E6: length of the log")
    log = tuple(LogEntry(*_split(entry, 32)) for entry in _split(data, 96))
    sessions, commitments = {entry.session for entry in log}, {entry.commitment for entry in log}
    check(len(sessions) == len(commitments) == len(log), Reason.REPORT_MALFORMED, "E6: repeated in the log")
    return log


def _driver(value: bytes | None) -> str | None:
    if value is None:
        return None
    # Reading: one zero, at the end.
    check(value.find(b"\0") == len(value) - 1 >= 0, Reason.REPORT_MALFORMED, "§4: driver version not zero-terminated")
    return _text(value[:-1])


def _vbios(value: bytes, kind: Literal["gpu", "switch"]) -> str:
    if kind == "switch":
        return _text(value.rstrip(b"\0"))  # Reading: terminated or not
    check(len(value) == 8, Reason.REPORT_MALFORMED, "§4: VBIOS version")
    return ".".join(f"{value[at]:02X}" for at in (3, 2, 1, 0, 4))


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(Reason.REPORT_MALFORMED, "§1: text is not UTF-8") from error


def _counters(value: bytes) -> tuple[int, int]:
    return int.from_bytes(value[:8], "little"), int.from_bytes(value[8:], "little")


def _split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _named(entries: Iterable[bytes]) -> frozenset[bytes]:
    # Reading of B1's "ignored": a PDI that is listed again counts once; empty and zero entries count never.
    return frozenset(entries) - {b"\xff" * 8, b"\0" * 8}


def edges(devices: Sequence[Device]) -> frozenset[tuple[bytes, bytes]]:
    """Proven (GPU, switch) pairs among the authentic devices of one attestation. docs/protocol.md B1."""
    gpus = [device for device in devices if device.chain.kind == "gpu"]
    switches = [device for device in devices if device.chain.kind == "switch"]
    return frozenset(
        (gpu.pdi, switch.pdi)
        for gpu in gpus
        for switch in switches
        if switch.pdi in gpu.linked and gpu.pdi in switch.linked
    )
