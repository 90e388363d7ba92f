"""What tests of the landmark audit share: a store, a clock that they set, and the audit over both."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

import geodata
from server.desk.audit import LandmarkAudit
from server.store import Store
from server.telemetry import Telemetry
from tests.server.audit_world import SECOND, Clock
from verifier.place.groups import parse_groups
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas


@pytest.fixture(scope="module")
def policy() -> PlacePolicy:
    groups = parse_groups(geodata.read_country_groups(), geodata.COUNTRY_GROUPS_VERSION)
    atlas = Atlas.parse(geodata.read_borders(), geodata.BORDERS_VERSION, groups.members)
    return PlacePolicy(atlas, groups.prohibited(), groups.version, standing_for=timedelta(0))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "trigpoint.sqlite")
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def desk(store: Store, policy: PlacePolicy, clock: Clock, telemetry: Telemetry) -> LandmarkAudit:
    return LandmarkAudit(store, policy, 0.05 * SECOND, clock, telemetry)
