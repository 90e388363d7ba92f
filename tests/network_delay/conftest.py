"""One run of real processes on a delayed network, for all tests that look at what came of it."""

import asyncio

import pytest

from tests.network_delay.scenario import Outcome, measure
from tests.network_delay.stage import NoNetworkError


@pytest.fixture(scope="session")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run. It has ended: none of its processes is left, and so none of its namespaces."""
    try:
        return asyncio.run(measure(tmp_path_factory.mktemp("network")))
    except NoNetworkError as error:
        pytest.skip(f"no network of namespaces can be made here: {error}")
