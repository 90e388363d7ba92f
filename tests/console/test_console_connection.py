"""How the console finds its server, and what it says when it cannot."""

import json
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from console.cli import app
from tests.console.helpers import FakeServices, ServiceThread, quiet_device


def test_options_may_stand_before_the_command(target: str) -> None:
    result = CliRunner().invoke(app, ["--server", target, "--plaintext", "--json", "device", "list"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"devices": [], "total_size": 0}


def test_the_later_option_wins(target: str) -> None:
    result = CliRunner().invoke(app, ["--server", "127.0.0.1:1", "--plaintext", "device", "list", "--server", target])
    assert result.exit_code == 0


def test_settings_file_at_its_usual_place(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".config/trigpoint/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'server = "{target}"\nplaintext = true\n')
    assert CliRunner().invoke(app, ["device", "list"]).exit_code == 0


@pytest.mark.parametrize(
    "content", ["serve = 'x:1'", "server = [", "server = 'nowhere'\nplaintext = true", "server = 'x:1'\nca = 'absent'"]
)
def test_unusable_settings(tmp_path: Path, content: str) -> None:
    path = tmp_path / "console.toml"
    path.write_text(content)
    result = CliRunner().invoke(app, ["device", "list", "--config", str(path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("trigpoint: ")


def test_an_unknown_setting_is_named_in_our_words(tmp_path: Path) -> None:
    path = tmp_path / "console.toml"
    path.write_text("serve = 'x:1'")
    result = CliRunner().invoke(app, ["device", "list", "--config", str(path)])
    assert result.stderr == f"trigpoint: {path}: serve: unknown key\n"


def test_no_server_and_plaintext_beyond_loopback() -> None:
    assert CliRunner().invoke(app, ["device", "list"]).exit_code == 2
    result = CliRunner().invoke(app, ["device", "list", "--server", "10.0.0.1:7443", "--plaintext"])
    assert result.exit_code == 2
    assert "loopback" in result.stderr


def test_no_server_there_is_one_line_without_a_traceback() -> None:
    with socket.socket() as bound:  # bound and not listening: nobody else takes the port
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "console.cli",
            "--server",
            f"127.0.0.1:{port}",
            "--plaintext",
            "device",
            "list",
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith(f"trigpoint: 127.0.0.1:{port}: the server cannot be reached")
    assert len(result.stderr.splitlines()) == 1


class Authority:
    """A CA and what it issued, as PEM files in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        self.ca = folder / "ca.pem"
        certificate = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)  # noqa: FBT003
        self.ca.write_bytes(self._sign(certificate))

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        loopback = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert_file.write_bytes(self._sign(self._builder(subject, key).add_extension(loopback, critical=False)))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_file, key_file

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_mutual_tls_and_what_is_said_without_it(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    server_cert, server_key = ours.issue("server")
    cert, key = ours.issue("officer")
    stranger_cert, stranger_key = theirs.issue("stranger")
    credentials = grpc.ssl_server_credentials(
        [(server_key.read_bytes(), server_cert.read_bytes())], ours.ca.read_bytes(), require_client_auth=True
    )

    with ServiceThread(FakeServices(devices=[quiet_device(1)]), credentials) as running:

        def listed(ca: Path, cert: Path, key: Path) -> tuple[int, str]:
            options = ["--server", running.target, "--ca", str(ca), "--cert", str(cert), "--key", str(key)]
            result = CliRunner().invoke(app, ["device", "list", *options])
            return result.exit_code, result.stderr

        assert listed(ours.ca, cert, key) == (0, "1 device\n")
        for code, said in (listed(theirs.ca, cert, key), listed(ours.ca, stranger_cert, stranger_key)):
            assert code == 3
            assert said.startswith(f"trigpoint: {running.target}: ")
            assert len(said.splitlines()) == 1
        assert "TLS failed" in listed(theirs.ca, cert, key)[1]
        plain = CliRunner().invoke(app, ["device", "list", "--server", running.target, "--plaintext"])
        assert (plain.exit_code, plain.stderr.endswith("; does it expect TLS?\n")) == (3, True)
        port = running.target.rpartition(":")[2]
        files = ["--ca", str(ours.ca), "--cert", str(cert), "--key", str(key)]
        misnamed = CliRunner().invoke(app, ["device", "list", "--server", f"localhost:{port}", *files])
        assert misnamed.exit_code == 3
        assert "the server's certificate does not name the host localhost" in misnamed.stderr
        assert listed(ours.ca, cert, stranger_key)[0] == 2
        assert listed(key, cert, key)[0] == 2
        assert listed(tmp_path / "absent", cert, key)[0] == 2
