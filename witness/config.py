"""The witness's configuration: one frozen tree out of a TOML file, checked whole at start, unknown keys refused."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from verifier.journal.notes import NoteError, NoteKey
from witness.errors import ConfigError

FILE = "witness.toml"
KEY_FILE = "witness.key"
STATE_FOLDER = "state"

TEMPLATE = """\
name = "{name}"
key = "{key}"
state = "{state}"  # what was signed last; never restore it from a copy
listen = "127.0.0.1:7460"

# [tls]  # unless a reverse proxy does it
# cert = "witness.pem"
# key = "witness-tls.key"

# [[logs]]  # `trigpoint-server journal-key` prints a journal's key; its name is the origin
# origin = "trigpoint.example/journal"
# keys = ["trigpoint.example/journal+0123abcd+A…"]
"""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(_Frozen):
    """PEM files of the certificate chain and its key."""

    cert: Path
    key: Path


class Log(_Frozen):
    """A log whose checkpoints are cosigned: its origin, and the vkeys that sign them, several while one is replaced."""

    origin: Annotated[str, Field(min_length=1, max_length=255)]
    keys: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)]

    @field_validator("keys")
    @classmethod
    def _check_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if NoteKey.parse(text).cosigns:  # NoteError is a ValueError
                raise ValueError(f"{text} is a witness's key, not a log's")
        return value

    def note_keys(self) -> tuple[NoteKey, ...]:
        """Return the keys."""
        return tuple(map(NoteKey.parse, self.keys))


class Limits(_Frozen):
    """Bounds on work. Beyond `connections` the answer is 503; a request that is not whole after `request_s` ends."""

    connections: Annotated[int, Field(ge=1, le=100_000)] = 256
    request_s: Annotated[float, Field(gt=0, le=600)] = 10.0


class Config(_Frozen):
    """The whole configuration.

    Attributes:
        name: As the cosignatures name the witness; a URL without its scheme.
        key: Its key file.
        state: Folder of what it promised.
        listen: host:port or [host]:port; port 0 takes a free one.
        tls: None: plain HTTP. Checkpoints are signed and public; TLS keeps others from answering in our place.
        logs: Whose checkpoints it cosigns.
        limits: Bounds on work.
    """

    name: str
    key: Path
    state: Path
    listen: str
    tls: Tls | None = None
    logs: Annotated[tuple[Log, ...], Field(max_length=10_000)] = ()
    limits: Limits = Limits()

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        return check_name(value)

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _each_log_once(self) -> Self:
        if len({log.origin for log in self.logs}) < len(self.logs):
            raise ValueError("two logs of one origin")
        return self

    def keys_by_origin(self) -> Mapping[str, tuple[NoteKey, ...]]:
        """Return the keys of each log."""
        return {log.origin: log.note_keys() for log in self.logs}


def check_name(name: str) -> str:
    """Return the name when cosignatures can carry it; raises `ValueError`."""
    return NoteKey(name, bytes(32), cosigns=True).name


def split_address(text: str) -> tuple[str, int]:
    """Return host and port; raises `ValueError`."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{text!r} is no address: host:port or [host]:port")
    return host, int(port)


def load_config(path: Path) -> Config:
    """Read a file; relative paths in it are relative to its folder. Raises `ConfigError`."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        config = Config.model_validate(tree)
    except (OSError, NoteError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc'])) or 'configuration'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {'; '.join(problems)}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(f"{path}: {error}") from error
    folder = path.parent
    tls = config.tls and Tls(cert=folder / config.tls.cert, key=folder / config.tls.key)
    return config.model_copy(update={"key": folder / config.key, "state": folder / config.state, "tls": tls})
