"""The bytes of a device report: measurement blocks, opaque TLVs, signature.

Spec: docs/protocol.md §4, in the order of fields that H100 GPUs and LS10 switches sign. Builds; never parses.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from firmware_stubs.firmware import FirmwareImage

NONCE_LENGTH = 32
TLV_RANGING_LOG = 0x5401
TLV_COUNTERS = 0x5402

_REQUEST = bytes.fromhex("11e001ff")
_RESPONSE = bytes.fromhex("11600000")
_BLOCK_HEAD = struct.Struct("<BBHBH")

Tlv = tuple[int, bytes]


def unsigned_report(nonce: bytes, blocks: Mapping[int, bytes], responder_nonce: bytes, tlvs: Iterable[Tlv]) -> bytes:
    """Everything that the signature covers. Integers are little-endian (docs/protocol.md §4)."""
    record = b"".join(
        _BLOCK_HEAD.pack(index, 1, 3 + len(digest), 1, len(digest)) + digest for index, digest in blocks.items()
    )
    opaque = b"".join(struct.pack("<HH", kind, len(data)) + data for kind, data in tlvs)
    return b"".join(
        (
            _REQUEST,
            nonce,
            b"\x00",  # SlotIDParam
            _RESPONSE,
            bytes([len(blocks)]),
            len(record).to_bytes(3, "little"),
            record,
            responder_nonce,
            struct.pack("<H", len(opaque)),
            opaque,
        ),
    )


def signed_report(key: ec.EllipticCurvePrivateKey, unsigned: bytes) -> bytes:
    """`unsigned` with `r ‖ s` behind it, 48 bytes each, big-endian."""
    r, s = decode_dss_signature(key.sign(unsigned, ec.ECDSA(hashes.SHA384())))
    return unsigned + r.to_bytes(48, "big") + s.to_bytes(48, "big")


def gpu_tlvs(
    image: FirmwareImage, switch_links: bytes | None, log: Sequence[bytes], counters: tuple[int, int]
) -> list[Tlv]:
    """TLVs of a GPU. `switch_links` is TLV 22 or None, `log` entries of 96 bytes, `counters` boot and attestation."""
    tlvs = [
        (6, _gpu_vbios(image.vbios)),
        (14, bytes.fromhex("01e10000")),
        (15, b"100".ljust(9, b"\x00")),
        (16, b"0".ljust(5, b"\x00")),
        (17, b"E520\x00"),
        (18, b"0100\x00"),
        (19, bytes(2)),
        (3, image.driver.encode() + b"\x00"),
        (4, bytes.fromhex("8001000000000000")),
        (12, _measurement_counts(image, 64)),
        (13, bytes.fromhex("00c00100")),
        (11, b"\x55"),
        (20, image.fwid),
        (21, b"\xaa"),
    ]
    if switch_links is not None:
        tlvs.append((22, switch_links))
    tlvs += [(34, b"\x01\x00"), (36, b"\x02\x00")]
    if image.ranges:
        tlvs.append((TLV_RANGING_LOG, b"".join(log)))
        tlvs.append((TLV_COUNTERS, struct.pack("<QQ", *counters)))
    return tlvs


def switch_tlvs(image: FirmwareImage, pdi: bytes, gpu_links: bytes) -> list[Tlv]:
    """TLVs of a switch; `gpu_links` is TLV 26."""
    return [
        (6, image.vbios.encode()),
        (22, pdi),
        (12, _measurement_counts(image, 27)),
        (26, gpu_links),
        (23, b"\xec\x00"),
        (24, b"\x00\x00"),
        (25, b"\x01\x00"),
    ]


def _gpu_vbios(printed: str) -> bytes:
    b3, b2, b1, b0, b4 = bytes.fromhex(printed.replace(".", ""))
    return bytes([b0, b1, b2, b3, b4, 0, 0, 0])


def _measurement_counts(image: FirmwareImage, length: int) -> bytes:
    """How many measurements went into each block: none into a block that is unused."""
    measured = image.measurements
    return b"".join(struct.pack("<I", int(any(measured[index][0]))) for index in range(1, length + 1))


def block_digests(image: FirmwareImage, pdi: bytes) -> dict[int, bytes]:
    """What the part with this PDI measures; parts differ in the blocks that have more than one good digest."""
    return {index: good[pdi[-1] % len(good)] for index, good in image.measurements.items()}
