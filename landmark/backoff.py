"""How long to wait before the next try: exponential, with jitter. It decides times only; the caller sleeps."""

import random
from typing import Final

FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0


class Backoff:
    """Delays in seconds: each is drawn from the upper half of a bound that doubles from `first_s` to `longest_s`."""

    def __init__(self, rng: random.Random, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._rng = rng
        self._first_s = first_s
        self._longest_s = longest_s
        self._bound_s = first_s

    def reset(self) -> None:
        """Begin anew; something went well."""
        self._bound_s = self._first_s

    def next_s(self) -> float:
        """Return the next delay."""
        bound_s = self._bound_s
        self._bound_s = min(2 * bound_s, self._longest_s)
        return self._rng.uniform(bound_s / 2, bound_s)
