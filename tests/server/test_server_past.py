"""A server whose store was rolled back does not answer from it (docs/protocol.md J8, A8): found by the anchor, by a
witness when the anchor was rolled back too, and by an agent when nobody else could know."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from server import pki
from server.config import load_config
from server.desk.past_check import RolledBackError
from server.spiffe import Peer
from server.times import utc_now
from tests.server.helpers import (
    AGENT,
    OFFICER,
    Running,
    attest,
    check_health,
    error_info,
    failure,
    init_folder,
    inventory,
    pdi,
    read,
    running_server,
)
from tests.witness.witness_world import MemoryLog, Witness, append_logs, make_witness
from verifier.evidence.attestation import derive_challenge
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.notes import Note, NoteKey, sign


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return init_folder(tmp_path / "server")


@asynccontextmanager
async def served(config: Path) -> AsyncIterator[Running]:
    async with running_server(config.parent, load_config(config)) as server:
        server.issued = issued_in(config.parent)
        yield server


def issued_in(folder: Path) -> dict[Peer, tuple[Path, Path]]:
    """Certificates that outlive a server."""
    for number, peer in enumerate((AGENT, OFFICER)):
        if not (folder / f"peer-{number}.pem").exists():
            pki.issue(folder, peer, f"peer-{number}")
    return {peer: (folder / f"peer-{n}.pem", folder / f"peer-{n}.key") for n, peer in enumerate((AGENT, OFFICER))}


def journal_key(config: Path) -> NoteKey:
    loaded = load_config(config)
    return NoteKey.of(loaded.journal.origin, pki.load_ed25519_key(loaded.journal.key))


def name_witness(config: Path, witness: Witness) -> None:
    append_logs(witness.config, journal_key(config))
    text = config.read_text()
    named = f'witnesses = [{{ url = "{witness.url}/", key = "{witness.key.vkey}" }}]'
    config.write_text(text.replace("seal_interval_s = 5.0", f"seal_interval_s = 0.05\n{named}"))


def seal_often(config: Path) -> None:
    config.write_text(config.read_text().replace("seal_interval_s = 5.0", "seal_interval_s = 0.05"))


def files_of_the_store(config: Path, *, anchor: bool) -> list[Path]:
    loaded = load_config(config)
    path = loaded.store.path
    return [*path.parent.glob(path.name + "*"), *([loaded.journal.anchor] if anchor else [])]


def copy(config: Path, *, anchor: bool) -> Path:
    kept = config.parent / "backup"
    kept.mkdir()
    for file in files_of_the_store(config, anchor=anchor):
        shutil.copy(file, kept)
    return kept


def restore(config: Path, kept: Path, *, anchor: bool) -> None:
    for file in files_of_the_store(config, anchor=anchor):
        file.unlink()
    for file in kept.iterdir():
        shutil.copy(file, config.parent)


async def newest(server: Running) -> Checkpoint:
    kept = await server.store.journal.newest()
    assert kept is not None
    return Checkpoint.parse(Note.parse(kept.note.encode()).text)


async def shown(server: Running, note: str) -> grpc.aio.AioRpcError:
    """What an agent hears that shows this checkpoint."""
    async with server.channel(AGENT) as channel:
        stream = attest(channel)
        message = inventory("host", pdi(1))
        message.inventory.checkpoint = note
        await stream.write(message)
        return await failure(stream.read())


async def challenge_note(server: Running, note: str = "") -> str:
    """Be challenged, and return the checkpoint that came with it."""
    async with server.channel(AGENT) as channel:
        stream = attest(channel)
        message = inventory("host", pdi(1))
        message.inventory.checkpoint = note
        await stream.write(message)
        return (await read(stream)).challenge.checkpoint


async def test_a_challenge_names_the_newest_checkpoint(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def same(size: int) -> bytes:
        return bytes([7]) * size

    async with served(config) as server, server.channel(AGENT) as channel:
        monkeypatch.setattr("server.intake.challenges.os.urandom", same)
        stream = attest(channel)
        await stream.write(inventory("host", pdi(1)))
        challenge = (await read(stream)).challenge
        note = Note.parse(challenge.checkpoint.encode())
        checkpoint = Checkpoint.parse(note.text)
        assert note.signed_by(journal_key(config))
        kept = await server.store.journal.by_hash(checkpoint.hash)
        assert kept is not None
        assert kept.note == challenge.checkpoint
        assert challenge.challenge == derive_challenge(same(32), checkpoint.hash)


async def test_a_restored_copy_is_refused_by_the_anchor(config: Path) -> None:
    async with served(config):
        pass
    kept = copy(config, anchor=False)
    async with served(config):
        pass
    size = Checkpoint.parse(Note.parse(load_config(config).journal.anchor.read_bytes()).text).size
    restore(config, kept, anchor=False)
    with pytest.raises(RolledBackError, match=rf"the anchor .* of {size} entries .* was restored from an old copy"):
        async with served(config):
            pass
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from server.main import main; main()", "serve", "--config", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ},
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 1
    assert out == b""
    assert b"cannot serve" in err
    assert b"docs/witness.md" in err


async def test_an_empty_store_is_refused_by_the_anchor(config: Path) -> None:
    async with served(config):
        pass
    for file in files_of_the_store(config, anchor=False):
        file.unlink()
    with pytest.raises(RolledBackError, match="the anchor"):
        async with served(config):
            pass


async def test_an_anchor_of_another_journal_is_said(config: Path) -> None:
    stranger = MemoryLog(origin=journal_key(config).name)
    load_config(config).journal.anchor.write_bytes(bytes(stranger.note()))
    with pytest.raises(RolledBackError, match=r"no checkpoint that journal\.key signed"):
        async with served(config):
            pass


async def test_a_copy_with_its_anchor_is_refused_by_a_witness(config: Path, tmp_path: Path) -> None:
    witness = make_witness(tmp_path / "witness")
    async with witness.serving():
        pass  # to learn its address
    name_witness(config, witness)
    async with witness.serving():
        async with served(config):
            pass
        kept = copy(config, anchor=True)
        async with served(config):
            pass
        restore(config, kept, anchor=True)
        with pytest.raises(RolledBackError, match=r"the witness witness\.example has a checkpoint of \d+ entries"):
            async with served(config):
                pass
    # A witness that is away cannot tell; then the server serves, and the agents must.
    async with served(config) as server, server.channel(OFFICER) as channel:
        assert (await check_health(channel)).status == health_pb2.HealthCheckResponse.SERVING


async def test_a_witness_that_comes_back_stops_a_server_that_was_rolled_back(config: Path, tmp_path: Path) -> None:
    witness = make_witness(tmp_path / "witness")
    async with witness.serving():
        pass
    name_witness(config, witness)
    async with served(config):
        pass
    kept = copy(config, anchor=True)
    async with witness.serving(), served(config):
        pass
    restore(config, kept, anchor=True)
    async with served(config) as server, server.channel(AGENT) as channel:
        stream = attest(channel)
        await stream.write(inventory("host", pdi(1)))
        await read(stream)
        await read(stream)
        async with witness.serving():
            error = await failure(stream.read())
        assert (error.code(), error_info(error).reason) == (grpc.StatusCode.UNAVAILABLE, "PAST_LOST")


async def test_when_both_were_rolled_back_an_agent_tells(config: Path) -> None:
    seal_often(config)
    async with served(config):
        pass
    kept = copy(config, anchor=True)
    async with served(config) as server:
        await server.store.mark_alive("node", utc_now())
        size, _ = await server.store.journal.state()
        while (await newest(server)).size < size:  # noqa: ASYNC110 - the sealer sets no asyncio.Event
            await asyncio.sleep(0.01)
        lost = await challenge_note(server)
    restore(config, kept, anchor=True)
    async with served(config) as server, server.channel(AGENT) as channel, server.channel(OFFICER) as other:
        assert (await check_health(other)).status == health_pb2.HealthCheckResponse.SERVING
        # Another agent is being served, and has a challenge open.
        stream = attest(channel)
        await stream.write(inventory("other", pdi(2)))
        await read(stream)
        await read(stream)

        error = await shown(server, lost)
        assert (error.code(), error_info(error).reason) == (grpc.StatusCode.UNAVAILABLE, "PAST_LOST")
        # Nobody gets a verdict any more, whatever he shows.
        assert error_info(await failure(stream.read())).reason == "PAST_LOST"
        assert error_info(await shown(server, "")).reason == "PAST_LOST"
        sample = server.app.telemetry.registry.get_sample_value
        assert sample("trigpoint_journal_past_lost") == 1
        assert (await check_health(other)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not server.store.committed


async def test_what_is_lost_for_good_goes_on_as_a_new_journal(config: Path) -> None:
    async with served(config):
        pass
    kept = copy(config, anchor=False)
    async with served(config) as server:
        old = await challenge_note(server)
    restore(config, kept, anchor=False)
    with pytest.raises(RolledBackError):
        async with served(config):
            pass
    begin_anew(config)
    async with served(config) as server:
        assert (await newest(server)).origin == "trigpoint.test/journal-2"
        # What agents have of the old journal accuses nobody; it stays what it is, a proof that something is missing.
        assert (await challenge_note(server, old)).startswith("trigpoint.test/journal-2\n")
    async with served(config):
        pass


def begin_anew(config: Path) -> None:
    text = config.read_text().replace('"journal.anchor"', '"journal-2.anchor"')
    config.write_text(text.replace(f'origin = "{journal_key(config).name}"', 'origin = "trigpoint.test/journal-2"'))


async def test_only_what_this_server_signed_accuses_it(config: Path) -> None:
    ours = journal_key(config)
    stranger = MemoryLog(origin=ours.name)
    async with served(config) as server:
        stands = await newest(server)
        key = pki.load_ed25519_key(load_config(config).journal.key)
        elsewhere = sign(Checkpoint("another.example", 10**9, bytes(32)).text, "another.example", key)
        for note in (
            bytes(sign(Checkpoint(ours.name, 10**9, bytes(32)).text, ours.name, stranger.key)).decode(),
            bytes(elsewhere).decode(),
            "nonsense",
            bytes(sign(stands.text, ours.name, key)).decode(),
        ):
            assert await challenge_note(server, note)
        too_long = await shown(server, "x" * 70_000)
        assert too_long.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert error_info(too_long).metadata["field"] == "inventory.checkpoint"
        # The same size with another root is a fork.
        forked = bytes(sign(Checkpoint(ours.name, stands.size, bytes(32)).text, ours.name, key)).decode()
        assert error_info(await shown(server, forked)).reason == "PAST_LOST"
