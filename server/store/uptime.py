"""When the service was demonstrably up and took reports: the marks of its nodes (docs/protocol.md W1).

The store remembers them, so an outage of ours accuses nobody, and a restart forgets nothing.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, insert, select, update

from server.store.schema import SERVICE_INTERVALS
from server.store.spans import Spans
from server.times import MICROSECOND, micros

LONGEST_PAUSE = timedelta(seconds=60)
"""Marks farther apart do not show that the service was up between them: a stopped process wakes up again too."""

_UP = select(SERVICE_INTERVALS.c.started_at, SERVICE_INTERVALS.c.alive_until)


def load_uptime(connection: Connection, since: int) -> Spans:
    """Return when any node was up after `since`, microseconds."""
    rows = connection.execute(_UP.where(SERVICE_INTERVALS.c.alive_until > since))
    return Spans((max(since, row.started_at), row.alive_until) for row in rows)


def load_last_uptime(connection: Connection, now: int, length: int) -> Spans:
    """Return the last uptime, at least so long altogether, or all there is."""
    # An overloaded service is up in pieces, thousands a day: no more of the past is read than it takes.
    first = connection.execute(select(func.min(SERVICE_INTERVALS.c.started_at))).scalar()
    if first is None:
        return Spans()
    reach = max(length, 1)
    while True:
        found = load_uptime(connection, now - reach)
        if now - reach <= first or found.between(now - reach, now) >= length:
            return found
        reach *= 2


class Beats:
    """The service intervals of this process, one a node. Used by the writer thread alone."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[int, int]] = {}

    def interrupt(self) -> None:
        """End all intervals at their last mark that is durable; the next mark begins a new one."""
        self._running.clear()

    def mark(self, connection: Connection, node: str, now: datetime, longest_pause: timedelta) -> None:
        """Extend the node's interval to `now`, or open a new one: at the first mark, and after too long a pause."""
        alive = micros(now)
        started, until = self._running.get(node, (alive, alive))
        if alive - until > longest_pause // MICROSECOND:
            started = alive
        elif alive < until:
            return  # the clock was set back; the time up to `until` is counted already
        at = (SERVICE_INTERVALS.c.node == node, SERVICE_INTERVALS.c.started_at == started)
        changed = connection.execute(update(SERVICE_INTERVALS).where(*at).values(alive_until=alive))
        if not changed.rowcount:
            row = {"node": node, "started_at": started, "alive_until": alive}
            connection.execute(insert(SERVICE_INTERVALS), row)
        self._running[node] = (started, alive)
