"""A real server in this process, and people at its command line. No board, no landmark: only what is on record."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from structlog.testing import capture_logs

from server.config import load_config
from tests.people import People, issue_certificates
from tests.server.helpers import init_folder, running_server

WHY = "--reason", "application 2026/118"
TERMS = ("--licensee", "Example Cloud", "--valid-from", "2026-01-01", "--valid-until", "2035-11-30")
CLOCKS = ("--cadence", "24h", "--grace", "6h")
LICENSE, SITE = "D1234567", "D1234567/singapore-1"
ONE, TWO = "4a1f0c22d85e9b01", "4a1f0c22d85e9b02"


@contextlib.asynccontextmanager
async def real_desk(folder: Path) -> AsyncIterator[People]:
    """Run the server; everybody has a certificate. Its log is kept out of what people read."""
    config = load_config(init_folder(folder))
    issue_certificates(folder)
    with capture_logs():
        async with running_server(folder, config) as running:
            yield People(running.bound.address, folder)


async def draft_license(people: People, number: str = LICENSE, *more: str) -> None:
    """Draft a license that asks for presence at its site."""
    await people.does("ann", "license", "create", number, *TERMS, *CLOCKS, "--presence", "site", *more, *WHY)


async def deployed(people: People) -> None:
    """Put a license in force, with a site and two devices."""
    await draft_license(people)
    disc = "--disc", "1.3521,103.8198,25"
    await people.does("ann", "site", "create", SITE, "--name", "Singapore 1", *disc, *WHY)
    await people.does("ann", "deployment", "create", ONE, TWO, "--to", SITE, *WHY)
    await people.done_by_two("license", "activate", LICENSE, "--reason", "granted")
