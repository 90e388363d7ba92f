"""A server's configuration makes nobody tell where they are oftener than their license says (docs/protocol.md K3)."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from trigpoint.v1 import attestation_pb2_grpc

from server.config import load_config
from tests.server import helpers
from tests.server.helpers import deployment, open_challenge
from tests.server.test_server_rearming import RARELY, answer, next_challenge
from tests.two_people import deploy

LICENSED, STRANGER = helpers.pdi(1), helpers.pdi(2)
EVERY_SECOND = "[attestation]\ninterval_s = 1"
SAID = (("trigpoint-dev-role", helpers.AGENT.path),)


@pytest.fixture(autouse=True)
def _refusals_bring_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused evidence and lapsed challenges bring new ones within this time, whatever the pace is."""
    monkeypatch.setattr("server.intake.stream.CHALLENGE_LIFE", timedelta(hours=1))


@contextlib.asynccontextmanager
async def asking_every_second(folder: Path, *, plaintext: bool) -> AsyncIterator[helpers.Stream]:
    """A stream to a server that is configured so, with one licensed device on record."""
    path = helpers.init_folder(folder)
    text = path.read_text().replace("[attestation]", EVERY_SECOND)
    if plaintext:
        before, rest = text.split("[tls]")
        text = "plaintext_on_loopback = true\n" + before + "[store]" + rest.split("[store]")[1]
    path.write_text(text)
    async with helpers.running_server(folder, load_config(path)) as running:
        await deploy(running.store, [deployment(LICENSED, RARELY)], datetime.now(UTC))
        address = running.bound.address
        channel = grpc.aio.insecure_channel(address) if plaintext else running.channel(helpers.AGENT)
        async with channel:
            yield attestation_pb2_grpc.AttestationServiceStub(channel).Attest(metadata=SAID)


async def test_with_tls_a_license_is_asked_as_it_says_and_a_stranger_as_configured(tmp_path: Path) -> None:
    async with asking_every_second(tmp_path / "server", plaintext=False) as stream:
        await answer(stream, "licensed", await open_challenge(stream, "licensed", LICENSED))
        await answer(stream, "stranger", await open_challenge(stream, "stranger", STRANGER))
        for _ in range(2):  # the licensed host's turn would have come twice meanwhile
            host_id, challenge = await next_challenge(stream)
            assert host_id == "stranger"
            await answer(stream, host_id, challenge)


async def test_on_loopback_without_tls_the_configuration_counts(tmp_path: Path) -> None:
    async with asking_every_second(tmp_path / "server", plaintext=True) as stream:
        first = await open_challenge(stream, "licensed", LICENSED)
        await answer(stream, "licensed", first)
        host_id, second = await next_challenge(stream)
        assert (host_id, second != first) == ("licensed", True)
