"""Landmarks that lie or belong together, with f = 1: they neither acquit nor accuse."""

import pytest

from demo.stage import Stage
from demo.world import SHENZHEN
from firmware_stubs.client import BoardClient
from tests.end_to_end.attester import Attester, gpus, is_honest, is_only_unproven, voided
from tests.end_to_end.registry import lying_landmark, registered_otherwise, signs_zero_ms

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_landmark_that_signs_no_time_acquits_nobody(agent: Attester, stage: Stage, board: BoardClient) -> None:
    await board.move(SHENZHEN.latitude, SHENZHEN.longitude)
    async with lying_landmark(stage, "dallas", signs_zero_ms):
        verdict = await agent.verdict_on_new_challenge()
    assert is_only_unproven(verdict)
    assert voided(verdict) == []
    for device in gpus(verdict):
        assert device.fix.discs[0].landmark_id == "dallas"
        assert device.fix.discs[0].rtt_ns == 0
        assert device.fix.least_violations == 1  # it stands in the record that landmarks contradict each other
        assert list(device.fix.contradicting_domains) == [device.fix.discs[0].domain]


async def test_a_landmark_that_signs_no_time_accuses_nobody(agent: Attester, stage: Stage) -> None:
    async with lying_landmark(stage, "hong-kong", signs_zero_ms):
        verdict = await agent.verdict_on_new_challenge()
    assert is_honest(verdict)
    for device in gpus(verdict):
        assert device.fix.discs[0].landmark_id == "hong-kong"
        assert device.fix.least_violations == 1


@pytest.mark.parametrize("field", ["operator", "hoster"])
async def test_two_landmarks_of_one_party_count_once(agent: Attester, stage: Stage, field: str) -> None:
    shared = {"operator": "Lone Star Timing", "hoster": "Lone Star Timing building"}[field]
    async with registered_otherwise(stage, {"fort-worth": {field: shared}}):
        verdict = await agent.verdict_on_new_challenge()
    assert is_only_unproven(verdict)
    assert voided(verdict) == []
    for device in gpus(verdict):
        near = [disc for disc in device.fix.discs if disc.within_licensed_region]
        assert len(near) == 1
    # Two parties again, and the same place is proven.
    assert is_honest(await agent.verdict_on_new_challenge())


async def test_a_landmark_of_the_licensee_does_not_count(agent: Attester, stage: Stage) -> None:
    async with registered_otherwise(stage, {"fort-worth": {"hoster": "Meridian Compute"}}):
        verdict = await agent.verdict_on_new_challenge()
    assert is_only_unproven(verdict)
