"""How many Attest streams are open at once: in all, of one licensee, of one agent.

One agent, and one licensee with all its agents, can use up only its own share. Where the whole is used up, the service
is not up for those that it turns away: that is our fault, and the caller is told, so that no device is called silent.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from server.intake.pipeline import BusyError, Reporter

LICENSEE_SHARE = 4
"""No licensee takes more than a fourth of all streams."""

_RETRY_AFTER_S = 30.0


@dataclass(slots=True)
class Admission:
    """Counts streams.

    Attributes:
        max_streams: In all.
        max_per_agent: Of one agent; a relay needs one, and one more while it reconnects.
        on_overload: Called when somebody is turned away for want of room.
    """

    max_streams: int
    max_per_agent: int
    on_overload: Callable[[], None]
    _total: int = 0
    _by_agent: Counter[tuple[str, str]] = field(default_factory=Counter)
    _by_licensee: Counter[str] = field(default_factory=Counter)

    @contextlib.contextmanager
    def stream(self, reporter: Reporter) -> Iterator[None]:
        """Count a stream while it runs.

        Raises:
            BusyError: There is no room for it.
        """
        agent = (reporter.licensee, reporter.agent)
        if self._by_agent[agent] >= self.max_per_agent:
            raise BusyError(f"this agent has {self.max_per_agent} streams open", _RETRY_AFTER_S)
        if self._by_licensee[reporter.licensee] >= max(self.max_per_agent, self.max_streams // LICENSEE_SHARE):
            raise BusyError("this licensee's agents have too many streams open", _RETRY_AFTER_S)
        if self._total >= self.max_streams:
            self.on_overload()
            raise BusyError("too many streams are open", _RETRY_AFTER_S)
        self._total += 1
        self._by_agent[agent] += 1
        self._by_licensee[reporter.licensee] += 1
        try:
            yield
        finally:
            self._total -= 1
            self._by_agent -= Counter([agent])  # counts that reach zero are forgotten
            self._by_licensee -= Counter([reporter.licensee])
