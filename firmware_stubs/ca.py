"""The vendor's certificate authority: what endorses a device's key before it leaves the factory.

Spec: docs/protocol.md §5, §8. A directory holds the keys, the pinned root and the reference values. The leaf is not
made here: the device's own ROM makes it (`device`).
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from firmware_stubs import certificates
from firmware_stubs.certificates import TRUTH, Overrides
from firmware_stubs.errors import StateError
from firmware_stubs.firmware import Kind, reference_values

ROOT_FILE = "root.pem"
REFERENCE_FILE = "reference-values.json"


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class DeviceCA:
    """Root [4], identity CA [3] and one provisioner [2] for each kind of device."""

    root: Authority
    identity: Authority
    provisioners: Mapping[Kind, Authority]

    @classmethod
    def generate(cls) -> Self:
        """A new CA in memory alone; every one has the same names and its own keys."""
        root_key, identity_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
        root_name, identity_name = certificates.root_name(), certificates.identity_name()
        root = certificates.authority_certificate(root_name, root_key.public_key(), root_name, root_key, None)
        identity = certificates.authority_certificate(
            identity_name, identity_key.public_key(), root_name, root_key, "l1-root"
        )
        provisioners = {}
        for kind in Kind:
            key = ec.generate_private_key(ec.SECP384R1())
            name = certificates.provisioner_name(kind)
            certificate = certificates.authority_certificate(
                name, key.public_key(), identity_name, identity_key, f"l2-{kind.value}"
            )
            provisioners[kind] = Authority(certificate, key)
        return cls(Authority(root, root_key), Authority(identity, identity_key), provisioners)

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Make a CA in a directory that holds none yet; StateError if it does."""
        if (directory / ROOT_FILE).exists():
            raise StateError(f"{directory} already holds a CA")
        authority = cls.generate()
        authority.save(directory)
        return authority

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The CA of a directory; StateError if there is none."""
        return cls(
            _load(directory, "root"),
            _load(directory, "identity"),
            {kind: _load(directory, f"provisioner-{kind.value}") for kind in Kind},
        )

    def save(self, directory: Path) -> None:
        """Write keys (0600), certificates and the reference values."""
        directory.mkdir(parents=True, exist_ok=True)
        _save(directory, "root", self.root)
        _save(directory, "identity", self.identity)
        for kind, authority in self.provisioners.items():
            _save(directory, f"provisioner-{kind.value}", authority)
        (directory / REFERENCE_FILE).write_text(json.dumps(reference_values(), indent=1) + "\n", encoding="utf-8")

    def endorse(
        self,
        kind: Kind,
        pdi: bytes,
        device_key: ec.EllipticCurvePublicKey,
        overrides: Overrides = TRUTH,
    ) -> tuple[x509.Certificate, ...]:
        """Certificates [1] to [4] for a device key."""
        provisioner = self.provisioners[kind]
        device = certificates.device_certificate(
            kind, pdi, device_key, provisioner.certificate, provisioner.key, overrides=overrides
        )
        return (device, provisioner.certificate, self.identity.certificate, self.root.certificate)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _save(directory: Path, name: str, authority: Authority) -> None:
    pem = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(directory / f"{name}-key.pem", pem)
    (directory / f"{name}.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))


def _load(directory: Path, name: str) -> Authority:
    try:
        certificate = x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())
        key = load_pem_private_key((directory / f"{name}-key.pem").read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise StateError(f"{directory} holds no usable {name} of a CA: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StateError(f"{directory}/{name}-key.pem is not an elliptic-curve key")
    return Authority(certificate, key)
