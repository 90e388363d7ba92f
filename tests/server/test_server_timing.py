"""How often a host is asked: by the license among its devices' that asks most often."""

from dataclasses import replace
from datetime import timedelta

from server.intake.timing import interval_s, licenses_of
from server.store.types import LoadedInputs
from tests.server.helpers import deployment, pdi
from verifier.license import Adoption, LicenseState

DAY_S = 86_400


def loaded(*terms: tuple[timedelta, int]) -> LoadedInputs:
    """Devices under licenses of these cadences and surprises a day."""
    given = {}
    for number, (cadence, surprises) in enumerate(terms):
        base = deployment(pdi(number), cadence)
        given[pdi(number)] = replace(base, license=replace(base.license, surprises_per_day=surprises))
    return LoadedInputs(deployments=given)


def test_half_of_the_cadence_and_as_many_surprises_as_the_license_asks_for() -> None:
    month, hour = timedelta(days=30), timedelta(hours=1)
    assert interval_s(loaded((month, 0)), 7) == 15 * DAY_S
    assert interval_s(loaded((month, 1)), 7) == DAY_S
    assert interval_s(loaded((month, 4)), 7) == DAY_S / 4
    assert interval_s(loaded((hour, 4)), 7) == 1800
    assert interval_s(loaded((month, 0), (month, 4), (month, 1)), 7) == DAY_S / 4
    assert interval_s(loaded((timedelta(seconds=1), 0)), 7) == 1.0


def test_a_host_without_a_license_and_one_that_may_come_under_a_boards() -> None:
    assert interval_s(LoadedInputs(), 7) == 7
    held = replace(deployment(pdi(1)).license, cadence=timedelta(hours=4))
    region = deployment(pdi(1)).region
    adoptable = LoadedInputs(adoptions={pdi(9): Adoption(pdi(9), held, region, 8)})
    assert interval_s(adoptable, 7) == 7200


def test_a_license_that_is_suspended_brings_the_next_challenge_forward() -> None:
    active = loaded((timedelta(days=1), 1))
    one = active.deployments[pdi(0)]
    suspended = replace(one, license=replace(one.license, state=LicenseState.SUSPENDED))
    assert licenses_of(LoadedInputs(deployments={pdi(0): suspended})) - licenses_of(active)
