from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.store import Store


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return tmp_path / "trigpoint.db"


@pytest.fixture
async def store(store_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(store_path)
    yield opened
    await opened.close()
