"""The last accepted state of a device, to and from the columns of `devices`. Exact both ways: a commit compares it."""

from typing import Any

from sqlalchemy import Row

from server.store.framing import (
    micros,
    moment,
    pack_counters,
    pack_pdis,
    pack_place,
    unpack_counters,
    unpack_pdis,
    unpack_place,
)
from server.store.rows import Values
from verifier.continuity import DeviceState, SignedCounters


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
