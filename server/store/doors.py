"""How a door of the store reads and writes: the store hands it these two."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

Result = TypeVar("Result")


class Reads(Protocol):
    """Runs a query in one read transaction."""

    async def __call__(self, query: Callable[[Connection], Result], /) -> Result:
        """Return what the query returns."""


class Writes(Protocol):
    """Runs a change in one transaction, which is durable when it returns and undone when it raises."""

    async def __call__(self, change: Callable[[Connection], Result], /, *, changes_devices: bool = True) -> Result:
        """Return what the change returns; `changes_devices` unset: nobody need look at devices again."""
