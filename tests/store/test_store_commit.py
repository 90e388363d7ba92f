import asyncio
import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from server.store import AttestationRecord, Store, StoreUnavailableError, Unwritten, sqlite
from server.store.framing import unpack
from tests.store.store_world import (
    HOUR,
    START,
    Gate,
    chain,
    deployment,
    device,
    finding,
    fix,
    load,
    pdi,
    record,
    signed,
)
from tests.two_people import deploy
from verifier.continuity import DeviceState
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.evidence.spdm import Counters
from verifier.place.ranging import VoidRange
from verifier.units import LandmarkKeyId
from verifier.verdict import Finding, Rejection, Standing


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as other:
        row = other.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0])


async def test_commit_is_durable_when_it_returns(store: Store, store_path: Path) -> None:
    await store.commit([record(START, [device(1), device(2)])])
    assert count(store_path, "attestations") == 1
    assert count(store_path, "device_verdicts") == 2


async def test_empty_batch_is_no_change(store: Store) -> None:
    await store.commit([])
    assert await store.change_number() == 0


async def test_writer_flushes_every_transaction_to_a_wal(store: Store, store_path: Path) -> None:
    def settings(connection: Connection) -> tuple[object, object, object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        one, two, three = (connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names)
        return one, two, three

    assert await store._write(settings) == ("wal", 2, 1)
    assert await store._read(lambda c: c.exec_driver_sql("PRAGMA query_only").scalar()) == 1
    assert store_path.with_suffix(".db-wal").exists()


async def test_concurrent_commits_share_a_transaction(store: Store, store_path: Path) -> None:
    gate = Gate(store)
    transactions: list[int] = []
    write = store._writer._write

    def counting(connection: Connection, records: Sequence[AttestationRecord]) -> Unwritten:
        transactions.append(len(records))
        return write(connection, records)

    store._writer._write = counting
    commits = [asyncio.create_task(store.commit([record(START + HOUR * n, [device(n)])])) for n in range(1, 21)]
    await asyncio.sleep(0)  # every task has put its job
    assert not any(commit.done() for commit in commits)
    await gate.open()
    await asyncio.gather(*commits)
    assert transactions == [20]
    assert count(store_path, "devices") == 20


async def test_group_is_bounded(store: Store, store_path: Path) -> None:
    gate = Gate(store)
    batches = [[record(START, []) for _ in range(100)] for _ in range(5)]
    commits = [asyncio.create_task(store.commit(batch)) for batch in batches]
    await asyncio.sleep(0)
    await gate.open()
    await asyncio.gather(*commits)
    assert count(store_path, "attestations") == 500


async def test_repeated_challenge_fails_only_its_record(store: Store, store_path: Path) -> None:
    spent = record(START, [device(1)])
    await store.commit([spent])
    again = record(START + HOUR, [device(1, standing=Standing.VIOLATION)], challenge=spent.verdict.challenge)
    gate = Gate(store)
    mixed = asyncio.create_task(store.commit([again, record(START, [device(2)])]))
    other = asyncio.create_task(store.commit([record(START, [device(3)])]))
    await asyncio.sleep(0)
    await gate.open()
    await other
    assert await mixed == Unwritten(spent=frozenset({spent.verdict.challenge}))
    assert count(store_path, "attestations") == 3
    kept = await store.get_device(pdi(1))
    assert kept is not None
    assert (kept.standing, kept.last_report_at) == (Standing.COMPLIANT, START)


async def test_challenge_twice_in_one_batch_is_spent_once(store: Store) -> None:
    first = record(START, [device(1)])
    second = record(START, [device(2)], challenge=first.verdict.challenge)
    assert (await store.commit([first, second])).spent == {first.verdict.challenge}
    assert await store.get_device(pdi(1)) is not None
    assert await store.get_device(pdi(2)) is None


async def test_record_that_cannot_be_written_takes_no_other_with_it(store: Store) -> None:
    gate = Gate(store)
    good = asyncio.create_task(store.commit([record(START, [device(1)])]))
    bad = asyncio.create_task(store.commit([record(START, [device(2)], host_id="\udc80")]))
    also_good = asyncio.create_task(store.commit([record(START, [device(3)])]))
    await asyncio.sleep(0)
    await gate.open()
    await asyncio.gather(good, also_good)
    with pytest.raises(UnicodeEncodeError):
        await bad
    assert await store.get_device(pdi(2)) is None
    assert await store.get_device(pdi(3)) is not None


async def test_locked_database_is_our_fault_and_passes(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 1)
    store = await Store.open(store_path)
    with closing(sqlite3.connect(store_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError):
            await store.commit([record(START, [device(1)])])
        other.execute("ROLLBACK")
    assert await store.get_device(pdi(1)) is None
    await store.commit([record(START, [device(1)])])
    assert await store.get_device(pdi(1)) is not None
    await store.close()


async def test_closed_store_refuses(store_path: Path) -> None:
    store = await Store.open(store_path)
    pending = asyncio.create_task(store.commit([record(START, [device(1)])]))
    await asyncio.sleep(0)
    await store.close()
    await pending  # what was begun is finished
    with pytest.raises(StoreUnavailableError):
        await store.commit([record(START, [device(2)])])
    with pytest.raises(StoreUnavailableError):
        await store.get_device(pdi(1))
    assert count(store_path, "attestations") == 1


async def test_evidence_is_kept_as_it_came(store: Store, store_path: Path) -> None:
    kept = record(START, [device(1), device(2)])
    await store.commit([kept])
    with closing(sqlite3.connect(store_path)) as other:
        claims, reports = other.execute("SELECT claims, reports FROM evidence").fetchone()
        preimage, rejection, *hashes = other.execute(
            "SELECT preimage, rejection, claims_sha256, reports_sha256 FROM attestations"
        ).fetchone()
    assert (claims, preimage, rejection) == (b"claims", bytes(64), None)
    assert hashes == [hashlib.sha256(claims).digest(), hashlib.sha256(reports).digest()]
    expected = [part for report in kept.attestation.reports for part in (report.chain_id, report.spdm)]
    assert unpack(reports) == tuple(expected)


async def test_what_a_verdict_says_of_each_device_is_kept(store: Store, store_path: Path) -> None:
    void = VoidRange(pdi(1), LandmarkKeyId(b"\xab" * 32), Reason.TOO_FEW_ROUNDS, "7 rounds")
    shown = replace(device(1, finding(Reason.RANGE_VOID, "x")), void_ranges=(void,))
    await store.commit([record(START, [shown])])
    with closing(sqlite3.connect(store_path)) as other:
        row = other.execute("SELECT standing, findings, fix, void_ranges FROM device_verdicts").fetchone()
    assert row == (
        Standing.COMPLIANT,
        '[["RANGE_VOID","NOTICE","x"]]',
        None,
        f'[["{"ab" * 32}","TOO_FEW_ROUNDS","7 rounds"]]',
    )


async def test_rejected_attestation_is_kept_and_touches_no_device(store: Store, store_path: Path) -> None:
    rejection = Rejection(Reason.CLAIMS_MALFORMED, "no")
    await store.commit([record(START, [], rejection=rejection)])
    assert count(store_path, "attestations") == 1
    assert await store.change_number() == 0


async def test_latest_state_goes_by_arrival(store: Store) -> None:
    newer = record(START + HOUR, [device(1, located=fix())], host_id="new-host")
    older = record(START, [device(1, finding(Reason.RANGE_VOID), standing=Standing.UNPROVEN)], host_id="old-host")
    await store.commit([newer])
    await store.commit([older])
    kept = await store.get_device(pdi(1))
    assert kept is not None
    assert (kept.host_id, kept.standing, kept.findings) == ("new-host", Standing.COMPLIANT, ())
    assert (kept.last_report_at, kept.last_proof_at) == (START + HOUR, START + HOUR)
    assert kept.last_attestation == newer.verdict.challenge
    assert kept.last_fix == fix()


async def test_proof_outlives_reports_without_one(store: Store) -> None:
    await store.commit([record(START, [device(1, located=fix())]), record(START + HOUR, [device(1)])])
    kept = await store.get_device(pdi(1))
    assert kept is not None
    assert (kept.last_report_at, kept.last_proof_at, kept.last_fix) == (START + HOUR, START, None)


async def test_switch_has_a_row_and_no_standing(store: Store) -> None:
    await store.commit([record(START, [device(9, kind=DeviceKind.SWITCH)])])
    kept = await store.get_device(pdi(9))
    assert kept is not None
    assert (kept.kind, kept.standing) == (DeviceKind.SWITCH, None)


async def test_inputs_hold_what_was_accepted(store: Store) -> None:
    await deploy(store, [deployment(1), deployment(2)], START)
    largest = Counters(3, 2**64 - 1)
    await store.commit([record(START, [device(1, counters=largest, board=[pdi(9), pdi(8)]), device(3)])])
    loaded = await load(store, pdi(1), pdi(2), pdi(3), pdi(4))
    deployments, last = loaded.deployments, loaded.last
    assert set(deployments) == {pdi(1), pdi(2)}
    assert deployments[pdi(1)].license.revision == 1
    assert deployments[pdi(1)].region == deployment(1).region
    assert last == {
        pdi(1): DeviceState(signed(largest), frozenset({pdi(8), pdi(9)})),
        pdi(3): DeviceState(),
    }
    chains = await store.load_chains([chain(1)[0], chain(2)[0]])
    assert chains == {chain(1)[0]: chain(1)[1]}


async def test_two_stores_on_one_file(store: Store, store_path: Path) -> None:
    other = await Store.open(store_path)
    try:
        await store.commit([record(START, [device(1, counters=Counters(2, 20))])])
        assert (await load(other, pdi(1))).last[pdi(1)].highest == signed(Counters(2, 20))
        repeated = record(START, [device(2)])
        await store.commit([repeated])
        assert (await other.commit([repeated])).spent == {repeated.verdict.challenge}
        before = await other.records_number()
        await deploy(store, [deployment(1)], START)
        assert await other.records_number() > before
        numbers = [change.change_number for change in (await other.changes_after(0)).devices]
        assert numbers == sorted(set(numbers))
    finally:
        await other.close()


async def test_two_workers_with_one_state_do_not_both_pass(store: Store, store_path: Path) -> None:
    """Compare and set: what a verdict was based on must still stand in its commit."""
    other = await Store.open(store_path)
    try:
        await store.commit([record(START, [device(1, counters=Counters(2, 20))])])
        last = (await load(store, pdi(1))).last
        later = START + HOUR
        one, two = (record(later, [device(1, counters=Counters(2, 21))], based_on=last) for _ in range(2))
        unwritten = await asyncio.gather(store.commit([one]), other.commit([two]))
        challenges = {one.verdict.challenge, two.verdict.challenge}
        stale = unwritten[0].stale | unwritten[1].stale
        assert (len(stale), stale < challenges) == (1, True)
        assert count(store_path, "attestations") == 2
        # Made again from what stands now, it passes the comparison.
        now = (await load(other, pdi(1))).last
        again = record(later, [device(1, counters=Counters(2, 21))], based_on=now)
        assert await other.commit([again]) == Unwritten()
    finally:
        await other.close()


async def test_a_stale_record_leaves_nothing_behind_and_takes_no_other_with_it(store: Store, store_path: Path) -> None:
    await store.commit([record(START, [device(1, board=[pdi(9)])])])
    stale = record(START + HOUR, [device(2), device(1, standing=Standing.VIOLATION)])
    good = record(START + HOUR, [device(3)])
    assert await store.commit([stale, good]) == Unwritten(stale=frozenset({stale.verdict.challenge}))
    assert count(store_path, "attestations") == 2
    assert await store.get_device(pdi(2)) is None
    kept = await store.get_device(pdi(1))
    assert kept is not None
    assert (kept.standing, kept.last_report_at) == (Standing.COMPLIANT, START)


async def test_of_two_reports_of_one_device_in_one_group_the_second_is_stale(store: Store) -> None:
    gate = Gate(store)
    first = asyncio.create_task(store.commit([record(START, [device(1, counters=Counters(1, 1))])]))
    second = record(START + HOUR, [device(1, counters=Counters(1, 2))])
    behind = asyncio.create_task(store.commit([second]))
    await asyncio.sleep(0)
    await gate.open()
    assert await first == Unwritten()
    assert await behind == Unwritten(stale=frozenset({second.verdict.challenge}))


def cloned(number: int) -> Finding:
    return finding(Reason.IDENTITY_CLONED, f"clone {number}")


@pytest.mark.parametrize("apart", [timedelta(0), -HOUR])
async def test_what_outlasts_the_order_of_arrival_is_shown(store: Store, apart: timedelta) -> None:
    """Of two reports of one device the second to be committed arrived at the same time, or earlier."""
    await deploy(store, [deployment(1)], START)
    await store.commit([record(START + HOUR, [device(1)])])
    odd = device(1, cloned(1), finding(Reason.LOCATION_UNPROVEN), standing=Standing.UNPROVEN)
    await store.commit([record(START + HOUR + apart, [odd])])
    kept = await store.get_device(pdi(1))
    assert kept is not None
    reasons = {each.finding.reason for each in kept.findings}
    assert Reason.IDENTITY_CLONED in reasons
    # Place is the newest report's to tell.
    assert (Reason.LOCATION_UNPROVEN in reasons) is (apart == timedelta(0))
    assert (kept.standing, kept.last_report_at) == (Standing.UNPROVEN, START + HOUR)


async def test_evidence_over_every_budget_does_not_fill_the_disk(store: Store, store_path: Path) -> None:
    refused = record(START, [], rejection=Rejection(Reason.LIMIT_EXCEEDED, "too much"))
    large = replace(refused, attestation=replace(refused.attestation, claims=bytes(10_000_000)))
    await store.commit([large])
    with closing(sqlite3.connect(store_path)) as other:
        assert other.execute("SELECT count(*) FROM evidence").fetchone() == (0,)
        row = other.execute("SELECT claims_sha256, rejection_detail FROM attestations").fetchone()
    assert row == (hashlib.sha256(bytes(10_000_000)).digest(), "too much")
