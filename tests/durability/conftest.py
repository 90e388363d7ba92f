"""A nursery of servers for all tests of this folder."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.durability.servers import Nursery, open_nursery


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nursery() -> AsyncIterator[Nursery]:
    """What starts servers."""
    async with open_nursery() as opened:
        yield opened
