"""The log must never stop the service."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from server.telemetry import configure_logging


class FullDisk(io.StringIO):
    """A stream on a disk that is full, for as long as `full` is true."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)

    def flush(self) -> None:
        if self.full:
            raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_full_disk_under_the_log_loses_events_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    stream = FullDisk()
    configure_logging(stream)
    structlog.get_logger().info("lost")
    logging.getLogger("library").warning("lost too")
    stream.full = False
    structlog.get_logger().info("kept")
    logging.getLogger("library").warning("kept too")
    lines = stream.getvalue().splitlines()
    assert ["kept" in line for line in lines] == [True, True]
    assert capsys.readouterr().err == ""  # logging prints its own failures there
