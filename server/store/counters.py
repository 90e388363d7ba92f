"""The counters of the `meta` table.

Taking numbers locks the row until the transaction ends, so that readers see numbers appear in their order.
"""

from typing import Literal

from sqlalchemy import Connection, bindparam, select, update

from server.store.schema import META

Counter = Literal["changes", "records", "audits", "findings", "proposals", "cases", "reads"]
Note = Literal["audited_at", "audit_basis", "cased"]
"""Numbers of the `meta` table that are set and not counted."""

_READ = select(META.c.value).where(META.c.name == bindparam("counter"))
_RAISE = (
    update(META)
    .where(META.c.name == bindparam("counter"))
    .values(value=META.c.value + bindparam("taken"))
    .returning(META.c.value)
)
_SET = update(META).where(META.c.name == bindparam("note"))


def read_counter(connection: Connection, counter: Counter | Note) -> int:
    """Return the last number that was taken, or set; 0 before the first."""
    value: int = connection.execute(_READ, {"counter": counter}).scalar_one()
    return value


def take_numbers(connection: Connection, counter: Counter, count: int) -> range:
    """Take the next `count` numbers; they are given back when the transaction is undone."""
    last = connection.execute(_RAISE, {"counter": counter, "taken": count}).scalar_one()
    return range(last - count + 1, last + 1)


def set_note(connection: Connection, note: Note, value: int) -> None:
    """Set a number that is no counter."""
    connection.execute(_SET.values(value=value), {"note": note})
