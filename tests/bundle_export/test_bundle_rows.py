"""Which rows belong to a case (docs/protocol.md CB3), and which of them a reader of one jurisdiction is shown (CB5)."""

import hashlib

import pytest
from sqlalchemy import delete

from server.records.values import ByPdi, DeploymentRecord, Site
from server.store.bundle_rows import case_rows
from server.store.bundle_types import Bounds
from server.store.case_types import CaseAction, CaseRef, CaseWork
from server.store.schema import EVIDENCE, MATERIALS
from server.times import micros
from tests.bundle_export.export_world import (
    ALSO_GERMAN,
    BORDERS,
    FOREIGN,
    GERMAN,
    ON_HOST,
    OTHER_BORDERS,
    OUTSIDE,
    SWITCH,
    ExportWorld,
    add_exhibit,
    board,
    keys,
    of_table,
)
from tests.store.desk_world import end, put
from tests.store.record_world import DAY, shipment, window
from tests.store.store_world import GERMANY, HOUR, START, chain, device, pdi
from verifier.errors import Reason

PLACES = (("D1", "fra", "DE"), ("D2", "sin", "SG"))
IN_CASE = ("proof", "before", "opened", "ended", "newest")
"""The last before it opened in which presence was proven; the last before; opened; ended; newest."""


async def test_the_case_its_story_its_exhibits_and_its_findings(world: ExportWorld) -> None:
    await add_exhibit(world, b"a log")
    rows = await world.rows()
    assert keys(rows, "cases") == [(1,)]
    assert keys(rows, "case_entries") == [(1, number) for number in range(1, len(keys(rows, "case_entries")) + 1)]
    assert len(keys(rows, "case_entries")) >= 3
    assert keys(rows, "exhibits") == [("cases/1", 1)]
    finding = (pdi(GERMAN), int(OUTSIDE), micros(START + 3 * HOUR))
    assert keys(rows, "case_findings") == [finding]
    assert keys(rows, "findings") == [finding]
    assert rows.left_out == ()


async def test_other_findings_of_its_devices_and_of_no_others(world: ExportWorld) -> None:
    await world.attest("odd", START + 8 * HOUR, board(outside=[FOREIGN, GERMAN]))
    await world.store.cases.take_findings(START + 40 * 24 * HOUR)
    opened = [(pdi(GERMAN), int(OUTSIDE), micros(START + hours * HOUR)) for hours in (3, 8)]
    assert keys(await world.rows(), "findings") == opened


async def test_the_attestations_that_a_finding_rests_on(world: ExportWorld) -> None:
    rows = await world.rows()
    expected = sorted((world.reports[name],) for name in IN_CASE)
    assert keys(rows, "attestations") == expected
    assert keys(rows, "evidence") == expected
    verdicts = keys(rows, "device_verdicts")
    assert {challenge for _, _, challenge in verdicts} == {world.reports[name] for name in IN_CASE}
    assert {device for device, _, _ in verdicts} == {pdi(number) for number in (1, 2, 3, 9)}
    assert len(verdicts) == 4 * len(IN_CASE)
    assert keys(rows, "chains") == sorted((chain(number)[0],) for number in (1, 2, 3, 9))
    assert rows.checkpoints == {world.checkpoints[name] for name in IN_CASE}
    assert [(each.kind, each.data, each.sha256) for each in rows.materials] == [
        ("borders", BORDERS, hashlib.sha256(BORDERS).digest())
    ]
    assert rows.devices == 4


async def test_a_proof_behind_the_finding_is_not_the_last_before_it(world: ExportWorld) -> None:
    await world.attest("later", START + 8 * HOUR, board(proven=True), materials=[OTHER_BORDERS])
    rows = await world.rows()
    named = {*IN_CASE[:-1], "later"}
    assert keys(rows, "attestations") == sorted((world.reports[name],) for name in named)
    assert len(rows.materials) == 2


async def test_verdicts_are_found_when_the_evidence_is_gone(world: ExportWorld) -> None:
    gone = delete(EVIDENCE).where(EVIDENCE.c.challenge == world.reports["before"])
    await world.store._write(lambda connection: connection.execute(gone))
    rows = await world.rows()
    assert (world.reports["before"],) not in keys(rows, "evidence")
    devices = [key[0] for key in keys(rows, "device_verdicts") if key[2] == world.reports["before"]]
    assert devices == [pdi(number) for number in (1, 2, 3, 9)]  # the result names them
    assert [(each.what, each.count) for each in rows.left_out] == [("evidence", 1)]


async def test_records_as_they_stood_and_who_approved_them(world: ExportWorld) -> None:
    rows = await world.rows()
    revisions = set(keys(rows, "revisions"))
    assert {
        ("deployments/0000000000000001", 1),
        ("deployments/0000000000000003", 1),
        ("licenses/D1/sites/fra", 1),
        ("licenses/D2/sites/sin", 1),
        ("licenses/D1", 3),
        ("licenses/D2", 2),
        ("parties/acme", 1),
    } <= revisions
    assert ("licenses/D1", 2) not in revisions
    changes = {key[0] for key in keys(rows, "changes")}
    of_license = await world.store._read(
        lambda connection: connection.exec_driver_sql(
            "SELECT name, change_id FROM revisions WHERE change_id IS NOT NULL AND (name, revision) IN "
            "(('licenses/D1', 3), ('licenses/D2', 2), ('licenses/D1/sites/fra', 1))"
        ).all()
    )
    assert len(of_license) == 3
    assert {change for _, change in of_license} <= changes


async def test_what_was_revised_since_is_given_as_it_stood_then(world: ExportWorld) -> None:
    moved = DeploymentRecord(ByPdi(pdi(GERMAN)), "D1", "de")
    await put(world.store, moved, now=START + 8 * HOUR)
    name = "deployments/0000000000000001"
    assert [key for key in keys(await world.rows(), "revisions") if key[0] == name] == [(name, 1)]
    await world.attest("moved", START + 9 * HOUR, board())
    assert [key for key in keys(await world.rows(), "revisions") if key[0] == name] == [(name, 1), (name, 2)]


async def test_a_device_that_was_deployed_after_the_challenge_has_the_first_deployment_since(
    world: ExportWorld,
) -> None:
    await end(world.store, DeploymentRecord(ByPdi(pdi(FOREIGN)), "D2", "sin"), now=START + 8 * HOUR)
    await world.attest("without", START + 9 * HOUR, board())
    await put(world.store, DeploymentRecord(ByPdi(pdi(FOREIGN)), "D1", "fra"), now=START + 10 * HOUR)
    name = "deployments/0000000000000003"
    assert [key for key in keys(await world.rows(), "revisions") if key[0] == name] == [(name, 1), (name, 2), (name, 3)]


async def test_shipments_and_windows_of_its_sites(world: ExportWorld) -> None:
    store = world.store
    for brought in (shipment(), shipment("s2", "sin", "D2")):
        await put(store, brought, now=START)
    await put(store, DeploymentRecord(ByPdi(pdi(GERMAN)), "D1", "fra", "s1"), now=START)
    await put(store, DeploymentRecord(ByPdi(pdi(FOREIGN)), "D2", "sin", "s2"), now=START)
    known = {"of-site": "fra", "of-license": "", "of-other-site": "de"}
    for window_id, site_id in known.items():
        await put(store, window(window_id, site_id), now=START)
    await put(store, window("of-others", "sin", "D2"), window("of-site-2", "fra"), now=START)
    await put(store, window("of-site", "fra", start=START + 2 * DAY), now=START)
    await world.attest("with", START + 9 * HOUR, board(outside=[GERMAN]))
    await store.cases.take_findings(START + 10 * HOUR)
    revisions = keys(await world.rows(), "revisions")
    assert [key for key in revisions if "shipments/" in key[0]] == [("shipments/s1", 1), ("shipments/s2", 1)]
    names = [f"maintenanceWindows/{each}" for each in ("of-license", "of-site", "of-site", "of-site-2")]
    assert [key[0] for key in revisions if "maintenanceWindows/" in key[0]] == names
    german = await world.rows("DE")
    hidden = [key[0] for key in keys(german, "revisions", withheld=True)]
    assert [name for name in hidden if "shipments/" in name] == ["shipments/s2"]
    assert not [name for name in hidden if "maintenanceWindows/" in name]
    one = await world.rows(bounds=Bounds(windows=1))
    assert [(each.what, each.count) for each in one.left_out] == [("maintenance windows", 2)]
    newest = [key[0] for key in keys(one, "revisions") if "maintenanceWindows/" in key[0]]
    assert newest == ["maintenanceWindows/of-site"] * 2


async def test_drawn_regions_of_what_is_shown_and_of_no_others(world: ExportWorld) -> None:
    regions = {number: f"region of {number}".encode() * 50 for number in ON_HOST}
    for data in regions.values():
        digest = hashlib.sha256(data).digest()
        values: dict[str, object] = {"sha256": digest, "kind": "region", "name": "", "data": data, "since": 1}
        await world.insert(MATERIALS, values)
    await world.attest("drawn", START + 8 * HOUR, board(), drawn=regions)
    whole = {each.data for each in (await world.rows()).materials}
    assert whole == {BORDERS, *regions.values()}
    german = {each.data for each in (await world.rows("DE")).materials}
    assert german == {BORDERS, regions[GERMAN], regions[ALSO_GERMAN]}


async def test_landmarks_that_were_asked_and_their_ranges_with_each_other(world: ExportWorld) -> None:
    rows = await world.rows()
    assert keys(rows, "landmark_revisions") == [("fra-1", 1), ("fra-2", 1)]
    assert keys(rows, "landmark_ranges") == [("fra-1", "fra-2"), ("fra-2", "fra-1")]
    assert {("landmarks/fra-1", 1), ("landmarks/fra-2", 1)} <= set(keys(rows, "revisions"))
    assert (1,) in keys(rows, "changes")  # the landmarks'


async def test_a_device_that_never_reported_has_the_records_of_its_finding(world: ExportWorld) -> None:
    await put(world.store, DeploymentRecord(ByPdi(pdi(77)), "D1", "fra"), now=START)

    def silent(connection: object) -> None:
        connection.exec_driver_sql(  # type: ignore[attr-defined]
            "INSERT INTO findings (pdi, reason, opened_at, severity, detail, number) VALUES (?, ?, ?, 3, 'x', 900)",
            (pdi(77), int(Reason.SILENT), micros(START + HOUR)),
        )
        connection.exec_driver_sql("UPDATE meta SET value = 900 WHERE name = 'findings'")  # type: ignore[attr-defined]

    await world.store._write(silent)
    await world.store.cases.take_findings(START + 9 * HOUR)
    rows = await world.rows(number=2)
    assert keys(rows, "attestations") == []
    assert keys(rows, "findings") == [(pdi(77), int(Reason.SILENT), micros(START + HOUR))]
    assert {name for name, _ in keys(rows, "revisions")} >= {
        "deployments/000000000000004d",
        "licenses/D1/sites/fra",
        "licenses/D1",
    }


async def test_no_case_and_no_case_of_theirs(world: ExportWorld) -> None:
    read = world.store._read
    assert await read(lambda connection: case_rows(connection, 99, None)) is None
    assert await read(lambda connection: case_rows(connection, 1, "SG")) is None
    assert await read(lambda connection: case_rows(connection, 1, "DE")) is not None


# Redaction.


async def test_of_others_their_verdicts_and_records_are_withheld_and_the_evidence_is_whole(world: ExportWorld) -> None:
    whole, rows = await world.rows(), await world.rows("DE")
    # Nothing is missing: every proof still holds.
    assert {row.key for row in rows.rows} == {row.key for row in whole.rows}
    assert {key[0] for key in keys(rows, "device_verdicts", withheld=True)} == {pdi(FOREIGN)}
    assert {key[0] for key in keys(rows, "device_verdicts", withheld=False)} == {
        pdi(number) for number in (GERMAN, ALSO_GERMAN, SWITCH)
    }
    assert keys(rows, "evidence", withheld=True) == keys(rows, "attestations", withheld=True) == []
    assert keys(rows, "chains", withheld=True) == []
    names = {str(name).partition("/sites/")[0] for name, _ in keys(rows, "revisions", withheld=True)}
    assert names == {"deployments/0000000000000003", "licenses/D2"}
    assert ("licenses/D2/sites/sin", 1) in keys(rows, "revisions", withheld=True)
    assert rows.devices == 3
    assert not any(row.withheld for row in whole.rows)


async def test_a_result_that_names_others_is_hidden(world: ExportWorld) -> None:
    for jurisdiction, hidden in (("DE", {"result"}), (None, set())):
        rows = await world.rows(jurisdiction)
        assert all(row.hidden == hidden for row in of_table(rows, "attestations"))
    await world.attest("alone", START + 8 * HOUR, board(without=[FOREIGN]))
    rows = await world.rows("DE")
    shown = {row.key.key[0]: row.hidden for row in of_table(rows, "attestations")}
    assert shown[world.reports["alone"]] == frozenset()
    assert shown[world.reports["opened"]] == {"result"}


async def test_changes_are_shown_when_they_write_nothing_of_others(world: ExportWorld) -> None:
    rows = await world.rows("DE")

    def approved(names: str) -> str:
        return f"SELECT change_id FROM revisions WHERE change_id IS NOT NULL AND (name, revision) IN ({names})"

    async def of(names: str) -> set[tuple[object, ...]]:
        query = approved(names)
        found = await world.store._read(lambda connection: connection.exec_driver_sql(query).all())
        return {tuple(row) for row in found}

    ours = await of("('licenses/D1', 3), ('licenses/D1/sites/fra', 1), ('landmarks/fra-1', 1)")
    theirs = await of("('licenses/D2', 2), ('licenses/D2/sites/sin', 1), ('deployments/0000000000000003', 1)")
    assert ours
    assert theirs
    assert ours <= set(keys(rows, "changes", withheld=False))
    assert theirs <= set(keys(rows, "changes", withheld=True))


async def test_a_change_that_writes_of_others_too_is_withheld(world: ExportWorld) -> None:
    sites = [Site(number, name, f"New {name}", GERMANY, "", jurisdiction) for number, name, jurisdiction in PLACES]
    await put(world.store, *sites, now=START + 8 * HOUR)
    await world.attest("anew", START + 9 * HOUR, board())
    rows = await world.rows("DE")
    assert ("licenses/D1/sites/fra", 2) in keys(rows, "revisions", withheld=False)
    assert ("licenses/D2/sites/sin", 2) in keys(rows, "revisions", withheld=True)
    newest = max(keys(await world.rows(), "changes"))
    assert newest in keys(rows, "changes", withheld=True)


async def test_a_change_that_moves_a_shown_device_to_others_is_withheld(world: ExportWorld) -> None:
    moved = DeploymentRecord(ByPdi(pdi(GERMAN)), "D2", "sin")
    await put(world.store, moved, Site("D1", "fra", "New fra", GERMANY, "", "DE"), now=START + 8 * HOUR)
    await world.attest("anew", START + 9 * HOUR, board())
    rows = await world.rows("DE")
    assert ("licenses/D1/sites/fra", 2) in keys(rows, "revisions", withheld=False)
    assert (f"deployments/{pdi(GERMAN).hex()}", 1) in keys(rows, "revisions", withheld=False)
    newest = max(keys(await world.rows(), "changes"))
    assert newest in keys(rows, "changes", withheld=True)


async def test_an_attestation_elsewhere_is_withheld_with_all_that_only_it_leads_to(world: ExportWorld) -> None:
    """The device was in Singapore when its presence was proven last, and came to Germany afterwards."""
    store = world.store
    await put(store, DeploymentRecord(ByPdi(pdi(GERMAN)), "D2", "sin"), now=START + 8 * HOUR)
    await put(store, DeploymentRecord(ByPdi(pdi(ALSO_GERMAN)), "D2", "sin"), now=START + 8 * HOUR)
    at = START + 9 * HOUR
    there = [*board(proven=True), device(50)]
    await world.attest("abroad", at, there, asked=("sin-1", "fra-2"), materials=[OTHER_BORDERS])
    await put(store, DeploymentRecord(ByPdi(pdi(GERMAN)), "D1", "fra"), now=START + 10 * HOUR)
    await world.attest("again", START + 11 * HOUR, board(outside=[GERMAN], without=[ALSO_GERMAN, FOREIGN]))
    await store.cases.take_findings(START + 12 * HOUR)
    rows = await world.rows("DE")
    abroad = world.reports["abroad"]
    assert keys(rows, "attestations", withheld=True) == keys(rows, "evidence", withheld=True) == [(abroad,)]
    assert keys(rows, "landmark_revisions", withheld=True) == [("sin-1", 1)]
    assert keys(rows, "chains", withheld=True) == [(chain(50)[0],)]
    assert ("landmarks/sin-1", 1) in keys(rows, "revisions", withheld=True)
    assert world.checkpoints["abroad"] not in rows.checkpoints
    assert [each.data for each in rows.materials] == [BORDERS]
    assert all(key[2] != abroad for key in keys(rows, "device_verdicts", withheld=False))


# Bounds.


@pytest.mark.parametrize("bounds", [Bounds(attestations=2), Bounds(evidence_bytes=2_000)])
async def test_attestations_are_bounded_and_those_of_the_opening_come_first(world: ExportWorld, bounds: Bounds) -> None:
    rows = await world.rows(bounds=bounds)
    taken = {key[0] for key in keys(rows, "attestations")}
    assert taken == {world.reports["opened"], world.reports["ended"]}
    assert [(each.what, each.count) for each in rows.left_out] == [("attestations", 3)]


async def test_findings_and_the_story_are_bounded(world: ExportWorld) -> None:
    await world.attest("all", START + 8 * HOUR, board(outside=[GERMAN, ALSO_GERMAN]))
    await world.store.cases.take_findings(START + 9 * HOUR)
    for text in ("one", "two"):
        work = CaseWork(CaseAction.NOTE, text, "", accept_risk=False)
        await world.store.cases.work([CaseRef(1, None)], work, "ann", START + 10 * HOUR)
    rows = await world.rows(bounds=Bounds(findings=1, device_findings=0))
    left_out = {each.what: each.count for each in rows.left_out}
    assert len(keys(rows, "case_findings")) == len(keys(rows, "case_entries")) == 1
    assert keys(rows, "case_findings")[0][2] == micros(START + 8 * HOUR)
    whole = await world.rows()
    assert left_out["findings of the case"] == len(keys(whole, "case_findings")) - 1 == 2
    assert left_out["entries of the story"] == len(keys(whole, "case_entries")) - 1
    newest = max(key[1] for key in keys(whole, "case_entries"))
    assert keys(rows, "case_entries") == [(1, newest)]


async def test_ranges_between_landmarks_and_files_are_bounded(world: ExportWorld) -> None:
    await add_exhibit(world, b"x" * 600, 1)
    await add_exhibit(world, b"y" * 600, 2)
    rows = await world.rows(bounds=Bounds(landmark_ranges=1, exhibit_bytes=1_000))
    assert len(keys(rows, "landmark_ranges")) == 1
    assert [(each.what, each.count) for each in rows.left_out] == [("ranges between landmarks", 1)]
    assert [row.hidden for row in of_table(rows, "exhibits")] == [frozenset(), {"data"}]
