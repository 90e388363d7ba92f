"""One Attest stream, from inventory to verdict, for many hosts at once (docs/protocol.md §9).

Knows the order of messages and when the next challenge comes; not protobuf, nor who the peer may be. A message that
comes too late or twice is dropped: it can only steer. What a stream cannot decide ends it with an error, which
server/rpc/status.py turns into a gRPC status.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime

from server.intake.admission import Admission
from server.intake.challenges import ChallengeBook, DrawnChallenge, Newest, hash_of
from server.intake.fleet import Fleet, Snapshot
from server.intake.past import PastGuard
from server.intake.pipeline import Answer, BusyError, Chain, Commits, Pipeline, Reporter, Submission
from server.intake.ranging_plan import ListedDevice, PlanSettings, RangeStep, RangingPlan, choose_rangers
from server.intake.timing import JITTER, SHORTEST_INTERVAL_S, SHORTEST_PACE, Pace, licenses_of, pace
from server.store.types import LoadedInputs
from server.telemetry import Telemetry
from verifier.evidence.attestation import IssuedChallenge, UnverifiedAttestation
from verifier.limits import CHALLENGE_LIFE
from verifier.units import ChainId, Challenge, Pdi
from verifier.verdict import Verdict

BATCHES_IN_FLIGHT = 4
"""Of one stream. Enough that a commit never leaves the verifier idle; behind them the stream is simply not read."""

SPREAD_S = 10.0
"""Over so long are the hosts asked that come under a license by one import."""


class StoppingError(Exception):
    """This server goes away; the agent should come back to it or to another."""


class Drain:
    """Lets a server end its streams when what is in flight is answered."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._streams = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """Hold the drain open while a stream runs."""
        self._streams += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._streams -= 1
            if not self._streams:
                self._empty.set()

    async def wait(self) -> None:
        """Tell all streams to end, and return when they have."""
        self.stopping.set()
        await self._empty.wait()


@dataclass(frozen=True, slots=True)
class Inventory:
    """A host's devices, in its own words (A1), and the largest checkpoint that its agent was sent (A8)."""

    host_id: str
    devices: tuple[ListedDevice, ...]
    checkpoint: bytes = b""


@dataclass(frozen=True, slots=True)
class RangeResults:
    """The receipts of one step, by device. They choose the next landmarks and are no evidence."""

    host_id: str
    challenge: Challenge
    step: int
    receipts: Mapping[Pdi, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class AttestationBatch:
    """Attestations of one or many hosts, the chains that came with them, and their size on the wire."""

    attestations: tuple[UnverifiedAttestation, ...]
    chains: tuple[Chain, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class NewChallenge:
    """A challenge to send, with the chains of the inventory that need not be sent again (A4).

    `checkpoint` is the note of the checkpoint that the challenge names (A8).
    """

    issued: IssuedChallenge
    known_chains: tuple[ChainId, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Orders:
    """A step of range orders to send."""

    issued: IssuedChallenge
    step: RangeStep


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Durable verdicts to send, in the order of the batch, and the chains that are known from now on."""

    answers: tuple[Answer, ...]
    known_chains: tuple[ChainId, ...]


Incoming = Inventory | RangeResults | AttestationBatch
Outgoing = NewChallenge | Orders | Verdicts
Send = Callable[[Outgoing], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Intake:
    """What all streams of a process share.

    Attributes:
        interval_s: Seconds between two challenges of a host; None: by its licenses (timing.py).
        unlicensed_interval_s: The same for a host without a licensed device.
        max_hosts: Hosts on one stream.
        admission: Counts streams.
        clock: The time now, aware.
        rng: Source of jitter and of the choice of devices.
        drain: Ends the streams when the server stops.
        hasten: `interval_s` counts although licenses ask less often: for servers on loopback without TLS alone.
        newest: The journal's newest checkpoint.
        guard: Holds the checkpoints that agents show against the journal.
    """

    store: Commits
    fleet: Fleet
    pipeline: Pipeline
    plans: PlanSettings
    telemetry: Telemetry
    interval_s: float | None
    unlicensed_interval_s: float
    max_hosts: int
    admission: Admission
    clock: Callable[[], datetime]
    rng: random.Random
    drain: Drain
    newest: Newest
    guard: PastGuard
    hasten: bool


@dataclass(slots=True)
class _Host:
    """One host of a stream.

    Attributes:
        host_id: Its name.
        devices: Its newest inventory.
        licenses: Its deployed devices, each with its license and the license's state, as last read.
        pace: Of its challenges, by these licenses.
        ask_by_s: When it must be asked again at the latest, loop time: changed records brought that forward.
        snapshot: The landmarks of its last challenge.
        plan: The ranging of its last challenge.
        timer: Asks again. None before the first challenge.
        asking: Held while it is asked, or its next challenge brought forward.
        last_inventory_s: Loop time.
    """

    host_id: str
    devices: tuple[ListedDevice, ...]
    licenses: AbstractSet[tuple[Pdi, str, int]] = frozenset()
    pace: Pace = SHORTEST_PACE
    ask_by_s: float = float("inf")
    snapshot: Snapshot | None = None
    plan: RangingPlan | None = None
    timer: asyncio.TimerHandle | None = None
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    last_inventory_s: float = float("-inf")


class AttestStream:
    """One stream. `run` returns when the agent has sent its last message and everything it sent is answered."""

    def __init__(self, intake: Intake, reporter: Reporter, send: Send) -> None:
        self._intake = intake
        self._reporter = reporter
        self._send = send
        self._book = ChallengeBook()
        self._hosts: dict[str, _Host] = {}
        self._named: set[ChainId] = set()
        self._slots = asyncio.Semaphore(BATCHES_IN_FLIGHT)
        self._batches: set[asyncio.Task[None]] = set()
        self._ended = False

    async def run(self, incoming: AsyncIterable[Incoming]) -> None:
        """Take messages until the agent ends or the server stops.

        Raises:
            BusyError: Too much at once.
            PastLostError: The store is not the one that it was (docs/protocol.md A8).
            StoreUnavailableError: The store failed; nothing was decided.
            StoppingError: The server goes away; what was in flight is answered.
        """
        telemetry = self._intake.telemetry
        admitted = self._intake.admission.stream(self._reporter)
        with admitted, self._intake.drain.stream(), telemetry.streams.track_inprogress():
            await self._run(incoming)

    async def _run(self, incoming: AsyncIterable[Incoming]) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                watches = [
                    tasks.create_task(self._leave_when_stopping()),
                    tasks.create_task(self._intake.guard.until_lost()),
                    tasks.create_task(self._follow_records(tasks)),
                ]
                async for message in incoming:
                    await self._take(message, tasks)
                self._end()
                await asyncio.gather(*self._batches)
                for watch in watches:
                    watch.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group  # the first fault ends the stream; the others follow from it
        finally:
            self._end()

    def _end(self) -> None:
        """Ask nothing more. The book dies with the stream and spends its challenges (docs/protocol.md CH2)."""
        self._ended = True
        for host in self._hosts.values():
            if host.timer is not None:
                host.timer.cancel()

    async def _leave_when_stopping(self) -> None:
        await self._intake.drain.stopping.wait()
        self._end()
        await asyncio.gather(*self._batches)
        raise StoppingError

    async def _take(self, message: Incoming, tasks: asyncio.TaskGroup) -> None:
        match message:
            case Inventory():
                await self._take_inventory(message, tasks)
            case RangeResults():
                await self._take_results(message)
            case AttestationBatch():
                await self._take_batch(message, tasks)

    async def _take_inventory(self, inventory: Inventory, tasks: asyncio.TaskGroup) -> None:
        host = self._hosts.get(inventory.host_id)
        if host is None:
            if len(self._hosts) >= self._intake.max_hosts:
                raise BusyError(f"more than {self._intake.max_hosts} hosts on one stream", retry_after_s=60.0)
            host = self._hosts[inventory.host_id] = _Host(inventory.host_id, inventory.devices)
        # Each inventory costs a challenge, tickets and a look at its checkpoint. Meanwhile the stream is not read.
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, host.last_inventory_s + SHORTEST_INTERVAL_S - loop.time()))
        host.last_inventory_s = loop.time()
        # docs/protocol.md A8
        await self._intake.guard.check(inventory.checkpoint, f"the agent of host {inventory.host_id}")
        host.devices = inventory.devices
        await self._ask(host, tasks)

    async def _ask(self, host: _Host, tasks: asyncio.TaskGroup, due: asyncio.TimerHandle | None = None) -> None:
        """Issue the host's next challenge and its first orders; not when `due` fell due and was overtaken since."""
        intake = self._intake
        async with host.asking:
            if due is not None and host.timer is not due:
                return  # an inventory had it asked meanwhile, and that challenge is being answered
            snapshot = await intake.fleet.current()
            loaded = await intake.store.load_inputs(sorted({device.pdi for device in host.devices}), snapshot.number)
            known = tuple(await intake.fleet.find_chains([device.chain_id for device in host.devices]))
            if self._ended:
                return
            if self._book.drop(host.host_id):
                intake.telemetry.challenges_lapsed.inc()
            now, newest = intake.clock(), intake.newest()
            issued = self._book.issue(host.host_id, now, hash_of(newest)).issued
            intake.telemetry.challenges.inc()
            rangers = choose_rangers(host.devices, loaded.deployments, loaded.last, intake.rng)
            host.snapshot, host.plan = (
                snapshot,
                RangingPlan(intake.plans, issued, snapshot.registry, snapshot.endpoints, rangers),
            )
            host.licenses, host.pace = licenses_of(loaded), self._pace_of(loaded)
            host.ask_by_s = float("inf")
            self._named.update(known)
            # Unless it is answered, the challenge lapses, and then the host is asked again.
            self._arm(host, CHALLENGE_LIFE.total_seconds() * (1 + JITTER * intake.rng.random()), tasks)
            await self._send(NewChallenge(issued, known, newest.note if newest else ""))
            await self._order(issued, host.plan)

    async def _order(self, issued: IssuedChallenge, plan: RangingPlan) -> None:
        step = plan.next_step(self._intake.clock())
        self._intake.telemetry.ranges_ordered.inc(len(step.orders))
        # The next orders follow only the results of these; see `_take_results`.
        await self._send(Orders(issued, step))

    async def _take_results(self, results: RangeResults) -> None:
        host = self._hosts.get(results.host_id)
        drawn = self._book.find(results.host_id, results.challenge)
        if host is None or drawn is None or host.plan is None:
            return
        if host.plan.is_final or results.step != host.plan.step_number:
            return
        host.plan.add_results(results.receipts)
        await self._order(drawn.issued, host.plan)

    async def _take_batch(self, batch: AttestationBatch, tasks: asyncio.TaskGroup) -> None:
        now = self._intake.clock()
        submissions = [self._spend(attestation) for attestation in batch.attestations]
        await self._slots.acquire()
        task = tasks.create_task(self._answer(batch, submissions, now, tasks))
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)

    def _spend(self, attestation: UnverifiedAttestation) -> Submission:
        host = self._hosts.get(attestation.host_id)
        spent: tuple[DrawnChallenge, Snapshot] | None = None
        if host is not None and host.snapshot is not None:
            drawn = self._book.spend(attestation.host_id, attestation.challenge)
            spent = (drawn, host.snapshot) if drawn is not None else None
        return Submission(attestation, spent, self._named)

    async def _answer(
        self, batch: AttestationBatch, submissions: Sequence[Submission], now: datetime, tasks: asyncio.TaskGroup
    ) -> None:
        try:
            with self._intake.pipeline.hold(batch.size_bytes):
                answers, learned = await self._intake.pipeline.process(submissions, batch.chains, self._reporter, now)
            self._named.update(learned)
            for submission, answer in zip(submissions, answers, strict=True):
                host = self._hosts.get(answer.verdict.host_id)
                if host is not None and submission.spent is not None and not self._book.is_open(host.host_id):
                    self._arm_next(host, answer.verdict, tasks)
            # docs/protocol.md A6: `process` has returned, so the commit is durable.
            await self._send(Verdicts(tuple(answers), tuple(learned)))
        finally:
            self._slots.release()  # only now: an agent that does not read must not pile up verdicts here

    def _arm_next(self, host: _Host, verdict: Verdict, tasks: asyncio.TaskGroup) -> None:
        delay_s = host.pace.draw(self._intake.rng)
        if verdict.rejection is not None:  # nothing was learned where its devices are
            delay_s = min(delay_s, CHALLENGE_LIFE.total_seconds() * (1 + JITTER * self._intake.rng.random()))
        self._arm(host, delay_s, tasks)

    def _arm(self, host: _Host, delay_s: float, tasks: asyncio.TaskGroup) -> None:
        if host.timer is not None:
            host.timer.cancel()
        if not self._ended:
            loop = asyncio.get_running_loop()
            when_s = min(loop.time() + delay_s, host.ask_by_s)
            host.timer = loop.call_at(when_s, self._ask_again, host, tasks)

    def _ask_again(self, host: _Host, tasks: asyncio.TaskGroup) -> None:
        if not self._ended:
            tasks.create_task(self._ask(host, tasks, host.timer))

    async def _follow_records(self, tasks: asyncio.TaskGroup) -> None:
        """Bring challenges forward when records change: no device may turn silent because it was not asked."""
        seen = 0
        while True:
            seen = await self._intake.fleet.wait_for_records(beyond=seen)
            for host in list(self._hosts.values()):
                async with host.asking:
                    # A challenge that went out after the change was armed by it.
                    if host.timer is not None and host.snapshot is not None and host.snapshot.number < seen:
                        await self._bring_forward(host, host.snapshot.number, host.timer, tasks)

    async def _bring_forward(
        self, host: _Host, asked_at: int, timer: asyncio.TimerHandle, tasks: asyncio.TaskGroup
    ) -> None:
        """Read the host's records again; `asked_at` is the records' number of its last challenge."""
        pdis = sorted({device.pdi for device in host.devices})
        async with self._intake.fleet.rereading:
            number = await self._intake.fleet.records_number()
            loaded = await self._intake.store.load_inputs(pdis, number)
            ordered = await self._intake.store.is_ordered(pdis, asked_at)
        licenses, new_pace = licenses_of(loaded), self._pace_of(loaded)
        if ordered:
            delay_s = 0.0  # docs/protocol.md K3: two people want to know now
        elif licenses - host.licenses:
            # Spread, since one import may name a whole fleet.
            delay_s = self._intake.rng.uniform(0, min(new_pace.least_s, SPREAD_S))
        elif new_pace < host.pace:
            delay_s = new_pace.draw(self._intake.rng)
        else:
            delay_s = float("inf")
        host.licenses, host.pace = licenses, new_pace
        host.ask_by_s = min(host.ask_by_s, asyncio.get_running_loop().time() + delay_s)
        # A challenge that is open may still be answered; its answer or its end arms the next.
        if not self._book.is_open(host.host_id) and host.ask_by_s < timer.when():
            self._arm(host, delay_s, tasks)

    def _pace_of(self, loaded: LoadedInputs) -> Pace:
        intake = self._intake
        return pace(loaded, intake.interval_s, intake.unlicensed_interval_s, hasten=intake.hasten)
