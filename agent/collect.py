"""Gathers one attestation from a source: roster of devices, ranging sessions, claims, one report a device.

Spec: docs/protocol.md §3, A1, A3, A4. It speaks to the source alone; the stream is agent/stream.py's business.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from agent.claims import MAX_RECEIPT_BYTES, Location, Ranged, bound_nonce, encode_claims
from agent.sources.base import Answered, RangeCommand, Source, SourceDevice, SourceError, Why

SOURCE_TIMEOUT_S = 10.0  # a GPU signs in milliseconds; a driver that is busy with a reset takes seconds
SESSION_TIMEOUT_S = 15.0  # a session at 300 ms round trips takes about 3 s, lost datagrams included
REPORTING_RESERVE_S = 8.0  # kept back from the challenge's life for signing and sending
SESSIONS_AT_ONCE = 16  # more would queue behind each other in the device and blur the round trips
REPORT_TRIES = 2
MAX_DEVICES = 64  # docs/protocol.md §3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A device with its chain (DER, leaf first) and the chain's id, 32 bytes (docs/protocol.md I8)."""

    device: SourceDevice
    chain: tuple[bytes, ...]
    chain_id: bytes


@dataclass(frozen=True, slots=True)
class Roster:
    """The devices that report, in the order of their reports."""

    devices: tuple[HostDevice, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """One range order: the device, the landmark, its endpoints and the ticket."""

    pdi: bytes
    landmark_key_id: bytes
    endpoints: tuple[str, ...]
    ticket: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """One device's signed report."""

    spdm: bytes
    host_device: HostDevice


@dataclass(frozen=True, slots=True)
class Evidence:
    """One attestation's claims and reports, in the order of the claims' device list."""

    claims: bytes
    reports: tuple[Report, ...]


class Collector:
    """Collects for one host.

    Args:
        source: Where devices are.
        host_id: 1 to 128 characters.
        location: As the owner tells it, or None.
        log: Bound logger.
        monotonic_s: Clock that deadlines are on.
        host_time_s: Host's wall clock, Unix seconds; goes into the claims untrusted.
    """

    def __init__(
        self,
        source: Source,
        host_id: str,
        location: Location | None,
        log: FilteringBoundLogger,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        host_time_s: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._host_id = host_id
        self._location = location
        self._log = log
        self._monotonic_s = monotonic_s
        self._host_time_s = host_time_s
        self._sessions = asyncio.Semaphore(SESSIONS_AT_ONCE)

    async def roster(self) -> Roster:
        """List the devices with their chains. A device whose chain cannot be read is left out and logged.

        Raises:
            SourceError: The source does not answer, or no device is usable.
        """
        listed = await _within(SOURCE_TIMEOUT_S, self._source.devices(), "devices")
        chains = await asyncio.gather(*(self._chain(device) for device in listed))
        present = tuple(entry for entry in chains if entry is not None)
        if not 1 <= len(present) <= MAX_DEVICES:
            raise SourceError(f"{len(present)} usable devices; a host has 1 to {MAX_DEVICES}")
        if len({entry.device.pdi for entry in present}) != len(present):
            raise SourceError("the source lists one device twice")  # docs/protocol.md CL2
        return Roster(present)

    async def hold_sessions(
        self, orders: Sequence[Order], challenge: bytes, roster: Roster, deadline_s: float
    ) -> tuple[Ranged, ...]:
        """Hold one session for each order, several at once; every order gets an answer (docs/protocol.md A3)."""
        known = {entry.device.pdi: entry.device for entry in roster.devices}
        return tuple(
            await asyncio.gather(
                *(self._session(order, challenge, known.get(order.pdi), deadline_s) for order in orders)
            )
        )

    async def attest(self, challenge: bytes, roster: Roster, ranges: Sequence[Ranged]) -> Evidence:
        """Encode the claims and have every device sign them.

        A device that does not report after two tries is left out, and the others sign again: the claims list exactly
        the devices that report (docs/protocol.md CL2).

        Raises:
            SourceError: No device reports.
        """
        devices = roster.devices
        while devices:
            listed = [entry.device.pdi for entry in devices]
            claims = encode_claims(
                challenge=challenge,
                host_id=self._host_id,
                host_time_s=int(self._host_time_s()),
                devices=listed,
                ranges=[item for item in ranges if item.pdi in listed],
                location=self._location,
            )
            nonce = bound_nonce(claims)
            signed = await asyncio.gather(*(self._report(entry, nonce) for entry in devices))
            reports = tuple(report for report in signed if report is not None)
            if len(reports) == len(devices):
                return Evidence(claims, reports)
            devices = tuple(report.host_device for report in reports)
        raise SourceError("no device reports")

    async def _chain(self, device: SourceDevice) -> HostDevice | None:
        try:
            chain = await _within(SOURCE_TIMEOUT_S, self._source.chain(device.pdi), "chain")
        except SourceError as error:
            self._log.warning("chain unreadable", pdi=device.pdi.hex(), error=str(error))
            return None
        return HostDevice(device, chain, hashlib.sha256(b"".join(chain)).digest())

    async def _session(self, order: Order, challenge: bytes, device: SourceDevice | None, deadline_s: float) -> Ranged:
        return Ranged(order.pdi, order.landmark_key_id, await self._outcome(order, challenge, device, deadline_s))

    async def _outcome(
        self, order: Order, challenge: bytes, device: SourceDevice | None, deadline_s: float
    ) -> Answered | Why:
        if device is None or not device.can_range:
            return Why.CANNOT_RANGE
        async with self._sessions:
            timeout_s = min(SESSION_TIMEOUT_S, deadline_s - REPORTING_RESERVE_S - self._monotonic_s())
            if timeout_s <= 0:
                return Why.TOO_LATE
            command = RangeCommand(challenge, order.landmark_key_id, order.endpoints, order.ticket, timeout_s)
            try:
                outcome = await _within(timeout_s + 1.0, self._source.range(order.pdi, command), "range")
            except SourceError as error:
                self._log.warning("range failed", pdi=order.pdi.hex(), error=str(error))
                return Why.CANNOT_RANGE
        if isinstance(outcome, Answered) and not 1 <= len(outcome.receipt) <= MAX_RECEIPT_BYTES:
            return Why.NO_RECEIPT
        return outcome

    async def _report(self, entry: HostDevice, nonce: bytes) -> Report | None:
        for _ in range(REPORT_TRIES):
            try:
                spdm = await _within(SOURCE_TIMEOUT_S, self._source.report(entry.device.pdi, nonce), "report")
            except SourceError as error:
                self._log.warning("report failed", pdi=entry.device.pdi.hex(), error=str(error))
            else:
                return Report(spdm, entry)
        return None


async def _within(seconds: float, answer: Awaitable[T], what: str) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError as error:
        raise SourceError(f"{what}: no answer within {seconds:.0f} s") from error
