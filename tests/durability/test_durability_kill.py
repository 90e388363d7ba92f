"""SIGKILL under load: what was answered is there afterwards, whole and once; no challenge is good a second time."""

import asyncio
import random
from pathlib import Path

import pytest
from trigpoint.v1 import reason_pb2

from tests.durability import ledger, load
from tests.durability.load import Account
from tests.durability.servers import Nursery, ServerProcess, make_materials, write_config

pytestmark = pytest.mark.asyncio(loop_scope="session")

KILLS = 50
SEED = 20260701
HOSTS = 16
HOSTS_A_STREAM = 4
MOST_MESSAGES = 400
MOST_WRITES = 60


@pytest.mark.timeout(600)
async def test_what_was_answered_outlives_fifty_kills(tmp_path: Path, nursery: Nursery) -> None:
    moments = random.Random(SEED)
    store = tmp_path / "trigpoint.db"
    hosts = load.make_hosts(make_materials(tmp_path), tmp_path / "hosts", HOSTS)
    config = write_config(tmp_path, store)
    account = Account()
    stored: frozenset[bytes] = frozenset()
    torn = unanswered = 0
    server = await nursery.start(config)
    for number in range(KILLS):
        killing = _kill_at_message if number % 4 == 0 else _kill_at_write
        sent_before = len(account.sent)
        ends = await asyncio.gather(
            load.run_load(server, hosts, HOSTS_A_STREAM, account), killing(nursery, server, store, account, moments)
        )
        assert await nursery.ended(server) == -9
        assert set(ends[0]) <= {"UNAVAILABLE", load.CUT}
        torn += ledger.torn_frames(store) > 0
        server = await nursery.start(config)
        found = ledger.check_store(store, account)
        ledger.check_counters(store, hosts)
        assert stored <= found
        in_flight = [
            sent for sent in list(account.sent.values())[sent_before:] if sent.challenge not in account.answered
        ]
        unanswered += any(sent.challenge in found for sent in in_flight)
        # docs/protocol.md CH2: the stream's end spent them, whether or not they were stored.
        answered = [account.sent[challenge] for challenge in list(account.answered)[-1:]]
        for verdict in await load.replay(server, [*in_flight, *answered]):
            assert verdict.rejection.reason == reason_pb2.REASON_CHALLENGE_UNKNOWN
        stored = ledger.challenges(store)
        assert stored == found
    server.terminate()
    assert await nursery.ended(server) == 0
    assert len(account.answered) > KILLS
    # Some kills came between the first and the last write of a transaction, or between the commit and the answer.
    assert torn + unanswered


async def _kill_at_message(
    _nursery: Nursery, server: ServerProcess, _store: Path, account: Account, moments: random.Random
) -> None:
    left = moments.randrange(1, MOST_MESSAGES)
    reached = asyncio.Event()

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            server.kill()
            reached.set()

    account.happened = count
    await reached.wait()


async def _kill_at_write(
    nursery: Nursery, server: ServerProcess, store: Path, account: Account, moments: random.Random
) -> None:
    account.happened = lambda: None
    await nursery.kill_after_writes(server, store, moments.randrange(1, MOST_WRITES))
