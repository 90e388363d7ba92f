"""The watch: one look over the store for all that time or the records alone bring (docs/protocol.md §15).

Between two looks it remembers what it need not look at again; a full look now and then, after a restart and whenever
records changed needs nothing of that. What a look finds is written a few hundred devices at a time, and each time it is
asked again in the writing transaction: two nodes find the same, and whoever comes second finds nothing left.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from server.store import watch_clocks, watch_records
from server.store.counters import read_counter, take_numbers
from server.store.findings import write_findings
from server.store.queries import open_findings
from server.store.rows import Values, chunks
from server.store.schema import DEVICES
from server.store.states import standing_now
from server.store.types import OpenFinding
from server.store.watch_records import Validity
from server.store.watch_types import Able, Turn
from server.times import MICROSECOND, micros
from verifier.appraise import finding
from verifier.errors import Reason

FULL_EVERY = timedelta(minutes=10)
"""A report that was long on its way may end a silence and be old already: no such thing is missed for longer."""

MANY_UNPROVEN = 20_000
"""When so many devices are unproven, as when many landmarks are away, they are gone through less often."""

UNPROVEN_EVERY = timedelta(minutes=1)

_FULL_US = FULL_EVERY // MICROSECOND
_UNPROVEN_US = UNPROVEN_EVERY // MICROSECOND
_UPDATE_DEVICE = update(DEVICES).where(DEVICES.c.pdi == bindparam("key"))


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process remembers of its last look. Empty: it looks at everything.

    Attributes:
        full_at: When it last looked at everything, microseconds.
        number: The records number then.
        floors: Up to these last reports silence has been looked for.
        waiting: Devices with an older one whose own clock was not over.
        never_at: Up to this time shipments have been looked at.
        waiting_never: Devices of older ones whose own clock was not over.
        unproven_at: When the unproven ones were last gone through.
        many_unproven: They were many.
        invalid: Licenses whose devices have been told.
    """

    full_at: int = -_FULL_US
    number: int = -1
    floors: watch_clocks.Cutoffs = field(default_factory=dict)
    waiting: frozenset[bytes] = frozenset()
    never_at: int | None = None
    waiting_never: frozenset[bytes] = frozenset()
    unproven_at: int = -_UNPROVEN_US
    many_unproven: bool = False
    invalid: frozenset[tuple[str, Reason]] = frozenset()


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    Attributes:
        timed: Devices that are due by the clock, for each reason that has any.
        recorded: What follows from the records.
        number: The records number that it saw.
        memory: What to remember once all of it is written.
    """

    timed: tuple[tuple[Reason, tuple[bytes, ...]], ...]
    recorded: tuple[Turn, ...]
    number: int
    memory: Memory


def look(connection: Connection, now: datetime, able: Able, memory: Memory) -> Look:
    """Look over the store, in one read transaction."""
    at = micros(now)
    number = read_counter(connection, "records")
    # 1. From the start, or from where the last look ended.
    if number != memory.number or not 0 <= at - memory.full_at < _FULL_US:
        memory = Memory(full_at=at, number=number, unproven_at=memory.unproven_at, many_unproven=memory.many_unproven)
        full = True
    else:
        full = False
    cutoffs = watch_clocks.load_cutoffs(connection, at)
    # 2. SILENT.
    rows = watch_clocks.silent_rows(connection, cutoffs, memory.floors)
    rows += _again(memory.waiting, lambda some: watch_clocks.silent_rows(connection, cutoffs, {}, some))
    silent = watch_clocks.judge_silent(connection, rows, at)
    waiting = _left(rows, silent)
    # 3. NEVER_ACTIVATED.
    rows = watch_clocks.never_rows(connection, at, memory.never_at)
    rows += _again(memory.waiting_never, lambda some: watch_clocks.never_rows(connection, at, None, some))
    never = watch_clocks.judge_never(connection, rows, at)
    waiting_never = _left(rows, never)
    # 4. PRESENCE_OVERDUE.
    overdue: list[Turn] = []
    unproven_at, many = memory.unproven_at, memory.many_unproven
    if not many or not 0 <= at - unproven_at < _UNPROVEN_US:
        rows = watch_clocks.overdue_rows(connection, cutoffs)
        told = {turn.pdi for turn in silent}  # docs/protocol.md AP7
        overdue = [t for t in watch_clocks.judge_overdue(connection, rows, able, at) if t.pdi not in told]
        unproven_at, many = at, len(rows) > MANY_UNPROVEN
    # 5. What the records show.
    invalid = watch_records.load_invalid(connection, now)
    recorded = list(_recorded(connection, invalid, memory, full=full))
    timed = ((Reason.SILENT, silent), (Reason.NEVER_ACTIVATED, never), (Reason.PRESENCE_OVERDUE, overdue))
    return Look(
        timed=tuple((reason, tuple(sorted(turn.pdi for turn in turns))) for reason, turns in timed if turns),
        recorded=tuple(recorded),
        number=number,
        memory=Memory(
            full_at=memory.full_at,
            number=number,
            floors=dict(cutoffs),
            waiting=waiting,
            never_at=at,
            waiting_never=waiting_never,
            unproven_at=unproven_at,
            many_unproven=many,
            invalid=_told(invalid),
        ),
    )


def _recorded(connection: Connection, invalid: dict[str, Validity], memory: Memory, *, full: bool) -> Iterable[Turn]:
    new = {number: why for number, why in invalid.items() if (number, why.reason) not in memory.invalid}
    yield from watch_records.invalid_turns(connection, new)
    if full:
        yield from watch_records.valid_turns(connection, invalid)
        yield from watch_records.quantity_turns(connection)


def _told(invalid: dict[str, Validity]) -> frozenset[tuple[str, Reason]]:
    return frozenset((number, why.reason) for number, why in invalid.items())


def _again(waiting: Iterable[bytes], ask: Callable[[Sequence[bytes]], Iterable[Row[Any]]]) -> list[Row[Any]]:
    return [row for some in chunks(sorted(waiting)) for row in ask(some)]


def _left(rows: Iterable[Row[Any]], due: Iterable[Turn]) -> frozenset[bytes]:
    return frozenset(row.pdi for row in rows) - {turn.pdi for turn in due}


def write_timed(
    connection: Connection, reason: Reason, among: Sequence[bytes], able: Able, now: datetime
) -> tuple[Turn, ...]:
    """Ask again who of these is due, in the caller's writing transaction, and open the finding for them."""
    at = micros(now)
    turns: list[Turn]
    match reason:
        case Reason.SILENT:
            rows = watch_clocks.silent_rows(connection, watch_clocks.load_cutoffs(connection, at), {}, among)
            turns = watch_clocks.judge_silent(connection, rows, at)
        case Reason.NEVER_ACTIVATED:
            rows = watch_clocks.never_rows(connection, at, None, among)
            turns = watch_clocks.judge_never(connection, rows, at)
        case _:
            rows = watch_clocks.overdue_rows(connection, watch_clocks.load_cutoffs(connection, at), among)
            turns = watch_clocks.judge_overdue(connection, rows, able, at)
    return apply(connection, turns, now)


def write_recorded(connection: Connection, turns: Sequence[Turn], number: int, now: datetime) -> tuple[Turn, ...]:
    """Write what the records of this number show; when they have changed since, the next look finds what follows."""
    if read_counter(connection, "records") != number:
        return ()
    return apply(connection, turns, now)


def apply(connection: Connection, turns: Sequence[Turn], now: datetime) -> tuple[Turn, ...]:
    """Open and close findings, and make standings those that follow; return what was not so before."""
    at = micros(now)
    kinds: dict[bytes, tuple[int | None, bool]] = {}
    for some in chunks({turn.pdi for turn in turns}):
        query = select(DEVICES.c.pdi, DEVICES.c.kind, DEVICES.c.activated_at).where(DEVICES.c.pdi.in_(some))
        kinds.update((row.pdi, (row.kind, row.activated_at is not None)) for row in connection.execute(query))
    stands = open_findings(connection, kinds)
    by_pdi = {pdi: {each.finding.reason: each for each in stands.get(pdi, ())} for pdi in kinds}
    done = [t for t in sorted(turns) if t.pdi in by_pdi and t.opens is not (t.reason in by_pdi[t.pdi])]
    opened: list[Values] = []
    closed: list[Values] = []
    for turn in done:
        standing = by_pdi[turn.pdi]
        if turn.opens:
            new = finding(turn.reason, turn.detail)
            standing[turn.reason] = OpenFinding(new, now)
            values: Values = {"severity": int(new.severity), "detail": new.detail}
            opened.append({"pdi": turn.pdi, "reason": int(turn.reason), "opened_at": at, "closed_at": None, **values})
        else:
            end = max(at, micros(standing.pop(turn.reason).opened_at))
            closed.append({"key": turn.pdi, "key_reason": int(turn.reason), "end": end})
    write_findings(connection, opened=opened, closed=closed)
    changed = sorted({turn.pdi for turn in done})
    devices: list[Values] = []
    for number, pdi in zip(take_numbers(connection, "changes", len(changed)), changed, strict=True):
        kind, activated = kinds[pdi]
        stood = standing_now(kind, by_pdi[pdi].values(), deployed=True, activated=activated)
        devices.append({"key": pdi, "standing": None if stood is None else int(stood), "change_number": number})
    if devices:
        connection.execute(_UPDATE_DEVICE, devices)
    return tuple(done)
