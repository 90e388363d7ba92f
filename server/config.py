"""The server's configuration: one TOML file, checked whole at start.

Unknown keys are refused and every problem is listed. Secrets are paths to files. Relative paths start at the folder of
the file. Nothing reads the environment, here or later. What the files hold is parsed in server/app.py;
docs/operations.md explains every key.
"""

import ipaddress
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from server.problems import said
from server.spiffe import SpiffeError, check_trust_domain
from verifier.limits import MAX_RANGES
from verifier.place.choose import BUDGET


class ConfigError(Exception):
    """The configuration cannot be used.

    Attributes:
        problems: All that is wrong, each with the key it concerns.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def _resolve(path: Path, info: ValidationInfo) -> Path:
    base: Path = info.context["base"] if info.context else Path()
    return path if path.is_absolute() else base / path


def _existing(path: Path, info: ValidationInfo) -> Path:
    resolved = _resolve(path, info)
    if not resolved.is_file():
        raise ValueError(f"no file {resolved}")
    return resolved


def _in_existing_folder(path: Path, info: ValidationInfo) -> Path:
    resolved = _resolve(path, info)
    if not resolved.parent.is_dir():
        raise ValueError(f"no folder {resolved.parent}")
    return resolved


def _secret(path: Path, info: ValidationInfo) -> Path:
    resolved = _existing(path, info)
    if resolved.stat().st_mode & 0o077:
        raise ValueError(f"{resolved} may be read by others than its owner: chmod 600")
    return resolved


def _address(text: str) -> str:
    split_address(text)
    return text


def _trust_domain(text: str) -> str:
    try:
        return check_trust_domain(text)
    except SpiffeError as error:
        raise ValueError(str(error)) from error


InputFile = Annotated[Path, AfterValidator(_existing)]
SecretFile = Annotated[Path, AfterValidator(_secret)]
NewFile = Annotated[Path, AfterValidator(_in_existing_folder)]
Address = Annotated[str, AfterValidator(_address)]
MEBIBYTE = 1 << 20


def split_address(text: str) -> tuple[str, int]:
    """Split `host:port` or `[host]:port`; raises `ValueError`. Port 0 asks the system for a free one."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if (
        not colon
        or not host
        or (":" in host) != bracketed
        or not port.isascii()
        or not port.isdigit()
        or int(port) > 65535
    ):
        raise ValueError(f"{text!r} is not host:port or [host]:port")
    return host, int(port)


def is_loopback(address: str) -> bool:
    """Tell whether nobody outside this machine can reach `address`."""
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Section(BaseModel):
    """A part of the file: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Listen(Section):
    """Where the server listens."""

    address: Address
    http_address: Address


class Tls(Section):
    """Mutual TLS: this server's certificate, and the CA whose certificates peers must show."""

    certificate: InputFile
    key: SecretFile
    client_ca: InputFile
    trust_domain: Annotated[str, AfterValidator(_trust_domain)]


class StoreSection(Section):
    """Where records and evidence are kept."""

    path: NewFile


class Trust(Section):
    """What the verifier believes: pinned vendor roots (docs/protocol.md I2) and reference values (§8)."""

    roots: Annotated[tuple[InputFile, ...], Field(min_length=1)]
    reference_values: Annotated[tuple[InputFile, ...], Field(min_length=1)]


class Tickets(Section):
    """The key that signs tickets (docs/protocol.md §7), PKCS #8 PEM, Ed25519."""

    key: SecretFile


class Place(Section):
    """How place is judged.

    `audited_within_h` and `record_standing_days` at 0 ask for nothing: a demonstration, not for accusation. `operator`
    runs this server, as landmark records would name it: landmarks that only it has ranged accuse nobody.
    """

    operator: Annotated[str, Field(max_length=200)] = ""
    tolerated_domains: Annotated[int, Field(ge=0, le=16)] = 1
    border_margin_km: Annotated[float, Field(ge=0, le=1000)] = 5.0
    audited_within_h: Annotated[float, Field(ge=0, le=24 * 366)] = 24.0
    record_standing_days: Annotated[float, Field(ge=0, le=3660)] = 30.0
    borders: InputFile | None = None
    borders_version: str = ""
    country_groups: InputFile | None = None
    country_groups_version: str = ""

    @model_validator(mode="after")
    def _named_data(self) -> Self:
        # A verdict names the lists it used, so a list without a name could not be traced.
        for key in ("borders", "country_groups"):
            if bool(getattr(self, key)) != bool(getattr(self, f"{key}_version")):
                raise ValueError(f"{key} and {key}_version go together")
        return self

    @property
    def audited_within(self) -> timedelta | None:
        """How recent a landmark's audit must be; None: not asked for."""
        return timedelta(hours=self.audited_within_h) if self.audited_within_h else None

    @property
    def standing_for(self) -> timedelta:
        """How long a landmark's record must have stood before it may accuse."""
        return timedelta(days=self.record_standing_days)


class AttestationSection(Section):
    """When devices are asked: by default half to three quarters of the shortest cadence among a host's licenses apart.

    `interval_s` is jittered by a quarter. One that is shorter than the licenses ask is ignored with TLS
    (docs/protocol.md K3).
    """

    interval_s: Annotated[float, Field(ge=1, le=86400 * 31)] | None = None
    unlicensed_interval_s: Annotated[float, Field(ge=1, le=86400 * 31)] = 3600.0
    sessions_per_device: Annotated[int, Field(ge=1, le=MAX_RANGES)] = BUDGET


class Desk(Section):
    """What the server does by itself: the sweep that finds silent devices, and the mark that this node is alive."""

    sweep_interval_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    alive_interval_s: Annotated[float, Field(ge=0.1, le=60)] = 2.0
    node: Annotated[str, Field(min_length=1, max_length=64)] = "node-1"


class Audit(Section):
    """How landmarks audit each other (docs/protocol.md §12).

    Every pair of different failure domains is ordered at least once in `interval_h`, `batch` sessions of a landmark at
    once. New ranges are judged every `run_interval_s`, and challenges see them after `refresh_s`.
    """

    interval_h: Annotated[float, Field(gt=0, le=24)] = 6.0
    batch: Annotated[int, Field(ge=1, le=64)] = 8
    run_interval_s: Annotated[float, Field(ge=0.1, le=3600)] = 60.0
    refresh_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0

    @property
    def interval(self) -> timedelta:
        """How often every pair is ordered."""
        return timedelta(hours=self.interval_h)


def _origin(text: str) -> str:
    if not re.fullmatch(r"[!-*,-~]{1,200}", text):
        raise ValueError(f"{text!r} is no origin: 1 to 200 printable ASCII characters without spaces and +")
    return text


class Witness(Section):
    """A witness that cosigns checkpoints (docs/protocol.md J7): where it answers, and its vkey."""

    url: Annotated[str, Field(pattern=r"^https?://", max_length=500)]
    key: Annotated[str, Field(max_length=500)]


class Journal(Section):
    """The journal of all that is written (docs/protocol.md §17).

    `anchor` holds the newest checkpoint outside the database; keep it on another disk, and do not restore it with a
    backup. `ca` verifies witnesses whose certificates no public authority signed.
    """

    origin: Annotated[str, AfterValidator(_origin)]
    key: SecretFile
    anchor: NewFile
    seal_interval_s: Annotated[float, Field(ge=0.05, le=3600)] = 5.0
    witnesses: Annotated[tuple[Witness, ...], Field(max_length=32)] = ()
    witness_timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 5.0
    ca: InputFile | None = None


class Results(Section):
    """Keys of attestation results (docs/protocol.md §16), PKCS #8 PEM, P-256. The first signs; all are published."""

    keys: Annotated[tuple[SecretFile, ...], Field(min_length=1, max_length=8)]
    issuer: Annotated[str, Field(max_length=200)] = ""
    developer: Annotated[str, Field(min_length=1, max_length=200)] = "Trigpoint"


class Retention(Section):
    """How long raw evidence is kept that stands for nothing any more (docs/protocol.md K1)."""

    raw_days: Annotated[float, Field(ge=1, le=36_600)] = 90.0


class Limits(Section):
    """Bounds on work. A stream over `bytes_in_flight` is told when to come back."""

    message_bytes: Annotated[int, Field(ge=64 * 1024, le=256 * MEBIBYTE)] = 8 * MEBIBYTE
    bytes_in_flight: Annotated[int, Field(ge=MEBIBYTE, le=4096 * MEBIBYTE)] = 256 * MEBIBYTE
    streams: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    streams_per_agent: Annotated[int, Field(ge=1, le=100_000)] = 8
    hosts_per_stream: Annotated[int, Field(ge=1, le=100_000)] = 4096
    drain_s: Annotated[float, Field(ge=0, le=600)] = 10.0


class Config(Section):
    """The whole file."""

    plaintext_on_loopback: bool = False
    listen: Listen
    tls: Tls | None = None
    store: StoreSection
    trust: Trust
    tickets: Tickets
    place: Place = Place()
    attestation: AttestationSection = AttestationSection()
    desk: Desk = Desk()
    audit: Audit = Audit()
    journal: Journal
    results: Results
    retention: Retention = Retention()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _mutual_tls_unless_said(self) -> Self:
        if self.plaintext_on_loopback and self.tls:
            raise ValueError("plaintext_on_loopback and [tls] exclude each other")
        if not self.plaintext_on_loopback and not self.tls:
            raise ValueError("[tls] is missing; plaintext_on_loopback = true is for tests on one machine")
        if self.plaintext_on_loopback and not is_loopback(self.listen.address):
            raise ValueError(
                f"plaintext_on_loopback with listen.address {self.listen.address}, which is not a loopback address"
            )
        return self


def load_config(path: Path) -> Config:
    """Read and check `path`; raises `ConfigError` with every problem."""
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    try:
        return Config.model_validate(document, context={"base": path.resolve().parent})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        problems = []
        for problem in found:
            place = problem["loc"]
            # A list whose entries are wrong is called too short besides.
            if problem["type"] == "too_short" and any(other["loc"][:-1] == place for other in found if other["loc"]):
                continue
            text = said(problem["type"], problem["msg"], problem.get("ctx", {}))
            problems.append(f"{'.'.join(map(str, place))}: {text}" if place else text)
        raise ConfigError(problems) from error
