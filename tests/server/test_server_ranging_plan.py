"""Who ranges, and how many sessions."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import geodata
from server.intake.challenges import NO_CHECKPOINT, draw_challenge
from server.intake.ranging_plan import (
    LAST_STEP_AFTER,
    ListedDevice,
    PlanSettings,
    RangeOrder,
    RangingPlan,
    choose_rangers,
)
from server.intake.tickets import TicketOffice
from tests.server.helpers import deployment, landmark_record, pdi
from verifier.continuity import DeviceState
from verifier.evidence.attestation import IssuedChallenge
from verifier.evidence.chain import DeviceKind
from verifier.license import License
from verifier.place.fix import Fix
from verifier.place.groups import parse_groups
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas, Region
from verifier.units import ChainId, Pdi

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SWITCHES = [Pdi(bytes([0x50] * 7 + [number])) for number in range(8)]


def gpu(number: int, board: str = "") -> ListedDevice:
    return ListedDevice(pdi(number), DeviceKind.GPU, board, ChainId(bytes(32)))


def chosen(
    devices: Iterable[ListedDevice], last: dict[Pdi, DeviceState] | None = None, undeployed: Iterable[int] = ()
) -> list[Pdi]:
    listed = list(devices)
    absent = {pdi(number) for number in undeployed}
    deployments = {device.pdi: deployment(device.pdi) for device in listed if device.pdi not in absent}
    return sorted(held.pdi for held in choose_rangers(listed, deployments, last or {}, random.Random(1)))


def on(*switches: int) -> DeviceState:
    return DeviceState(None, frozenset(SWITCHES[number] for number in switches))


def test_one_gpu_of_a_board_ranges() -> None:
    assert len(chosen(gpu(number, "a") for number in range(8))) == 1
    assert len(chosen([gpu(1, "a"), gpu(2, "a"), gpu(3, "b")])) == 2


def test_a_gpu_without_a_board_ranges_for_itself() -> None:
    assert chosen([gpu(1), gpu(2)]) == [pdi(1), pdi(2)]


def test_a_gpu_without_a_deployment_is_not_asked() -> None:
    assert chosen([gpu(1, "a"), gpu(2, "a"), gpu(3)], undeployed=[1, 3]) == [pdi(2)]


def test_switches_do_not_range() -> None:
    switch = ListedDevice(SWITCHES[0], DeviceKind.SWITCH, "a", ChainId(bytes(32)))
    assert chosen([switch, gpu(1, "a")]) == [pdi(1)]


def test_the_accepted_board_outweighs_the_hint() -> None:
    # The host says that both sit on one board; the store knows that they do not.
    last = {pdi(1): on(0, 1), pdi(2): on(4, 5)}
    assert chosen([gpu(1, "a"), gpu(2, "a")], last) == [pdi(1), pdi(2)]
    # And the other way round: one board, whatever the host says.
    last = {pdi(1): on(0, 1), pdi(2): on(1, 2), pdi(3): on(2, 3)}
    assert len(chosen([gpu(1, "a"), gpu(2, "b"), gpu(3, "c")], last)) == 1


def test_a_device_that_proved_no_edge_ranges_for_itself() -> None:
    assert chosen([gpu(1, "a"), gpu(2, "a")], {pdi(1): on(), pdi(2): on()}) == [pdi(1), pdi(2)]


def test_every_gpu_of_a_board_is_drawn_some_time() -> None:
    devices = [gpu(number, "a") for number in range(4)]
    deployments = {device.pdi: deployment(device.pdi) for device in devices}
    rng = random.Random(1)
    drawn = {choose_rangers(devices, deployments, {}, rng)[0].pdi for _ in range(200)}
    assert drawn == set(deployments)


class NoFix:
    """A fixer that sees receipts and makes nothing of them."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, ...]] = []

    def provisional_fix(
        self,
        receipts: Iterable[bytes],
        region: Region,
        issued: IssuedChallenge,
        registry: LandmarkRegistry,
        held: License,
        now: datetime,
        pdi: Pdi,
    ) -> Fix | None:
        del region, issued, registry, held, now, pdi
        self.seen.append(tuple(receipts))
        return None


@pytest.fixture(scope="module")
def policy() -> PlacePolicy:
    atlas = Atlas.parse(geodata.read_borders(), geodata.BORDERS_VERSION)
    prohibited = parse_groups(geodata.read_country_groups(), geodata.COUNTRY_GROUPS_VERSION).prohibited()
    return PlacePolicy(atlas, prohibited, "test", audited_within=None, standing_for=timedelta(0))


def plan_of(policy: PlacePolicy, rangers: int, budget: int = 16) -> tuple[RangingPlan, NoFix]:
    fixer = NoFix()
    settings = PlanSettings(fixer, policy, TicketOffice(Ed25519PrivateKey.generate()), budget, random.Random(1))
    records = [landmark_record(number) for number in range(1, 21)]
    registry = LandmarkRegistry.build(record.landmark for record in records)
    endpoints = {record.landmark.key_id: record.endpoints for record in records}
    issued = draw_challenge("host", NOW, NO_CHECKPOINT).issued
    return RangingPlan(settings, issued, registry, endpoints, [deployment(pdi(n)) for n in range(rangers)]), fixer


@pytest.mark.parametrize(("rangers", "budget", "sessions"), [(1, 16, 16), (1, 3, 3), (64, 16, 128), (2, 16, 32)])
def test_sessions_stay_within_the_budget(policy: PlacePolicy, rangers: int, budget: int, sessions: int) -> None:
    plan, _ = plan_of(policy, rangers, budget)
    orders: list[RangeOrder] = []
    while not plan.is_final:
        step = plan.next_step(NOW)
        assert step.number == plan.step_number
        orders += step.orders
    assert len(orders) == sessions
    assert len({(order.pdi, order.landmark) for order in orders}) == sessions  # nobody is asked twice
    assert len({order.ticket for order in orders}) == sessions


def test_without_rangers_the_first_step_is_final(policy: PlacePolicy) -> None:
    plan, _ = plan_of(policy, 0)
    step = plan.next_step(NOW)
    assert (step.number, step.orders, step.final) == (1, (), True)


def test_late_in_a_challenge_no_step_begins(policy: PlacePolicy) -> None:
    plan, _ = plan_of(policy, 1)
    assert not plan.next_step(NOW).final
    step = plan.next_step(NOW + LAST_STEP_AFTER)
    assert (step.number, step.orders, step.final) == (2, (), True)


def test_receipts_choose_the_next_step_and_are_bounded(policy: PlacePolicy) -> None:
    plan, fixer = plan_of(policy, 1)
    first = plan.next_step(NOW)
    receipts = [b"receipt %d" % number for number in range(100)]
    plan.add_results({pdi(0): receipts, pdi(9): receipts})
    plan.next_step(NOW)
    assert fixer.seen == [tuple(receipts[: len(first.orders)])]
