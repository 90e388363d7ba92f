"""The agent's configuration: one frozen tree, checked whole at start, unknown keys refused, secrets only as paths."""

import ipaddress
import ssl
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.claims import Location


class ConfigError(Exception):
    """The configuration cannot be used; the message says which key and why."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerConfig(_Frozen):
    """Where the server is and how it is reached.

    Attributes:
        target: HOST:PORT.
        ca: PEM of the CA that signs the server's certificate.
        cert: PEM of the agent's certificate chain.
        key: PEM of its private key.
        plaintext: No TLS; loopback alone.
        plaintext_role: What the certificate would say, for a server in the same mode: agent/LICENSEE/NAME.
    """

    target: Annotated[str, Field(pattern=r"^.+:\d{1,5}$")]
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    plaintext: bool = False
    plaintext_role: str = ""

    @model_validator(mode="after")
    def _either_tls_or_loopback(self) -> Self:
        given = [path for path in (self.ca, self.cert, self.key) if path is not None]
        if self.plaintext:
            if given:
                raise ValueError("plaintext takes no ca, cert or key")
            if not is_loopback(self.target):
                raise ValueError("plaintext is for loopback alone")
        elif self.plaintext_role:
            raise ValueError("plaintext_role goes with plaintext")
        elif len(given) != 3:
            raise ValueError("ca, cert and key are all needed (or plaintext, on loopback)")
        return self


class EmulatorConfig(_Frozen):
    """The emulated board: the Unix socket that `trigpoint-emulator` serves."""

    socket: Path


class LocationConfig(_Frozen):
    """Where the owner says the host is, degrees WGS 84. Sent along; never evidence."""

    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]


class BackoffConfig(_Frozen):
    """Delays between tries, seconds."""

    first_s: Annotated[float, Field(gt=0)] = 1.0
    longest_s: Annotated[float, Field(gt=0)] = 120.0


class AgentConfig(_Frozen):
    """The whole configuration.

    Attributes:
        host_id: This host's name at the server, 1 to 128 bytes of UTF-8.
        source: Which kind of devices.
        server: Where the server is.
        emulator: Needed when source is `emulator`.
        location: Optional.
        device_poll_s: How often devices are looked at while no challenge is open, seconds.
        state: File that holds the largest checkpoint through restarts; without it, only this process remembers.
        backoff: Delays between tries.
    """

    host_id: Annotated[str, Field(min_length=1)]
    source: Literal["emulator"]
    server: ServerConfig
    emulator: EmulatorConfig | None = None
    location: LocationConfig | None = None
    device_poll_s: Annotated[float, Field(gt=0)] = 5.0
    state: Path | None = None
    backoff: BackoffConfig = BackoffConfig()

    @model_validator(mode="after")
    def _whole_tree(self) -> Self:
        if len(self.host_id.encode()) > 128:
            raise ValueError("host_id has more than 128 bytes")  # docs/protocol.md §3
        if self.emulator is None:
            raise ValueError("source emulator needs emulator.socket")
        return self

    def claimed_location(self) -> Location | None:
        """Return the location that goes into the claims."""
        return None if self.location is None else Location(self.location.latitude, self.location.longitude)


def load_config(path: Path | None, flags: dict[str, dict[str, object] | object]) -> AgentConfig:
    """Return the file's configuration with the flags laid over it.

    Args:
        path: TOML file, or None. Relative paths in it are relative to its folder.
        flags: Keys of the tree; one table deep. None means not given.

    Raises:
        ConfigError: A file that cannot be read, an unknown key, a missing or impossible value.
    """
    tree: dict[str, object] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
            raise ConfigError(f"{path}: {error}") from error
        _anchor(tree, path.parent)
    for key, value in flags.items():
        if isinstance(value, dict):
            given = {name: item for name, item in value.items() if item is not None}
            table = tree.get(key, {})
            if given and isinstance(table, dict):
                tree[key] = {**table, **given}
        elif value is not None:
            tree[key] = value
    try:
        return AgentConfig.model_validate(tree)
    except ValidationError as error:
        lines = (
            f"{'.'.join(map(str, item['loc'])) or 'configuration'}: {_said(item['type'], item['msg'])}"
            for item in error.errors()
        )
        raise ConfigError("; ".join(lines)) from error


def check_files(server: ServerConfig) -> None:
    """Check at start that the TLS files can be used; later the runner reads them anew at each connection.

    Raises:
        ConfigError: A file that is missing or cannot be read, or is no certificate with its key.
    """
    if server.ca is None or server.cert is None or server.key is None:
        return  # plaintext
    for name, path in (("ca", server.ca), ("cert", server.cert), ("key", server.key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError(f"server.{name}: {path}: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(server.ca)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise ConfigError(f"server.ca: {server.ca}: no certificates can be read from it") from error
    try:
        context.load_cert_chain(server.cert, server.key, password="")  # an encrypted key fails, and asks nobody
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"server.cert, server.key: {server.cert} and {server.key}: not a certificate with its key"
        ) from error


def _said(kind: str, message: str) -> str:
    words = {"extra_forbidden": "unknown key", "missing": "is missing"}
    return words.get(kind) or message.removeprefix("Value error, ")


def is_loopback(target: str) -> bool:
    """Tell whether HOST:PORT names this machine by a loopback address or as localhost."""
    host = target.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _anchor(tree: dict[str, object], folder: Path) -> None:
    for table, names in (("server", ("ca", "cert", "key")), ("emulator", ("socket",))):
        entries = tree.get(table)
        if isinstance(entries, dict):
            for name in names:
                if isinstance(entries.get(name), str):
                    entries[name] = folder / Path(entries[name]).expanduser()
    state = tree.get("state")
    if isinstance(state, str):
        tree["state"] = folder / Path(state).expanduser()
