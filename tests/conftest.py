"""What all tests share."""

import signal
from pathlib import Path

import pytest

ALONE = frozenset(
    {"agent", "benchmarks", "durability", "end_to_end", "firmware", "landmark", "network_delay", "scenarios", "witness"}
)
"""Folders whose tests look at the clock or start many processes: nothing else may run beside them."""


def pytest_configure() -> None:
    """Undo an ignored SIGINT.

    A shell starts background jobs with SIGINT ignored, children inherit that, and tests that end a command by Ctrl-C
    would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that run alone; `make test` runs the others two at a time first."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.path.relative_to(here).parts[0] in ALONE:
            item.add_marker(pytest.mark.alone)
