"""Chains and reference values: docs/protocol.md §5, §8."""

import hashlib
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_stubs.ca import DeviceCA
from firmware_stubs.certificates import Overrides
from firmware_stubs.device import Device
from firmware_stubs.errors import StateError
from firmware_stubs.firmware import GPU_CURRENT, GPU_OLDER, IMAGES, SWITCH_CURRENT, FirmwareImage
from tests.firmware.helpers import public_key

OID_FWID = x509.ObjectIdentifier("2.23.133.5.4.1")


def fwid_extension(leaf: x509.Certificate) -> bytes:
    extension = leaf.extensions.get_extension_for_oid(OID_FWID)
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    return extension.value.value


@pytest.mark.parametrize(
    ("image", "prefix", "leaf_name"),
    [(GPU_CURRENT, 0x41, "EM100 A01 GSP FMC LF"), (SWITCH_CURRENT, 0x50, "ES_10 A01 FSP FMC LF")],
    ids=["gpu", "switch"],
)
def test_chain_holds_link_by_link(
    tmp_path: Path, ca: DeviceCA, ca_directory: Path, image: FirmwareImage, prefix: int, leaf_name: str
) -> None:
    device = Device.manufacture(tmp_path / "device", ca, image)
    chain = [x509.load_der_x509_certificate(der) for der in device.chain_der()]
    assert len(chain) == 5
    pinned = x509.load_pem_x509_certificate((ca_directory / "root.pem").read_bytes())
    assert device.chain_der()[4] == pinned.public_bytes(Encoding.DER)
    for certificate, issuer in zip(chain, [*chain[1:], chain[4]], strict=True):
        certificate.verify_directly_issued_by(issuer)
        assert certificate.signature_algorithm_oid == x509.SignatureAlgorithmOID.ECDSA_WITH_SHA384
        public_key(certificate)
    for certificate in chain[1:]:
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    with pytest.raises(x509.ExtensionNotFound):
        chain[0].extensions.get_extension_for_class(x509.BasicConstraints)
    assert chain[1].serial_number == int.from_bytes(bytes([prefix]) + device.pdi, "big")
    assert chain[0].subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == leaf_name
    spki = public_key(chain[1]).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tail = bytes.fromhex("303d06096086480165030402020430") + image.fwid
    assert fwid_extension(chain[0]) == bytes.fromhex("3081ba020101") + spki + tail


def test_device_loaded_again_shows_the_same_chain(tmp_path: Path, ca: DeviceCA) -> None:
    made = Device.manufacture(tmp_path / "device", ca, GPU_CURRENT)
    assert Device.load(tmp_path / "device").chain_der() == made.chain_der()


def test_firmware_change_keeps_the_device_key_and_changes_the_leaf(tmp_path: Path, ca: DeviceCA) -> None:
    made = Device.manufacture(tmp_path / "device", ca, GPU_CURRENT)
    older = made.flashed(GPU_OLDER)
    assert older.chain_der()[1:] == made.chain_der()[1:]
    assert public_key(older.chain[0]) != public_key(made.chain[0])
    assert GPU_OLDER.fwid in fwid_extension(older.chain[0])
    assert older.flashed(GPU_CURRENT).chain_der() == made.chain_der()
    with pytest.raises(StateError):
        made.flashed(SWITCH_CURRENT)


def test_one_field_overrides_change_that_field(tmp_path: Path, ca: DeviceCA) -> None:
    lies = Overrides(fwid=bytes(48), leaf_is_ca=True, device_serial=7, leaf_unknown_critical=True)
    chain = Device.manufacture(tmp_path / "device", ca, GPU_CURRENT, overrides=lies).chain
    assert fwid_extension(chain[0]).endswith(bytes(48))
    assert chain[0].extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert chain[1].serial_number == 7
    assert any(extension.critical for extension in chain[0].extensions if "32473" in extension.oid.dotted_string)
    forged = Device.manufacture(
        tmp_path / "forged", ca, GPU_CURRENT, overrides=Overrides(leaf_signer=ca.root.key)
    ).chain
    with pytest.raises(InvalidSignature):
        forged[0].verify_directly_issued_by(forged[1])


def test_reference_values_name_every_image(ca_directory: Path) -> None:
    document = json.loads((ca_directory / "reference-values.json").read_text(encoding="utf-8"))
    assert document["schema"] == "trigpoint-reference-values/1"
    assert document["vendor"] == "Emulated Accelerators"
    assert [(entry["name"], entry["kind"], entry["ranging"]) for entry in document["firmware"]] == [
        ("em100-2.1.0", "gpu", True),
        ("em100-1.4.0", "gpu", False),
        ("es10-1.2.0", "switch", False),
    ]
    assert len({entry["fwid"] for entry in document["firmware"]}) == len(IMAGES)
    for entry in document["firmware"]:
        assert len(entry["measurements"]) == (64 if entry["kind"] == "gpu" else 31)
        assert all(len(digest) == 96 for digests in entry["measurements"].values() for digest in digests)
    assert any(len(digests) == 2 for digests in document["firmware"][0]["measurements"].values())


def test_keys_are_private_and_a_ca_is_made_once(ca_directory: Path) -> None:
    assert all(path.stat().st_mode & 0o077 == 0 for path in ca_directory.glob("*-key.pem"))
    with pytest.raises(StateError):
        DeviceCA.create(ca_directory)
    with pytest.raises(StateError):
        DeviceCA.load(ca_directory / "nowhere")


def test_two_vendors_have_the_same_names_and_other_keys(ca: DeviceCA) -> None:
    other = DeviceCA.generate()
    assert other.root.certificate.subject == ca.root.certificate.subject
    assert hashlib.sha256(other.root.certificate.tbs_certificate_bytes) != hashlib.sha256(
        ca.root.certificate.tbs_certificate_bytes
    )
    assert public_key(other.root.certificate) != public_key(ca.root.certificate)
