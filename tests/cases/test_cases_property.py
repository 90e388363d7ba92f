"""Whatever comes, and whichever node takes it in: counts hold, and no finding is lost or told twice."""

import random
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from server.store.case_book import WAITING
from server.store.case_rules import DEBOUNCE_US
from server.store.case_types import CaseAction, CaseRef, CaseState, CaseStateError, CaseWork
from server.store.schema import CASE_ENTRIES, CASE_FINDINGS, CASES, FINDINGS
from server.store.watch_types import SiteKey
from server.times import micros
from tests.cases.case_world import DAY, HOUR, MINUTE, START, CaseWorld, open_world
from verifier.errors import Reason
from verifier.verdict import Severity

REASONS = (
    Reason.SILENT,
    Reason.LOCATION_UNPROVEN,
    Reason.PRESENCE_OVERDUE,
    Reason.COUNTER_ROLLBACK,
    Reason.OUTSIDE_LICENSED_REGION,
    Reason.RANGE_VOID,
)
DEVICES = 12


def check(connection: Connection, now_us: int) -> None:
    cases = {row.case_id: row for row in connection.execute(select(CASES))}
    counted = {
        case_id: (devices, devices_open, last)
        for case_id, devices, last, devices_open in connection.execute(
            select(
                CASE_FINDINGS.c.case_id,
                func.count(CASE_FINDINGS.c.pdi.distinct()),
                func.max(CASE_FINDINGS.c.ended_at),
                func.count(CASE_FINDINGS.c.pdi.distinct()).filter(CASE_FINDINGS.c.ended_at.is_(None)),
            ).group_by(CASE_FINDINGS.c.case_id)
        )
    }
    for case_id, case in cases.items():
        devices, devices_open, last = counted[case_id]
        assert (case.devices, case.devices_open) == (devices, devices_open)
        assert case.quiet_since == (None if devices_open else last)
        assert (case.state == CaseState.RESOLVED) == (case.resolved_at is not None)
    assert counted.keys() == cases.keys()
    standing = [case.scope for case in cases.values() if case.resolved_at is None]
    assert len(standing) == len(set(standing))
    entries = connection.execute(
        select(CASE_ENTRIES.c.case_id, func.count(), func.max(CASE_ENTRIES.c.entry)).group_by(CASE_ENTRIES.c.case_id)
    )
    assert {case_id: (count, last) for case_id, count, last in entries} == {
        case_id: (case.entries, case.entries) for case_id, case in cases.items()
    }
    held = {(row.pdi, row.reason, row.opened_at): row for row in connection.execute(select(CASE_FINDINGS))}
    for found in connection.execute(select(FINDINGS)):
        key = (found.pdi, found.reason, found.opened_at)
        if found.severity < Severity.WARNING:
            assert key not in held
            continue
        if found.closed_at is None:
            case = cases[held[key].case_id]
            assert held[key].ended_at is None
            assert case.severity >= found.severity
            old = found.opened_at <= now_us - DEBOUNCE_US or found.severity >= Severity.VIOLATION
            # An accepted risk alone may be resolved while a finding is open.
            assert not old or case.state != WAITING
            assert case.state != CaseState.RESOLVED or case.resolution.startswith("Accepted risk")
        elif key in held:  # else it was a warning that never became a case
            assert held[key].ended_at == found.closed_at


@pytest.mark.parametrize("seed", range(12))
async def test_counts_hold_and_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    async with open_world(tmp_path / "trigpoint.db") as one, open_world(tmp_path / "trigpoint.db") as two:
        nodes = (one, two)
        await one.license("D1", sites=["fra", "ber"])
        await one.license("D2", licensee="Other", sites=["sin"])
        places = [("D1", "fra"), ("D1", "ber"), ("D2", "sin")]
        for number in range(DEVICES):
            license_number, site = places[number % 3]
            agent = f"relay-{number % 2}"
            await one.deploy([number], license_number=license_number, site=site, agent=agent, last_report=START - DAY)
        stands: set[tuple[Reason, int]] = set()
        now = START
        for _ in range(50):
            now += choose.choice([MINUTE, 5 * MINUTE, HOUR, 9 * HOUR, 2 * DAY, 31 * DAY])
            for _ in range(choose.randrange(6)):
                await _turn(one, stands, choose, now)
            short = {SiteKey(*choose.choice(places))} if choose.random() < 0.3 else set()
            await choose.choice(nodes).cases.take_findings(now, short)
            assert (await choose.choice(nodes).cases.take_findings(now, short)).told == ()
            if choose.random() < 0.4:
                await _work(choose.choice(nodes), choose, now)
            await one.read(partial(check, now_us=micros(now)))
        assert len(await one.all(CaseState.RESOLVED)) > 1


async def _turn(world: CaseWorld, stands: set[tuple[Reason, int]], choose: random.Random, now: datetime) -> None:
    reason, number = choose.choice(REASONS), choose.randrange(DEVICES)
    if (reason, number) in stands:
        await world.end(reason, [number], now)
        stands.remove((reason, number))
    elif not await _opened_now(world, reason, number, now):
        await world.find(reason, [number], now)
        stands.add((reason, number))


async def _opened_now(world: CaseWorld, reason: Reason, number: int, now: datetime) -> bool:
    """A finding of one reason opens once at one time."""
    key = FINDINGS.c.pdi == number.to_bytes(8, "big"), FINDINGS.c.reason == int(reason)
    at = micros(now)
    found = await world.read(lambda c: c.execute(select(FINDINGS).where(*key, FINDINGS.c.opened_at == at)).first())
    return found is not None


async def _work(world: CaseWorld, choose: random.Random, now: datetime) -> None:
    cases = [*await world.all(), *await world.all(CaseState.RESOLVED)]
    if not cases:
        return
    action = choose.choice([CaseAction.RESOLVE, CaseAction.RESOLVE, CaseAction.REOPEN, CaseAction.ACKNOWLEDGE])
    work = CaseWork(action, "because", accept_risk=action is CaseAction.RESOLVE)
    try:
        await world.cases.work([CaseRef(choose.choice(cases).number)], work, "ann", now)
    except CaseStateError:
        return
