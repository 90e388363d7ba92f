"""One device against its own past: counters, board and place.

The shell loads the last accepted state, hands it in, and keeps what comes out of here. In the commit it compares that
the state is still the one that was handed in, since two workers may hold the same one (server/store/commits.py).
"""

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from verifier.evidence.attestation import DeviceReport
from verifier.evidence.board import Boards
from verifier.evidence.chain import DeviceKind
from verifier.evidence.spdm import Counters
from verifier.license import BoardSwap
from verifier.place.fix import Fix
from verifier.place.travel import ImpossibleTravel, SeenPlace, allows_less, find_impossible_travel
from verifier.units import Pdi

_OUT_OF_ORDER = timedelta(minutes=10)
"""By so much at most may an earlier report be committed after a later one."""


@dataclass(frozen=True, slots=True)
class SignedCounters:
    """Counters, and the time between which they were signed: issue of the challenge and arrival of the report."""

    counters: Counters
    issued_at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The last accepted state of a device.

    Attributes:
        highest: The highest counters that were accepted; None where its firmware has none.
        board: Switches of the board that it was accepted on; empty before the first proven edge.
        unseated: The last accepted report showed it in no slot.
        place: What its last fix allowed; None before the first that allowed less than everything.
    """

    highest: SignedCounters | None = None
    board: frozenset[Pdi] = frozenset()
    unseated: bool = False
    place: SeenPlace | None = None


@enum.unique
class CounterOddity(enum.Enum):
    """What counters show that an honest device cannot sign (docs/protocol.md E5)."""

    FORKED = "forked"
    """One attestation counter in two reports, or an order that contradicts the time: two devices share one key."""
    ROLLED_BACK = "rolled back"
    """Lower counters, signed after higher ones."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs from the last accepted state.

    Attributes:
        oddity: What is wrong with its counters, None when nothing is.
        counters: Before and now, for the detail of an oddity.
        other_board: Switches of another board to which it has proven edges now; empty when its board is its own.
        out_of_slot: This report and the one before show it in no slot of a board whose switches report.
        travel: How its fix contradicts the one before; None when it does not.
        swapped: It sits on the board now that a recorded swap names.
        state: What to keep as the last accepted state.
    """

    oddity: CounterOddity | None
    counters: tuple[Counters, Counters] | None
    other_board: frozenset[Pdi]
    out_of_slot: bool
    travel: ImpossibleTravel | None = None
    swapped: bool = False
    state: DeviceState = field(default_factory=DeviceState)


def compare(
    report: DeviceReport,
    boards: Boards,
    fix: Fix | None,
    last: DeviceState | None,
    swap: BoardSwap | None,
    issued_at: datetime,
    received_at: datetime,
) -> Changes:
    """Compare an authentic report with the last accepted state of its device.

    Args:
        report: The report.
        boards: Proven edges of its attestation.
        fix: Where it is; None without a range that counts.
        last: The last accepted state; None when there is none.
        swap: A change of its board that is on record; None when there is none.
        issued_at: Issue of the challenge that it answers, aware.
        received_at: Its arrival, aware.
    """
    state = last if last is not None else DeviceState()
    counters = report.report.counters
    signed = None if counters is None else SignedCounters(counters, issued_at, received_at)
    oddity = None if signed is None or state.highest is None else compare_counters(state.highest, signed)
    pair = (state.highest.counters, signed.counters) if oddity and state.highest and signed else None
    highest = _highest(state.highest, signed)
    if report.kind is DeviceKind.SWITCH:
        return Changes(oddity, pair, frozenset(), out_of_slot=False, state=DeviceState(highest))
    seen = seen_place(fix, issued_at, received_at)
    travel = None
    past = state.place
    if past is not None and past.issued_at - received_at > _OUT_OF_ORDER:
        past = None  # a clock that was ahead stamped it: the time between the two is not known
    if fix is not None and seen is not None and past is not None:
        travel = find_impossible_travel(past, seen, fix.tolerated_domains)
    # A card that never had a board, beside one that has, is no broken board (docs/protocol.md B4).
    unseated = bool(state.board) and boards.unseated(report.pdi)
    switches = boards.edges[report.pdi]
    other_board = switches if state.board and switches.isdisjoint(state.board) else frozenset[Pdi]()
    # docs/protocol.md AP6: its own board stays the one it was accepted on, until a swap is recorded. It is learned edge
    # by edge: a switch that did not report last time is no change.
    board = state.board if other_board else state.board | switches
    swapped = bool(other_board) and swap is not None and other_board <= swap.switches and received_at <= swap.until
    if swapped:
        board, other_board = switches, frozenset[Pdi]()
    # A wide fix does not take the place of a narrow one, unless it contradicts it: else the finding would never end.
    tolerated = None if fix is None or travel is not None else fix.tolerated_domains
    kept = DeviceState(highest, board, unseated, _later(past, seen, tolerated))
    return Changes(oddity, pair, other_board, unseated and state.unseated, travel, swapped, kept)


def compare_counters(before: SignedCounters, now: SignedCounters) -> CounterOddity | None:
    """Return what two reports show that one honest device cannot sign, None when nothing.

    A report was signed at some instant between issue and arrival. Where two spans overlap, either may have been first
    (two servers may finish in any order), and only an equal counter is odd.
    """
    if now.counters.attestation == before.counters.attestation:
        return CounterOddity.FORKED  # docs/protocol.md E5: raised before each report is signed
    forward = _is_after(now.counters, before.counters)
    if not forward and not _is_after(before.counters, now.counters):
        return CounterOddity.FORKED  # one counter went up and the other down
    if forward and now.received_at < before.issued_at:
        return CounterOddity.FORKED  # signed before, and yet higher
    if not forward and now.issued_at > before.received_at:
        return CounterOddity.ROLLED_BACK
    return None


def _is_after(a: Counters, b: Counters) -> bool:
    return a.attestation > b.attestation and a.boot >= b.boot


def _highest(before: SignedCounters | None, now: SignedCounters | None) -> SignedCounters | None:
    if before is None or now is None:
        return before or now
    return now if _is_after(now.counters, before.counters) else before


def seen_place(fix: Fix | None, issued_at: datetime, received_at: datetime) -> SeenPlace | None:
    """Return what a fix allows; None when that is every place, or when its discs contradict each other too much."""
    if fix is None or fix.least_violations > fix.tolerated_domains or len(fix.discs) <= fix.tolerated_domains:
        return None
    return SeenPlace(issued_at, received_at, tuple((disc.position, disc.radius_km) for disc in fix.discs))


def _later(before: SeenPlace | None, now: SeenPlace | None, tolerated: int | None) -> SeenPlace | None:
    if before is None or now is None:
        return before or now
    if now.received_at < before.received_at or (tolerated is not None and allows_less(before, now, tolerated)):
        return before
    return now
