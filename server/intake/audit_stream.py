"""One Prove stream: a landmark is ordered to be ranged by others, and returns what came of it (docs/protocol.md LA1).

Knows the order of messages and checks every range before it is kept; not protobuf, nor who the peer may be. What does
not hold is dropped and counted: it never accuses. A message that comes too late or twice is dropped too.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from server.intake.audit_schedule import AuditSchedule
from server.intake.challenges import Newest, draw_challenge, hash_of
from server.intake.fleet import Fleet, Snapshot
from server.intake.pipeline import BusyError
from server.intake.stream import Drain, StoppingError
from server.intake.tickets import TicketOffice
from server.store.types import ProvenRange
from server.telemetry import Telemetry
from verifier.errors import RangeError
from verifier.evidence.attestation import IssuedChallenge
from verifier.limits import CHALLENGE_LIFE
from verifier.place.audit import verify_prover_range
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.units import Challenge, LandmarkId, LandmarkKeyId

STREAMS_PER_LANDMARK = 4
"""One is enough; the others are connections that died and nobody noticed yet."""


class NotRegisteredError(Exception):
    """No landmark is registered under the name in the peer's certificate.

    Attributes:
        landmark_id: That name.
    """

    def __init__(self, landmark_id: LandmarkId) -> None:
        super().__init__(f"landmark {landmark_id} is not registered; an officer has to import its record first")
        self.landmark_id = landmark_id


class RangeStore(Protocol):
    """What a stream needs of `server.store.store.Store`."""

    async def load_range_times(self, of: LandmarkId) -> dict[LandmarkId, datetime]:
        """Return when each landmark last ranged this one."""

    async def record_ranges(self, ranges: Sequence[ProvenRange]) -> None:
        """Make ranges between landmarks durable."""


@dataclass(frozen=True, slots=True)
class ProverOrder:
    """One session to hold with a ranging landmark, best endpoint first."""

    landmark: LandmarkKeyId
    endpoints: tuple[str, ...]
    ticket: bytes


@dataclass(frozen=True, slots=True)
class ProverOrders:
    """A batch of sessions under one challenge, to be held now."""

    issued: IssuedChallenge
    orders: tuple[ProverOrder, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """The landmark can be ranged."""


@dataclass(frozen=True, slots=True)
class ProverEvidence:
    """Both ends' accounts of one session; nothing of it is checked."""

    landmark: LandmarkKeyId
    receipt: bytes
    statement: bytes
    answered: bytes


@dataclass(frozen=True, slots=True)
class ProverFailed:
    """Why a session gave nothing, in the landmark's own words; `cause` is one of a few fixed ones."""

    landmark: LandmarkKeyId
    cause: str


@dataclass(frozen=True, slots=True)
class ProverResults:
    """What came of one batch."""

    challenge: Challenge
    results: tuple[ProverEvidence | ProverFailed, ...]


Incoming = Ready | ProverResults
Send = Callable[[ProverOrders], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AuditIntake:
    """What all Prove streams of a process share.

    Attributes:
        schedule: Chooses who ranges whom.
        clock: The time now, aware.
        drain: Ends the streams when the server stops.
        newest: The journal's newest checkpoint.
        open_streams: How many each landmark holds.
    """

    store: RangeStore
    fleet: Fleet
    tickets: TicketOffice
    schedule: AuditSchedule
    telemetry: Telemetry
    clock: Callable[[], datetime]
    drain: Drain
    newest: Newest
    open_streams: Counter[LandmarkId] = field(default_factory=Counter)


@dataclass(slots=True)
class _Batch:
    """Orders that wait for their results.

    Attributes:
        issued: Their challenge.
        registry: In force when they were given.
        prover: The landmark's record in it.
        waiting: Ranging landmarks whose result has not come.
        answered: Set once a result message has been dealt with.
    """

    issued: IssuedChallenge
    registry: LandmarkRegistry
    prover: Landmark
    waiting: dict[LandmarkKeyId, LandmarkId]
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class ProveStream:
    """One stream of one landmark, named by its certificate."""

    def __init__(self, intake: AuditIntake, landmark_id: LandmarkId, send: Send) -> None:
        self._intake = intake
        self._landmark_id = landmark_id
        self._send = send
        self._batch: _Batch | None = None

    async def run(self, incoming: AsyncIterable[Incoming]) -> None:
        """Order and take results until the landmark ends or the server stops.

        Raises:
            NotRegisteredError: There is no record of this landmark.
            BusyError: It holds too many streams.
            StoreUnavailableError: The store failed; the landmark comes again.
            StoppingError: The server goes away.
        """
        with self._admitted(), self._intake.drain.stream():
            _prover(await self._intake.fleet.current(), self._landmark_id)
            try:
                async with asyncio.TaskGroup() as tasks:
                    watches = [tasks.create_task(self._leave_when_stopping())]
                    async for message in incoming:
                        match message:
                            case Ready() if len(watches) == 1:
                                watches.append(tasks.create_task(self._order_for_ever()))
                            case ProverResults():
                                await self._take(message)
                    for watch in watches:
                        watch.cancel()
            except ExceptionGroup as group:
                raise group.exceptions[0] from group  # the first fault ends the stream; the others follow from it
            finally:
                self._lapse()

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        streams = self._intake.open_streams
        if streams[self._landmark_id] >= STREAMS_PER_LANDMARK:
            raise BusyError(f"more than {STREAMS_PER_LANDMARK} streams of one landmark", retry_after_s=60.0)
        streams[self._landmark_id] += 1
        try:
            with self._intake.telemetry.prove_streams.track_inprogress():
                yield
        finally:
            streams[self._landmark_id] -= 1

    async def _leave_when_stopping(self) -> None:
        await self._intake.drain.stopping.wait()
        raise StoppingError

    async def _order_for_ever(self) -> None:
        intake = self._intake
        await asyncio.sleep(intake.schedule.first_pause_s())
        while True:
            snapshot = await intake.fleet.current()
            prover = _prover(snapshot, self._landmark_id)
            ranged_at = await intake.store.load_range_times(self._landmark_id)
            following = intake.schedule.next_batch(prover, snapshot.registry, ranged_at, intake.clock())
            if following.landmarks:
                await self._order(snapshot, prover, following.landmarks)
            await asyncio.sleep(following.pause_s)

    async def _order(self, snapshot: Snapshot, prover: Landmark, landmarks: Sequence[Landmark]) -> None:
        """Give a batch of orders, and return when it is answered or its challenge's life is over."""
        intake = self._intake
        newest = hash_of(intake.newest())
        issued = draw_challenge(f"landmarks/{self._landmark_id}", intake.clock(), newest).issued
        orders = tuple(
            ProverOrder(r.key_id, snapshot.endpoints[r.key_id], intake.tickets.issue(issued, r.key_id))
            for r in landmarks
        )
        waiting = {r.key_id: r.landmark_id for r in landmarks}
        batch = self._batch = _Batch(issued, snapshot.registry, prover, waiting)
        await self._send(ProverOrders(issued, orders))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHALLENGE_LIFE.total_seconds()):
                await batch.answered.wait()
        self._lapse()

    def _lapse(self) -> None:
        """Spend the open challenge, if there is one; what was not answered under it never will be."""
        batch, self._batch = self._batch, None
        if batch is not None and batch.waiting:
            self._count({"lapsed": len(batch.waiting)})

    async def _take(self, results: ProverResults) -> None:
        intake, batch, now = self._intake, self._batch, self._intake.clock()
        in_time = batch is not None and now <= batch.issued.issued_at + CHALLENGE_LIFE
        if batch is None or batch.issued.challenge != results.challenge or not in_time:
            self._count({"late": len(results.results)})
            return
        self._batch = None  # the first results spend the challenge
        proven, counts = await asyncio.to_thread(_verify, batch, results.results, now)
        # A record that was replaced meanwhile is another landmark's than the one that was ranged.
        stands = {r.landmark_id: r for r in (await intake.fleet.current()).registry.landmarks}
        given = {r.landmark_id: r for r in batch.registry.landmarks}
        ends = ((ranged, (ranged.pair.by, ranged.pair.of)) for ranged in proven)
        kept = [ranged for ranged, two in ends if all(stands[i].revision == given[i].revision for i in two)]
        await intake.store.record_ranges(kept)
        replaced = len(proven) - len(kept)
        self._count({**counts, "taken": len(kept), "replaced": replaced, "lapsed": len(batch.waiting)})
        batch.answered.set()

    def _count(self, counts: Mapping[str, int]) -> None:
        for result, count in counts.items():
            if count:
                self._intake.telemetry.landmark_ranges.labels(result).inc(count)


def _prover(snapshot: Snapshot, landmark_id: LandmarkId) -> Landmark:
    for landmark in snapshot.registry.landmarks:
        if landmark.landmark_id == landmark_id:
            return landmark
    raise NotRegisteredError(landmark_id)


def _verify(
    batch: _Batch, results: Sequence[ProverEvidence | ProverFailed], now: datetime
) -> tuple[list[ProvenRange], Counter[str]]:
    """Return the ranges that hold, and how many were dropped for each reason; takes results off `batch.waiting`."""
    proven: list[ProvenRange] = []
    dropped: Counter[str] = Counter()
    for result in results:
        # Only what was ordered, and each once.
        ordered = batch.waiting.pop(result.landmark, None)
        if ordered is None:
            dropped["not_ordered"] += 1
            continue
        if isinstance(result, ProverFailed):
            dropped[result.cause] += 1
            continue
        try:
            pair = verify_prover_range(
                result.receipt, result.statement, result.answered, batch.issued.challenge, batch.prover, batch.registry
            )
        except RangeError as error:
            dropped[error.reason.name] += 1
            continue
        if pair.by != ordered:  # another landmark's receipt than the one that is said
            dropped["not_ordered"] += 1
            continue
        evidence = (batch.issued.challenge, result.receipt, result.statement, result.answered)
        proven.append(ProvenRange(pair, now, *evidence))
    return proven, dropped
