"""Boards: an edge needs both ends; what it joins is a board and nothing else is."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verifier.helpers_evidence import make_chain
from verifier.evidence import board
from verifier.evidence.attestation import DeviceReport
from verifier.evidence.chain import DeviceKind
from verifier.evidence.spdm import MeasurementReport
from verifier.units import Pdi

CHAIN = make_chain().verified()


def pdi(name: str) -> Pdi:
    return Pdi(name.encode().ljust(8))


def device(name: str, *linked: str) -> DeviceReport:
    """A device that names others; switches begin with an s."""
    kind = DeviceKind.SWITCH if name.startswith("s") else DeviceKind.GPU
    chain = dataclasses.replace(CHAIN, pdi=pdi(name), kind=kind)
    report = MeasurementReport(bytes(32), {}, "", "", frozenset(map(pdi, linked)), (), None)
    return DeviceReport(0, chain, report)


def names(pdis: frozenset[Pdi]) -> set[str]:
    return {p.decode().strip() for p in pdis}


def test_b1_both_ends_make_an_edge() -> None:
    boards = board.join([device("g1", "s1"), device("s1", "g1")])
    assert names(boards.edges[pdi("g1")]) == names(boards.switches) == {"s1"}
    assert names(boards.edges[pdi("s1")]) == {"g1"}
    assert names(boards.group[pdi("g1")]) == names(boards.group[pdi("s1")]) == {"g1", "s1"}


def test_b1_one_end_proves_nothing() -> None:
    for pair in ([device("g1", "s1"), device("s1")], [device("g1"), device("s1", "g1")]):
        boards = board.join(pair)
        assert boards.edges == {pdi("g1"): frozenset(), pdi("s1"): frozenset()}
        assert boards.group == {pdi("g1"): {pdi("g1")}, pdi("s1"): {pdi("s1")}}


def test_b1_an_edge_is_between_gpu_and_switch() -> None:
    for pair in ([device("g1", "g2"), device("g2", "g1")], [device("s1", "s2"), device("s2", "s1")]):
        assert not any(board.join(pair).edges.values())


def test_a_device_is_no_neighbour_of_itself() -> None:
    assert not board.join([device("s1", "s1")]).edges[pdi("s1")]


def test_b3_listed_is_not_attested() -> None:
    boards = board.join([device("g1", "s1", "s2"), device("s1", "g1", "g2")])
    assert boards.group.keys() == boards.edges.keys() == {pdi("g1"), pdi("s1")}
    assert names(boards.group[pdi("g1")]) == {"g1", "s1"}


def test_b2_edges_join_and_nothing_else_does() -> None:
    boards = board.join(
        [
            device("g1", "s1"),
            device("g2", "s1", "s2"),
            device("g3", "s2"),
            device("g4", "s3"),
            device("g5"),
            device("s1", "g1", "g2"),
            device("s2", "g2", "g3"),
            device("s3", "g4"),
        ]
    )
    assert {frozenset(names(group)) for group in boards.group.values()} == {
        frozenset({"g1", "g2", "g3", "s1", "s2"}),
        frozenset({"g4", "s3"}),
        frozenset({"g5"}),
    }


def test_unseated_is_named_by_no_switch_and_names_none() -> None:
    def unseated(gpu: DeviceReport, *others: DeviceReport) -> bool:
        return board.join([gpu, *others]).unseated(pdi("g1"))

    assert unseated(device("g1"), device("s1", "g2"), device("s2"))
    assert not unseated(device("g1"))  # without switches there are no slots
    assert not unseated(device("g1"), device("g2"))
    assert not unseated(device("g1"), device("s1", "g2"), device("s2", "g1"))
    assert not unseated(device("g1", "s9"), device("s1", "g2"))  # its board is not shown, which is not the same
    assert not unseated(device("g1", "s1"), device("s1", "g1"))


def test_nothing_reported() -> None:
    assert board.join([]).group == {}


NAMES = ["g1", "g2", "g3", "s1", "s2"]


@settings(deadline=None, max_examples=80)
@given(st.fixed_dictionaries({name: st.sets(st.sampled_from(NAMES)) for name in NAMES}))
def test_edges_and_boards_are_symmetric(linked: dict[str, set[str]]) -> None:
    boards = board.join([device(name, *linked[name]) for name in NAMES])
    for name in NAMES:
        own = pdi(name)
        assert own in boards.group[own]
        for other in boards.edges[own]:
            assert own in boards.edges[other]
            assert name in linked[other.decode().strip()]
        assert all(boards.group[other] == boards.group[own] for other in boards.group[own])
