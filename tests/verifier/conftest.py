"""Fewer examples while mutants are tested (docs/mutation.md).

TRIGPOINT_MUTATION=1 makes each property test short and repeatable. An ordinary run is as it is without this file.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

_EXAMPLES = 15


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cut every property test down; a profile would not do, since numbers that stand at a test win over it."""
    if os.environ.get("TRIGPOINT_MUTATION") != "1":
        return
    for item in items:
        test = getattr(item, "obj", None)
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if test is not None and own is not None and own.max_examples > _EXAMPLES:
            test._hypothesis_internal_use_settings = settings(
                own,
                max_examples=_EXAMPLES,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
