"""One small world for all end-to-end tests: real processes, real sockets, mutual TLS."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from demo.processes import Processes
from demo.stage import Stage
from demo.world import LandmarkSpec, ServerSpec, Spot, World
from firmware_stubs.client import BoardClient
from tests.end_to_end.attester import Attester, attesting, is_honest_again

SMALL = World(
    landmarks=(
        LandmarkSpec("dallas", "Lone Star Timing", "US", Spot(32.78, -96.80)),
        LandmarkSpec("fort-worth", "Prairie Exchange", "US", Spot(32.75, -97.33)),
        LandmarkSpec("hong-kong", "Harbour Metrology", "HK", Spot(22.32, 114.17)),
        LandmarkSpec("taipei", "Strait Timing", "TW", Spot(25.04, 121.56)),
    ),
    servers=(
        ServerSpec("A", "Dallas", Spot(32.80, -96.90), 2, "TEST-0001", "site", radius_km=1000, switches=2),
        ServerSpec("C", "Dallas", Spot(32.80, -96.90), 2, "TEST-0002", "country", country="US", switches=2),
        # Cards without NVLink: each ranges for itself.
        ServerSpec("P", "Dallas", Spot(32.80, -96.90), 2, "TEST-0003", "site", radius_km=1000, switches=0),
        # One card, which will be copied.
        ServerSpec("D", "Dallas", Spot(32.80, -96.90), 1, "TEST-0004", "site", radius_km=1000, switches=0),
    ),
    cadence_s=2,  # devices are asked no oftener than every half of it (docs/protocol.md K3)
    grace_s=3600,
    interval_s=1,
)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Landmarks, a server, four boards that are on, records, and no agent yet."""
    folder = tmp_path_factory.mktemp("world")
    processes = Processes(folder)
    built = Stage(folder, processes, SMALL)
    try:
        await built.make_vendor_and_keys()
        await built.start_landmarks()
        await built.start_server()
        await built.start_boards()
        await built.import_records()
        yield built
    finally:
        await processes.stop_all()


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
        assert await is_honest_again(attester)
        yield attester
