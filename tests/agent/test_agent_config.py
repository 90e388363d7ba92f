"""The configuration is checked whole at start."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.config import ConfigError, ServerConfig, check_files, is_loopback, load_config
from agent.main import app
from agent.runner import role_metadata

FILE = """
host_id = "rack-7"
source = "emulator"
device_poll_s = 2.5
[server]
target = "trigpoint.example:7443"
ca = "ca.pem"
cert = "agent.pem"
key = "/keys/agent.key"
[emulator]
socket = "board.sock"
[location]
latitude = 1.3
longitude = 103.8
"""


def test_paths_in_a_file_are_relative_to_it_and_flags_win(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(FILE, encoding="utf-8")
    config = load_config(path, {"host_id": "rack-8", "source": None, "server": {"target": "other:1", "ca": None}})
    assert config.host_id == "rack-8"
    assert config.server.target == "other:1"
    assert config.server.ca == tmp_path / "ca.pem"
    assert config.server.key == Path("/keys/agent.key")
    assert config.emulator is not None
    assert config.emulator.socket == tmp_path / "board.sock"
    assert config.claimed_location() is not None


@pytest.mark.parametrize(
    "change",
    [
        FILE + "[surprise]\n",
        FILE.replace("device_poll_s", "device_pole_s"),
        FILE.replace('ca = "ca.pem"\n', ""),
        FILE.replace("[emulator]", "[emu"),
        FILE.replace("latitude = 1.3", "latitude = 91"),
        FILE.replace('"emulator"', '"abacus"'),
        FILE.replace('"rack-7"', '"' + "\u00e9" * 65 + '"'),
        FILE.replace("[server]", "[server]\nplaintext = true"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(change, encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config(path, {})


def test_the_state_file_is_found_beside_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f'state = "checkpoint"\n{FILE}', encoding="utf-8")
    assert load_config(path, {}).state == tmp_path / "checkpoint"
    assert load_config(path, {"state": Path("/elsewhere")}).state == Path("/elsewhere")
    path.write_text(FILE, encoding="utf-8")
    assert load_config(path, {}).state is None


def test_problems_are_told_in_our_words(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(FILE.replace('host_id = "rack-7"', "hostid = 1").replace('ca = "ca.pem"\n', ""), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    said = str(caught.value)
    assert "host_id: is missing" in said
    assert "hostid: unknown key" in said
    assert "server: ca, cert and key are all needed" in said


def test_certificate_files_are_checked_at_start(tmp_path: Path) -> None:
    server = ServerConfig(
        target="server:1", ca=tmp_path / "ca.pem", cert=tmp_path / "agent.pem", key=tmp_path / "agent.key"
    )
    for name in ("ca.pem", "agent.pem", "agent.key"):
        with pytest.raises(ConfigError, match=f"{name}: No such file"):
            check_files(server)
        (tmp_path / name).write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="no certificates can be read"):
        check_files(server)
    check_files(ServerConfig(target="127.0.0.1:1", plaintext=True))


@pytest.mark.parametrize(
    ("target", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.8.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("10.0.0.1:1", False),
        ("localhost.example:1", False),
    ],
)
def test_loopback(target: str, *, loopback: bool) -> None:
    assert is_loopback(target) is loopback


def test_plaintext_beyond_loopback_is_a_usage_error() -> None:
    flags = ["--server", "10.0.0.1:7443", "--host-id", "h", "--source", "emulator", "--socket", "/s", "--plaintext"]
    result = CliRunner().invoke(app, ["run", *flags])
    assert result.exit_code == 2
    assert "loopback" in result.stderr
    assert result.stdout == ""


def test_the_role_said_in_plaintext_is_sent_and_goes_with_plaintext_alone() -> None:
    plain = ServerConfig(target="127.0.0.1:1", plaintext=True, plaintext_role="agent/Acme/rack-7")
    assert role_metadata(plain) == (("trigpoint-dev-role", "agent/Acme/rack-7"),)
    assert role_metadata(ServerConfig(target="127.0.0.1:1", plaintext=True)) == ()
    with pytest.raises(ValueError, match="goes with plaintext"):
        ServerConfig(target="a:1", ca=Path("ca"), cert=Path("cert"), key=Path("key"), plaintext_role="agent/Acme/x")
