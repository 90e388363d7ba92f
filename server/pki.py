"""A small certificate authority for one operator: enough to run mutual TLS without another tool.

An operator with a PKI of its own needs none of it. Keys are ECDSA P-256 (TLS, results) and Ed25519 (tickets, journal),
written as PKCS #8 with mode 0600, never over a file that exists. Names of peers are SPIFFE IDs (server/spiffe.py).
"""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.spiffe import Peer, format_id

CA_LIFE = timedelta(days=3650)
CERTIFICATE_LIFE = timedelta(days=397)
DEFAULT_HOSTS = ("localhost", "127.0.0.1", "::1")
_BACKDATE = timedelta(minutes=5)
"""Clocks differ a little."""

_CONFIG_TEMPLATE = """\
# Trigpoint server. Every key is explained in docs/operations.md; relative paths start at this file's folder.

[listen]
address = "{address}"
http_address = "127.0.0.1:9464"  # /metrics and /healthz, without TLS: keep it on a private address

[tls]
certificate = "server.pem"
key = "server.key"
client_ca = "ca.pem"
trust_domain = "{trust_domain}"

[store]
path = "trigpoint.sqlite"

[trust]
# The vendor's root certificates, PEM: put the file here.
roots = ["device-roots.pem"]
# What the vendor says its firmware measures to (docs/protocol.md section 8): put the file here.
reference_values = ["reference-values.json"]

[tickets]
key = "ticket.key"

[journal]
origin = "{trust_domain}/journal"
key = "journal.key"
anchor = "journal.anchor"  # the newest checkpoint, outside the database: keep it on another disk
seal_interval_s = 5.0
# [[journal.witnesses]]  # who cosigns (docs/witness.md); `trigpoint-witness init` prints a witness's key
# url = "https://witness.example/"
# key = "witness.example+0080fed4+BAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

[results]
keys = ["result.key"]  # the first signs, all are published: docs/operations.md tells how to rotate

[place]
# operator = "Example Verifier Ltd"  # who runs this server: landmarks that only yours have ranged accuse nobody
tolerated_domains = 1  # f: so many failure domains of landmarks may be wrong
border_margin_km = 5.0
audited_within_h = 24.0  # 0: not asked for, which is a demonstration
record_standing_days = 30.0  # 0: not asked for, which is a demonstration

[attestation]
# interval_s = 3600.0  # default: half to three quarters of the shortest cadence; never oftener than that
sessions_per_device = 64

[desk]
sweep_interval_s = 10.0

[retention]
raw_days = 90.0  # raw evidence that stands for nothing any more may be removed after so long

# [audit]
# interval_h = 6.0  # each landmark is ranged by all of other failure domains at least once in it
# batch = 8  # sessions of one landmark at once
# run_interval_s = 60.0  # between two looks whether landmarks contradict each other
# refresh_s = 10.0  # how late a new range makes a landmark count

# [limits]
# message_bytes = 8388608  # of one gRPC message
# bytes_in_flight = 268435456  # evidence worked on at once; above it agents are told when to come back
# streams = 20000  # of agents, at once
# streams_per_agent = 8
# hosts_per_stream = 4096
# drain_s = 10.0  # how long a stopping server waits for what is in flight
"""


class PkiError(Exception):
    """Nothing was written that was not whole: the message says why."""


def init(folder: Path, hosts: Sequence[str], trust_domain: str, address: str) -> None:
    """Make a CA, a server certificate for `hosts`, keys, and a commented server.toml, all in `folder`.

    Raises `PkiError` when one of these files exists already.
    """
    keys = ("ca.key", "server.key", "ticket.key", "journal.key", "result.key")
    names = ("ca.pem", "server.pem", "server.toml", *keys)
    if there := [name for name in names if (folder / name).exists()]:
        raise PkiError(f"{folder} holds {', '.join(there)} already; nothing was changed")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.now(UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "Trigpoint CA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain),
        ]
    )
    ca_certificate = (
        _builder(subject, subject, ca_key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    names_of_server = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Trigpoint server")])
    certificate = _issue(
        server, names_of_server, key.public_key(), (ca_certificate, ca_key), now, ExtendedKeyUsageOID.SERVER_AUTH
    )
    _write_key(folder / "ca.key", ca_key)
    _write(folder / "ca.pem", ca_certificate.public_bytes(Encoding.PEM), 0o644)
    _write_key(folder / "server.key", key)
    _write(folder / "server.pem", certificate.public_bytes(Encoding.PEM), 0o644)
    _write_key(folder / "ticket.key", Ed25519PrivateKey.generate())
    _write_key(folder / "journal.key", Ed25519PrivateKey.generate())
    make_result_key(folder / "result.key")
    _write(folder / "server.toml", _CONFIG_TEMPLATE.format(address=address, trust_domain=trust_domain).encode(), 0o644)


def issue(folder: Path, peer: Peer, file_stem: str, now: datetime | None = None) -> tuple[Path, Path]:
    """Issue a client certificate for `peer` by the CA in `folder`; returns the paths of certificate and key.

    It is valid from `now`, which is the present unless said otherwise, for `CERTIFICATE_LIFE`.

    Raises `PkiError` when there is no CA, or a file of that name already.
    """
    try:
        ca_certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"no usable CA in {folder}: {error}") from error
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{folder / 'ca.key'} is no ECDSA key")
    certificate_path, key_path = folder / f"{file_stem}.pem", folder / f"{file_stem}.key"
    if there := [str(path) for path in (certificate_path, key_path) if path.exists()]:
        raise PkiError(f"{file_stem} was issued already; to issue it anew remove {' and '.join(there)} first")
    now = now or datetime.now(UTC)
    spiffe_id = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(format_id(_trust_domain_of(ca_certificate), peer))]
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, peer.name[:64])])
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _issue(
        subject, spiffe_id, key.public_key(), (ca_certificate, ca_key), now, ExtendedKeyUsageOID.CLIENT_AUTH
    )
    _write_key(key_path, key)
    _write(certificate_path, certificate.public_bytes(Encoding.PEM), 0o644)
    return certificate_path, key_path


def make_result_key(path: Path) -> None:
    """Make a key that signs attestation results (docs/protocol.md EA5); raises `PkiError` when the file exists."""
    if path.exists():
        raise PkiError(f"{path} exists already; nothing was changed")
    _write_key(path, ec.generate_private_key(ec.SECP256R1()))


def load_result_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a key that signs attestation results; raises `PkiError`."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{path}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PkiError(f"{path} is no P-256 key")
    return key


def load_ed25519_key(path: Path) -> Ed25519PrivateKey:
    """Read a key of tickets or of the journal; raises `PkiError`."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise PkiError(f"{path} is no Ed25519 key")
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the raw public key, 32 bytes."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _trust_domain_of(ca_certificate: x509.Certificate) -> str:
    try:
        names = ca_certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError) as error:
        raise PkiError("the CA certificate does not name a trust domain") from error
    return uri.removeprefix("spiffe://")


def _issue(
    subject: x509.Name,
    names: x509.SubjectAlternativeName,
    public_key: ec.EllipticCurvePublicKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
    now: datetime,
    purpose: x509.ObjectIdentifier,
) -> x509.Certificate:
    ca_certificate, ca_key = issuer
    return (
        _builder(subject, ca_certificate.subject, public_key, now, CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> None:
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
