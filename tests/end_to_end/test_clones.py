"""One identity on two boards, seen by two server processes over one store at the same time."""

import asyncio
import functools
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from trigpoint.v1 import attestation_pb2

from demo.stage import Stage
from tests.end_to_end.attester import Tee, accused, attesting, found, is_honest, is_honest_again

pytestmark = pytest.mark.asyncio(loop_scope="session")


class SendsTogether(Tee):
    """Sends its evidence when as many others as the barrier asks for have theirs."""

    def __init__(self, barrier: asyncio.Barrier, call: Any) -> None:
        super().__init__(call)
        self._barrier = barrier

    async def send(self, request: attestation_pb2.AttestRequest) -> None:
        """Put the message on the stream, together with the others when it is evidence."""
        if request.HasField("attestations"):
            await self._barrier.wait()
        await super().send(request)


@pytest_asyncio.fixture(loop_scope="session")
async def second_address(stage: Stage) -> AsyncIterator[str]:
    """Where a second server answers, which shares the store file with the first."""
    config = stage.folder / "server.toml"
    child = await stage.processes.start("server-2", "trigpoint-server", "serve", "--config", config)
    yield child.ready["address"]
    await child.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def clone(stage: Stage) -> AsyncIterator[str]:
    """Key of a board that is a copy of board D, counters and fuses and all, and stands beside it."""
    async with attesting(stage, "D") as agent:
        assert is_honest(await agent.verdict())
    shutil.copytree(stage.folder / "boards" / "d", stage.folder / "boards" / "e")
    await stage.switch_on("E", stage.world.server("D").spot)
    yield "E"
    await stage.switch_off("E")


async def test_two_honest_servers_share_a_store(stage: Stage, second_address: str) -> None:
    async with attesting(stage, "A") as first, attesting(stage, "C", address=second_address) as second:
        assert await is_honest_again(first)
        for _ in range(2):
            assert is_honest(await first.verdict_on_new_challenge())
            assert is_honest(await second.verdict_on_new_challenge())
    # A device that goes from one server to the other is still the same device.
    async with attesting(stage, "A", address=second_address) as first:
        assert is_honest(await first.verdict())


async def test_one_identity_on_two_boards_at_once(stage: Stage, second_address: str, clone: str) -> None:
    together = functools.partial(SendsTogether, asyncio.Barrier(2))
    async with (
        attesting(stage, "D", tee=together) as original,
        attesting(stage, clone, address=second_address, certificate="agent-d", tee=together) as copy,
    ):
        verdicts = await asyncio.gather(original.verdict(), copy.verdict())
    (pdi,) = {device.pdi.hex() for verdict in verdicts for device in verdict.devices}
    # Whichever was second is the one that cannot be: both servers held the same last state.
    assert sorted((found(verdict) for verdict in verdicts), key=len) == [{}, {pdi: ["IDENTITY_CLONED"]}]
    assert [accused(verdict) for verdict in verdicts] == [[], []]  # a case to look into, no breach of the license yet
