"""Writing of findings. Each that opens, closes or changes its weight takes a number, by which cases follow them."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, insert, select, update

from server.store.counters import take_numbers
from server.store.rows import Values, chunks
from server.store.schema import FINDINGS

_OPEN = (
    FINDINGS.c.pdi == bindparam("key"),
    FINDINGS.c.reason == bindparam("key_reason"),
    FINDINGS.c.closed_at.is_(None),
)
_CLOSE = update(FINDINGS).where(*_OPEN).values(closed_at=bindparam("end"), number=bindparam("taken"))
_WEIGH = (
    update(FINDINGS)
    .where(*_OPEN)
    .values(severity=bindparam("weight"), detail=bindparam("told"), number=bindparam("taken"))
)
_TELL = update(FINDINGS).where(*_OPEN).values(detail=bindparam("told"))


def write_findings(
    connection: Connection,
    *,
    opened: Sequence[Values] = (),
    closed: Sequence[Values] = (),
    weighed: Sequence[Values] = (),
    told: Sequence[Values] = (),
) -> None:
    """Write findings in the caller's transaction: first what ends, so that a reason can open again at once.

    Args:
        connection: The transaction.
        opened: Rows of `findings` without a number: pdi, reason, opened_at, closed_at (most often None), severity,
            detail.
        closed: Open findings that end: key (the PDI), key_reason, end.
        weighed: Open findings of another severity: key, key_reason, weight, told.
        told: Open findings with another detail alone: key, key_reason, told.
    """
    opened = _apart(connection, opened)
    count = len(opened) + len(closed) + len(weighed)
    if count:
        numbers = iter(take_numbers(connection, "findings", count))
        for statement, rows, name in (
            (_CLOSE, closed, "taken"),
            (_WEIGH, weighed, "taken"),
            (insert(FINDINGS), opened, "number"),
        ):
            if rows:
                connection.execute(statement, [{**row, name: next(numbers)} for row in rows])
    if told:
        connection.execute(_TELL, list(told))


def _apart(connection: Connection, opened: Sequence[Values]) -> list[Values]:
    """Give each a time of its own: what ended and opens again at one instant opens a microsecond later."""
    taken: set[tuple[bytes, int, int]] = set()
    for some in chunks({row["pdi"] for row in opened}):
        query = select(FINDINGS.c.pdi, FINDINGS.c.reason, FINDINGS.c.opened_at).where(FINDINGS.c.pdi.in_(some))
        taken.update((row.pdi, row.reason, row.opened_at) for row in connection.execute(query))
    apart: list[Values] = []
    for row in opened:
        opened_at = row["opened_at"]
        while (row["pdi"], row["reason"], opened_at) in taken:
            opened_at += 1
        taken.add((row["pdi"], row["reason"], opened_at))
        closed_at = None if row["closed_at"] is None else max(row["closed_at"], opened_at)
        apart.append({**row, "opened_at": opened_at, "closed_at": closed_at})
    return apart
