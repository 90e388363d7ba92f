"""Every lie that a board can tell has one expected reason, over agent, gRPC, server, landmarks and store."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from trigpoint.v1 import attestation_pb2, device_pb2, place_pb2

from demo.stage import Stage
from demo.world import SHENZHEN
from firmware_stubs.board import move_device
from firmware_stubs.client import BoardClient
from tests.end_to_end.attester import (
    Attester,
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

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def pdi_of(stage: Stage, key: str, slot: str) -> str:
    """PDI of the device in a slot, hex."""
    devices = await BoardClient(stage.socket(key)).devices()
    return next(d.pdi.hex() for d in devices if f"{d.kind}-{d.slot}" == slot)


async def test_an_honest_board_is_compliant_and_says_why(agent: Attester) -> None:
    verdict = await agent.verdict_on_new_challenge()
    assert is_honest(verdict)
    assert len(gpus(verdict)) == 2
    assert all(d.fix.in_licensed_region == place_pb2.PLACE_ANSWER_PROVEN for d in gpus(verdict))
    assert all(d.fix.outside_prohibited == place_pb2.PLACE_ANSWER_PROVEN for d in gpus(verdict))
    assert all(d.fix.demonstration and "dallas heard the device in" in d.fix.explanation for d in gpus(verdict))
    # One GPU ranged; the other has its fix by edges that both ends signed.
    assert len({d.fix.ranged_by for d in gpus(verdict)}) == 1
    assert all(len(d.proven_edges) == 2 for d in gpus(verdict))
    switches = [d for d in verdict.devices if d.kind == device_pb2.DEVICE_KIND_SWITCH]
    assert [d.standing for d in switches] == [device_pb2.STANDING_UNSPECIFIED] * 2


async def test_moved(agent: Attester, board: BoardClient) -> None:
    await board.faults(f"moved:{SHENZHEN}")
    verdict = await agent.verdict_on_new_challenge()
    assert rejected(verdict) == []
    # It answered from Dallas a moment before, and nothing flies to Shenzhen in that time.
    assert set(map(tuple, found(verdict).values())) == {("OUTSIDE_LICENSED_REGION", "IMPOSSIBLE_TRAVEL")}
    assert len(found(verdict)) == 2
    verdict = await agent.verdict_on_new_challenge()
    assert set(map(tuple, found(verdict).values())) == {("OUTSIDE_LICENSED_REGION",)}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong_nonce", "NONCE_MISMATCH"),
        ("replayed_report", "NONCE_MISMATCH"),
        ("foreign_chain", "CHAIN_UNTRUSTED_ROOT"),
        ("foreign_leaf", "FWID_MISMATCH"),
    ],
)
async def test_evidence_that_is_not_authentic_is_refused(
    agent: Attester, board: BoardClient, fault: str, reason: str
) -> None:
    await board.faults(f"{fault}:gpu-1")
    verdict = await agent.verdict_on_new_challenge()
    assert rejected(verdict) == [reason]
    # One bad report does not hide the others, and accuses nobody.
    assert len(verdict.report_rejections) == 1
    assert len(verdict.devices) == 3
    assert accused(verdict) == []


async def test_flipped_measurement(agent: Attester, board: BoardClient, stage: Stage) -> None:
    await board.faults("flipped_measurement:gpu-1")
    verdict = await agent.verdict_on_new_challenge()
    changed = await pdi_of(stage, "A", "gpu-1")
    assert accused(verdict) == [changed]
    assert "FIRMWARE_MISMATCH" in found(verdict)[changed]
    # Changed firmware has no ranging (docs/protocol.md R8): if it was the one asked, no GPU has a fix.
    assert set(voided(verdict)) <= {"FIRMWARE_CANNOT_RANGE"}
    assert set(reasons(verdict)) <= {"FIRMWARE_MISMATCH", "RANGE_VOID", "LOCATION_UNPROVEN"}


async def test_firmware_without_ranging(agent: Attester, board: BoardClient) -> None:
    await board.faults("firmware_cannot_range")
    verdict = await agent.verdict_on_new_challenge()
    assert is_only_unproven(verdict)
    assert voided(verdict) == []


async def test_rolled_back_counter(agent: Attester, board: BoardClient, stage: Stage) -> None:
    await board.faults("rolled_back_counter:gpu-1")
    verdict = await agent.verdict_on_new_challenge()
    assert rejected(verdict) == []
    assert found(verdict) == {await pdi_of(stage, "A", "gpu-1"): ["COUNTER_ROLLBACK"]}


# The board: who names whom.


@pytest.mark.parametrize("fault", ["names_no_switch", "named_by_no_switch"])
async def test_an_edge_that_one_end_alone_names_carries_no_fix(
    agent: Attester, board: BoardClient, stage: Stage, fault: str
) -> None:
    await board.faults(f"{fault}:gpu-1")
    for _ in range(2):  # nor is it ever a broken board
        verdict = await agent.verdict_on_new_challenge()
        assert rejected(verdict) == []
        edges = {d.pdi.hex(): len(d.proven_edges) for d in gpus(verdict)}
        assert edges == {await pdi_of(stage, "A", "gpu-0"): 2, await pdi_of(stage, "A", "gpu-1"): 0}
        # The GPU that was asked to range has proven its own place; the other one cannot lean on it.
        (ranged_by,) = {d.fix.ranged_by.hex() for d in gpus(verdict) if d.HasField("fix")}
        (other,) = set(edges) - {ranged_by}
        assert found(verdict) == {other: ["LOCATION_UNPROVEN"]}


async def test_a_gpu_in_no_slot_is_a_broken_board_the_second_time(
    agent: Attester, board: BoardClient, stage: Stage
) -> None:
    await board.faults("gpu_in_no_slot:gpu-1")
    loose = await pdi_of(stage, "A", "gpu-1")
    for _ in range(2):
        await agent.verdict_on_new_challenge()
    # One may have been under way when the lie began, so the first of them is looked for.
    first, *later = [v for v in agent.seen if any(d.pdi.hex() == loose and not d.proven_edges for d in v.devices)]
    assert rejected(first) == []
    assert reasons(first) == ["LOCATION_UNPROVEN"]
    for verdict in later:
        assert set(found(verdict)[loose]) - {"LOCATION_UNPROVEN"} == {"BOARD_BROKEN"}
        assert reasons(verdict) == ["BOARD_BROKEN", "LOCATION_UNPROVEN"]
        assert accused(verdict) == [loose]
    # Back in its slot it is accused no longer.
    await board.faults()
    assert is_honest(await agent.verdict_on_new_challenge())


async def test_a_pdi_named_twice_by_a_switch_is_no_lie(agent: Attester, board: BoardClient) -> None:
    await board.faults("repeated_pdi")
    assert is_honest(await agent.verdict_on_new_challenge())


@pytest_asyncio.fixture(loop_scope="session")
async def agents(stage: Stage, board: BoardClient) -> AsyncIterator[tuple[Attester, Attester]]:
    """The agents of boards A and C, both shown honest."""
    await board.faults()
    async with attesting(stage, "A") as agent_a, attesting(stage, "C") as agent_c:
        assert is_honest(await agent_a.verdict())
        assert is_honest(await agent_c.verdict())
        yield agent_a, agent_c


async def test_a_pulled_gpu_is_seen_on_its_new_board(stage: Stage, agents: tuple[Attester, Attester]) -> None:
    stolen = await pdi_of(stage, "A", "gpu-1")
    source, target = (stage.folder / "boards" / key / slot for key, slot in (("a", "gpu-1"), ("c", "gpu-7")))
    board_a, board_c = (BoardClient(stage.socket(key)) for key in "AC")
    await board_a.faults(f"pulled_gpu:gpu-1={target}")
    await board_c.power_cycle()
    try:
        verdict = await _verdict_that_names(agents[1], stolen)
        # Licensed to a site around Dallas, and still there: the place holds, the board does not.
        assert found(verdict) == {stolen: ["BOARD_CHANGED"]}
        assert is_honest(await agents[0].verdict_on_new_challenge())
        shown = json.loads(await stage.console("device", "get", stolen, "--json"))
        assert shown["standing"] == "VIOLATION"
        assert [f["reason"] for f in shown["findings"]] == ["BOARD_CHANGED"]
    finally:
        await board_a.faults()
        move_device(target, source)
        await board_a.power_cycle()
        await board_c.power_cycle()


async def test_gpus_of_two_boards_that_change_places(stage: Stage, agents: tuple[Attester, Attester]) -> None:
    ours, theirs = await pdi_of(stage, "A", "gpu-1"), await pdi_of(stage, "C", "gpu-1")
    board_a, board_c = (BoardClient(stage.socket(key)) for key in "AC")
    await board_a.faults(f"swapped_gpu:gpu-1={stage.folder / 'boards' / 'c' / 'gpu-1'}")
    await board_c.power_cycle()
    try:
        assert found(await _verdict_that_names(agents[0], theirs)) == {theirs: ["BOARD_CHANGED"]}
        assert found(await _verdict_that_names(agents[1], ours)) == {ours: ["BOARD_CHANGED"]}
    finally:
        await board_a.faults()
        await board_c.power_cycle()


async def _verdict_that_names(agent: Attester, pdi: str) -> attestation_pb2.Verdict:
    """The first verdict in which a device reports; its agent has to notice first that it is there."""
    verdict = await agent.verdict()
    while pdi not in {d.pdi.hex() for d in verdict.devices}:
        verdict = await agent.verdict()
    return verdict


async def test_two_places_under_one_nonce(stage: Stage) -> None:
    board = BoardClient(stage.socket("P"))
    away = await pdi_of(stage, "P", "gpu-1")
    async with attesting(stage, "P") as agent:
        # Until they have attested once, the host's word that the two share a board stands (docs/protocol.md A1).
        await agent.verdict()
        honest = await agent.verdict_on_new_challenge()
        assert is_honest(honest)
        assert {d.fix.ranged_by for d in gpus(honest)} == {d.pdi for d in gpus(honest)}
        await board.faults(f"relayed_gpu:gpu-1={SHENZHEN}")
        verdict = await agent.verdict_on_new_challenge()
    await board.faults()
    assert rejected(verdict) == []
    assert found(verdict) == {away: ["OUTSIDE_LICENSED_REGION", "IMPOSSIBLE_TRAVEL"]}


# Ranging: what the network does to a session. It can cost a proof; it never makes one, and never accuses.


async def test_early_reveal_with_an_accomplice_beside_the_landmark(agent: Attester, board: BoardClient) -> None:
    # The board is in Shenzhen; its accomplice in Dallas answers as fast as the honest board would.
    await board.move(SHENZHEN.latitude, SHENZHEN.longitude)
    await board.faults("early_reveal")
    verdict = await agent.verdict_on_new_challenge()
    assert is_only_unproven(verdict)
    assert voided(verdict) == ["TRANSCRIPT_NOT_LOGGED"]


@pytest.mark.parametrize("fault", ["early_garbage", "padded_answers", "answers_from_elsewhere"])
async def test_answers_that_a_landmark_cannot_take_give_no_receipt(
    agent: Attester, board: BoardClient, fault: str
) -> None:
    await board.faults(fault)
    verdict = await agent.verdict_on_new_challenge()
    assert is_only_unproven(verdict)
    assert voided(verdict) == []
    assert not any(d.HasField("fix") for d in gpus(verdict))


@pytest.mark.parametrize("fault", ["early_garbage:4", "reordered_rounds:4"])
async def test_rounds_that_were_lost_cost_nothing_while_eight_are_left(
    agent: Attester, board: BoardClient, fault: str
) -> None:
    await board.faults(fault)
    assert is_honest(await agent.verdict_on_new_challenge())
