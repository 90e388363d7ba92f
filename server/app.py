"""Puts the server together: the only module that knows every part.

`App.build` parses all that the configuration names and reports every problem at once; `App.running` binds, serves, and
drains at its end. Nothing here decides.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self, TypeVar

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from trigpoint.v1 import (
    attestation_pb2,
    attestation_pb2_grpc,
    landmark_pb2,
    landmark_pb2_grpc,
    licensing_pb2,
    licensing_pb2_grpc,
)

import geodata
from server import pki
from server.config import Config, ConfigError, Tls, split_address
from server.desk.audit import LandmarkAudit
from server.desk.sweep import Sweep
from server.desk.watch import DeviceWatch
from server.http import HttpServer
from server.intake.admission import Admission
from server.intake.audit_schedule import AuditSchedule
from server.intake.audit_stream import AuditIntake
from server.intake.fleet import Fleet
from server.intake.pipeline import Pipeline
from server.intake.ranging_plan import PlanSettings
from server.intake.stream import Drain, Intake
from server.intake.tickets import TicketOffice
from server.rpc.access import AccessInterceptor
from server.rpc.attestation import AttestationServicer
from server.rpc.audits import AuditLister
from server.rpc.health import Health
from server.rpc.landmarks import LandmarkServicer
from server.rpc.licensing import LicensingServicer
from server.rpc.plan import LandmarkPlanner
from server.rpc.status import StatusInterceptor
from server.store.errors import StoreError
from server.store.store import Store
from server.store.types import DeviceFilter
from server.telemetry import Telemetry
from verifier.errors import TrigpointError
from verifier.evidence.chain import TrustRoots
from verifier.evidence.measurements import ReferenceValues
from verifier.place.groups import parse_groups
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas
from verifier.units import Pdi
from verifier.verdict import Standing
from verifier.verifier import Verifier

SERVICES = (
    attestation_pb2.DESCRIPTOR.services_by_name["AttestationService"].full_name,
    licensing_pb2.DESCRIPTOR.services_by_name["LicensingService"].full_name,
    landmark_pb2.DESCRIPTOR.services_by_name["LandmarkService"].full_name,
)
RESERVED_CALLS = 4_096
"""Calls that are no Attest streams: officers, probes, and a Prove stream of each landmark."""

_LAST_CALLS_S = 1.0
"""For calls that are no Attest streams; a watcher's stream has no end of its own."""

_RETRY_TASK_AFTER_S = 1.0

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Materials:
    """What the files hold that the configuration names, parsed."""

    roots: TrustRoots
    references: ReferenceValues
    policy: PlacePolicy
    ticket_key: Ed25519PrivateKey
    credentials: grpc.ServerCredentials | None


@dataclass(frozen=True, slots=True)
class Bound:
    """Where the server listens, host:port."""

    address: str
    http_address: str


def utc_now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


class App:
    """One server process.

    Args:
        config: As checked.
        materials: As parsed.
        rng: Source of the server's choices; unpredictable except in tests.
        clock: The time now, aware.
        open_store: Opens the store; tests open one that fails.
    """

    def __init__(
        self,
        config: Config,
        materials: Materials,
        rng: random.Random | None = None,
        clock: Callable[[], datetime] = utc_now,
        open_store: Callable[[Path], Awaitable[Store]] = Store.open,
    ) -> None:
        self._config = config
        self.materials = materials
        self._rng = rng or random.SystemRandom()
        self._clock = clock
        self._open_store = open_store
        self.telemetry = Telemetry()

    @classmethod
    def build(cls, config: Config) -> Self:
        """Parse what the configuration names; raises `ConfigError` with every problem."""
        return cls(config, _load_materials(config))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Bound]:
        """Serve within the context; at its end answer what is in flight, then close.

        Raises:
            StoreError: The store cannot be opened.
            OSError: An address cannot be bound.
        """
        config = self._config
        if self.materials.policy.demonstration:
            structlog.get_logger().warning(
                "demonstration: the rules for landmarks are relaxed; verdicts are not for accusation"
            )
        store = await self._open_store(config.store.path)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(store.close)
            health_state = Health(SERVICES, self.telemetry)
            drain = Drain()
            watch = DeviceWatch(store)
            fleet = Fleet(store, config.audit.refresh_s)
            server = self._server(store, fleet, watch, health_state, drain)
            probe = HttpServer(self.telemetry.registry, health_state.is_serving)
            tasks = {"records": fleet.follow_records, **self._background(store, watch, health_state)}
            # The first mark and sweep come before the first caller, so that health has an answer.
            await _ProbedStore(store, health_state, self.telemetry).mark_alive(
                config.desk.node, self._clock(), longest_pause=timedelta(0)
            )
            stack.push_async_callback(server.stop, None)
            address = _bind(server, config.listen.address, self.materials.credentials)
            http_host, http_port = split_address(config.listen.http_address)
            http_address = _join(http_host, await probe.start(http_host, http_port))
            stack.push_async_callback(probe.stop)
            await server.start()
            running = [asyncio.create_task(self._supervise(name, run), name=name) for name, run in tasks.items()]
            structlog.get_logger().info(
                "serving", address=address, http=http_address, plaintext=self.materials.credentials is None
            )
            try:
                yield Bound(address, http_address)
            finally:
                await health_state.stop()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(config.limits.drain_s):
                        await drain.wait()
                await server.stop(_LAST_CALLS_S)
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
                structlog.get_logger().info("stopped")

    def _server(
        self, store: Store, fleet: Fleet, watch: DeviceWatch, health_state: Health, drain: Drain
    ) -> grpc.aio.Server:
        config, materials = self._config, self.materials
        verifier = Verifier(materials.roots, materials.references, materials.policy)
        tickets = TicketOffice(materials.ticket_key)
        intake = Intake(
            store=store,
            fleet=fleet,
            pipeline=Pipeline(store, fleet, verifier, self.telemetry, config.limits.bytes_in_flight),
            plans=PlanSettings(verifier, materials.policy, tickets, config.attestation.sessions_per_device, self._rng),
            telemetry=self.telemetry,
            interval_s=config.attestation.interval_s,
            unlicensed_interval_s=config.attestation.unlicensed_interval_s,
            max_hosts=config.limits.hosts_per_stream,
            admission=Admission(config.limits.streams, config.limits.streams_per_agent, store.interrupt_uptime),
            clock=self._clock,
            rng=self._rng,
            drain=drain,
        )
        proving = AuditIntake(
            store=store,
            fleet=fleet,
            tickets=tickets,
            schedule=AuditSchedule(config.audit.interval, config.audit.batch, self._rng),
            telemetry=self.telemetry,
            clock=self._clock,
            drain=drain,
        )
        server = grpc.aio.server(
            interceptors=[
                StatusInterceptor(self.telemetry, health_state.store_failed),
                AccessInterceptor(config.tls.trust_domain if config.tls else None, self.telemetry),
            ],
            # Streams are counted by server/intake/admission.py, so that there is always room for officers and probes.
            maximum_concurrent_rpcs=config.limits.streams + RESERVED_CALLS,
            options=[
                ("grpc.max_receive_message_length", config.limits.message_bytes),
                ("grpc.max_send_message_length", config.limits.message_bytes),
                ("grpc.max_metadata_size", 16 * 1024),
                # Two servers on one port with two stores would each know half; refuse the second.
                ("grpc.so_reuseport", 0),
                # An agent behind a dead link is noticed within a minute.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ],
        )
        country_codes = materials.policy.atlas.country_codes
        audits = AuditLister(store, materials.policy, self._clock)
        planner = LandmarkPlanner(store, materials.policy, self._clock)
        attestation_pb2_grpc.add_AttestationServiceServicer_to_server(AttestationServicer(intake), server)
        licensing_pb2_grpc.add_LicensingServiceServicer_to_server(
            LicensingServicer(store, watch, country_codes | materials.policy.atlas.groups.keys()), server
        )
        landmark_pb2_grpc.add_LandmarkServiceServicer_to_server(
            LandmarkServicer(store, tickets.public_key, country_codes, planner=planner, proving=proving, audits=audits),
            server,
        )
        health_pb2_grpc.add_HealthServicer_to_server(health_state.servicer, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    def _background(
        self, store: Store, watch: DeviceWatch, health_state: Health
    ) -> dict[str, Callable[[], Awaitable[None]]]:
        desk = self._config.desk
        sweep = Sweep(
            _ProbedStore(store, health_state, self.telemetry),
            desk.node,
            timedelta(seconds=desk.sweep_interval_s),
            timedelta(seconds=desk.alive_interval_s),
            self._clock,
        )

        async def count_devices() -> None:
            while True:
                for standing in Standing:
                    page = await store.list_devices(DeviceFilter(standing=standing), limit=1)
                    self.telemetry.devices.labels(standing.name).set(page.total)
                await asyncio.sleep(desk.sweep_interval_s)

        audit = LandmarkAudit(
            store,
            self.materials.policy,
            timedelta(seconds=self._config.audit.run_interval_s),
            self._clock,
            self.telemetry,
        )
        return {"sweep": sweep.run, "watch": watch.run, "metrics": count_devices, "audit": audit.run}

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Keep a background task alive: log, count and begin again whenever it fails."""
        while True:
            try:
                await run()
                structlog.get_logger().error("background task ended", task=name)
            except Exception:  # noqa: BLE001 - whatever it was, the task must not stay dead
                structlog.get_logger().exception("background task failed", task=name)
            self.telemetry.task_failures.labels(name).inc()
            await asyncio.sleep(_RETRY_TASK_AFTER_S)


class _ProbedStore:
    """The store as the sweep sees it. Its writes come steadily, so they tell whether the store takes any."""

    def __init__(self, store: Store, health_state: Health, telemetry: Telemetry) -> None:
        self._store = store
        self._health = health_state
        self._telemetry = telemetry

    async def mark_alive(self, node: str, now: datetime, *, longest_pause: timedelta) -> None:
        await self._probe(self._store.mark_alive(node, now, longest_pause=longest_pause))
        self._telemetry.alive_timestamp.set(now.timestamp())

    async def sweep_silent(self, now: datetime) -> tuple[Pdi, ...]:
        found = await self._probe(self._store.sweep_silent(now))
        self._telemetry.sweep_timestamp.set(now.timestamp())
        return found

    async def _probe(self, call: Awaitable[Parsed]) -> Parsed:
        try:
            result = await call
        except StoreError:
            self._telemetry.task_failures.labels("sweep").inc()
            await self._health.store_failed()
            raise
        await self._health.store_answered()
        return result


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> str:
    host, _ = split_address(address)
    try:
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error
    return _join(host, port)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _load_materials(config: Config) -> Materials:
    """Parse every file; raises `ConfigError` with every problem."""
    problems: list[str] = []

    def attempt(key: str, parse: Callable[[], Parsed]) -> Parsed | None:
        try:
            return parse()
        except (OSError, ValueError, TrigpointError, pki.PkiError) as error:
            problems.append(f"{key}: {error}")
            return None

    trust = config.trust
    roots = attempt("trust.roots", lambda: TrustRoots.parse([path.read_bytes() for path in trust.roots]))
    references = attempt(
        "trust.reference_values", lambda: ReferenceValues.parse([path.read_bytes() for path in trust.reference_values])
    )
    ticket_key = attempt("tickets.key", lambda: pki.load_ed25519_key(config.tickets.key))
    policy = attempt("place", lambda: _load_policy(config))
    tls = config.tls
    credentials = attempt("tls", lambda: _load_credentials(tls)) if tls else None
    if problems or roots is None or references is None or policy is None or ticket_key is None:
        raise ConfigError(problems)
    return Materials(roots, references, policy, ticket_key, credentials)


def _load_policy(config: Config) -> PlacePolicy:
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
    return PlacePolicy(
        atlas=Atlas.parse(borders, version, groups.members),
        prohibited=groups.prohibited(),
        prohibited_version=groups.version,
        tolerated_domains=place.tolerated_domains,
        border_margin_km=place.border_margin_km,
        audited_within=place.audited_within,
        standing_for=place.standing_for,
        operator=place.operator,
    )


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
    now = utc_now()
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
