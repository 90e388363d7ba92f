"""What a report makes of findings that the watch opened, and of what a device's row says (docs/protocol.md AP7)."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from server.store import DeviceFilter, Store
from server.store.findings import write_findings
from server.store.types import Reappraisal
from server.times import micros
from tests.store.desk_world import shown, stands
from tests.store.store_world import HOUR, SITE, START, deployment, device, finding, fix, load, pdi, record
from tests.two_people import deploy
from verifier.appraise import SEVERITY
from verifier.errors import Reason
from verifier.place.answers import PlaceAnswer
from verifier.verdict import Finding, Standing

UNPROVEN = finding(Reason.LOCATION_UNPROVEN)


async def watch_finds(store: Store, *reasons: Reason) -> None:
    """The watch opens findings of device 1 at START."""
    opened = [
        {
            "pdi": pdi(1),
            "reason": int(reason),
            "opened_at": micros(START),
            "closed_at": None,
            "severity": int(SEVERITY[reason]),
            "detail": "because",
        }
        for reason in reasons
    ]
    await store._write(lambda connection: write_findings(connection, opened=opened))


async def report(store: Store, hours: int, *findings: Finding, proven: bool = False) -> None:
    """Device 1 reports; its verdict knows nothing of what the watch found."""
    standing = Standing.UNPROVEN if findings else Standing.COMPLIANT
    located = fix(licensed=PlaceAnswer.PROVEN if proven else PlaceAnswer.UNPROVEN)
    verdict = device(1, *findings, standing=standing, located=located)
    states = (await load(store, pdi(1))).last
    await store.commit([record(START + hours * HOUR, [verdict], based_on=states)])


async def test_a_report_ends_silence_and_that_a_device_was_never_activated(store: Store) -> None:
    await deploy(store, [deployment(1)], START)
    await watch_finds(store, Reason.SILENT, Reason.NEVER_ACTIVATED)
    await report(store, 1)
    assert await shown(store) == (Standing.COMPLIANT, [])


async def test_only_a_proof_ends_that_presence_is_overdue(store: Store) -> None:
    await deploy(store, [deployment(1)], START)
    await watch_finds(store, Reason.PRESENCE_OVERDUE)
    await report(store, 1, UNPROVEN)
    assert await shown(store) == (Standing.VIOLATION, [Reason.PRESENCE_OVERDUE, Reason.LOCATION_UNPROVEN])
    assert (await stands(store)).findings[0].opened_at == START
    await report(store, 2, proven=True)
    assert await shown(store) == (Standing.COMPLIANT, [])


async def test_no_report_ends_that_there_are_too_many_devices(store: Store) -> None:
    await deploy(store, [deployment(1)], START)
    await watch_finds(store, Reason.QUANTITY_EXCEEDED)
    await report(store, 1, proven=True)
    assert await shown(store) == (Standing.VIOLATION, [Reason.QUANTITY_EXCEEDED])


@pytest.mark.parametrize("reason", [Reason.OUTSIDE_LICENSED_REGION, Reason.IN_PROHIBITED_DESTINATION])
async def test_a_device_that_is_elsewhere_is_not_besides_overdue(store: Store, reason: Reason) -> None:
    await deploy(store, [deployment(1)], START)
    await watch_finds(store, Reason.PRESENCE_OVERDUE)
    await report(store, 1, finding(reason))
    assert await shown(store) == (Standing.VIOLATION, [reason])
    overdue = await store.list_devices(DeviceFilter(finding=Reason.PRESENCE_OVERDUE))
    assert (overdue.devices, overdue.total) == ((), 0)
    elsewhere = await store.list_devices(DeviceFilter(finding=reason))
    assert [each.pdi for each in elsewhere.devices] == [pdi(1)]


def row(path: Path) -> tuple[str, int | None]:
    with closing(sqlite3.connect(path)) as database:
        agent, activated_at = database.execute("SELECT agent, activated_at FROM devices").fetchone()
    return agent, activated_at


async def test_a_row_says_which_agent_reported_and_since_when(store: Store, store_path: Path) -> None:
    await deploy(store, [deployment(1)], START)
    assert row(store_path) == ("", None)
    await report(store, 1)
    await report(store, 2)
    assert row(store_path) == ("rack-7", micros(START + HOUR))


async def test_a_report_from_before_the_deployment_does_not_activate(store: Store, store_path: Path) -> None:
    await deploy(store, [deployment(1)], START + 2 * HOUR)
    await report(store, 1)
    assert row(store_path) == ("rack-7", None)


async def test_a_report_of_a_device_that_nobody_deployed_activates_nothing(store: Store, store_path: Path) -> None:
    await report(store, 1)
    assert row(store_path) == ("rack-7", None)


# appraised again


async def test_a_proof_under_an_earlier_deployment_is_none(store: Store) -> None:
    await deploy(store, [deployment(1)], START)
    await report(store, 1, proven=True)
    await deploy(store, [deployment(1, region=SITE)], START + 2 * HOUR)
    await report(store, 3, proven=True)
    located = (await store.load_located())[0]
    await store.reappraise([Reappraisal(located, None, (UNPROVEN,), proven=False)], START + 4 * HOUR)
    assert (await stands(store)).last_proof_at is None


@pytest.mark.parametrize("proven", [False, True])
async def test_presence_that_is_proven_after_all_is_not_overdue(store: Store, proven: bool) -> None:  # noqa: FBT001
    await deploy(store, [deployment(1)], START)
    await report(store, 1, UNPROVEN)
    await watch_finds(store, Reason.PRESENCE_OVERDUE)
    located = (await store.load_located())[0]
    left = () if proven else (UNPROVEN,)
    await store.reappraise([Reappraisal(located, fix(), left, proven=proven)], START + 2 * HOUR)
    _, reasons = await shown(store)
    assert (Reason.PRESENCE_OVERDUE in reasons) is not proven


async def test_a_draft_locates_nothing(store: Store) -> None:
    await store.import_deployments([deployment(1)], START, by="ann", reason="test")
    await report(store, 1)
    assert await store.load_located() == []
