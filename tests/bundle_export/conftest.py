import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.store import Store
from tests.bundle_export.export_world import ExportWorld, Signer, made_world

_made: dict[Path, ExportWorld] = {}
"""The world as it is made once, closed; every test has a copy of its file."""


@pytest.fixture
async def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ExportWorld]:
    if not _made:
        path = tmp_path_factory.mktemp("made") / "trigpoint.db"
        _made[path] = await made_world(path)
        await _made[path].store.close()
    ((path, made),) = _made.items()
    copy = Path(shutil.copy(path, tmp_path / "trigpoint.db"))
    store = await Store.open(copy)
    yield ExportWorld(store, Signer(store), dict(made.reports), dict(made.checkpoints))
    await store.close()
