from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cases.case_world import CaseWorld, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[CaseWorld]:
    async with open_world(tmp_path / "trigpoint.db") as opened:
        await opened.license()
        yield opened
