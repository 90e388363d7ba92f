"""Checks evidence offline, with public keys only: no server, no store, no network.

The one room of the console that imports the verifier. It reads evidence files, verifies every report on its own, and
joins those that were signed under one nonce by their board edges. What is printed, and how, is decided in
verify_command.py.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from verifier.errors import ChainMalformedError, EvidenceError, Reason, UsageError
from verifier.evidence import board
from verifier.evidence.attestation import DeviceReport
from verifier.evidence.chain import ChainVerifier, DeviceKind, TrustRoots, chain_id
from verifier.evidence.spdm import verify_report
from verifier.units import Pdi

__all__ = [
    "Authentic",
    "Board",
    "DeviceKind",
    "Evidence",
    "Outcome",
    "Refused",
    "UnusableInputError",
    "check",
    "load_evidence",
    "load_report",
    "load_roots",
    "read_input",
]

NONCE_BYTES = 32
MAX_FILE_BYTES = 64 * 1024 * 1024
"""A board of 12 devices is 150 kB; this is a rack of 400 boards."""


class UnusableInputError(Exception):
    """The files or options cannot be read as evidence; nothing was checked."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One report as found in a file, before anything about it was checked.

    Attributes:
        source: File and index, for the reader.
        chain_pem: Certificate chain, PEM, leaf first.
        report: SPDM bytes.
        nonce: The nonce that it must carry, 32 bytes; None: not known, freshness is not checked.
    """

    source: str
    chain_pem: bytes
    report: bytes
    nonce: bytes | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A report that is not authentic, with its one reason."""

    source: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Authentic:
    """A report that is."""

    source: str
    device: DeviceReport
    fresh: bool
    edges: tuple[Pdi, ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """Devices that edges signed by both ends join, under one nonce."""

    nonce: bytes
    gpus: tuple[Pdi, ...]
    switches: tuple[Pdi, ...]
    edge_count: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check of all files gave."""

    results: tuple[Authentic | Refused, ...]
    boards: tuple[Board, ...] = field(default=())

    @property
    def refused_count(self) -> int:
        """Reports that are not authentic."""
        return sum(isinstance(r, Refused) for r in self.results)


def load_roots(paths: Iterable[Path]) -> TrustRoots:
    """Read the vendor's root certificates.

    Raises:
        UnusableInputError: A file cannot be read or holds no PEM certificate.
    """
    try:
        return TrustRoots.parse([read_input(path) for path in paths])
    except UsageError as error:
        raise UnusableInputError(f"--root: {error}") from error


def load_evidence(path: Path, nonce: bytes | None) -> tuple[Evidence, ...]:
    """Read a JSON list of evidence, `[{arch, certificate, evidence, nonce, ...}]`.

    Args:
        path: The file.
        nonce: Overrides the nonce of every entry; None: each entry's own is used.

    Raises:
        UnusableInputError: It is not such a list; the message says where.
    """
    try:
        entries = json.loads(read_input(path))
    except (ValueError, RecursionError) as error:
        raise UnusableInputError(f"{path}: not JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise UnusableInputError(f"{path}: not a list of evidence")
    return tuple(_entry(path, index, entry, nonce) for index, entry in enumerate(entries))


def load_report(report: Path, chain: Path, nonce: bytes | None) -> Evidence:
    """Read one report in hex and its chain in PEM.

    Raises:
        UnusableInputError: A file cannot be read, or the report is not hex.
    """
    try:
        spdm = bytes.fromhex(read_input(report).decode("ascii").strip())
    except ValueError as error:
        raise UnusableInputError(f"{report}: not a report in hex") from error
    return Evidence(str(report), read_input(chain), spdm, nonce)


def check(evidence: Sequence[Evidence], roots: TrustRoots, now: datetime) -> Outcome:
    """Verify every report, then join those that share a nonce by their edges.

    Args:
        evidence: What the files hold.
        roots: The vendor's roots.
        now: Time of appraisal, aware.
    """
    chains = ChainVerifier(roots)
    results: list[Authentic | Refused] = []
    for index, item in enumerate(evidence):
        try:
            certificates = _certificates(item.chain_pem)
            chain = chains.verify(chain_id(certificates), certificates, now)
            report = verify_report(item.report, chain, item.nonce)
            results.append(Authentic(item.source, DeviceReport(index, chain, report), fresh=item.nonce is not None))
        except EvidenceError as error:
            results.append(Refused(item.source, error.reason, str(error)))
    return _joined(results)


def _joined(results: Sequence[Authentic | Refused]) -> Outcome:
    # Edges count under one nonce only (docs/protocol.md B1): a GPU may stand in several files, under several nonces.
    by_nonce: dict[bytes, list[Authentic]] = {}
    for result in results:
        if isinstance(result, Authentic):
            by_nonce.setdefault(result.device.report.nonce, []).append(result)
    edges: dict[int, tuple[Pdi, ...]] = {}
    boards: list[Board] = []
    for nonce, members in by_nonce.items():
        joined = board.join([m.device for m in members])
        kinds = {m.device.pdi: m.device.kind for m in members}
        edges.update({m.device.index: tuple(sorted(joined.edges[m.device.pdi])) for m in members})
        boards.extend(
            Board(
                nonce=nonce,
                gpus=tuple(sorted(p for p in group if kinds[p] is DeviceKind.GPU)),
                switches=tuple(sorted(p for p in group if kinds[p] is DeviceKind.SWITCH)),
                edge_count=sum(len(joined.edges[p]) for p in group) // 2,
            )
            for group in sorted(set(joined.group.values()), key=sorted)
            if len(group) > 1
        )
    return Outcome(
        tuple(replace(r, edges=edges[r.device.index]) if isinstance(r, Authentic) else r for r in results),
        tuple(boards),
    )


def _certificates(pem: bytes) -> list[bytes]:
    try:
        return [c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(pem)]
    except (ValueError, x509.InvalidVersion) as error:
        raise ChainMalformedError("the chain is not a list of PEM certificates") from error


def _entry(path: Path, index: int, entry: Any, nonce: bytes | None) -> Evidence:
    where = f"{path}, entry {index}"
    if not isinstance(entry, dict):
        raise UnusableInputError(f"{where}: not an object")
    try:
        chain_pem = base64.b64decode(entry["certificate"], validate=True)
        report = base64.b64decode(entry["evidence"], validate=True)
        own_nonce = bytes.fromhex(entry["nonce"]) if nonce is None else nonce
    except KeyError as error:
        raise UnusableInputError(f"{where}: has no {error}") from error
    except (binascii.Error, TypeError, ValueError) as error:
        raise UnusableInputError(f"{where}: certificate and evidence are base64, nonce is hex ({error})") from error
    if len(own_nonce) != NONCE_BYTES:
        raise UnusableInputError(f"{where}: a nonce has {NONCE_BYTES} bytes, not {len(own_nonce)}")
    return Evidence(where, chain_pem, report, own_nonce)


def read_input(path: Path, most: int | None = None) -> bytes:
    """Return a file's bytes.

    Raises:
        UnusableInputError: It cannot be read, or has more bytes than `most`; None: than evidence may have.
    """
    limit = MAX_FILE_BYTES if most is None else most
    try:
        if path.stat().st_size > limit:
            raise UnusableInputError(f"{path}: more than {limit // 1024:,} KiB")
        return path.read_bytes()
    except OSError as error:
        raise UnusableInputError(f"{path}: {error.strerror}") from error
