"""The disk fails under load: callers are told so, nothing false is said or found, and it passes without help."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.durability import ledger, load
from tests.durability.disks import Full, NoWrites, Trouble, make_read_only, make_writable, small_disk
from tests.durability.load import Account, Host
from tests.durability.servers import LOOK_EVERY_S, Nursery, ServerProcess, make_materials, write_config

pytestmark = pytest.mark.asyncio(loop_scope="session")

CADENCE_S = 2
GRACE_S = 1
MARKS_FAILED = 50
"""A mark comes every 0.1 s: the fault outlasts cadence + grace."""

ON_ITS_WAY_US = 500_000
"""A mark that was on its way to the writer when the fault ended says when it set out."""

LITTLE_BYTES = 64 << 10
SWEEP_FAILURES = 'trigpoint_task_failures_total{task="sweep"}'


@pytest.mark.parametrize("trouble", [Full(), Full(LITTLE_BYTES), NoWrites()], ids=["full", "nearly-full", "no-writes"])
async def test_a_failing_disk_makes_verdicts_late_and_nothing_else(
    tmp_path: Path, nursery: Nursery, trouble: Trouble
) -> None:
    with contextlib.ExitStack() as stack:
        # The limit needs no disk of its own, and so nobody's leave to mount one.
        disk = stack.enter_context(small_disk(tmp_path / "disk")) if isinstance(trouble, Full) else tmp_path
        store = disk / "trigpoint.db"
        hosts = load.make_hosts(make_materials(tmp_path), tmp_path / "hosts", 8)
        server = await nursery.start(write_config(tmp_path, store))
        await load.import_deployments(server, hosts, CADENCE_S, GRACE_S)
        account = Account()

        account.at(40, lambda: trouble.begin(server, disk))
        await _attest_until_refused(server, hosts, account)
        await server.wait_for_health(serving=False)
        failed_at = time.time_ns() // 1000
        failures = (await server.metrics()).get(SWEEP_FAILURES, 0.0)
        await server.wait_for_metric(SWEEP_FAILURES, above=failures + MARKS_FAILED)
        answered = len(account.answered)
        await _attest_until_refused(server, hosts, account)
        ledger.check_store(store, account)
        assert len(account.answered) == answered
        assert [event["serving"] for event in server.events("health")] == [True, False]

        works_at = time.time_ns() // 1000
        trouble.end(server, disk)
        await server.wait_for_health(serving=True)
        await server.wait_for_metric("trigpoint_sweep_timestamp_seconds", above=works_at / 1e6)
        assert ledger.silent_ever(store) == set()
        assert not ledger.up_between(store, failed_at, works_at - ON_ITS_WAY_US)
        account.at(40, server.terminate)
        await load.run_load(server, hosts, 2, account)
        assert await nursery.ended(server) == 0
        assert ledger.silent_ever(store) == set()
        assert len(ledger.check_store(store, account)) >= answered + 40


async def test_silence_counts_again_after_the_fault(tmp_path: Path, nursery: Nursery) -> None:
    store = tmp_path / "trigpoint.db"
    hosts = load.make_hosts(make_materials(tmp_path), tmp_path / "hosts", 2)
    server = await nursery.start(write_config(tmp_path, store))
    await load.import_deployments(server, hosts, 1, 0)
    account = Account()
    trouble = NoWrites()
    account.at(8, lambda: trouble.begin(server, tmp_path))
    await _attest_until_refused(server, hosts, account)
    trouble.end(server, tmp_path)
    everyone = {gpu.device.pdi for host in hosts for gpu in host.gpus}
    while ledger.silent_ever(store) != everyone:  # noqa: ASYNC110 - it changes in another process
        await asyncio.sleep(LOOK_EVERY_S)
    server.terminate()
    assert await nursery.ended(server) == 0


async def test_a_read_only_store_is_not_served(tmp_path: Path, nursery: Nursery) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = disk / "trigpoint.db"
        hosts = load.make_hosts(make_materials(tmp_path), tmp_path / "hosts", 2)
        config = write_config(tmp_path, store)
        server = await nursery.start(config)
        account = Account()
        account.at(8, server.terminate)
        await load.run_load(server, hosts, 1, account)
        assert await nursery.ended(server) == 0

        make_read_only(disk)
        server = await nursery.start(config)
        assert server.address == ""
        assert await nursery.ended(server) == 1
        (event,) = server.events("cannot serve")
        assert str(store) in event["error"]

        make_writable(disk)
        server = await nursery.start(config)
        account.at(8, server.terminate)
        await load.run_load(server, hosts, 1, account)
        assert await nursery.ended(server) == 0
        ledger.check_store(store, account)


async def _attest_until_refused(server: ServerProcess, hosts: Sequence[Host], account: Account) -> None:
    ends = await load.run_load(server, hosts, 2, account)
    assert "UNAVAILABLE" in ends
    assert set(ends) <= {"UNAVAILABLE", load.CUT}
