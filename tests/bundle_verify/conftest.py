"""The honest case, once: it takes a board of devices and two attestations."""

import pytest

from tests.bundle_verify.case_bundle_world import BundleWorld


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> BundleWorld:
    return BundleWorld(tmp_path_factory.mktemp("honest"))
