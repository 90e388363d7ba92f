"""Hosts that lie, one named lie each: the real agent with one part replaced.

A lying source lies about the ranging sessions that it was asked to hold, a lying collector about what came of them, a
lying tee about what it puts on the stream.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
from structlog.typing import FilteringBoundLogger
from trigpoint.v1 import attestation_pb2

from agent.claims import HOST_TIME, Location, Ranged
from agent.collect import Collector, Evidence, Order, Roster
from agent.sources.base import Answered, Kind, RangeCommand, Source, Why
from agent.sources.emulator import EmulatorSource
from demo.world import Spot
from tests.end_to_end.attester import Tee
from tests.landmark.helpers import COMMIT, Device, Landmark


class TellsAnotherMask(EmulatorSource):
    """Tells another mask than that of the rounds that were answered: `added` come to it, `hidden` are left out."""

    def __init__(self, socket: Path, *, added: int = 0, hidden: int = 0) -> None:
        super().__init__(socket)
        self._added, self._hidden = added, hidden

    async def range(self, pdi: bytes, command: RangeCommand) -> Answered | Why:
        """Hold the session, and change the mask."""
        outcome = await super().range(pdi, command)
        if isinstance(outcome, Why):
            return outcome
        return replace(outcome, answered_mask=(outcome.answered_mask | self._added) & ~self._hidden)


class RangesWithAnotherDevice(EmulatorSource):
    """Has another GPU of the board range, and shows the receipt for the one that was asked."""

    async def range(self, pdi: bytes, command: RangeCommand) -> Answered | Why:
        """Hold the session with the other GPU."""
        others = [d.pdi for d in await self.devices() if d.kind is Kind.GPU and d.pdi != pdi]
        return await super().range(others[0], command)


class KeepsReceipts(EmulatorSource):
    """Ranges once with each landmark, and shows that receipt for every challenge."""

    def __init__(self, socket: Path) -> None:
        super().__init__(socket)
        self._kept: dict[tuple[bytes, bytes], Answered | Why] = {}

    async def range(self, pdi: bytes, command: RangeCommand) -> Answered | Why:
        """Hold the session only if there is no receipt yet."""
        key = pdi, command.landmark_key_id
        if key not in self._kept:
            self._kept[key] = await super().range(pdi, command)
        return self._kept[key]


class GoesToItsOwnLandmark(EmulatorSource):
    """Ranges with a landmark that nobody registered, whose tickets it writes itself."""

    def __init__(self, socket: Path, landmark: Landmark) -> None:
        super().__init__(socket)
        self._landmark = landmark

    async def range(self, pdi: bytes, command: RangeCommand) -> Answered | Why:
        """Hold the session there."""
        key_id = self._landmark.key.key_id
        ticket = self._landmark.issuer.ticket(key_id, challenge=command.challenge)
        endpoints = self._landmark.daemon.endpoints
        return await super().range(pdi, replace(command, landmark_key_id=key_id, endpoints=endpoints, ticket=ticket))


class PlaysTheDevice(EmulatorSource):
    """Answers the landmark itself, so that no device is asked; offers the receipts as the device's."""

    async def range(self, pdi: bytes, command: RangeCommand) -> Answered | Why:
        """Hold the session as a device would."""
        del pdi
        host, _, port = command.endpoints[0].rpartition(":")
        device = Device((host.strip("[]"), int(port)), command.landmark_key_id, challenge=command.challenge)
        try:
            return await self.play(device, command)
        finally:
            device.close()

    async def play(self, device: Device, command: RangeCommand) -> Answered:
        """Hold one session as docs/protocol.md says."""
        receipt = await device.range(command.ticket)
        return Answered(receipt, sum(1 << index for index in device.answered))


class CommitsAgain(PlaysTheDevice):
    """Plays the device, and tries to open a second rapid phase when the first one is over.

    `tries` counts them. The landmark must not say a word.
    """

    def __init__(self, socket: Path) -> None:
        super().__init__(socket)
        self.tries = 0

    async def play(self, device: Device, command: RangeCommand) -> Answered:
        """Hold a session; then send its COMMIT again, and one with another commitment."""
        opened = await device.open()
        commit = device.commit_bytes(opened, command.ticket)
        assert commit[3] == COMMIT
        device.send(commit)
        await device.answer_rounds(opened)
        receipt = await device.finish(opened)
        device.send(commit)
        await device.fence()  # asserts that nothing came
        device.secret = os.urandom(32)
        device.send(device.commit_bytes(opened, command.ticket))
        await device.fence()
        self.tries += 2
        return Answered(receipt, sum(1 << index for index in device.answered))


class ExchangesReceipts(Collector):
    """Shows each landmark's receipt as the next one's."""

    async def hold_sessions(
        self, orders: Sequence[Order], challenge: bytes, roster: Roster, deadline_s: float
    ) -> tuple[Ranged, ...]:
        """Hold the sessions, and hand their receipts on by one."""
        held = await super().hold_sessions(orders, challenge, roster, deadline_s)
        return tuple(replace(one, outcome=held[index - 1].outcome) for index, one in enumerate(held))


class TellsRangesTwice(Collector):
    """Offers every range twice."""

    async def attest(self, challenge: bytes, roster: Roster, ranges: Sequence[Ranged]) -> Evidence:
        """Sign for all of it twice."""
        return await super().attest(challenge, roster, (*ranges, *ranges))


def says_it_is_in(spot: Spot) -> type[Collector]:
    """A collector that writes that place into the claims."""

    class _SaysWhere(Collector):
        def __init__(self, source: Source, host_id: str, _location: Location | None, log: FilteringBoundLogger) -> None:
            super().__init__(source, host_id, Location(spot.latitude, spot.longitude), log)

    return _SaysWhere


class SendsTwice(Tee):
    """Sends every attestation again, byte for byte."""

    async def send(self, request: attestation_pb2.AttestRequest) -> None:
        """Put the message on the stream, twice when it is evidence."""
        await super().send(request)
        if request.HasField("attestations"):
            await super().send(request)


class AnswersTheOneBefore(Tee):
    """Has a new challenge drawn, and then answers the one before."""

    async def send(self, request: attestation_pb2.AttestRequest) -> None:
        """Put the message on the stream, when it is evidence after an Inventory."""
        if request.HasField("attestations"):
            await self.send_inventory()
        await super().send(request)


class RewritesClaims(Tee):
    """Changes what the claims say after the devices have signed them."""

    async def send(self, request: attestation_pb2.AttestRequest) -> None:
        """Put the message on the stream, with another host time when it is evidence."""
        for attestation in request.attestations.attestations:
            claims = cbor2.loads(attestation.claims)
            claims[HOST_TIME] += 1
            attestation.claims = cbor2.dumps(claims, canonical=True)
        await super().send(request)


class ExchangesReports(Tee):
    """Shows two devices' reports each as the other's."""

    async def send(self, request: attestation_pb2.AttestRequest) -> None:
        """Put the message on the stream, with its first two reports exchanged when it is evidence."""
        for attestation in request.attestations.attestations:
            first, second, *rest = attestation.reports
            del attestation.reports[:]
            attestation.reports.extend([second, first, *rest])
        await super().send(request)


class Withholds(Tee):
    """Gathers evidence and does not send it: it goes to `kept`."""

    def __init__(self, kept: asyncio.Queue[attestation_pb2.AttestRequest], call: Any) -> None:
        super().__init__(call)
        self._kept = kept

    async def send(self, request: attestation_pb2.AttestRequest) -> None:
        """Put the message on the stream unless it is evidence."""
        if request.HasField("attestations"):
            self._kept.put_nowait(request)
        else:
            await super().send(request)


class SendsInstead(Tee):
    """Sends evidence of another stream in place of its own."""

    def __init__(self, evidence: attestation_pb2.AttestRequest, call: Any) -> None:
        super().__init__(call)
        self._evidence = evidence

    async def send(self, request: attestation_pb2.AttestRequest) -> None:
        """Put the message on the stream, or the other evidence when it is evidence."""
        await super().send(self._evidence if request.HasField("attestations") else request)
