"""Who uses up the streams: nobody but by his own share, and a full house is our fault."""

import contextlib

import pytest

from server.intake.admission import Admission
from server.intake.pipeline import BusyError, Reporter


def agent(number: int, licensee: str = "Example Cloud") -> Reporter:
    return Reporter(f"rack-{number}", licensee)


class House:
    """An admission, and how often it was full."""

    def __init__(self, max_streams: int, max_per_agent: int) -> None:
        self.overloads = 0
        self.admission = Admission(max_streams, max_per_agent, self._overload)
        self.open = contextlib.ExitStack()

    def _overload(self) -> None:
        self.overloads += 1

    def enter(self, reporter: Reporter) -> None:
        self.open.enter_context(self.admission.stream(reporter))


def test_an_agent_has_its_own_streams_and_no_more() -> None:
    house = House(max_streams=100, max_per_agent=2)
    with house.open:
        house.enter(agent(1))
        house.enter(agent(1))
        with pytest.raises(BusyError):
            house.enter(agent(1))
        house.enter(agent(2))
    for _ in range(5):  # what ended is free again
        with house.admission.stream(agent(1)):
            pass
    assert house.overloads == 0


def test_a_licensee_takes_a_fourth_however_many_agents_it_runs() -> None:
    house = House(max_streams=20, max_per_agent=2)
    with house.open:
        for number in range(5):
            house.enter(agent(number, "Evil Co"))
        with pytest.raises(BusyError):
            house.enter(agent(5, "Evil Co"))
        house.enter(agent(1))
    assert house.overloads == 0


def test_a_full_house_is_told() -> None:
    house = House(max_streams=4, max_per_agent=1)
    with house.open:
        for number in range(4):
            house.enter(agent(number, f"licensee {number}"))
        with pytest.raises(BusyError):
            house.enter(agent(9, "another"))
    assert house.overloads == 1
