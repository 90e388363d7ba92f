"""What the configuration names, read and parsed: trust roots, reference values, borders, keys. All problems at once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import geodata
from server import pki
from server.config import Config, ConfigError, Tls
from verifier.errors import TrigpointError
from verifier.evidence.chain import TrustRoots
from verifier.evidence.measurements import ReferenceValues
from verifier.journal.notes import NoteError, NoteKey
from verifier.place.groups import parse_groups
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas
from verifier.setting import BORDERS, COUNTRY_GROUPS, REFERENCE_VALUES, ROOT, Material, Setting

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Materials:
    """What the files hold that the configuration names, parsed.

    `files` are those that verdicts are made with, as they were read; `setting` names them with the operator's numbers.
    """

    files: tuple[Material, ...]
    setting: Setting
    roots: TrustRoots
    references: ReferenceValues
    policy: PlacePolicy
    ticket_key: Ed25519PrivateKey
    journal_key: Ed25519PrivateKey
    witnesses: tuple[NoteKey, ...]
    result_keys: tuple[EllipticCurvePrivateKey, ...]
    credentials: grpc.ServerCredentials | None


def load_materials(config: Config) -> Materials:
    """Parse every file; raises `ConfigError` with every problem."""
    problems: list[str] = []

    def attempt(key: str, parse: Callable[[], Parsed]) -> Parsed | None:
        try:
            return parse()
        except (OSError, ValueError, TrigpointError, pki.PkiError) as error:
            problems.append(f"{key}: {error}")
            return None

    trust = config.trust
    roots = attempt("trust.roots", lambda: _parse_all(ROOT, trust.roots, TrustRoots.parse))
    references = attempt(
        "trust.reference_values", lambda: _parse_all(REFERENCE_VALUES, trust.reference_values, ReferenceValues.parse)
    )
    ticket_key = attempt("tickets.key", lambda: pki.load_ed25519_key(config.tickets.key))
    journal_key = attempt("journal.key", lambda: pki.load_ed25519_key(config.journal.key))
    witnesses = attempt("journal.witnesses", lambda: tuple(_witness(each.key) for each in config.journal.witnesses))
    result_keys = attempt("results.keys", lambda: tuple(map(pki.load_result_key, config.results.keys)))
    place = attempt("place", lambda: _load_policy(config))
    tls = config.tls
    credentials = attempt("tls", lambda: _load_credentials(tls)) if tls else None
    if (
        problems
        or roots is None
        or references is None
        or place is None
        or ticket_key is None
        or journal_key is None
        or witnesses is None
        or result_keys is None
    ):
        raise ConfigError(problems)
    policy, lists = place
    files = (*lists, *references[1], *roots[1])
    return Materials(
        files=files,
        setting=Setting.of(policy, files),
        roots=roots[0],
        references=references[0],
        policy=policy,
        ticket_key=ticket_key,
        journal_key=journal_key,
        witnesses=witnesses,
        result_keys=result_keys,
        credentials=credentials,
    )


def _parse_all(
    kind: str, paths: Sequence[Path], parse: Callable[[Iterable[bytes]], Parsed]
) -> tuple[Parsed, list[Material]]:
    files = [Material(kind, path.name, path.read_bytes()) for path in paths]
    return parse(each.data for each in files), files


def _witness(vkey: str) -> NoteKey:
    key = NoteKey.parse(vkey)
    if not key.cosigns:
        raise NoteError(f"the vkey of {key.name} is not a cosigner's")
    return key


def _load_policy(config: Config) -> tuple[PlacePolicy, list[Material]]:
    place = config.place
    borders, version = (
        (place.borders.read_bytes(), place.borders_version)
        if place.borders
        else (geodata.read_borders(), geodata.BORDERS_VERSION)
    )
    lists, lists_version = (
        (place.country_groups.read_bytes(), place.country_groups_version)
        if place.country_groups
        else (geodata.read_country_groups(), geodata.COUNTRY_GROUPS_VERSION)
    )
    groups = parse_groups(lists, lists_version)
    if notes := groups.notes():  # whoever runs it must know what its verdicts stand on
        structlog.get_logger().warning("country groups are not all sure", version=groups.version, unsure=list(notes))
    policy = PlacePolicy(
        atlas=Atlas.parse(borders, version, groups.members),
        prohibited=groups.prohibited(),
        prohibited_version=groups.version,
        tolerated_domains=place.tolerated_domains,
        border_margin_km=place.border_margin_km,
        audited_within=place.audited_within,
        standing_for=place.standing_for,
        operator=place.operator,
    )
    return policy, [Material(BORDERS, version, borders), Material(COUNTRY_GROUPS, lists_version, lists)]


def _load_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Read the server's side of mutual TLS; gRPC would name a bad file only when the first peer comes, if at all."""
    certificates = _load_pem_certificates(tls.certificate)
    authorities = _load_pem_certificates(tls.client_ca)
    try:
        key = serialization.load_pem_private_key(tls.key.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{tls.key}: {error}") from error
    encodings = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*encodings) != certificates[0].public_key().public_bytes(*encodings):
        raise ValueError(f"{tls.key} is not the key of {tls.certificate}")
    now = datetime.now(UTC)
    for path, held in ((tls.certificate, certificates), (tls.client_ca, authorities)):
        if not held[0].not_valid_before_utc <= now < held[0].not_valid_after_utc:
            raise ValueError(f"{path} is not valid now")
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.certificate.read_bytes())], tls.client_ca.read_bytes(), require_client_auth=True
    )


def _load_pem_certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
