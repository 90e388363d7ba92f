"""The daemon's configuration: one frozen tree out of a TOML file, checked whole at start.

Unknown keys are refused. Secrets are only named by path. Nothing is read from the environment.
"""

import ipaddress
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Self

from nacl.signing import VerifyKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from landmark.derive import MAX_ROUNDS, MIN_ACCEPTED_ROUNDS
from landmark.errors import ConfigError
from landmark.keys import key_id_of, parse_public_key
from landmark.ranger import Policy
from landmark.session import Plan

_NS_PER_MS: Final = 1_000_000
_MAX_PORT: Final = 65_535
# A device closes by itself 5 s after it last heard anything (docs/protocol.md D4); STOP has to come before.
_MAX_ANSWER_WAIT_MS: Final = 4_000
_MAX_ROUND_INTERVAL_MS: Final = 100


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Limits(_Frozen):
    """Bounds of docs/protocol.md D5: sessions open at once, and opened in a second."""

    sessions_at_once: int = Field(default=1024, ge=1, le=100_000)
    sessions_per_second: int = Field(default=200, ge=1, le=10_000)


class Audit(_Frozen):
    """Where this landmark learns by which others it is to be ranged. docs/protocol.md LA1.

    `server` is host:port. `ca`, `cert` and `key` are PEM files: the roots that the server's certificate must chain to,
    this landmark's certificate, which names its record, and the certificate's private key.
    """

    server: Annotated[str, Field(pattern=r"^.+:\d{1,5}$")]
    ca: Annotated[Path, Field(strict=False)]
    cert: Annotated[Path, Field(strict=False)]
    key: Annotated[Path, Field(strict=False)]


class Config(_Frozen):
    """What a landmark is and how it serves.

    `listen` holds `host:port` or `[host]:port` with numeric hosts; port 0 takes a free one. Name the addresses that
    devices know: on a wildcard the system may answer from another one. `ticket_keys` are the server's raw Ed25519
    public keys in hex, several while they are rotated. `position_revision` and `virtual_machine` are those of the
    landmark's record in the registry. Without `audit` it is never ranged by others, and counts for nothing
    (docs/protocol.md PL3).
    """

    listen: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=8)]
    key_file: Annotated[Path, Field(strict=False)]
    ticket_keys: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=8)]
    position_revision: int = Field(ge=0, le=2**63 - 1)
    virtual_machine: bool
    rounds: int = Field(default=16, ge=MIN_ACCEPTED_ROUNDS, le=MAX_ROUNDS)
    round_interval_ms: int = Field(default=10, ge=1, le=_MAX_ROUND_INTERVAL_MS)
    answer_wait_ms: int = Field(default=1_000, ge=10, le=_MAX_ANSWER_WAIT_MS)
    stats_interval_s: int = Field(default=60, ge=1, le=86_400)
    limits: Limits = Limits()
    audit: Audit | None = None

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_endpoint(text)
        return value

    @field_validator("ticket_keys")
    @classmethod
    def _check_ticket_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_public_key(text)
        return value

    @model_validator(mode="after")
    def _check_pace(self) -> Self:
        if self.answer_wait_ms < self.round_interval_ms:
            raise ValueError("answer_wait_ms must not be shorter than round_interval_ms")
        return self

    @property
    def policy(self) -> Policy:
        """The part of it that the state machine runs on."""
        return Policy(
            plan=Plan(self.rounds, self.round_interval_ms * _NS_PER_MS, self.answer_wait_ms * _NS_PER_MS),
            sessions_at_once=self.limits.sessions_at_once,
            sessions_per_second=self.limits.sessions_per_second,
            position_revision=self.position_revision,
        )

    @property
    def verify_keys(self) -> dict[bytes, VerifyKey]:
        """The ticket keys by their key ids."""
        keys = [parse_public_key(text) for text in self.ticket_keys]
        return {key_id_of(key): VerifyKey(key) for key in keys}


def parse_endpoint(text: str) -> tuple[str, int]:
    """Return numeric host and port of `host:port` or `[host]:port`; ValueError when it is anything else.

    A link-local IPv6 host carries its interface, `[fe80::1%eth0]:7000`.
    """
    host, colon, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    try:
        version = ipaddress.ip_address(host).version
    except ValueError as error:
        raise ValueError(f"{text!r}: not a numeric address and a port") from error
    is_port = colon and port_text.isascii() and port_text.isdigit() and int(port_text) <= _MAX_PORT
    if not is_port or bracketed != (version == 6):
        raise ValueError(f"{text!r}: write 192.0.2.1:7000 or [2001:db8::1]:7000")
    return host, int(port_text)


def format_endpoint(host: str, port: int) -> str:
    """Return `host:port` or `[host]:port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def load_config(path: Path) -> Config:
    """Read and check a configuration file; relative paths in it are taken from the file's folder.

    Raises:
        ConfigError: it cannot be read, is not TOML, or a field is wrong.
    """
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    _anchor(content, ("key_file",), path.parent)
    if isinstance(audit := content.get("audit"), dict):
        _anchor(audit, ("ca", "cert", "key"), path.parent)
    return build_config(content, str(path))


def _anchor(table: dict[str, object], names: tuple[str, ...], folder: Path) -> None:
    for name in names:
        if isinstance(value := table.get(name), str):
            table[name] = str(folder / value)


def build_config(content: Mapping[str, object], source: str) -> Config:
    """Check `content` as a whole; ConfigError names every wrong field, and `source`."""
    try:
        return Config.model_validate(dict(content))
    except ValidationError as error:
        lines = [
            f"{source}: {'.'.join(str(part) for part in problem['loc']) or 'whole file'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        raise ConfigError("\n".join(lines)) from error
