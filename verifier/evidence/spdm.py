"""Device reports: SPDM 1.1 measurements in the layout that real devices sign.

docs/protocol.md §4, DMTF DSP0274 1.1 §10.11. `verify_report` returns a `MeasurementReport` only after signature and
nonce held. Parsing is total: any bytes give a report or `ReportMalformedError`. What the measurements should be is not
known here (measurements.py), nor what the board says (board.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from verifier.errors import (
    FwidMismatchError,
    NonceMismatchError,
    PdiMismatchError,
    ReportMalformedError,
    ReportSignatureInvalidError,
)
from verifier.evidence.chain import DeviceKind, VerifiedChain
from verifier.limits import MAX_LOG_ENTRIES
from verifier.signatures import P384_RAW_BYTES, der_signature
from verifier.units import Pdi

_REQUEST_HEADER = bytes.fromhex("11e001ff")
_SLOT_AND_RESPONSE_HEADER = bytes.fromhex("00" + "11600000")
_BLOCKS_OFFSET = 45
_BLOCK_BYTES = 55
_BLOCK_HEADER = bytes.fromhex("01330001" + "3000")  # specification 1, size 51, type 1, length 48
_NONCE_BYTES = 32
_DIGEST_OFFSET = 7

_TLV_DRIVER_VERSION = 3
_TLV_VBIOS_VERSION = 6
_TLV_FWID = 20
_TLV_SWITCH_PDIS = 22
_TLV_GPU_SLOTS = 26
_TLV_RANGING_LOG = 0x5401
_TLV_COUNTERS = 0x5402
_LOG_ENTRY_BYTES = 96
_GPU_SLOTS_BYTES = 64
_UNUSED = (b"\xff" * 8, b"\0" * 8)


@dataclass(frozen=True, slots=True)
class Counters:
    """The device's own counters; neither ever goes back (docs/protocol.md E5)."""

    boot: int
    attestation: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One closed ranging session, as the device signed it; three times 32 bytes."""

    session: bytes
    commitment: bytes
    transcript: bytes


@dataclass(frozen=True, slots=True)
class ParsedReport:
    """A report's fields, before anybody showed that they are authentic. Only `verify_report` and tests read it.

    Attributes:
        untrusted_nonce: Requester nonce, 32 bytes.
        signed_part: Every byte before the signature.
        signature: Raw r ‖ s, 96 bytes.
        measurements: Block index to SHA-384 digest.
        fields: TLV type to data.
    """

    untrusted_nonce: bytes
    signed_part: bytes
    signature: bytes
    measurements: Mapping[int, bytes]
    fields: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class MeasurementReport:
    """What a device signed over the nonce that it was asked with.

    Attributes:
        nonce: Requester nonce, 32 bytes.
        measurements: Block index to SHA-384 digest; RIM index = block index less 1.
        driver_version: Empty on a switch.
        vbios_version: As the vendor prints it.
        linked: PDIs that this device names as its neighbours (GPU: its switches; switch: its GPUs), duplicates and
            empty slots dropped.
        log: Closed ranging sessions; empty where the firmware keeps none.
        counters: None where the firmware has none.
    """

    nonce: bytes
    measurements: Mapping[int, bytes]
    driver_version: str
    vbios_version: str
    linked: frozenset[Pdi]
    log: tuple[LogEntry, ...]
    counters: Counters | None


def parse_report(spdm: bytes) -> ParsedReport:
    """Take a report apart by the table in docs/protocol.md §4.

    Raises:
        ReportMalformedError: Any length, constant or TLV is not as the table says.
    """
    if len(spdm) < _BLOCKS_OFFSET or spdm[:4] != _REQUEST_HEADER or spdm[36:41] != _SLOT_AND_RESPONSE_HEADER:
        raise ReportMalformedError("not an SPDM 1.1 GET_MEASUREMENTS and MEASUREMENTS")
    block_count = spdm[41]
    record_bytes = int.from_bytes(spdm[42:45], "little")
    if record_bytes != block_count * _BLOCK_BYTES:
        raise ReportMalformedError(f"{block_count} blocks do not make a record of {record_bytes} bytes")
    opaque_offset = _BLOCKS_OFFSET + record_bytes + _NONCE_BYTES + 2
    opaque_bytes = int.from_bytes(spdm[opaque_offset - 2 : opaque_offset], "little")
    signature_offset = opaque_offset + opaque_bytes
    if len(spdm) != signature_offset + P384_RAW_BYTES:  # docs/protocol.md E1
        raise ReportMalformedError(
            f"{len(spdm)} bytes where the lengths inside ask for {signature_offset + P384_RAW_BYTES}"
        )
    return ParsedReport(
        untrusted_nonce=spdm[4:36],
        signed_part=spdm[:signature_offset],
        signature=spdm[signature_offset:],
        measurements=_parse_blocks(spdm[_BLOCKS_OFFSET : _BLOCKS_OFFSET + record_bytes]),
        fields=_parse_tlvs(spdm[opaque_offset:signature_offset]),
    )


def verify_report(spdm: bytes, chain: VerifiedChain, nonce: bytes | None) -> MeasurementReport:
    """Return what the device of `chain` signed over `nonce`.

    Args:
        spdm: The report's bytes.
        chain: The verified chain that endorses its key.
        nonce: The requester nonce that it must carry, 32 bytes. None only offline, where no nonce is known and
            freshness is not checked.

    Raises:
        ReportMalformedError: The bytes do not parse.
        ReportSignatureInvalidError: Not signed by this chain's leaf.
        NonceMismatchError: Signed over another nonce.
        FwidMismatchError: The firmware id differs from the chain's.
        PdiMismatchError: A switch tells another PDI than its chain.
    """
    parsed = parse_report(spdm)
    # Authentic first: nothing but lengths has been read so far.
    if not chain.report_key.verifies(der_signature(parsed.signature), parsed.signed_part):  # docs/protocol.md E4
        raise ReportSignatureInvalidError("the report's signature does not hold under its chain's leaf")
    if nonce is not None and parsed.untrusted_nonce != nonce:  # docs/protocol.md CL1
        raise NonceMismatchError(
            f"the report was signed over nonce {parsed.untrusted_nonce.hex()[:16]}, not {nonce.hex()[:16]}"
        )
    fwid = parsed.fields.get(_TLV_FWID)
    if fwid is not None and fwid != chain.fwid:  # docs/protocol.md I6
        raise FwidMismatchError("the report names another firmware id than its chain")
    is_switch = chain.kind is DeviceKind.SWITCH
    own_pdi = parsed.fields.get(_TLV_SWITCH_PDIS)
    if is_switch and own_pdi != chain.pdi:  # docs/protocol.md I7
        raise PdiMismatchError("the switch reports another PDI than its chain")
    return MeasurementReport(
        nonce=parsed.untrusted_nonce,
        measurements=parsed.measurements,
        driver_version="" if is_switch else _text(parsed.fields.get(_TLV_DRIVER_VERSION, b"")),
        vbios_version=_vbios_version(parsed.fields.get(_TLV_VBIOS_VERSION, b""), is_switch=is_switch),
        linked=_gpu_slots(parsed.fields) if is_switch else _switch_links(parsed.fields),
        log=_parse_log(parsed.fields.get(_TLV_RANGING_LOG, b"")),
        counters=_parse_counters(parsed.fields.get(_TLV_COUNTERS)),
    )


def _parse_blocks(record: bytes) -> Mapping[int, bytes]:
    measurements: dict[int, bytes] = {}
    for offset in range(0, len(record), _BLOCK_BYTES):
        block = record[offset : offset + _BLOCK_BYTES]
        index = block[0]
        if index == 0 or index in measurements:  # docs/protocol.md E2
            raise ReportMalformedError(f"block index {index} is zero or occurs twice")
        if block[1:_DIGEST_OFFSET] != _BLOCK_HEADER:
            raise ReportMalformedError(f"block {index} is not a SHA-384 measurement of DMTF type 1")
        measurements[index] = block[_DIGEST_OFFSET:]
    return MappingProxyType(measurements)


def _parse_tlvs(opaque: bytes) -> Mapping[int, bytes]:
    fields: dict[int, bytes] = {}
    offset = 0
    while offset < len(opaque):
        kind = int.from_bytes(opaque[offset : offset + 2], "little")
        end = offset + 4 + int.from_bytes(opaque[offset + 2 : offset + 4], "little")
        if len(opaque) < end:  # docs/protocol.md E3; end is at least the header's
            raise ReportMalformedError(f"the opaque field at {offset} is truncated")
        if kind in fields:  # docs/protocol.md E3
            raise ReportMalformedError(f"opaque field {kind} occurs twice")
        fields[kind] = opaque[offset + 4 : end]
        offset = end
    return MappingProxyType(fields)


def _parse_log(data: bytes) -> tuple[LogEntry, ...]:
    if len(data) % _LOG_ENTRY_BYTES or len(data) > MAX_LOG_ENTRIES * _LOG_ENTRY_BYTES:  # docs/protocol.md E6
        raise ReportMalformedError(f"a ranging log of {len(data)} bytes")
    entries = tuple(
        LogEntry(data[o : o + 32], data[o + 32 : o + 64], data[o + 64 : o + 96])
        for o in range(0, len(data), _LOG_ENTRY_BYTES)
    )
    if len({e.session for e in entries}) != len(entries) or len({e.commitment for e in entries}) != len(entries):
        raise ReportMalformedError("a session or commitment occurs twice in the ranging log")  # docs/protocol.md E6
    return entries


def _parse_counters(data: bytes | None) -> Counters | None:
    if data is None:
        return None
    if len(data) != 16:
        raise ReportMalformedError(f"counters of {len(data)} bytes")
    return Counters(boot=int.from_bytes(data[:8], "little"), attestation=int.from_bytes(data[8:], "little"))


def _switch_links(fields: Mapping[int, bytes]) -> frozenset[Pdi]:
    data = fields.get(_TLV_SWITCH_PDIS, b"")
    if len(data) % 8:
        raise ReportMalformedError(f"a switch list of {len(data)} bytes")
    entries = (data[o : o + 8] for o in range(0, len(data), 8))
    return frozenset(Pdi(e[::-1]) for e in entries if e not in _UNUSED)


def _gpu_slots(fields: Mapping[int, bytes]) -> frozenset[Pdi]:
    data = fields.get(_TLV_GPU_SLOTS, b"")
    if data and len(data) != 2 * _GPU_SLOTS_BYTES:  # 8 slots, then the link map
        raise ReportMalformedError(f"a GPU slot list of {len(data)} bytes")
    entries = (data[o : o + 8] for o in range(0, min(len(data), _GPU_SLOTS_BYTES), 8))
    return frozenset(Pdi(e) for e in entries if e not in _UNUSED)


def _vbios_version(data: bytes, *, is_switch: bool) -> str:
    if is_switch:
        return _text(data)
    if len(data) < 5:
        return ""
    return ".".join(f"{b:02X}" for b in (data[3], data[2], data[1], data[0], data[4]))


def _text(data: bytes) -> str:
    # Only printable ASCII may reach a terminal.
    return "".join(chr(b) if 0x20 <= b < 0x7F else "?" for b in data.rstrip(b"\0"))
