"""Every lie that a board can tell has one expected reason, over agent, gRPC, server, landmarks and store."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from trigpoint.v1 import device_pb2, place_pb2

from demo.stage import Stage
from demo.world import SHENZHEN
from firmware_stubs.client import BoardClient
from tests.end_to_end.attester import Attester, attesting, found, reasons, rejected

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def board(stage: Stage) -> AsyncIterator[BoardClient]:
    """Board A, honest and at its site before and after each test."""
    client = BoardClient(stage.socket("A"))
    yield client
    await client.faults()
    home = stage.world.server("A").spot
    await client.move(home.latitude, home.longitude)


@pytest_asyncio.fixture(loop_scope="session")
async def agent(stage: Stage, board: BoardClient) -> AsyncIterator[Attester]:
    """The agent of board A, whose first verdict has shown an honest board."""
    await board.faults()
    async with attesting(stage, "A") as attester:
        first = await attester.verdict()
        assert (rejected(first), found(first)) == ([], {})
        yield attester


async def test_an_honest_board_is_compliant_and_says_why(agent: Attester) -> None:
    verdict = await agent.verdict()
    gpus = [d for d in verdict.devices if d.kind == device_pb2.DEVICE_KIND_GPU]
    assert len(gpus) == 2
    assert all(d.standing == device_pb2.STANDING_COMPLIANT for d in gpus)
    assert all(d.fix.in_licensed_region == place_pb2.PLACE_ANSWER_PROVEN for d in gpus)
    assert all(d.fix.outside_prohibited == place_pb2.PLACE_ANSWER_PROVEN for d in gpus)
    assert all(d.fix.demonstration and "dallas heard the device in" in d.fix.explanation for d in gpus)
    # One GPU ranged; the other has its fix by edges that both ends signed.
    assert len({d.fix.ranged_by for d in gpus}) == 1
    assert all(len(d.proven_edges) == 2 for d in gpus)
    switches = [d for d in verdict.devices if d.kind == device_pb2.DEVICE_KIND_SWITCH]
    assert [d.standing for d in switches] == [device_pb2.STANDING_UNSPECIFIED] * 2


async def test_moved(agent: Attester, board: BoardClient) -> None:
    await board.faults(f"moved:{SHENZHEN}")
    verdict = await agent.verdict_on_new_challenge()
    assert rejected(verdict) == []
    assert set(map(tuple, found(verdict).values())) == {("OUTSIDE_LICENSED_REGION",)}
    assert len(found(verdict)) == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong_nonce", "NONCE_MISMATCH"),
        ("replayed_report", "NONCE_MISMATCH"),
        ("foreign_chain", "CHAIN_UNTRUSTED_ROOT"),
    ],
)
async def test_evidence_that_is_not_authentic_is_refused(
    agent: Attester, board: BoardClient, fault: str, reason: str
) -> None:
    await board.faults(f"{fault}:gpu-1")
    verdict = await agent.verdict_on_new_challenge()
    assert rejected(verdict) == [reason]
    assert [r.rejection.detail for r in verdict.report_rejections] != [""]
    # One bad report does not hide the others, and accuses nobody.
    assert len(verdict.report_rejections) == 1
    assert len(verdict.devices) == 3


async def test_early_reveal_with_an_accomplice_beside_the_landmark(agent: Attester, board: BoardClient) -> None:
    # The board is in Shenzhen; its accomplice in Dallas answers as fast as the honest board would.
    await board.move(SHENZHEN.latitude, SHENZHEN.longitude)
    await board.faults("early_reveal")
    verdict = await agent.verdict_on_new_challenge()
    assert rejected(verdict) == []
    assert reasons(verdict) == ["LOCATION_UNPROVEN", "RANGE_VOID"]
    details = [f.detail for d in verdict.devices for f in d.findings]
    assert any(detail.startswith("TRANSCRIPT_NOT_LOGGED") for detail in details)
    # A void range never accuses, and never acquits.
    assert all(d.standing != device_pb2.STANDING_COMPLIANT for d in verdict.devices)


async def test_flipped_measurement(agent: Attester, board: BoardClient) -> None:
    await board.faults("flipped_measurement")
    verdict = await agent.verdict_on_new_challenge()
    gpu_reasons = set(map(tuple, found(verdict).values()))
    assert all("FIRMWARE_MISMATCH" in names for names in gpu_reasons)
    # Changed firmware has no ranging (docs/protocol.md R8).
    assert "OUTSIDE_LICENSED_REGION" not in reasons(verdict)


async def test_firmware_without_ranging(agent: Attester, board: BoardClient) -> None:
    await board.faults("firmware_cannot_range")
    verdict = await agent.verdict_on_new_challenge()
    assert rejected(verdict) == []
    assert reasons(verdict) == ["LOCATION_UNPROVEN"]


async def test_a_pulled_gpu_is_seen_on_its_new_board(stage: Stage) -> None:
    """Last of this file: it leaves board A without one GPU."""
    async with attesting(stage, "A") as agent_a, attesting(stage, "C") as agent_c:
        assert (found(await agent_a.verdict()), found(await agent_c.verdict())) == ({}, {})
    stolen = next(d for d in await BoardClient(stage.socket("A")).devices() if (d.kind, d.slot) == ("gpu", 1))
    target = stage.folder / "boards" / "c" / "gpu-7"
    await BoardClient(stage.socket("A")).faults(f"pulled_gpu:gpu-1={target}")
    await BoardClient(stage.socket("C")).power_cycle()
    async with attesting(stage, "C") as agent_c:
        verdict = await agent_c.verdict()
    # Licensed to a site around Dallas, and still there: the place holds, the board does not.
    assert found(verdict) == {stolen.pdi.hex(): ["BOARD_CHANGED"]}
    shown = json.loads(await stage.console("device", "get", stolen.pdi.hex(), "--json"))
    assert shown["standing"] == "VIOLATION"
    assert [f["reason"] for f in shown["findings"]] == ["BOARD_CHANGED"]
