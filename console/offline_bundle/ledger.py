"""What a check of a bundle came to, point by point: shown, contradicted, or not to be recomputed from what is here."""

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from console.offline_bundle.refusal import BundleRefusedError, NotHereError, Part
from verifier.errors import UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_US = 253_402_300_799_999_999
"""The last microsecond that a datetime holds."""


@enum.unique
class State(enum.StrEnum):
    """What became of one point."""

    SHOWN = "shown"
    REFUSED = "refused"
    OPEN = "not recomputed"


@dataclass(frozen=True, slots=True)
class Check:
    """One point.

    Attributes:
        part: Of the bundle.
        state: What became of it.
        text: What was checked, or what is wrong, or why it could not be recomputed.
    """

    part: Part
    state: State
    text: str


@dataclass(slots=True)
class Ledger:
    """Collects points in the order in which they were checked."""

    checks: list[Check] = field(default_factory=list)

    def shown(self, part: Part, text: str) -> None:
        """Note what holds."""
        self.checks.append(Check(part, State.SHOWN, text))

    def refused(self, part: Part, text: str) -> None:
        """Note what does not."""
        self.checks.append(Check(part, State.REFUSED, text))

    def open(self, part: Part, text: str) -> None:
        """Note what could not be recomputed, and why."""
        self.checks.append(Check(part, State.OPEN, text))

    @contextmanager
    def point(self, part: Part, subject: str) -> Iterator[None]:
        """Check one thing: what it raises is noted under its subject, and the next thing is checked all the same."""
        try:
            yield
        except NotHereError as error:
            self.open(part, f"{subject}: {error}")
        except BundleRefusedError as error:
            self.refused(part, f"{subject}: {error.message}")
        except UsageError as error:
            self.refused(part, f"{subject}: {error}")
        except OverflowError as error:  # sums of times and numbers that each are in range
            self.refused(part, f"{subject}: a number is out of range ({error})")


def moment(time_us: int) -> datetime:
    """Return a time of the store, aware; raises `UsageError` when no calendar has it."""
    if not 0 <= time_us <= _LATEST_US:
        raise UsageError(f"{time_us} is no time")
    return _EPOCH + timedelta(microseconds=time_us)


def told(time_us: int) -> str:
    """Return a time for people."""
    return f"{moment(time_us):%Y-%m-%d %H:%M:%S} UTC"
