"""One report with its chain, real where real evidence can be had, else an emulated one."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from firmware_stubs.ca import DeviceCA
from firmware_stubs.device import Device
from firmware_stubs.firmware import GPU_CURRENT
from tests.verifier.helpers_evidence import real_sample
from verifier.evidence.chain import TrustRoots, VerifiedChain, verify_chain
from verifier.evidence.spdm import verify_report

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A good report: `certificates` DER, leaf first."""

    report: bytes
    certificates: tuple[bytes, ...]
    roots: TrustRoots

    @property
    def chain(self) -> VerifiedChain:
        return verify_chain(self.certificates, self.roots)


def one_report(scratch: Path) -> Evidence:
    """A report that verifies: real, else emulated."""
    try:
        sample = real_sample(scratch)
    except pytest.skip.Exception:
        evidence = _emulated(scratch)
    else:
        certificates = _der(sample.chain.read_bytes())
        roots = TrustRoots.parse([sample.root.read_bytes()])
        evidence = Evidence(bytes.fromhex(sample.report.read_text(encoding="ascii")), certificates, roots)
    verify_report(evidence.report, evidence.chain, None)
    return evidence


def _emulated(scratch: Path) -> Evidence:
    ca = DeviceCA.generate()
    device = Device.manufacture(scratch / "gpu", ca, GPU_CURRENT).powered_on()
    roots = TrustRoots(frozenset({ca.root.certificate.public_bytes(Encoding.DER)}))
    return Evidence(device.report(bytes(32), None), tuple(device.chain_der()), roots)


def _der(pem: bytes) -> tuple[bytes, ...]:
    return tuple(c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(pem))
