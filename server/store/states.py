"""A device's row: the last accepted state, exact both ways since a commit compares it, and how the device stands."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row

from server.store.framing import pack_counters, pack_pdis, pack_place, unpack_counters, unpack_pdis, unpack_place
from server.store.rows import Values, visible
from server.store.types import OpenFinding
from server.times import micros, moment
from verifier.appraise import standing_of
from verifier.continuity import DeviceState, SignedCounters
from verifier.evidence.chain import DeviceKind
from verifier.verdict import Standing


def state_columns(state: DeviceState) -> Values:
    """Return the columns of `devices` that hold a last accepted state."""
    highest = state.highest
    return {
        "counters": None if highest is None else pack_counters(highest.counters),
        "counters_issued_at": None if highest is None else micros(highest.issued_at),
        "counters_received_at": None if highest is None else micros(highest.received_at),
        "board": pack_pdis(state.board),
        "unseated": state.unseated,
        "place": None if state.place is None else pack_place(state.place),
    }


def state_of(row: Row[Any]) -> DeviceState:
    """Return the last accepted state in a row of `devices`."""
    highest = None
    if row.counters is not None:
        span = (moment(row.counters_issued_at), moment(row.counters_received_at))
        highest = SignedCounters(unpack_counters(row.counters), *span)
    place = None if row.place is None else unpack_place(row.place)
    return DeviceState(highest, unpack_pdis(row.board or b""), row.unseated, place)


def standing_now(
    kind: int | None, findings: Iterable[OpenFinding], *, deployed: bool, activated: bool
) -> Standing | None:
    """Return how a device stands (docs/protocol.md AP4); None for a switch, which is a witness.

    Args:
        kind: As in `devices`; None for a device that never reported, which is a GPU until it shows otherwise.
        findings: All that is open.
        deployed: It has a deployment in force.
        activated: It has reported since.
    """
    if kind == int(DeviceKind.SWITCH):
        return None
    stands = standing_of((found.finding for found in visible(findings)), deployed=deployed)
    # Nothing was appraised under its license yet.
    return Standing.UNPROVEN if stands is Standing.COMPLIANT and not activated else stands
