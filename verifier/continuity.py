"""One device against its own past: counters and board.

The shell loads the last accepted state and keeps what comes out of here.
"""

from dataclasses import dataclass

from verifier.evidence.attestation import DeviceReport
from verifier.evidence.board import Boards
from verifier.evidence.chain import DeviceKind
from verifier.evidence.spdm import Counters
from verifier.units import Pdi


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The last accepted state of a device.

    Attributes:
        counters: As last signed; None where its firmware has none.
        board: Switches of the board that it was accepted on; empty before the first proven edge.
    """

    counters: Counters | None = None
    board: frozenset[Pdi] = frozenset()


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs from the last accepted state.

    Attributes:
        rolled_back: Before and now, when a counter did not move forward (docs/protocol.md E5).
        other_board: Switches of another board to which it has proven edges now; empty when its board is its own.
        board: Switches to keep as its board.
    """

    rolled_back: tuple[Counters, Counters] | None
    other_board: frozenset[Pdi]
    board: frozenset[Pdi]


def compare(report: DeviceReport, boards: Boards, last: DeviceState | None) -> Changes:
    """Compare an authentic report with the last accepted state of its device."""
    state = last if last is not None else DeviceState()
    now, before = report.report.counters, state.counters
    rolled_back = None
    if now is not None and before is not None and (now.attestation <= before.attestation or now.boot < before.boot):
        rolled_back = (before, now)
    if report.kind is DeviceKind.SWITCH:
        return Changes(rolled_back, frozenset(), frozenset())
    switches = boards.switches_of(report.pdi)
    if state.board and switches and switches.isdisjoint(state.board):
        # Its own board stays the one it was accepted on, until a swap is recorded.
        return Changes(rolled_back, switches, state.board)
    # A board is learned edge by edge: a switch that did not report last time is no change.
    return Changes(rolled_back, frozenset(), state.board | switches)
