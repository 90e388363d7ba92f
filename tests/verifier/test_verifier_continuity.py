"""What a device's own past says: counters that one device cannot sign, another board, no slot, too far a way."""

import dataclasses
from datetime import timedelta

import pytest

from tests.verifier.helpers_evidence import NOW, make_chain
from tests.verifier.helpers_place import SINGAPORE, landmark, policy, ranged, travel
from verifier import continuity
from verifier.continuity import Changes, CounterOddity, DeviceState, SignedCounters
from verifier.evidence import board
from verifier.evidence.attestation import DeviceReport
from verifier.evidence.chain import DeviceKind
from verifier.evidence.spdm import Counters, MeasurementReport
from verifier.license import BoardSwap
from verifier.place.fix import Fix, locate
from verifier.place.geodesy import Position
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.regions import SiteDisc
from verifier.place.travel import SeenPlace
from verifier.units import Kilometers, Pdi

CHAIN = make_chain().verified()
GPU, S1, S2, S3 = (Pdi(name.ljust(8, b"-")) for name in (b"gpu", b"s1", b"s2", b"s3"))
SECOND = timedelta(seconds=1)
FORKED, ROLLED_BACK = CounterOddity.FORKED, CounterOddity.ROLLED_BACK


def report(
    pdi: Pdi = GPU, kind: DeviceKind = DeviceKind.GPU, counters: Counters | None = None, linked: tuple[Pdi, ...] = ()
) -> DeviceReport:
    content = MeasurementReport(bytes(32), {}, "", "", frozenset(linked), (), counters)
    return DeviceReport(0, dataclasses.replace(CHAIN, pdi=pdi, kind=kind), content)


def signed(boot: int, attestation: int, start_s: float = 0, end_s: float = 5) -> SignedCounters:
    """Counters signed between two times, seconds after NOW."""
    return SignedCounters(Counters(boot, attestation), NOW + start_s * SECOND, NOW + end_s * SECOND)


def compared(
    now: Counters | None = None,
    last: DeviceState | None = None,
    switches: tuple[Pdi, ...] = (),
    kind: DeviceKind = DeviceKind.GPU,
    fix: Fix | None = None,
    swap: BoardSwap | None = None,
) -> Changes:
    """A report of ten to fifteen seconds after NOW."""
    device = report(kind=kind, counters=now, linked=switches)
    others = [report(s, DeviceKind.SWITCH, linked=(GPU,)) for s in switches]
    boards = board.join([device, *others])
    return continuity.compare(device, boards, fix, last, swap, NOW + 10 * SECOND, NOW + 15 * SECOND)


@pytest.mark.parametrize(
    ("boot", "attestation", "start_s", "end_s", "oddity"),
    [
        # Signed later.
        (3, 11, 10, 15, None),
        (4, 11, 10, 15, None),
        (3, 10, 10, 15, FORKED),
        (4, 10, 10, 15, FORKED),
        (3, 9, 10, 15, ROLLED_BACK),
        (2, 9, 10, 15, ROLLED_BACK),
        (2, 11, 10, 15, FORKED),
        (4, 9, 10, 15, FORKED),
        # Signed earlier: another server was slower. That is honest, as long as the counters are lower.
        (3, 9, -15, -10, None),
        (2, 9, -15, -10, None),
        (3, 11, -15, -10, FORKED),
        (3, 10, -15, -10, FORKED),
        # The spans overlap, or touch: either may have been first.
        (3, 9, 4, 9, None),
        (3, 9, 5, 10, None),
        (3, 11, -5, 0, None),
        (3, 10, 4, 9, FORKED),
    ],
)
def test_e5_counters(boot: int, attestation: int, start_s: int, end_s: int, oddity: CounterOddity | None) -> None:
    now = signed(boot, attestation, start_s, end_s)
    assert continuity.compare_counters(signed(3, 10), now) is oddity


def test_the_highest_counters_are_kept() -> None:
    state = DeviceState(signed(3, 10))
    forward = compared(Counters(3, 11), state)
    assert (forward.oddity, forward.counters, forward.state.highest) == (None, None, signed(3, 11, 10, 15))
    back = compared(Counters(3, 9), state)
    assert (back.oddity, back.counters) == (ROLLED_BACK, (Counters(3, 10), Counters(3, 9)))
    assert back.state.highest == signed(3, 10)
    first = compared(Counters(3, 9), None)
    assert (first.oddity, first.state.highest) == (None, signed(3, 9, 10, 15))
    none = compared(None, state)
    assert (none.oddity, none.state.highest) == (None, signed(3, 10))


def test_board_is_learned_edge_by_edge() -> None:
    assert compared(switches=(S1,)).state.board == {S1}
    more = compared(last=DeviceState(board=frozenset({S1})), switches=(S1, S2))
    assert (set(more.state.board), set(more.other_board)) == ({S1, S2}, set())
    fewer = compared(last=DeviceState(board=frozenset({S1, S2})), switches=(S2,))
    assert (set(fewer.state.board), set(fewer.other_board)) == ({S1, S2}, set())
    none = compared(last=DeviceState(board=frozenset({S1})))
    assert (set(none.state.board), set(none.other_board)) == ({S1}, set())


def test_another_board_is_told_and_not_learned() -> None:
    changed = compared(last=DeviceState(board=frozenset({S1})), switches=(S2, S3))
    assert (set(changed.state.board), set(changed.other_board)) == ({S1}, {S2, S3})


@pytest.mark.parametrize(
    ("named", "until_s", "done"),
    [({S2, S3}, 15, True), ({S2, S3}, 14, False), ({S2}, 15, False), ({S2, S3, S1}, 99, True)],
)
def test_a_swap_on_record_makes_the_other_board_its_own(named: set[Pdi], until_s: int, *, done: bool) -> None:
    """docs/protocol.md AP6: it must name every switch, and not be over."""
    swap = BoardSwap(frozenset(named), NOW + until_s * SECOND)
    before = DeviceState(board=frozenset({S1}))
    changed = compared(last=before, switches=(S2, S3), swap=swap)
    expected = ({S2, S3}, set()) if done else ({S1}, {S2, S3})
    assert (set(changed.state.board), set(changed.other_board)) == expected
    assert changed.swapped is done
    back = compared(last=DeviceState(board=frozenset({S2, S3})), switches=(S1,), swap=None)
    assert set(back.other_board) == {S1}
    still = compared(last=before, switches=(S1,), swap=swap)
    assert (set(still.state.board), still.swapped) == ({S1}, False)


def test_a_switch_has_counters_and_no_board() -> None:
    state = DeviceState(signed(1, 2), frozenset({S1}), unseated=True)
    changes = compared(Counters(1, 2), state, kind=DeviceKind.SWITCH)
    assert changes == Changes(
        FORKED, (Counters(1, 2),) * 2, frozenset(), out_of_slot=False, state=DeviceState(signed(1, 2))
    )


@pytest.mark.parametrize(
    ("named", "slots", "switch_count", "unseated"),
    [
        ((), (), 1, True),
        ((), (), 0, False),  # a card without a board
        ((), (GPU,), 1, False),  # one side alone: unproven, not broken
        ((S2,), (), 1, False),  # it names a switch that does not report
        ((S1,), (), 1, False),
        ((S1,), (GPU,), 1, False),
    ],
)
def test_out_of_slot_twice_in_a_row(
    named: tuple[Pdi, ...], slots: tuple[Pdi, ...], switch_count: int, *, unseated: bool
) -> None:
    device = report(linked=named)
    switches = [report(S1, DeviceKind.SWITCH, linked=slots)][:switch_count]
    boards = board.join([device, *switches])
    never = continuity.compare(device, boards, None, None, None, NOW, NOW + SECOND)
    assert (never.out_of_slot, never.state.unseated) == (False, False)
    once = continuity.compare(device, boards, None, DeviceState(board=frozenset({S1})), None, NOW, NOW + SECOND)
    assert (once.out_of_slot, once.state.unseated) == (False, unseated)
    twice = continuity.compare(device, boards, None, once.state, None, NOW, NOW + SECOND)
    assert (twice.out_of_slot, twice.state.unseated) == (unseated, unseated)


FRANKFURT = Position(50.11, 8.68)
SPAN = (NOW + 10 * SECOND, NOW + 15 * SECOND)
"""Of the report that `compared` makes."""


def fix_at(*places: Position, tolerated: int = 1, radius_km: float = 200, smallest_km: float | None = None) -> Fix:
    """A fix from one landmark at each of these places; `smallest_km` is the first one's radius."""
    landmarks = [landmark(f"l{k}", place) for k, place in enumerate(places)]
    site = SiteDisc("x", SINGAPORE, 500.0)
    registry = LandmarkRegistry.build(landmarks)
    radii_km = [smallest_km or radius_km, *[radius_km] * len(places[1:])]
    ranges = [ranged(r, km) for r, km in zip(landmarks, radii_km, strict=True)]
    fix, _ = locate(ranges, site, registry, policy(tolerated), "licensee", NOW, NOW)
    assert fix is not None
    return fix


def near(place: Position, count: int = 3) -> list[Position]:
    return [travel(place, 70.0 * k, 40) for k in range(count)]


def seen_at(place: Position, start_s: float = 0, end_s: float = 5) -> SeenPlace:
    """What the fix before allowed, between two times, seconds after NOW."""
    discs = tuple((p, Kilometers(200.0)) for p in near(place))
    return SeenPlace(NOW + start_s * SECOND, NOW + end_s * SECOND, discs)


def test_what_a_fix_allowed_is_kept_with_its_times() -> None:
    fix = fix_at(*near(SINGAPORE))
    first = compared(fix=fix)
    assert first.travel is None
    assert first.state.place == SeenPlace(*SPAN, tuple((d.position, d.radius_km) for d in fix.discs))
    again = compared(fix=fix, last=DeviceState(place=seen_at(SINGAPORE)))
    assert (again.travel, again.state.place) == (None, first.state.place)


def test_a_far_place_in_a_short_time_is_impossible_travel() -> None:
    changes = compared(fix=fix_at(*near(FRANKFURT)), last=DeviceState(place=seen_at(SINGAPORE)))
    assert changes.travel is not None
    assert changes.travel.within == 15 * SECOND
    assert changes.travel.apart_km > 9000
    assert changes.state.place is not None
    assert changes.state.place.issued_at == SPAN[0]  # the later one is kept, whichever is the lie
    day_before = compared(fix=fix_at(*near(FRANKFURT)), last=DeviceState(place=seen_at(SINGAPORE, -86_400, -86_395)))
    assert day_before.travel is None


def test_a_report_that_arrives_after_a_later_one_is_compared_and_not_kept() -> None:
    later = seen_at(SINGAPORE, 20, 30)
    changes = compared(fix=fix_at(*near(FRANKFURT)), last=DeviceState(place=later))
    assert changes.travel is not None
    assert changes.travel.within == 20 * SECOND
    assert changes.state.place is later
    at_once = seen_at(SINGAPORE, 10, 15)
    assert compared(fix=fix_at(*near(SINGAPORE)), last=DeviceState(place=at_once)).state.place is not at_once


def test_a_place_that_a_clock_stamped_that_was_ahead_is_forgotten() -> None:
    fix = fix_at(*near(FRANKFURT))
    # Committed out of order, an earlier report arrives ten minutes before the issue of a later one at most.
    in_order = seen_at(SINGAPORE, 615, 620)
    changes = compared(fix=fix, last=DeviceState(place=in_order))
    assert changes.travel is not None
    assert changes.state.place is in_order
    for start_s in (615.000001, 1400 * 86_400):
        ahead = seen_at(SINGAPORE, start_s, start_s + 5)
        changes = compared(fix=fix, last=DeviceState(place=ahead))
        assert changes.travel is None
        assert changes.state.place is not None
        assert changes.state.place.issued_at == SPAN[0]
        assert compared(last=DeviceState(place=ahead)).state.place is None


def test_a_wide_fix_does_not_take_the_place_of_a_narrow_one() -> None:
    """Else a host that delays its ranges once has the place before forgotten, and may be anywhere next."""
    narrow = seen_at(SINGAPORE)
    wide = fix_at(*near(FRANKFURT), radius_km=14_000)
    changes = compared(fix=wide, last=DeviceState(place=narrow))
    assert (changes.travel, changes.state.place) == (None, narrow)
    # What could have been flown since is no more than an honest move.
    day_before = seen_at(SINGAPORE, -86_400, -86_395)
    moved = compared(fix=wide, last=DeviceState(place=day_before)).state.place
    assert moved is not None
    assert moved.issued_at == SPAN[0]
    # One small disc, which may be wrong, makes no narrow fix.
    for tolerated, stands in ((0, False), (1, True)):
        fix = fix_at(*near(SINGAPORE), tolerated=tolerated, radius_km=14_000, smallest_km=200)
        assert (compared(fix=fix, last=DeviceState(place=narrow)).state.place is narrow) is stands


def test_a_fix_that_allows_everything_is_no_place() -> None:
    before = seen_at(SINGAPORE)
    one = fix_at(FRANKFURT)  # the one domain may be wrong
    torn = fix_at(FRANKFURT, SINGAPORE, Position(-30, -60))
    assert torn.least_violations > torn.tolerated_domains
    for fix in (None, one, torn):
        changes = compared(fix=fix, last=DeviceState(place=before))
        assert (changes.travel, changes.state.place) == (None, before)
        assert compared(fix=fix).state.place is None
    trusting = compared(fix=fix_at(FRANKFURT, tolerated=0), last=DeviceState(place=before))
    assert trusting.travel is not None


def test_as_many_discs_may_be_wrong_as_the_policy_says() -> None:
    # One disc of this fix allows Singapore; if that may be wrong, so may the device be there.
    fix = fix_at(*near(FRANKFURT, 2), SINGAPORE)
    assert compared(fix=fix, last=DeviceState(place=seen_at(SINGAPORE))).travel is not None
    half = fix_at(FRANKFURT, SINGAPORE)
    assert compared(fix=half, last=DeviceState(place=seen_at(SINGAPORE))).travel is None


def test_a_switch_is_at_no_place() -> None:
    last = DeviceState(place=seen_at(SINGAPORE))
    changes = compared(last=last, kind=DeviceKind.SWITCH, fix=fix_at(*near(FRANKFURT)))
    assert (changes.travel, changes.state.place) == (None, None)
