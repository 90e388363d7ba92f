"""From a commit of verdicts to a case, through the store's own doors."""

from pathlib import Path

from server.store import Store
from server.store.case_types import CaseEntryKind, CaseEvent, CaseFilter, CaseNews
from tests.store.store_world import HOUR, START, deployment, device, finding, fix, record
from verifier.errors import Reason
from verifier.license import LicenseState
from verifier.place.answers import PlaceAnswer
from verifier.verdict import Standing


async def test_verdicts_become_cases_and_end_them(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "trigpoint.db")
    try:
        rows = [deployment(1), deployment(2)]
        await store.import_deployments(rows, START - HOUR, state=LicenseState.ACTIVE, by="test", reason="test")
        await store.commit([record(START, [device(1, located=fix()), device(2, located=fix())])])
        assert await store.cases.take_findings(START) == CaseNews()
        elsewhere = finding(Reason.OUTSIDE_LICENSED_REGION, "it is in another place")
        unknown = finding(Reason.UNKNOWN_DEVICE, "no deployment record names it")
        moved = device(1, elsewhere, standing=Standing.VIOLATION, located=fix(licensed=PlaceAnswer.REFUTED))
        stranger = device(3, unknown, standing=Standing.UNLICENSED)
        await store.commit([record(START + HOUR, [moved, stranger])])
        news = await store.cases.take_findings(START + HOUR)
        assert sorted((case.event, case.licensee, case.license_number) for case in news.opened) == [
            (CaseEvent.ELSEWHERE, "Example Cloud", "D1"),
            (CaseEvent.UNKNOWN_DEVICES, "Example Cloud", ""),
        ]
        page = await store.cases.list(CaseFilter(event=CaseEvent.ELSEWHERE))
        found = await store.cases.get(page.cases[0].number)
        assert found is not None
        told = {entry.kind: entry for entry in found.entries}
        proven = told[CaseEntryKind.PROVEN]
        assert proven.at == START
        assert proven.text == (
            "Presence was last proven at 2026-07-01 12:00 UTC, by 0000000000000001: "
            "fra-1 heard it within 40 km: “inside”, né?"
        )
        assert told[CaseEntryKind.BROKE].text == (
            "1 device: OUTSIDE_LICENSED_REGION. 0000000000000001: it is in another place."
        )
        await store.commit([record(START + 2 * HOUR, [device(1, located=fix())])])
        await store.cases.take_findings(START + 2 * HOUR)
        page = await store.cases.list(CaseFilter(event=CaseEvent.ELSEWHERE))
        assert [(case.devices_open, case.quiet_since) for case in page.cases] == [(0, START + 2 * HOUR)]
    finally:
        await store.close()
