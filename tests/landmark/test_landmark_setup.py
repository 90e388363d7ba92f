"""Key files and configuration: what is taken, and what is refused with which words."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from landmark.config import build_config, format_endpoint, load_config, parse_endpoint
from landmark.errors import ConfigError, KeyFileError
from landmark.keys import create_key, key_id_of, load_key
from tests.landmark.helpers import raw_public, sha256

TICKET_KEY = "ab" * 32
GOOD = f"""
listen = ["127.0.0.1:7000", "[::1]:7000"]
key_file = "landmark.key"
ticket_keys = ["{TICKET_KEY}"]
position_revision = 3
virtual_machine = false
"""


def write_private(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def pem(key: Ed25519PrivateKey, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_both_forms_of_a_key_file_give_the_same_key(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    for content in (seed, pem(key), b"\n" + pem(key) + b"\n\n"):
        loaded = load_key(write_private(tmp_path / "key", content))
        assert loaded.public_key == raw_public(key)
        assert loaded.key_id == sha256(raw_public(key)) == key_id_of(raw_public(key))


def test_a_new_key_is_private_and_readable_by_others_tools(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = create_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(loaded, Ed25519PrivateKey)
    assert raw_public(loaded) == made.public_key == load_key(path).public_key
    with pytest.raises(KeyFileError, match="exists"):
        create_key(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o620])
def test_a_key_file_that_others_can_get_at_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_private(tmp_path / "key", os.urandom(32))
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key(path)


def test_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = Ed25519PrivateKey.generate()
    elliptic = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    begin, end = b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----"
    for content in (
        b"",
        bytes(31),
        bytes(33),
        bytes(5000),
        elliptic,
        pem(key, BestAvailableEncryption(b"password")),
        pem(key) + pem(key),
        begin + b"!!!!" + end,
        begin + end,
    ):
        with pytest.raises(KeyFileError):
            load_key(write_private(path, content))
    with pytest.raises(KeyFileError, match="No such file"):
        load_key(tmp_path / "absent")
    with pytest.raises(KeyFileError, match="not a regular file"):
        load_key(tmp_path)


def test_a_configuration_file(tmp_path: Path) -> None:
    path = tmp_path / "landmark.toml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.key_file == tmp_path / "landmark.key"
    assert config.listen == ("127.0.0.1:7000", "[::1]:7000")
    assert config.policy.plan.rounds == 16
    assert config.policy.plan.interval_ns == 10_000_000
    assert config.policy.plan.answer_wait_ns == 1_000_000_000
    assert config.policy.position_revision == 3
    assert list(config.verify_keys) == [sha256(bytes.fromhex(TICKET_KEY))]


AUDIT = """
[audit]
server = "trigpoint.example:8443"
ca = "tls/ca.pem"
cert = "/etc/landmark/a.pem"
key = "a.key"
"""


def test_an_audit_table_is_optional_and_its_paths_are_the_files(tmp_path: Path) -> None:
    path = tmp_path / "landmark.toml"
    path.write_text(GOOD)
    assert load_config(path).audit is None
    path.write_text(GOOD + AUDIT)
    audit = load_config(path).audit
    assert audit is not None
    assert audit.server == "trigpoint.example:8443"
    assert audit.ca == tmp_path / "tls" / "ca.pem"
    assert audit.cert == Path("/etc/landmark/a.pem")
    assert audit.key == tmp_path / "a.key"


@pytest.mark.parametrize("name", ["server", "ca", "cert", "key"])
def test_an_audit_table_has_all_four_fields(tmp_path: Path, name: str) -> None:
    path = tmp_path / "landmark.toml"
    lines = AUDIT.splitlines(keepends=True)
    path.write_text(GOOD + "".join(line for line in lines if not line.startswith(f"{name} ")))
    with pytest.raises(ConfigError, match=rf"audit\.{name}"):
        load_config(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("bogus = 1", "bogus"),
        (AUDIT + "bogus = 1", r"audit\.bogus"),
        (AUDIT.replace(":8443", ""), r"audit\.server"),
        (AUDIT.replace('"a.key"', "7"), r"audit\.key"),
        ("audit = 7", "audit"),
        ("rounds = 7", "rounds"),
        ("rounds = 65", "rounds"),
        ('rounds = "16"', "rounds"),
        ("round_interval_ms = 0", "round_interval_ms"),
        ("answer_wait_ms = 5000", "answer_wait_ms"),
        ("round_interval_ms = 50\nanswer_wait_ms = 20", "answer_wait_ms"),
        ("[limits]\nsessions_at_once = 0", r"limits\.sessions_at_once"),
        ("[limits]\nbogus = 0", r"limits\.bogus"),
        ("listen = []", "not TOML"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / "landmark.toml"
    path.write_text(GOOD + change)
    with pytest.raises(ConfigError, match=words):
        load_config(path)


@pytest.mark.parametrize(
    "field",
    [
        {"listen": []},
        {"listen": ["localhost:7000"]},
        {"listen": ["127.0.0.1"]},
        {"listen": ["::1:7000"]},
        {"ticket_keys": []},
        {"ticket_keys": ["AB" * 32]},
        {"ticket_keys": ["ab" * 31]},
        {"ticket_keys": ["zz" * 32]},
        {"position_revision": -1},
        {"position_revision": True},
        {"virtual_machine": 1},
        {"key_file": 3},
    ],
)
def test_a_wrong_value_is_refused(field: dict[str, object]) -> None:
    content: dict[str, object] = {
        "listen": ["127.0.0.1:0"],
        "key_file": "key",
        "ticket_keys": [TICKET_KEY],
        "position_revision": 1,
        "virtual_machine": True,
    }
    build_config(content, "test")
    with pytest.raises(ConfigError, match=f"test: {next(iter(field))}"):
        build_config(content | field, "test")
    for name in content:
        with pytest.raises(ConfigError, match=name):
            build_config({key: value for key, value in content.items() if key != name}, "test")


def test_an_unreadable_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("192.0.2.1:7000", ("192.0.2.1", 7000)),
        ("[2001:db8::1]:0", ("2001:db8::1", 0)),
        ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
    ],
)
def test_endpoints(text: str, parts: tuple[str, int]) -> None:
    assert parse_endpoint(text) == parts
    assert format_endpoint(*parts) == text


@pytest.mark.parametrize(
    "text",
    ["", ":7000", "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:-1", "[192.0.2.1]:7", "2001:db8::1:7"],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|write"):
        parse_endpoint(text)
