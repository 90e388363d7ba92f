"""An honest fleet raises nothing: no finding, no case, whatever honest life brings.

Machines boot again, agents reconnect to another server, sites are maintained, devices are moved and repaired with their
records kept, and the verifier itself is down for a while. Longer: `make test-honest ROUNDS=200`.
"""

import os
from datetime import timedelta

import pytest

from server.store.types import DeviceFilter
from tests.scenarios.fleet import MemoryFleet
from verifier.verdict import Standing

ROUNDS = int(os.environ.get("TRIGPOINT_HONEST_ROUNDS", "20"))
BOARDS = int(os.environ.get("TRIGPOINT_HONEST_BOARDS", "100"))
HOUR = timedelta(hours=1)


@pytest.mark.timeout(900)
async def test_honest_fleet(fleet: MemoryFleet) -> None:
    for k in range(BOARDS):
        fleet.add_board(f"rack-{k}", gpus=1 + k % 2, switches=k % 3 > 0, agent=f"agent-{k // 10}")
    for k in range(0, BOARDS, 10):
        await fleet.license(f"D{k // 10}", fleet.boards[k : k + 10])
    for number in range(ROUNDS):
        if number % 5 == 1:
            for board in fleet.boards[number % 10 :: 10]:
                board.boot()
        await fleet.round()
        # Every ten rounds the verifier itself is down for longer than any license allows.
        news = await fleet.pass_by(48 * HOUR if number % 10 == 9 else 4 * HOUR, up=number % 10 != 9)
        assert (news.opened, news.reopened) == ((), ()), f"round {number}"
        assert await fleet.findings() == {}, f"round {number}"
    assert await fleet.cases() == []
    page = await fleet.store.list_devices(DeviceFilter(), limit=10_000)
    gpus = [device for device in page.devices if device.standing is not None]
    assert len(gpus) == sum(len(board.gpus) for board in fleet.boards)
    assert {device.standing for device in gpus} == {Standing.COMPLIANT}
