"""Every lie that a host can tell about honest devices has one expected reason, and accuses nobody."""

import asyncio
import functools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from trigpoint.v1 import attestation_pb2

from demo.processes import run
from demo.stage import Stage
from demo.world import SHENZHEN
from firmware_stubs.client import BoardClient
from tests.end_to_end import liars
from tests.end_to_end.attester import (
    Attester,
    Tee,
    accused,
    attesting,
    found,
    gpus,
    is_honest,
    is_only_unproven,
    reasons,
    rejected,
    voided,
)
from tests.landmark.helpers import run_landmark

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def honest(agent: Attester) -> AsyncIterator[None]:
    """The board and its honest agent have just been found honest; the agent is still there."""
    assert is_honest(agent.seen[0])
    yield


# Ranges: a void one is dropped with its reason, and the device then has to prove its place otherwise.


@pytest.mark.usefixtures("honest")
@pytest.mark.parametrize(
    ("added", "hidden"), [(1 << 20, 0), (1 << 63, 0), (0, 1)], ids=["never sent", "beyond all rounds", "hidden"]
)
async def test_a_mask_that_does_not_fit_the_receipt(stage: Stage, added: int, hidden: int) -> None:
    source = liars.TellsAnotherMask(stage.socket("A"), added=added, hidden=hidden)
    async with attesting(stage, "A", source=source) as liar:
        verdict = await liar.verdict()
    assert is_only_unproven(verdict)
    assert voided(verdict) == ["MASK_INVALID"]


@pytest.mark.usefixtures("honest")
async def test_a_mask_that_claims_rounds_which_the_device_never_saw(stage: Stage, board: BoardClient) -> None:
    await board.faults("reordered_rounds:4")  # the device drops rounds 0 and 2
    source = liars.TellsAnotherMask(stage.socket("A"), added=0b0101)
    async with attesting(stage, "A", source=source) as liar:
        verdict = await liar.verdict()
    assert is_only_unproven(verdict)
    assert voided(verdict) == ["TRANSCRIPT_NOT_LOGGED"]


@pytest.mark.usefixtures("honest")
async def test_receipts_of_another_device(stage: Stage) -> None:
    async with attesting(stage, "A", source=liars.RangesWithAnotherDevice(stage.socket("A"))) as liar:
        verdict = await liar.verdict()
    assert is_only_unproven(verdict)
    assert voided(verdict) == ["TRANSCRIPT_NOT_LOGGED"]


async def test_receipts_of_another_challenge(stage: Stage) -> None:
    # A card ranges for itself each time, so that the kept receipts are its own.
    async with attesting(stage, "P") as agent:
        await agent.verdict()
        assert is_honest(await agent.verdict_on_new_challenge())
    async with attesting(stage, "P", source=liars.KeepsReceipts(stage.socket("P"))) as liar:
        assert is_honest(await liar.verdict())
        verdict = await liar.verdict_on_new_challenge()
    assert is_only_unproven(verdict)
    assert voided(verdict) == ["SESSION_MISMATCH"]


@pytest.mark.usefixtures("honest")
async def test_receipts_of_another_landmark(stage: Stage) -> None:
    async with attesting(stage, "A", collector=liars.ExchangesReceipts) as liar:
        verdict = await liar.verdict()
    assert is_only_unproven(verdict)
    assert voided(verdict) == ["RECEIPT_SIGNATURE_INVALID"]


@pytest.mark.usefixtures("honest")
async def test_receipts_of_a_landmark_that_nobody_registered(stage: Stage) -> None:
    async with run_landmark() as landmark:
        source = liars.GoesToItsOwnLandmark(stage.socket("A"), landmark)
        async with attesting(stage, "A", source=source) as liar:
            verdict = await liar.verdict()
        assert landmark.daemon.stats().outcomes["receipt"] > 0
    assert is_only_unproven(verdict)
    assert voided(verdict) == ["LANDMARK_UNKNOWN"]


@pytest.mark.usefixtures("honest")
async def test_one_session_and_commitment_in_two_ranges(stage: Stage) -> None:
    async with attesting(stage, "A", collector=liars.TellsRangesTwice) as liar:
        verdict = await liar.verdict()
    assert is_only_unproven(verdict)
    assert voided(verdict) == ["COMMITMENT_REUSED"]


@pytest.mark.usefixtures("honest")
async def test_a_host_that_ranges_for_its_devices(stage: Stage) -> None:
    async with attesting(stage, "A", source=liars.PlaysTheDevice(stage.socket("A"))) as liar:
        verdict = await liar.verdict()
    assert is_only_unproven(verdict)
    assert voided(verdict) == ["TRANSCRIPT_NOT_LOGGED"]


@pytest.mark.usefixtures("honest")
async def test_a_commit_opens_one_rapid_phase(stage: Stage) -> None:
    source = liars.CommitsAgain(stage.socket("A"))
    async with attesting(stage, "A", source=source) as liar:
        verdict = await liar.verdict()
    assert source.tries > 0  # each was met with silence, or the source would have failed
    assert is_only_unproven(verdict)
    assert voided(verdict) == ["TRANSCRIPT_NOT_LOGGED"]


# Challenges.


@pytest.mark.usefixtures("honest")
async def test_a_challenge_is_spent_once(stage: Stage) -> None:
    async with attesting(stage, "A", tee=liars.SendsTwice) as liar:
        first, second = sorted([await liar.verdict(), await liar.verdict()], key=rejected)  # they come in any order
    assert is_honest(first)
    assert second.challenge == first.challenge
    assert rejected(second) == ["CHALLENGE_UNKNOWN"]


@pytest.mark.usefixtures("honest")
async def test_a_challenge_dies_with_the_next(stage: Stage) -> None:
    async with attesting(stage, "A", tee=liars.AnswersTheOneBefore) as liar:
        verdict = await liar.verdict()
    assert rejected(verdict) == ["CHALLENGE_UNKNOWN"]
    assert not verdict.devices


@pytest.mark.usefixtures("honest")
async def test_a_challenge_belongs_to_its_stream(stage: Stage) -> None:
    kept: asyncio.Queue[attestation_pb2.AttestRequest] = asyncio.Queue()
    async with attesting(stage, "A", tee=functools.partial(liars.Withholds, kept)):
        evidence = await asyncio.wait_for(kept.get(), 60)
        # The stream that its challenge belongs to is still up.
        async with attesting(stage, "A", tee=functools.partial(liars.SendsInstead, evidence)) as liar:
            verdict = await liar.verdict()
    assert verdict.challenge == evidence.attestations.attestations[0].challenge
    assert rejected(verdict) == ["CHALLENGE_UNKNOWN"]


# What a host does to signed evidence, and what it says about itself.


@pytest.mark.usefixtures("honest")
@pytest.mark.parametrize(
    ("tee", "reason", "count"),
    [(liars.RewritesClaims, "NONCE_MISMATCH", 4), (liars.ExchangesReports, "DEVICE_LIST_MISMATCH", 2)],
)
async def test_evidence_that_was_put_together_otherwise(stage: Stage, tee: type[Tee], reason: str, count: int) -> None:
    async with attesting(stage, "A", tee=tee) as liar:
        verdict = await liar.verdict()
    assert rejected(verdict) == [reason]
    assert len(verdict.report_rejections) == count
    assert accused(verdict) == []


@pytest.mark.usefixtures("honest")
async def test_a_device_of_another_licensee(stage: Stage) -> None:
    await run("trigpoint-server", "issue", stage.folder / "pki", "agent", "agent-x", "--licensee", "Somebody Else")
    async with attesting(stage, "A", certificate="agent-x") as stranger:
        verdict = await stranger.verdict()
    assert found(verdict) == {d.pdi.hex(): ["FOREIGN_REPORT"] for d in gpus(verdict)}


@pytest.mark.usefixtures("honest")
async def test_where_a_host_says_that_it_is_counts_for_nothing(stage: Stage, board: BoardClient) -> None:
    async with attesting(stage, "A", collector=liars.says_it_is_in(SHENZHEN)) as liar:
        assert is_honest(await liar.verdict())
    await board.move(SHENZHEN.latitude, SHENZHEN.longitude)
    home = stage.world.server("A").spot
    async with attesting(stage, "A", collector=liars.says_it_is_in(home)) as liar:
        verdict = await liar.verdict()
    assert reasons(verdict) == ["IMPOSSIBLE_TRAVEL", "OUTSIDE_LICENSED_REGION"]
