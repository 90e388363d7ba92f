"""Bounds on what a landmark does for strangers: a token bucket, pure, with time passed in."""

from dataclasses import dataclass, field

_NS_PER_S = 1_000_000_000


@dataclass(slots=True)
class Rate:
    """At most `per_second` takes in any second, after a burst of as many."""

    per_second: int
    _level_ns: int = field(default=0, init=False)
    _at_ns: int | None = field(default=None, init=False)

    def take(self, now_ns: int) -> bool:
        """Take one, if there is one; `now_ns` is monotonic.

        Counted in nanoseconds of refill, so that no rounding adds up.
        """
        if self._at_ns is None:
            self._level_ns = _NS_PER_S
        else:
            self._level_ns = min(_NS_PER_S, self._level_ns + max(0, now_ns - self._at_ns))
        self._at_ns = now_ns
        price_ns = _NS_PER_S // self.per_second
        if self._level_ns < price_ns:
            return False
        self._level_ns -= price_ns
        return True
