"""How often a host is asked: by the license among its devices' that asks most often, and no oftener."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from server.intake.timing import JITTER, Pace, licenses_of, pace
from server.store.types import LoadedInputs
from tests.server.helpers import deployment, pdi
from verifier.license import Adoption, LicenseState

DAY_S = 86_400
MONTH, HOUR = timedelta(days=30), timedelta(hours=1)


def loaded(*terms: tuple[timedelta, int]) -> LoadedInputs:
    """Devices under licenses of these cadences and surprises a day."""
    given = {}
    for number, (cadence, surprises) in enumerate(terms):
        base = deployment(pdi(number), cadence)
        given[pdi(number)] = replace(base, license=replace(base.license, surprises_per_day=surprises))
    return LoadedInputs(deployments=given)


def around(middle_s: float) -> Pace:
    return Pace(middle_s * (1 - JITTER), middle_s * (1 + JITTER))


def asked(given: LoadedInputs) -> Pace:
    """As its licenses ask, with nothing configured."""
    return pace(given, None, 7, hasten=False)


def test_from_half_of_the_cadence_on_and_as_many_surprises_as_the_license_asks_for() -> None:
    assert asked(loaded((MONTH, 0))) == Pace(15 * DAY_S, 22.5 * DAY_S)
    assert asked(loaded((MONTH, 1))) == around(DAY_S)
    assert asked(loaded((MONTH, 4))) == around(DAY_S / 4)
    assert asked(loaded((HOUR, 4))) == Pace(1800, 2700)
    assert asked(loaded((MONTH, 0), (MONTH, 4), (MONTH, 1))) == around(DAY_S / 4)
    assert asked(loaded((timedelta(seconds=1), 0))) == Pace(1, 1)


def test_a_draw_is_never_less_than_half_of_the_cadence_after_the_last() -> None:
    rng = random.Random(7)
    drawn = [asked(loaded((HOUR, 0))).draw(rng) for _ in range(1_000)]
    assert min(drawn) >= 1800
    assert max(drawn) <= 2700
    assert max(drawn) - min(drawn) > 800, "an agent must not know when"


def test_a_host_without_a_license_and_one_that_may_come_under_a_boards() -> None:
    assert asked(LoadedInputs()) == around(7)
    held = replace(deployment(pdi(1)).license, cadence=timedelta(hours=4))
    region = deployment(pdi(1)).region
    adoptable = LoadedInputs(adoptions={pdi(9): Adoption(pdi(9), held, region, 8)})
    assert asked(adoptable) == Pace(7200, 10_800)


@pytest.mark.parametrize("interval_s", [1, 600, 1799, 2399])
def test_no_configuration_asks_oftener_than_the_license(interval_s: float) -> None:
    hourly = loaded((HOUR, 0))
    assert pace(hourly, interval_s, 7, hasten=False) == asked(hourly)


def test_a_configuration_that_asks_less_often_counts_and_so_does_any_for_whoever_has_no_license() -> None:
    assert pace(loaded((HOUR, 0)), 2400, 7, hasten=False) == around(2400)
    assert pace(LoadedInputs(), 20, 7, hasten=False) == around(20)


def test_on_loopback_without_tls_the_configuration_counts() -> None:
    assert pace(loaded((HOUR, 0)), 20, 7, hasten=True) == around(20)


def test_a_license_that_is_suspended_brings_the_next_challenge_forward() -> None:
    active = loaded((timedelta(days=1), 1))
    one = active.deployments[pdi(0)]
    suspended = replace(one, license=replace(one.license, state=LicenseState.SUSPENDED))
    assert licenses_of(LoadedInputs(deployments={pdi(0): suspended})) - licenses_of(active)
