"""A deployment that is imported while its agent is connected: the device is asked, and never called silent for it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from trigpoint.v1 import attestation_pb2, device_pb2

from demo.processes import Processes
from demo.stage import Stage
from demo.world import ServerSpec, Spot, World
from tests.end_to_end.attester import Tee, attesting, gpus, is_honest, reasons
from tests.end_to_end.conftest import SMALL

pytestmark = pytest.mark.asyncio(loop_scope="session")

ONE_BOARD = World(
    landmarks=SMALL.landmarks[:2],
    servers=(ServerSpec("A", "Dallas", Spot(32.80, -96.90), 1, "TEST-0001", "site", radius_km=1000, switches=0),),
    cadence_s=60,
    grace_s=30,
    interval_s=1,
)


class CountsInventories(Tee):
    """Counts how often the agent lists its devices, which would bring a challenge by itself."""

    def __init__(self, call: Any) -> None:
        super().__init__(call)
        self.inventories = 0

    async def send(self, request: attestation_pb2.AttestRequest) -> None:
        """Put one message on the stream."""
        self.inventories += request.HasField("inventory")
        await super().send(request)


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One board that is on, and a server without any record."""
    folder = tmp_path_factory.mktemp("one-board")
    processes = Processes(folder)
    built = Stage(folder, processes, ONE_BOARD)
    try:
        await built.make_vendor_and_keys()
        await built.start_landmarks()
        await built.start_server()
        await built.start_boards()
        yield built
    finally:
        await processes.stop_all()


@pytest_asyncio.fixture(loop_scope="session")
async def as_shipped(world: Stage) -> str:
    """Where a second server answers, over the same store: it asks as the licenses say, and the unlicensed each hour."""
    lines = (world.folder / "server.toml").read_text().splitlines()
    config = world.folder / "as-shipped.toml"
    config.write_text("\n".join(line for line in lines if not line.startswith("interval_s")))
    child = await world.processes.start("server-2", "trigpoint-server", "serve", "--config", config)
    address: str = child.ready["address"]
    return address


async def test_device_proves_itself_soon_after_its_import(world: Stage, as_shipped: str) -> None:
    async with attesting(world, "A", address=as_shipped, tee=CountsInventories) as agent:
        before = await agent.verdict()
        assert [gpu.standing for gpu in gpus(before)] == [device_pb2.STANDING_UNLICENSED]
        assert reasons(before) == ["UNKNOWN_DEVICE"]
        # The officer imports through the other server.
        await world.import_records()
        assert is_honest(await agent.verdict())
        assert isinstance(agent.tee, CountsInventories)
        assert agent.tee.inventories == 1
