"""A verdict is about the records in force when its challenge was issued (docs/protocol.md RC6)."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, event

from server.records.values import ByPdi, DeploymentRecord, Site
from server.store import Store, Unwritten
from server.store.inputs import load_inputs
from tests.store.desk_world import draft, end, in_force, put, revise, set_state, shown, stands, terms_of
from tests.store.store_world import GERMANY, HOUR, SITE, START, device, finding, fix, load, pdi, record
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import BoardSwap, LicenseState
from verifier.verdict import Standing

UNKNOWN = finding(Reason.UNKNOWN_DEVICE)


def at(number: int, license_number: str = "D1", site_id: str = "de") -> DeploymentRecord:
    return DeploymentRecord(ByPdi(pdi(number)), license_number, site_id)


@pytest.fixture
async def issued(store: Store) -> int:
    """Device 1 is deployed under D1 and has reported; then a challenge is issued, under this number of the records."""
    await in_force(store)
    await put(store, Site("D1", "fra", "Frankfurt 1", SITE), at(1))
    await store.commit([record(START, [device(1)])])
    return await store.records_number()


async def then(store: Store, number: int) -> tuple[LicenseState, int, object] | None:
    found = (await store.load_inputs([pdi(1)], number)).deployments.get(pdi(1))
    return None if found is None else (found.license.state, found.license.revision, found.region)


async def test_a_license_that_was_revoked_since(store: Store, issued: int) -> None:
    await set_state(store, LicenseState.REVOKED)
    assert await then(store, issued) == (LicenseState.ACTIVE, 2, GERMANY)
    assert await then(store, issued + 1) == (LicenseState.REVOKED, 3, GERMANY)


async def test_terms_that_were_changed_since(store: Store, issued: int) -> None:
    held = replace(terms_of(), cadence=3 * HOUR)
    await revise(store, held)
    await revise(store, replace(held, cadence=4 * HOUR))
    cadences = [
        (await store.load_inputs([pdi(1)], number)).deployments[pdi(1)].license.cadence
        for number in (issued, issued + 1, issued + 2)
    ]
    assert cadences == [HOUR, 3 * HOUR, 4 * HOUR]


async def test_a_site_that_was_drawn_anew_since(store: Store, issued: int) -> None:
    await put(store, Site("D1", "de", "DE", SITE))
    assert await then(store, issued) == (LicenseState.ACTIVE, 2, GERMANY)
    assert await then(store, issued + 1) == (LicenseState.ACTIVE, 2, SITE)


async def test_a_device_that_was_moved_since(store: Store, issued: int) -> None:
    await put(store, at(1, site_id="fra"))
    assert await then(store, issued) == (LicenseState.ACTIVE, 2, GERMANY)
    assert await then(store, issued + 1) == (LicenseState.ACTIVE, 2, SITE)


async def test_a_deployment_that_ended_since(store: Store, issued: int) -> None:
    await end(store, at(1))
    assert await then(store, issued) == (LicenseState.ACTIVE, 2, GERMANY)
    assert await then(store, issued + 1) is None


async def test_a_device_that_went_to_a_draft_since(store: Store, issued: int) -> None:
    await draft(store, terms_of("D9"))
    await put(store, at(1, "D9"))
    assert await then(store, issued) == (LicenseState.ACTIVE, 2, GERMANY)
    assert await then(store, await store.records_number()) is None


async def test_a_swap_that_was_recorded_since(store: Store, issued: int) -> None:
    swap = BoardSwap(frozenset({pdi(8)}), START + timedelta(days=1))
    await put(store, replace(at(1), swap=swap))
    assert (await store.load_inputs([pdi(1)], issued)).deployments[pdi(1)].swap is None
    assert (await load(store, pdi(1))).deployments[pdi(1)].swap == swap


async def test_the_first_deployment_since_accuses_nobody(store: Store) -> None:
    issued = await store.records_number()
    await in_force(store)
    await put(store, at(1))
    assert await then(store, issued) == (LicenseState.ACTIVE, 2, GERMANY)
    # Whatever became of it later: it was the first.
    await put(store, Site("D1", "fra", "Frankfurt 1", SITE), at(1, site_id="fra"))
    await set_state(store, LicenseState.REVOKED)
    assert await then(store, issued) == (LicenseState.ACTIVE, 2, GERMANY)
    assert await then(store, await store.records_number()) == (LicenseState.REVOKED, 3, SITE)


async def test_a_license_that_came_into_force_since(store: Store) -> None:
    await draft(store)
    await put(store, at(1))
    issued = await store.records_number()
    assert await then(store, issued) is None
    await set_state(store, LicenseState.ACTIVE)
    assert await then(store, issued) == (LicenseState.ACTIVE, 2, GERMANY)


async def test_devices_whose_records_did_not_change_take_two_queries(store: Store, issued: int) -> None:
    await put(store, at(2))
    await store.commit([record(START, [device(9, kind=DeviceKind.SWITCH)])])
    statements: list[str] = []

    def counted(connection: Connection) -> int:
        @event.listens_for(connection, "before_cursor_execute")
        def note(*arguments: object) -> None:
            statements.append(str(arguments[2]))

        return len(load_inputs(connection, [pdi(1), pdi(9)], issued).deployments)

    assert await store._read(counted) == 1
    assert len(statements) == 2


# what a commit makes of a verdict of the past


async def late(store: Store, issued: int, *findings: Reason, at: datetime = START + 2 * HOUR) -> Unwritten:
    """A report of device 1 arrives, with a verdict as of `issued`; its place is proven when nothing is found."""
    found = [finding(reason) for reason in findings]
    standing = Standing.VIOLATION if found else Standing.COMPLIANT
    verdict = device(1, *found, standing=standing, located=None if found else fix())
    states = (await load(store, pdi(1))).last
    return await store.commit([record(at, [verdict], based_on=states, as_of=issued)])


@pytest.mark.parametrize("state", [LicenseState.SUSPENDED, LicenseState.REVOKED])
async def test_a_report_on_its_way_does_not_lift_a_suspension(store: Store, issued: int, state: LicenseState) -> None:
    reason = Reason.LICENSE_SUSPENDED if state is LicenseState.SUSPENDED else Reason.LICENSE_REVOKED
    await set_state(store, state, now=START + HOUR)
    assert await late(store, issued) == Unwritten()
    assert await shown(store) == (Standing.VIOLATION, [reason])
    assert (await stands(store)).findings[0].opened_at == START + HOUR
    assert (await stands(store)).last_proof_at == START + 2 * HOUR


async def test_a_report_on_its_way_does_not_bring_a_suspension_back(store: Store, issued: int) -> None:
    await set_state(store, LicenseState.SUSPENDED)
    suspended = await store.records_number()
    await set_state(store, LicenseState.ACTIVE)
    assert await late(store, suspended, Reason.LICENSE_SUSPENDED) == Unwritten()
    assert await shown(store) == (Standing.COMPLIANT, [])
    assert issued < suspended


async def test_a_report_on_its_way_says_nothing_of_the_new_site(store: Store, issued: int) -> None:
    await put(store, at(1, site_id="fra"), now=START + HOUR)
    assert await late(store, issued, Reason.OUTSIDE_LICENSED_REGION, Reason.BOARD_CHANGED) == Unwritten()
    assert await shown(store) == (Standing.VIOLATION, [Reason.BOARD_CHANGED])
    assert await late(store, issued, at=START + 3 * HOUR) == Unwritten()
    assert await shown(store) == (Standing.UNPROVEN, [])
    found = await stands(store)
    assert (found.last_report_at, found.last_proof_at) == (START + 3 * HOUR, None)
    # The next one is about it.
    assert await late(store, await store.records_number(), at=START + 4 * HOUR) == Unwritten()
    assert await shown(store) == (Standing.COMPLIANT, [])
    assert (await stands(store)).last_proof_at == START + 4 * HOUR


async def test_a_report_on_its_way_does_not_license_a_device_that_returned(store: Store, issued: int) -> None:
    await end(store, at(1), now=START + HOUR)
    assert await late(store, issued) == Unwritten()
    assert await shown(store) == (Standing.UNLICENSED, [])


async def test_a_device_is_not_called_unknown_that_is_deployed_by_now(store: Store) -> None:
    issued = await store.records_number()
    await draft(store)
    await put(store, at(1))
    verdict = record(START, [device(1, UNKNOWN, standing=Standing.UNLICENSED)], as_of=issued)
    assert (await store.commit([verdict])) == Unwritten()  # a draft licenses nothing
    await set_state(store, LicenseState.ACTIVE)
    states = (await load(store, pdi(1))).last
    again = record(START, [device(1, UNKNOWN, standing=Standing.UNLICENSED)], as_of=issued, based_on=states)
    assert (await store.commit([again])).stale == {again.verdict.challenge}
