from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.scenarios.fleet import MemoryFleet, memory_fleet


@pytest_asyncio.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[MemoryFleet]:
    """A store, a pipeline, a desk, and no board yet."""
    async with memory_fleet(tmp_path) as built:
        yield built
