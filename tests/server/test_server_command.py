"""The command: what it makes, that it overwrites nothing, that it serves and drains."""

import json
import signal
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from cryptography import x509
from typer.testing import CliRunner

from server.main import cli
from tests.server import helpers

SERVE = [sys.executable, "-c", "from server.main import main; main()"]


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> x509.SubjectAlternativeName:
    return certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    code, _, error = run("init", tmp_path / "server", "--trust-domain", helpers.TRUST_DOMAIN)
    assert code == 0, error
    return tmp_path / "server"


def test_init_makes_what_a_server_needs_and_keeps_secrets(folder: Path) -> None:
    for secret in ("ca.key", "server.key", "ticket.key"):
        assert stat.S_IMODE((folder / secret).stat().st_mode) == 0o600
    hosts = names(folder / "server.pem")
    assert hosts.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in hosts.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    certificate(folder / "server.pem").verify_directly_issued_by(certificate(folder / "ca.pem"))


def test_init_overwrites_nothing(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    code, _, error = run("init", folder)
    assert code == 2
    assert "already" in error
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "spiffe_id"),
    [
        (("officer", "ann"), "spiffe://trigpoint.test/officer/ann"),
        (("landmark", "sg-1"), "spiffe://trigpoint.test/landmark/sg-1"),
        (("landmark", "x" * 63), f"spiffe://trigpoint.test/landmark/{'x' * 63}"),
        (("viewer", "vic"), "spiffe://trigpoint.test/viewer/vic"),
        (("admin", "ada"), "spiffe://trigpoint.test/admin/ada"),
        (("auditor", "eva", "--jurisdiction", "DE"), "spiffe://trigpoint.test/auditor/DE/eva"),
        (("approver", "bob", "--jurisdiction", "DE"), "spiffe://trigpoint.test/approver/DE/bob"),
        (("agent", "rack-7", "--licensee", "Example Cloud"), "spiffe://trigpoint.test/agent/Example_20Cloud/rack-7"),
    ],
)
def test_issue_names_the_peer(folder: Path, arguments: tuple[str, ...], spiffe_id: str) -> None:
    code, output, error = run("issue", folder, *arguments)
    assert code == 0, error
    made = {name: Path(path) for name, path in json.loads(output).items()}
    assert made["certificate"] == folder / f"{arguments[1]}.pem"
    assert stat.S_IMODE(made["key"].stat().st_mode) == 0o600
    assert names(made["certificate"]).get_values_for_type(x509.UniformResourceIdentifier) == [spiffe_id]
    code, _, error = run("issue", folder, *arguments)
    assert (code, "already" in error) == (2, True)
    assert f"remove {made['certificate']} and {made['key']} first" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("agent", "rack-7"), "an agent needs --licensee"),
        (("officer", "ann", "--licensee", "X"), "--licensee is for agents alone"),
        (("king", "arthur"), "king"),
        (("officer", "ann", "--jurisdiction", "de"), "'de' is no jurisdiction"),
        (("officer", "ann", "--jurisdiction", "DEU"), "'DEU' is no jurisdiction"),
        (("admin", "ada", "--jurisdiction", "DE"), "admin cannot be limited"),
        (("landmark", "sg-1", "--jurisdiction", "SG"), "landmark cannot be limited"),
        (("agent", "a", "--licensee", "X", "--jurisdiction", "SG"), "agent cannot be limited"),
        *(
            (("landmark", name), f"{name!r} is no landmark's id: 1 to 63 of a-z, 0-9 and -")
            for name in ("A_1", "A-1", "sg.1", "x" * 64, "s\n", "")
        ),
    ],
)
def test_issue_refuses_what_names_nobody(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    before = sorted(folder.iterdir())
    code, _, error = run("issue", folder, *arguments)
    assert (code, said in error) == (2, True), error
    assert sorted(folder.iterdir()) == before


def test_ticket_key_prints_the_public_key(folder: Path) -> None:
    code, output, _ = run("ticket-key", folder)
    assert code == 0
    assert len(bytes.fromhex(output.strip())) == 32
    assert run("ticket-key", folder / "nowhere")[0] == 2


def test_check_says_what_is_missing(folder: Path) -> None:
    code, _, error = run("check", "--config", folder / "server.toml")
    assert code == 2
    assert error.splitlines() == [
        f"trust.roots.0: no file {folder / 'device-roots.pem'}",
        f"trust.reference_values.0: no file {folder / 'reference-values.json'}",
    ]
    helpers.write_materials(folder)
    assert run("check", "--config", folder / "server.toml")[0] == 0


def test_check_says_what_is_not_sure_about_the_lists(folder: Path) -> None:
    helpers.write_materials(folder)
    command = [*SERVE, "check", "--config", str(folder / "server.toml")]
    error = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    told = next(json.loads(line) for line in error.splitlines() if "not all sure" in line)
    assert told["version"] == "country-groups-2026-06-20"
    assert any(line.startswith("D:4: ") and "to be replaced" in line for line in told["unsure"])


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_tells_when_it_is_ready_and_drains(tmp_path: Path, number: signal.Signals) -> None:
    config = helpers.init_folder(tmp_path / "server")
    with subprocess.Popen(
        [*SERVE, "serve", "--config", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] is True
        assert int(ready["address"].rpartition(":")[2]) > 0
        assert get(f"http://{ready['http']}/healthz") == (200, "serving\n")
        status, metrics = get(f"http://{ready['http']}/metrics")
        assert status == 200
        assert "trigpoint_store_up 1.0" in metrics
        assert get(f"http://{ready['http']}/nothing")[0] == 404
        process.send_signal(number)
        output, errors = process.communicate()
    assert (process.returncode, output) == (0, "")
    events = [json.loads(line) for line in errors.splitlines()]
    assert [event["event"] for event in events][-1] == "stopped"


def test_serve_with_a_taken_port_fails(tmp_path: Path) -> None:
    first = helpers.init_folder(tmp_path / "first")
    with subprocess.Popen(
        [*SERVE, "serve", "--config", first], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        second = helpers.init_folder(tmp_path / "second")
        second.write_text(second.read_text().replace('"127.0.0.1:0"', f'"{ready["address"]}"', 1))
        refused = subprocess.run([*SERVE, "serve", "--config", second], capture_output=True, text=True, check=False)
        process.terminate()
    assert refused.returncode == 1
    assert "cannot serve" in refused.stderr
    assert refused.stdout == ""
