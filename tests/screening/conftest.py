from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.screening.screening_world import World, serve


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with serve(tmp_path / "trigpoint.db") as opened:
        yield opened
