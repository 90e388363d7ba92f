"""A vendor, boards and served boards for the emulator's tests."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from firmware_stubs.board import Board, make_board
from firmware_stubs.ca import DeviceCA
from firmware_stubs.client import BoardClient
from firmware_stubs.control import ControlServer
from firmware_stubs.geography import Place, World
from tests.firmware.helpers import FakeLandmark

MakeBoard = Callable[..., Path]
ServeBoard = Callable[..., Awaitable[BoardClient]]
StartLandmark = Callable[..., FakeLandmark]


@pytest.fixture(scope="session")
def ca_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("vendor") / "ca"
    DeviceCA.create(directory)
    return directory


@pytest.fixture(scope="session")
def ca(ca_directory: Path) -> DeviceCA:
    return DeviceCA.load(ca_directory)


@pytest.fixture
def new_board(tmp_path: Path, ca: DeviceCA) -> MakeBoard:
    def make(name: str = "a", gpus: int = 1, switches: int = 0, empty_slots: tuple[int, ...] = ()) -> Path:
        directory = tmp_path / "boards" / name
        make_board(directory, ca, gpus=gpus, switches=switches, empty_slots=empty_slots)
        return directory

    return make


@pytest.fixture
async def serve_board(tmp_path: Path) -> AsyncIterator[ServeBoard]:
    async with AsyncExitStack() as stack:

        async def serve(
            directory: Path,
            *,
            place: Place | None = None,
            world: World | None = None,
            faults: tuple[str, ...] = (),
        ) -> BoardClient:
            board = await Board.start(directory, place or Place(0.0, 0.0), world or World({}), faults)
            stack.push_async_callback(board.close)
            path = tmp_path / f"{directory.name}.sock"
            await stack.enter_async_context(ControlServer(board, path))
            return BoardClient(path)

        yield serve


@pytest.fixture
def start_landmark() -> Iterator[StartLandmark]:
    running: list[FakeLandmark] = []

    def start(challenge: bytes, **options: object) -> FakeLandmark:
        landmark = FakeLandmark(**options)  # type: ignore[arg-type] # the options of FakeLandmark, as they are
        running.append(landmark)
        landmark.start(challenge)
        return landmark

    yield start
    for landmark in running:
        landmark.stop()


@pytest.fixture
def world_file(tmp_path: Path) -> Path:
    path = tmp_path / "world.json"
    path.write_text(json.dumps({"landmarks": {}, "path_factor": 1.5}), encoding="utf-8")
    return path
