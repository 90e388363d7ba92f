"""Raw evidence that stands for nothing is removed, and nothing else (docs/protocol.md K1)."""

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest

from server.store import AttestationRecord, Store, retention
from server.store.case_types import CaseAction, CaseFilter, CaseRef, CaseWork
from server.store.retention import KeepReason, RetentionOutcome
from server.times import micros
from tests.store.store_world import HOUR, START, device, finding, fix, pdi, record
from verifier.errors import Reason
from verifier.evidence.claims import PROFILE
from verifier.journal.items import REMOVED, Secrets
from verifier.units import Challenge
from verifier.verdict import DeviceVerdict, Rejection, Standing

LATER = START + timedelta(days=100)


def attested(hour: float, *devices: DeviceVerdict, rejection: Rejection | None = None) -> AttestationRecord:
    """A record whose claims name its devices, as real ones do."""
    made = record(START + hour * HOUR, devices, rejection=rejection)
    claims = {
        10: made.verdict.challenge,
        265: PROFILE,
        -70001: "host-1",
        -70002: 0,
        -70003: [each.pdi for each in devices] or [pdi(1)],
        -70004: [],
    }
    return replace(made, attestation=replace(made.attestation, claims=cbor2.dumps(claims, canonical=True)))


def proven(number: int) -> DeviceVerdict:
    return device(number, located=fix())


def unproven(number: int) -> DeviceVerdict:
    return device(number, finding(Reason.LOCATION_UNPROVEN, "x"), standing=Standing.UNPROVEN)


def moved(number: int) -> DeviceVerdict:
    return device(number, finding(Reason.BOARD_CHANGED, "x"), standing=Standing.VIOLATION)


async def commit(store: Store, records: Sequence[AttestationRecord]) -> list[Challenge]:
    """One after the other, each on what the one before left."""
    last: dict[bytes, Any] = {}
    for each in records:
        based_on = {d.pdi: last[d.pdi] for d in each.verdict.devices if d.pdi in last}
        unwritten = await store.commit([replace(each, based_on=based_on)])
        assert not unwritten.stale
        last.update({d.pdi: d.state for d in each.verdict.devices})
    return [each.verdict.challenge for each in records]


async def remove(store: Store, before: datetime = LATER, *, dry_run: bool = False) -> RetentionOutcome:
    return await store.retention.remove(before, LATER, by="admin/eve", reason="disk", dry_run=dry_run)


def left(path: Path) -> set[bytes]:
    with closing(sqlite3.connect(path)) as store:
        return {challenge for (challenge,) in store.execute("SELECT challenge FROM evidence")}


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as store:
        return list(store.iterdump())


async def story(store: Store) -> list[Challenge]:
    """What is removable: 1, 3 and 6."""
    return await commit(
        store,
        [
            attested(0, proven(1)),  # the first: a standing
            attested(1, proven(1)),
            attested(2, unproven(1)),  # a finding opens
            attested(3, unproven(1)),
            attested(4, proven(1)),  # and ends
            attested(5, proven(1)),  # the last proof
            attested(6, device(1)),
            attested(7, device(1)),  # the newest
        ],
    )


async def test_what_stands_for_something_is_kept(store: Store, store_path: Path) -> None:
    told = await story(store)
    sizes = {c: n for c, n in _sizes(store_path).items() if c in {told[1], told[3], told[6]}}
    outcome = await remove(store)
    assert outcome == RetentionOutcome(
        3,
        sum(sizes.values()),
        {KeepReason.TRANSITION: 3, KeepReason.OPEN_CASE: 0, KeepReason.LAST_PROOF: 1, KeepReason.NEWEST: 1},
    )
    assert left(store_path) == {told[k] for k in (0, 2, 4, 5, 7)}
    # The attestations, with hashes and verdicts, stay; a second run has nothing to do.
    with closing(sqlite3.connect(store_path)) as other:
        assert other.execute("SELECT count(*) FROM attestations").fetchone() == (8,)
        assert other.execute("SELECT count(*) FROM device_verdicts").fetchone() == (8,)
    assert (await remove(store)).removed == 0


def _sizes(path: Path) -> dict[bytes, int]:
    with closing(sqlite3.connect(path)) as store:
        return dict(store.execute("SELECT challenge, length(claims) + length(reports) + length(basis) FROM evidence"))


async def test_what_is_young_is_kept(store: Store, store_path: Path) -> None:
    told = await story(store)
    outcome = await remove(store, START + 3 * HOUR)  # 3 itself is young
    assert (outcome.removed, sum(outcome.kept.values())) == (1, 2)
    assert left(store_path) == set(told) - {told[1]}


async def test_a_dry_run_says_the_same_and_changes_nothing(store: Store, store_path: Path) -> None:
    await story(store)
    before, size = dump(store_path), await store.journal.state()
    tried = await remove(store, dry_run=True)
    assert dump(store_path) == before
    assert await store.journal.state() == size
    assert await remove(store) == tried
    assert tried.removed == 3
    assert dump(store_path) != before


async def test_a_removal_is_journaled_with_who_and_why(store: Store, store_path: Path) -> None:
    told = await story(store)
    size, _ = await store.journal.state()
    outcome = await remove(store)
    with closing(sqlite3.connect(store_path)) as other:
        assert other.execute("SELECT * FROM removals").fetchall() == [
            (1, micros(LATER), "admin/eve", "disk", micros(LATER), 3, outcome.removed_bytes)
        ]
        secrets = Secrets(*other.execute("SELECT salt_key, tag_key FROM journal_secrets").fetchone())
        entries = other.execute("SELECT items FROM journal_entries WHERE entry >= ?", (size,)).fetchall()
    assert len(entries) == 1
    items = {entries[0][0][at : at + 16]: entries[0][0][at + 16 : at + 48] for at in range(0, len(entries[0][0]), 48)}
    gone = {secrets.tag("evidence", (told[k],)) for k in (1, 3, 6)}
    assert {tag for tag, commitment in items.items() if commitment == REMOVED} == gone
    assert items[secrets.tag("removals", (1,))] != REMOVED


async def test_nothing_to_remove_leaves_no_trace(store: Store, store_path: Path) -> None:
    await commit(store, [attested(0, proven(1)), attested(1, proven(1))])
    before = dump(store_path)
    assert (await remove(store)).removed == 0
    assert dump(store_path) == before


@pytest.mark.parametrize("part", [1, 2, 3])
async def test_parts_make_one_run(store: Store, store_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(retention, "PART", part)
    told = await story(store)
    tried = await remove(store, dry_run=True)
    assert await remove(store) == tried
    assert left(store_path) == {told[k] for k in (0, 2, 4, 5, 7)}
    with closing(sqlite3.connect(store_path)) as other:
        rows = other.execute("SELECT number, attestations, bytes FROM removals").fetchall()
    assert rows == [(1, 3, tried.removed_bytes)]


async def test_attestations_of_one_instant_are_each_looked_at(
    store: Store, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PART", 2)
    told = await commit(store, [attested(0, proven(n)) for n in range(1, 6)])
    again = await commit(store, [attested(1, proven(n)) for n in range(6, 8)])
    await commit(store, [attested(2, device(n)) for n in range(1, 8)])
    with closing(sqlite3.connect(store_path)) as other, other:
        other.execute("UPDATE attestations SET transition = 0")
    outcome = await remove(store)
    # Each is the last proof of its device.
    assert (outcome.removed, outcome.kept[KeepReason.LAST_PROOF], outcome.kept[KeepReason.NEWEST]) == (0, 7, 7)
    assert left(store_path) >= {*told, *again}


async def test_all_of_a_device_in_an_open_case_is_kept(store: Store, store_path: Path) -> None:
    told = await commit(store, [attested(k, device(2, *shown)) for k, shown in enumerate([(), (), ()])])
    other = await commit(store, [attested(k + 10, device(3)) for k in range(3)])
    accused = await commit(store, [attested(20, moved(4)), attested(21, moved(4)), attested(22, moved(4), device(3))])
    await store.cases.take_findings(START + 23 * HOUR)
    page = await store.cases.list(CaseFilter())
    assert len(page.cases) == 1
    tried = await remove(store, dry_run=True)
    # Of 3, which is in no case, what it reported beside 4 is kept; of 2 and 3 alone, what lies between.
    assert (tried.removed, tried.kept[KeepReason.OPEN_CASE]) == (3, 2)
    case = page.cases[0]
    work = CaseWork(CaseAction.RESOLVE, "seen to", accept_risk=True)
    await store.cases.work([CaseRef(case.number, case.revision)], work, "officer/ann", START + 24 * HOUR)
    outcome = await remove(store)
    assert (outcome.removed, outcome.kept[KeepReason.OPEN_CASE]) == (4, 0)
    assert left(store_path) == {told[0], told[2], other[0], accused[0], accused[2]}


async def test_the_last_proof_that_the_records_count_is_kept_too(store: Store, store_path: Path) -> None:
    """A verdict may prove presence under a deployment that has ended by then; what counts is an earlier one."""
    told = await commit(store, [attested(k, proven(1)) for k in range(5)])
    with closing(sqlite3.connect(store_path)) as other, other:
        other.execute("UPDATE devices SET last_proof_at = ?", (micros(START + 2 * HOUR),))
        other.execute("UPDATE device_verdicts SET presence_proven = 0 WHERE challenge = ?", (told[4],))
    outcome = await remove(store)
    assert outcome.kept[KeepReason.LAST_PROOF] == 2
    assert left(store_path) == {told[k] for k in (0, 2, 3, 4)}


async def test_what_was_rejected_is_kept_for_nothing(store: Store) -> None:
    rejected = attested(1, rejection=Rejection(Reason.CHALLENGE_EXPIRED, "late"))
    garbled = replace(rejected, attestation=replace(rejected.attestation, claims=b"\xff"))
    named = attested(2, rejection=Rejection(Reason.CHALLENGE_EXPIRED, "late"))
    await commit(store, [attested(0, proven(1)), garbled, named])
    assert (await remove(store)).removed == 2


@pytest.mark.parametrize("seed", range(6))
async def test_against_the_words_of_the_rule(store: Store, store_path: Path, seed: int) -> None:
    """Random histories of three devices on one host; what must stay, worked out from the histories themselves."""
    rng = random.Random(seed)
    makers = (proven, unproven, device)
    records = [
        attested(hour, *(rng.choices(makers, (6, 1, 3))[0](n) for n in range(1, 4) if rng.random() < 0.8))
        for hour in range(40)
    ]
    told = await commit(store, records)
    must: set[bytes] = set()
    shows: dict[bytes, Any] = {}
    newest: dict[bytes, bytes] = {}
    proofs: dict[bytes, bytes] = {}
    for each in records:
        for shown in each.verdict.devices:
            now = (shown.standing, {found.reason for found in shown.findings})
            if shows.get(shown.pdi) != now:
                must.add(each.verdict.challenge)
            shows[shown.pdi] = now
            newest[shown.pdi] = each.verdict.challenge
            if shown.presence_proven:
                proofs[shown.pdi] = each.verdict.challenge
    await remove(store)
    assert left(store_path) == must | set(newest.values()) | set(proofs.values())
    assert left(store_path) < set(told)
