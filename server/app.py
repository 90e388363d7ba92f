"""Puts the server together: the only module that knows every part.

`App.build` parses all that the configuration names and reports every problem at once; `App.running` binds, serves, and
drains at its end. Nothing here decides.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self, TypeVar

import grpc
import structlog

from server.config import Config, split_address
from server.desk.able import AbleDomains
from server.desk.audit import LandmarkAudit
from server.desk.bundle import CaseExporter
from server.desk.casework import Casework
from server.desk.journal_audits import JournalAuditor
from server.desk.screening import ScreeningTask
from server.desk.sealer import Sealer
from server.desk.sweep import Sweep
from server.desk.watch import DeviceWatch
from server.http import HttpServer
from server.intake.admission import Admission
from server.intake.audit_schedule import AuditSchedule
from server.intake.audit_stream import AuditIntake
from server.intake.fleet import Fleet
from server.intake.past import PastGuard
from server.intake.pipeline import Pipeline
from server.intake.ranging_plan import PlanSettings
from server.intake.results import ResultSigner
from server.intake.stream import Drain, Intake
from server.intake.tickets import TicketOffice
from server.materials import Materials, load_materials
from server.rpc.access import AccessInterceptor
from server.rpc.health import Health
from server.rpc.status import StatusInterceptor
from server.sealing import journal_key_of, open_journal
from server.services import SERVICES, Parts, add_services
from server.store.errors import StoreError
from server.store.journal_past import Past
from server.store.journal_types import SignedCheckpoint
from server.store.store import Store
from server.store.types import DeviceFilter
from server.store.watch_types import Able, SweepOutcome
from server.telemetry import Telemetry
from server.times import utc_now
from verifier.verdict import Standing
from verifier.verifier import Verifier

RESERVED_CALLS = 4_096
"""Calls that are no Attest streams: officers, probes, and a Prove stream of each landmark."""

_LAST_CALLS_S = 1.0
"""For calls that are no Attest streams; a watcher's stream has no end of its own."""

_RETRY_TASK_AFTER_S = 1.0

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Bound:
    """Where the server listens, host:port."""

    address: str
    http_address: str


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
        self.config = config
        self.materials = materials
        self._rng = rng or random.SystemRandom()
        self._clock = clock
        self._open_store = open_store
        self.telemetry = Telemetry()

    @classmethod
    def build(cls, config: Config) -> Self:
        """Parse what the configuration names; raises `ConfigError` with every problem."""
        return cls(config, load_materials(config))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Bound]:
        """Serve within the context; at its end answer what is in flight, then close.

        Raises:
            StoreError: The store cannot be opened.
            PastLostError: It was put back from an old copy (docs/protocol.md J8).
            OSError: An address cannot be bound.
        """
        config = self.config
        if self.materials.policy.demonstration:
            structlog.get_logger().warning(
                "demonstration: the rules for landmarks are relaxed; verdicts are not for accusation"
            )
        store = await self._open_store(config.store.path)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(store.close)
            health_state = Health(SERVICES, self.telemetry)
            past, sealer = await open_journal(
                stack, config, self.materials, store, health_state, self.telemetry, self._clock
            )
            results = ResultSigner(
                self.materials.result_keys, issuer=config.results.issuer, developer=config.results.developer
            )
            drain = Drain()
            watch = DeviceWatch(store)
            screening = ScreeningTask(store.screening, self._clock)
            fleet = Fleet(store, config.audit.refresh_s)
            server = self._server(_Running(store, fleet, watch, screening, health_state, drain, past, sealer, results))
            probe = HttpServer(
                self.telemetry.registry, health_state.is_serving, journal=store.journal, jwks=results.jwks()
            )
            tasks = {
                "seal": sealer.run,
                "records": fleet.follow_records,
                "screening": screening.run,
                **self._background(store, watch, health_state),
            }
            # The first mark and sweep come before the first caller, so that health has an answer.
            await _ProbedStore(store, health_state, self.telemetry).mark_alive(
                config.desk.node, self._clock(), longest_pause=timedelta(0)
            )
            await store.keep_materials(self.materials.files, self._clock())
            # So that every challenge names a checkpoint (docs/protocol.md A8).
            await sealer.seal()
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

    def _server(self, running: "_Running") -> grpc.aio.Server:
        config, materials = self.config, self.materials
        store, fleet, drain = running.store, running.fleet, running.drain
        verifier = Verifier(materials.roots, materials.references, materials.policy)
        tickets = TicketOffice(materials.ticket_key)
        intake = Intake(
            store=store,
            fleet=fleet,
            pipeline=Pipeline(
                store,
                fleet,
                verifier,
                materials.setting,
                running.results,
                self.telemetry,
                config.limits.bytes_in_flight,
            ),
            plans=PlanSettings(verifier, materials.policy, tickets, config.attestation.sessions_per_device, self._rng),
            telemetry=self.telemetry,
            interval_s=config.attestation.interval_s,
            unlicensed_interval_s=config.attestation.unlicensed_interval_s,
            max_hosts=config.limits.hosts_per_stream,
            admission=Admission(config.limits.streams, config.limits.streams_per_agent, store.interrupt_uptime),
            clock=self._clock,
            rng=self._rng,
            drain=drain,
            newest=running.newest,
            guard=PastGuard(running.past),
            hasten=config.plaintext_on_loopback,
        )
        proving = AuditIntake(
            store=store,
            fleet=fleet,
            tickets=tickets,
            schedule=AuditSchedule(config.audit.interval, config.audit.batch, self._rng),
            telemetry=self.telemetry,
            clock=self._clock,
            drain=drain,
            newest=running.newest,
        )
        server = grpc.aio.server(
            interceptors=[
                StatusInterceptor(self.telemetry, running.health.store_failed),
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
        parts = Parts(
            store=store,
            watch=running.watch,
            policy=materials.policy,
            tickets=tickets,
            intake=intake,
            proving=proving,
            screening=running.screening,
            health=running.health,
            clock=self._clock,
            seal=running.sealer.seal,
            auditor=JournalAuditor(
                config.store.path, journal_key_of(config, materials).vkey, lambda: running.sealer.newest
            ),
            exporter=CaseExporter(
                store, running.sealer, materials.journal_key, config.journal.origin, running.results.jwks()
            ),
            raw_days=config.retention.raw_days,
        )
        add_services(server, parts)
        return server

    def _background(
        self, store: Store, watch: DeviceWatch, health_state: Health
    ) -> dict[str, Callable[[], Awaitable[None]]]:
        desk = self.config.desk
        casework = Casework(store.cases, self._clock, self.telemetry)
        sweep = Sweep(
            _ProbedStore(store, health_state, self.telemetry),
            AbleDomains(store.watch, self.materials.policy),
            desk.node,
            timedelta(seconds=desk.sweep_interval_s),
            timedelta(seconds=desk.alive_interval_s),
            self._clock,
            casework.swept,
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
            timedelta(seconds=self.config.audit.run_interval_s),
            self._clock,
            self.telemetry,
        )
        return {
            "sweep": sweep.run,
            "cases": casework.run,
            "watch": watch.run,
            "metrics": count_devices,
            "audit": audit.run,
        }

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


@dataclass(frozen=True, slots=True)
class _Running:
    """What a server is made of besides its configuration."""

    store: Store
    fleet: Fleet
    watch: DeviceWatch
    screening: ScreeningTask
    health: Health
    drain: Drain
    past: Past
    sealer: Sealer
    results: ResultSigner

    def newest(self) -> SignedCheckpoint | None:
        """Return the journal's newest checkpoint."""
        return self.sealer.newest


class _ProbedStore:
    """The store as the sweep sees it. Its writes come steadily, so they tell whether the store takes any."""

    def __init__(self, store: Store, health_state: Health, telemetry: Telemetry) -> None:
        self._store = store
        self._health = health_state
        self._telemetry = telemetry

    async def mark_alive(self, node: str, now: datetime, *, longest_pause: timedelta) -> None:
        await self._probe(self._store.mark_alive(node, now, longest_pause=longest_pause))
        self._telemetry.alive_timestamp.set(now.timestamp())

    async def sweep(self, now: datetime, able: Able) -> SweepOutcome:
        outcome = await self._probe(self._store.watch.sweep(now, able))
        self._telemetry.sweep_timestamp.set(now.timestamp())
        self._telemetry.licenses_ending.set(len(outcome.ending))
        return outcome

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
