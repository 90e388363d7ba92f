"""Where the server is and how it is reached: options, the settings file, the channel.

Options win over the file. Secrets are only file paths. mTLS always, unless plaintext is asked for on loopback.
"""

import ipaddress
import os
import ssl
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

import grpc
from pydantic import BaseModel, ConfigDict, ValidationError

from console.exits import CommandError, ExitCode
from console.problems import said

DEFAULT_FILE = Path("~/.config/trigpoint/config.toml")
CHANNEL_OPTIONS = [("grpc.max_receive_message_length", 64 << 20)]  # a page of 1,000 devices with fixes is a few MB


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What was given on the command line; None and False mean not given."""

    server: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    config: Path | None = None
    plaintext: bool = False

    def over(self, earlier: "ConnectionOptions") -> "ConnectionOptions":
        """Return these options with gaps filled from those given earlier on the line."""
        return ConnectionOptions(
            **{field.name: getattr(self, field.name) or getattr(earlier, field.name) for field in fields(self)}
        )


class SettingsFile(BaseModel):
    """The TOML file. Relative paths are relative to its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    plaintext: bool = False


@dataclass(frozen=True, slots=True)
class Connection:
    """A server and the credentials for it; None: plaintext."""

    target: str
    credentials: grpc.ChannelCredentials | None

    def channel(self) -> grpc.Channel:
        """Open a channel; it connects with the first call."""
        if self.credentials is None:
            return grpc.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        return grpc.secure_channel(self.target, self.credentials, options=CHANNEL_OPTIONS)


def connect(options: ConnectionOptions) -> Connection:
    """Return the connection that options and settings file describe.

    Raises:
        CommandError: UNUSABLE, with what is missing or does not fit.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own log would stand beside our one clear line
    chosen = _with_file(options)
    if chosen.server is None:
        raise _unusable(f"no server: give --server HOST:PORT, or set server in {DEFAULT_FILE}")
    if not chosen.server.rpartition(":")[2].isdecimal():
        raise _unusable(f"--server must be HOST:PORT, not {chosen.server}")
    if chosen.plaintext:
        if not is_loopback(chosen.server):
            raise _unusable("plaintext is for loopback alone")
        return Connection(chosen.server, None)
    if chosen.ca is None or chosen.cert is None or chosen.key is None:
        raise _unusable("--ca, --cert and --key are all needed (or --plaintext, on loopback)")
    return Connection(chosen.server, _credentials(chosen.ca, chosen.cert, chosen.key))


def is_loopback(target: str) -> bool:
    """Tell whether HOST:PORT names this machine by a loopback address or as localhost."""
    host = target.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _with_file(options: ConnectionOptions) -> ConnectionOptions:
    path = options.config
    if path is None:
        path = DEFAULT_FILE.expanduser()
        if not path.is_file():
            return options
    try:
        found = SettingsFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {said(item['type'], item['msg'], item.get('ctx', {}))}"
            for item in error.errors()
        )
        raise _unusable(f"{path}: {problems}") from error
    except (OSError, ValueError) as error:
        raise _unusable(f"{path}: {error}") from error
    tls = not options.plaintext  # a flag for plaintext leaves the file's certificates aside
    return options.over(
        ConnectionOptions(
            server=found.server,
            ca=_anchored(found.ca, path) if tls else None,
            cert=_anchored(found.cert, path) if tls else None,
            key=_anchored(found.key, path) if tls else None,
            plaintext=found.plaintext and options.ca is None,
        )
    )


def _anchored(entry: Path | None, file: Path) -> Path | None:
    return None if entry is None else file.parent / entry.expanduser()


def _credentials(ca: Path, cert: Path, key: Path) -> grpc.ChannelCredentials:
    # gRPC says nothing useful about a bad file, so each is tried with the standard library first.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise _unusable(f"--ca {ca}: no certificates can be read from it: {error}") from error
    try:
        context.load_cert_chain(cert, key, password="")  # an encrypted key fails, and asks nobody
    except (OSError, ValueError) as error:
        raise _unusable(f"--cert {cert}, --key {key}: not a certificate with its key: {error}") from error
    return grpc.ssl_channel_credentials(ca.read_bytes(), key.read_bytes(), cert.read_bytes())


def _unusable(message: str) -> CommandError:
    return CommandError(ExitCode.UNUSABLE, message)
