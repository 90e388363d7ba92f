"""A fake server and a command line that talks to it."""

from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from console.cli import app
from tests.console.helpers import FakeServices, ServiceThread

Trigpoint = Callable[..., Result]


@pytest.fixture(autouse=True)
def _home_without_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
def target(services: FakeServices) -> Iterator[str]:
    with ServiceThread(services) as running:
        yield running.target


@pytest.fixture
def trigpoint(target: str) -> Trigpoint:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--server", target, "--plaintext"])

    return run
