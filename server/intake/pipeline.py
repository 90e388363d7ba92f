"""From evidence to verdict: load what the batch needs, verify, make it durable, answer. In this order.

A verdict leaves only after its commit (docs/protocol.md A6). Verification runs inline, on the loop's own thread: awscrt
holds the interpreter lock, so a thread would gain nothing (measured). The loop breathes between two attestations. A
store fault leaves as `StoreUnavailableError` and never becomes a verdict.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, Protocol

import structlog

from server.intake.challenges import DrawnChallenge
from server.intake.fleet import Fleet, Snapshot
from server.store.types import AttestationRecord, LoadedInputs, Unwritten
from server.telemetry import Telemetry
from verifier.basis import write_basis
from verifier.continuity import DeviceState
from verifier.errors import EvidenceError, Reason
from verifier.evidence.attestation import UnverifiedAttestation
from verifier.evidence.chain import chain_id, stated_device_key_id
from verifier.evidence.claims import parse_claims
from verifier.setting import Setting
from verifier.units import ChainId, DeviceKeyId, Pdi
from verifier.verdict import Rejection, Verdict
from verifier.verifier import Inputs, Verifier

Chain = tuple[bytes, ...]

MAX_TRIES = 8
"""An honest device has one report under way, so a second try is rare and an eighth means that somebody forces them."""


class BusyError(Exception):
    """More is asked of this server than it takes.

    Attributes:
        retry_after_s: When to come back.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who sent an attestation, from its certificate."""

    agent: str
    licensee: str


@dataclass(frozen=True, slots=True)
class Submission:
    """An attestation with the challenge that it spent; `spent` is None when it named none that was open.

    Attributes:
        attestation: The evidence.
        spent: Its challenge, with the records that were in force when it was issued.
        named_chains: Chains that the server said it knows, on this stream.
    """

    attestation: UnverifiedAttestation
    spent: tuple[DrawnChallenge, Snapshot] | None
    named_chains: AbstractSet[ChainId]


class Answer(NamedTuple):
    """A verdict and its result, a JWT (docs/protocol.md EA1); empty when no device is authentic."""

    verdict: Verdict
    result: str = ""


class Results(Protocol):
    """What the pipeline needs of `server.intake.results.ResultSigner`."""

    def sign(self, verdict: Verdict, inputs: Inputs) -> str:
        """Return the result of a verdict; empty when no device is authentic."""


class Commits(Protocol):
    """What the pipeline needs of `server.store.store.Store`."""

    async def load_inputs(self, pdis: Sequence[Pdi], as_of: int, key_ids: Collection[DeviceKeyId] = ()) -> LoadedInputs:
        """Return deployments in force as of a records number, last accepted states, and deployments by key or board."""

    async def is_ordered(self, pdis: Collection[Pdi], beyond: int) -> bool:
        """Return whether a challenge of one of these devices was ordered since a records number."""

    async def commit(self, batch: Sequence[AttestationRecord]) -> Unwritten:
        """Return once all records are durable, but those that it names."""


class Pipeline:
    """One for each process; the streams share its bounds.

    Args:
        store: Loads and commits.
        fleet: The chains that are known.
        verifier: Makes the verdicts.
        setting: What it is made of, kept with each verdict.
        results: Signs what verdicts say.
        telemetry: Counts.
        max_bytes_in_flight: Of evidence, over all streams.
    """

    def __init__(
        self,
        store: Commits,
        fleet: Fleet,
        verifier: Verifier,
        setting: Setting,
        results: Results,
        telemetry: Telemetry,
        max_bytes_in_flight: int,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._verifier = verifier
        self._setting = setting
        self._results = results
        self._telemetry = telemetry
        self._max_bytes = max_bytes_in_flight
        self._bytes = 0

    @contextlib.contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Count a batch as in flight; raises `BusyError` when it would be too much. A batch alone is always taken."""
        if self._bytes and self._bytes + size_bytes > self._max_bytes:
            raise BusyError("too much evidence in flight", retry_after_s=1.0)
        self._bytes += size_bytes
        self._telemetry.bytes_in_flight.set(self._bytes)
        try:
            yield
        finally:
            self._bytes -= size_bytes
            self._telemetry.bytes_in_flight.set(self._bytes)

    async def process(
        self, batch: Sequence[Submission], sent_chains: Sequence[Chain], reporter: Reporter, now: datetime
    ) -> tuple[list[Answer], frozenset[ChainId]]:
        """Return the verdicts with their results, in the order of the batch, and the chains known from now on.

        Args:
            batch: Attestations of one stream.
            sent_chains: Chains that came with the batch, DER, leaf first.
            reporter: Who sent it.
            now: Arrival, aware.

        Raises:
            StoreUnavailableError: Nothing was decided.
            BusyError: A device reports by several ways at once; what is durable is not answered.
        """
        # A chain is known by what it is, never by the id that came with it (docs/protocol.md I8).
        sent = {chain_id(chain): chain for chain in sent_chains}
        named = [
            report.chain_id for s in batch for report in s.attestation.reports if report.chain_id in s.named_chains
        ]
        kept = await self._fleet.find_chains(named) if named else {}

        answers: list[Answer | None] = [None] * len(batch)
        learned: dict[ChainId, Chain] = {}
        pending = list(range(len(batch)))
        for _ in range(MAX_TRIES):
            records = await self._verify_all(batch, pending, answers, sent, kept, reporter, now)
            unwritten = await self._commit(list(records.values()))
            for index, record in records.items():
                if record.verdict.challenge in unwritten.spent:
                    # On another stream or node; the store alone can know that (docs/protocol.md CH2).
                    answers[index] = Answer(_unknown_challenge(record.attestation, now))
                elif record.verdict.challenge not in unwritten.stale:
                    learned.update({key: tuple(chain) for key, chain in record.new_chains.items()})
            pending = [index for index, record in records.items() if record.verdict.challenge in unwritten.stale]
            if not pending:
                break
        else:
            # No fault of the store: somebody sends one device's reports by several ways at once.
            raise BusyError("a device's state moved on again and again while its report was verified", 1.0)
        # Only now are these chains known: verified and stored.
        self._fleet.keep_chains(learned)
        given = [answer for answer in answers if answer is not None]
        for answer in given:
            self._tell(answer.verdict, reporter)
        return given, frozenset(learned)

    async def _verify_all(
        self,
        batch: Sequence[Submission],
        pending: Sequence[int],
        answers: list[Answer | None],
        sent: Mapping[ChainId, Chain],
        kept: Mapping[ChainId, Chain],
        reporter: Reporter,
        now: datetime,
    ) -> dict[int, AttestationRecord]:
        """Put verdicts on these attestations into their places and return what to commit, by place in the batch.

        Each is based on the states that stand now; that they still do is checked in the commit.
        """
        loaded = await self._load(batch, pending, sent, kept)
        last = {pdi: state for inputs in loaded.values() for pdi, state in inputs.last.items()}
        records: dict[int, AttestationRecord] = {}
        for index in pending:
            submission = batch[index]
            if submission.spent is None:
                answers[index] = Answer(_unknown_challenge(submission.attestation, now))
                continue
            drawn, snapshot = submission.spent
            inputs = _inputs(submission, drawn, snapshot, sent, kept, loaded[snapshot.number], last, reporter, now)
            begin = time.perf_counter()
            verdict = self._verifier.verify(submission.attestation, inputs)
            self._telemetry.verify_seconds.observe(time.perf_counter() - begin)
            result = self._results.sign(verdict, inputs)
            answers[index] = Answer(verdict, result)
            records[index] = AttestationRecord(
                verdict=verdict,
                attestation=submission.attestation,
                issued=drawn.issued,
                preimage=drawn.preimage,
                agent=reporter.agent,
                licensee=reporter.licensee,
                new_chains={d.chain_id: sent[d.chain_id] for d in verdict.devices if d.chain_id in sent},
                based_on={d.pdi: last[d.pdi] for d in verdict.devices if d.pdi in last},
                as_of=snapshot.number,
                basis=write_basis(verdict, inputs, submission.attestation, self._setting, snapshot.number),
                result=result,
            )
            # The next report of the same device in this batch is compared with what this one leaves.
            last.update({d.pdi: d.state for d in verdict.devices})
            await asyncio.sleep(0)
        return records

    async def _load(
        self,
        batch: Sequence[Submission],
        pending: Sequence[int],
        sent: Mapping[ChainId, Chain],
        kept: Mapping[ChainId, Chain],
    ) -> dict[int, LoadedInputs]:
        """Load what these attestations need, by the records number that their challenge was issued under.

        Records are those that were in force then (docs/protocol.md RC6), most often the same for a whole batch.
        """
        by_number: dict[int, list[UnverifiedAttestation]] = {}
        for submission in (batch[index] for index in pending):
            if submission.spent is not None:
                by_number.setdefault(submission.spent[1].number, []).append(submission.attestation)
        loaded: dict[int, LoadedInputs] = {}
        for number, attestations in by_number.items():
            devices = {pdi for attestation in attestations for pdi in _stated_devices(attestation)}
            inputs = await self._store.load_inputs(sorted(devices), number)
            unknown = devices - inputs.deployments.keys()
            if unknown and (keys := _stated_keys(attestations, unknown, {**kept, **sent})):
                # docs/protocol.md RC8: a device that is deployed by its key is known by it alone until it has reported.
                by_key = await self._store.load_inputs((), number, keys)
                inputs = replace(inputs, adoptions={**inputs.adoptions, **by_key.adoptions})
            loaded[number] = inputs
        return loaded

    async def _commit(self, records: Sequence[AttestationRecord]) -> Unwritten:
        if not records:
            return Unwritten()
        begin = time.perf_counter()
        try:
            return await self._store.commit(records)
        finally:
            self._telemetry.commit_seconds.observe(time.perf_counter() - begin)

    def _tell(self, verdict: Verdict, reporter: Reporter) -> None:
        """One event an attestation, and its metrics."""
        log = structlog.get_logger().bind(agent=reporter.agent, licensee=reporter.licensee)
        log = log.bind(host=verdict.host_id, challenge=verdict.challenge.hex())
        if verdict.rejection is not None:
            self._telemetry.attestations.labels("rejected").inc()
            self._telemetry.rejections.labels(verdict.rejection.reason.name).inc()
            log.warning(
                "attestation", result="rejected", reason=verdict.rejection.reason.name, detail=verdict.rejection.detail
            )
            return
        refused: dict[str, int] = {}
        for report in verdict.report_rejections:
            name = report.rejection.reason.name
            refused[name] = refused.get(name, 0) + 1
            self._telemetry.rejections.labels(name).inc()
        found: dict[str, int] = {}
        for void in (void for device in verdict.devices for void in device.void_ranges):
            self._telemetry.void_ranges.labels(void.reason.name).inc()
        for finding in (finding for device in verdict.devices for finding in device.findings):
            found[finding.reason.name] = found.get(finding.reason.name, 0) + 1
            self._telemetry.findings.labels(finding.reason.name).inc()
        disputed = {d for device in verdict.devices if device.fix is not None for d in device.fix.contradicting}
        if disputed:  # no device can cause it alone: a landmark is wrong
            self._telemetry.contradictions.inc()
            log.warning("landmarks_contradict", domains=sorted(disputed))
        result = "partial" if refused else "accepted"
        self._telemetry.attestations.labels(result).inc()
        log = log.bind(result=result, devices=len(verdict.devices), refused=refused, findings=found)
        log.bind(presence_proven=sum(device.presence_proven for device in verdict.devices)).info("attestation")


def _inputs(
    submission: Submission,
    drawn: DrawnChallenge,
    snapshot: Snapshot,
    sent: Mapping[ChainId, Chain],
    kept: Mapping[ChainId, Chain],
    loaded: LoadedInputs,
    last: Mapping[Pdi, DeviceState],
    reporter: Reporter,
    now: datetime,
) -> Inputs:
    chains = dict(sent)
    for report in submission.attestation.reports:
        if report.chain_id in submission.named_chains and report.chain_id in kept:
            chains[report.chain_id] = kept[report.chain_id]
    return Inputs(
        now=now,
        challenge=drawn.issued,
        reporter_licensee=reporter.licensee,
        chains=chains,
        landmarks=snapshot.registry,
        deployments=loaded.deployments,
        last=last,
        adoptions=loaded.adoptions,
    )


def _stated_devices(attestation: UnverifiedAttestation) -> tuple[Pdi, ...]:
    """Return whose records to load.

    The claims name every device that can get a verdict: the verifier refuses a report of any other (docs/protocol.md
    CL2). So a host cannot keep a device's past out of its verdict, as it could if the inventory decided.
    """
    try:
        attestation.check_limits()
        return parse_claims(attestation.claims).devices
    except EvidenceError:
        return ()  # the verifier says why, in its verdict


def _stated_keys(
    attestations: Iterable[UnverifiedAttestation], devices: AbstractSet[Pdi], chains: Mapping[ChainId, Chain]
) -> frozenset[DeviceKeyId]:
    """Return the device keys that the chains of these devices state. What is looked up by them decides nothing."""
    keys: set[DeviceKeyId] = set()
    for attestation in attestations:
        for pdi, report in zip(_stated_devices(attestation), attestation.reports, strict=False):
            key = stated_device_key_id(chains.get(report.chain_id, ())) if pdi in devices else None
            if key is not None:
                keys.add(key)
    return frozenset(keys)


def _unknown_challenge(attestation: UnverifiedAttestation, now: datetime) -> Verdict:
    detail = "this challenge is not open for this host on this stream"
    rejection = Rejection(Reason.CHALLENGE_UNKNOWN, detail)
    return Verdict(attestation.host_id, attestation.challenge, now, rejection, (), ())
