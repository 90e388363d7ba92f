"""One store that is filled once; each test works on a copy."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.journal.rpc_world import Served, served_journal
from tests.store.journal_world import fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "store.db"
    asyncio.run(fill(path))
    return path


@pytest.fixture
def store_path(filled: Path, tmp_path: Path) -> Path:
    """A store of one's own whose every table holds rows."""
    return Path(shutil.copytree(filled.parent, tmp_path / "store")) / filled.name


@pytest.fixture
async def served(store_path: Path) -> AsyncIterator[Served]:
    async with served_journal(store_path) as made:
        yield made
