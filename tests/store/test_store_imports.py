"""Imports: what files make of licenses, parties, sites, shipments and deployments, and what one person may not."""

from dataclasses import replace
from datetime import timedelta

import pytest

from server.records.names import deployment_name
from server.records.names_alike import Likeness
from server.records.sites import jurisdiction_of, slug_of, title_of
from server.records.values import (
    ByBoard,
    ByKey,
    ByPdi,
    DeploymentRecord,
    LicenseRecord,
    Party,
    PartyRole,
    Record,
    Selector,
    Shipment,
    Site,
)
from server.store import DeviceFilter, ImportCounts, RecordConflictError, Store
from server.store.errors import HitsOpenError
from server.store.record_types import ChangeRecord, ChangeState, RevisionFilter
from server.store.screening_types import ListEntry, NewList, PartyNames, ScreenedParty
from server.store.staging import Clash, Staging
from server.store.types import ImportOutcome, ImportRow, ImportShipment
from tests.store.desk_world import deployment_on_record, in_force, put, set_state, shown, terms_of
from tests.store.store_world import GERMANY, HOUR, SITE, START, deployment, load, pdi
from verifier.license import License, LicenseState
from verifier.place.geodesy import Position
from verifier.place.regions import AnyOf, Complement, Countries, Group, Polygon, Region, SiteDisc
from verifier.units import CountryCode, DeviceKeyId
from verifier.verdict import Standing

KEY = DeviceKeyId(bytes(range(32)))
DAY = timedelta(days=1)
SHIPMENT = ImportShipment("s-1", START - DAY, START + DAY)


def row(
    selector: Selector,
    held: License | None = None,
    region: Region = SITE,
    *,
    title: str = "",
    eccn: str = "",
    quantity: int | None = None,
    shipment: ImportShipment | None = None,
) -> ImportRow:
    terms = replace(held or terms_of(), state=LicenseState.DRAFT)
    return ImportRow(selector, LicenseRecord(terms, (), eccn, quantity), title, region, "DE", shipment)


async def given(store: Store, *rows: ImportRow, validate_only: bool = False) -> ImportOutcome:
    return await store.import_deployments(rows, START, by="ann", reason="import", validate_only=validate_only)


async def on_record(store: Store, name: str) -> Record:
    stored = await store.records.get(name)
    assert stored is not None, name
    return stored.record


async def revisions(store: Store) -> list[tuple[str, int, str, str]]:
    page = await store.records.revisions(RevisionFilter())
    return sorted((each.name, each.revision, each.by, each.reason) for each in page.revisions)


# what one file makes


async def test_a_file_makes_a_draft_its_party_and_its_sites(store: Store) -> None:
    outcome = await given(store, row(ByPdi(pdi(1)), eccn="3A090", quantity=8), row(ByPdi(pdi(2)), region=GERMANY))
    assert (outcome.counts, outcome.touches_force) == (ImportCounts(2, 0, 0), False)
    assert outcome.licensees == ("Example Cloud",)
    assert outcome.summary[0] == "deployments: 2 new, 0 changed, 0 unchanged"
    terms = replace(terms_of(), state=LicenseState.DRAFT, revision=1)
    parties = (("example-cloud", PartyRole.LICENSEE),)
    assert await on_record(store, "licenses/D1") == LicenseRecord(terms, parties, "3A090", 8)
    assert await on_record(store, "parties/example-cloud") == Party("example-cloud", "Example Cloud")
    assert await on_record(store, "licenses/D1/sites/frankfurt-1") == Site(
        "D1", "frankfurt-1", "Frankfurt 1", SITE, jurisdiction="DE"
    )
    assert await on_record(store, "licenses/D1/sites/de") == Site("D1", "de", "DE", GERMANY, jurisdiction="DE")
    assert await revisions(store) == [
        ("deployments/0000000000000001", 1, "ann", "import"),
        ("deployments/0000000000000002", 1, "ann", "import"),
        ("licenses/D1", 1, "ann", "import"),
        ("licenses/D1/sites/de", 1, "ann", "import"),
        ("licenses/D1/sites/frankfurt-1", 1, "ann", "import"),
        ("parties/example-cloud", 1, "ann", "import"),
    ]
    # Nothing of it is in force.
    assert (await store.list_devices(DeviceFilter())).total == 0
    assert (await load(store, pdi(1))).deployments == {}
    await set_state(store, LicenseState.ACTIVE)
    assert await shown(store) == (Standing.UNPROVEN, [])


async def test_the_same_file_again_changes_nothing(store: Store) -> None:
    rows = [
        row(ByPdi(pdi(1)), shipment=SHIPMENT),
        row(ByKey(KEY), region=GERMANY),
        row(ByBoard(pdi(9), 8), terms_of("D2")),
    ]
    assert (await given(store, *rows)).counts == ImportCounts(3, 0, 0)
    before = await revisions(store)
    assert (await given(store, *rows)).counts == ImportCounts(0, 0, 3)
    assert (await given(store, *rows, validate_only=True)).counts == ImportCounts(0, 0, 3)
    assert await revisions(store) == before


async def test_what_a_row_leaves_out_stays(store: Store) -> None:
    await given(store, row(ByPdi(pdi(1)), eccn="3A090", quantity=8, shipment=SHIPMENT))
    assert (await given(store, row(ByPdi(pdi(1))))).counts == ImportCounts(0, 0, 1)
    own, _, _ = await deployment_on_record(store, deployment_name(ByPdi(pdi(1))))
    assert own.shipment_id == "s-1"
    assert (await given(store, row(ByPdi(pdi(1)), quantity=9))).counts == ImportCounts(0, 1, 0)
    record = await on_record(store, "licenses/D1")
    assert isinstance(record, LicenseRecord)
    assert (record.eccn, record.quantity) == ("3A090", 9)
    # At another site the shipment is another one, or none.
    await given(store, row(ByPdi(pdi(1)), region=GERMANY))
    own, revision, _ = await deployment_on_record(store, deployment_name(ByPdi(pdi(1))))
    assert (own.site_id, own.shipment_id, revision) == ("de", "", 2)


async def test_shipments_and_deployments_by_key_and_board(store: Store) -> None:
    await given(store, row(ByKey(KEY), shipment=SHIPMENT), row(ByBoard(pdi(9), 8)))
    expected = Shipment("s-1", "D1", "frankfurt-1", SHIPMENT.shipped_at, SHIPMENT.activation_by)
    assert await on_record(store, "shipments/s-1") == expected
    by_key = DeploymentRecord(ByKey(KEY), "D1", "frankfurt-1", "s-1")
    assert (await deployment_on_record(store, f"deployments/key-{KEY.hex()}"))[:2] == (by_key, 1)
    name = f"deployments/board-{pdi(9).hex()}"
    assert (await given(store, row(ByBoard(pdi(9), 4)))).counts == ImportCounts(0, 1, 0)
    assert (await deployment_on_record(store, name))[:2] == (
        DeploymentRecord(ByBoard(pdi(9), 4), "D1", "frankfurt-1"),
        2,
    )
    later = replace(SHIPMENT, activation_by=START + 2 * DAY)
    await given(store, row(ByKey(KEY), shipment=later))
    assert await on_record(store, "shipments/s-1") == replace(expected, activation_by=START + 2 * DAY)
    with pytest.raises(RecordConflictError, match="goes to licenses/D1/sites/frankfurt-1"):
        await given(store, row(ByKey(KEY), region=GERMANY, shipment=SHIPMENT))


async def test_a_party_of_the_licensees_name_is_used(store: Store) -> None:
    await put(store, Party("acme", "Example Cloud"), Party("other-one", "Something Else"))
    await given(store, row(ByPdi(pdi(1))), row(ByPdi(pdi(2)), replace(terms_of("D2"), licensee="Other, One")))
    parties = {}
    for number in ("D1", "D2"):
        record = await on_record(store, f"licenses/{number}")
        assert isinstance(record, LicenseRecord)
        parties[number] = record.parties
    assert parties == {"D1": (("acme", PartyRole.LICENSEE),), "D2": (("other-one-2", PartyRole.LICENSEE),)}
    assert await on_record(store, "parties/other-one-2") == Party("other-one-2", "Other, One")


async def test_a_site_is_known_by_its_name(store: Store) -> None:
    await given(store, row(ByPdi(pdi(1)), region=GERMANY))
    await put(store, Site("D1", "hall-7", "Frankfurt 1", SITE, "Main Street"))
    await given(store, row(ByPdi(pdi(2))))
    own, _, _ = await deployment_on_record(store, deployment_name(ByPdi(pdi(2))))
    assert own.site_id == "hall-7"
    await put(store, Site("D1", "de", "Berlin", GERMANY))
    with pytest.raises(RecordConflictError, match="site de of license D1 is called 'Berlin', not 'DE'"):
        await given(store, row(ByPdi(pdi(3)), region=GERMANY))


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        (row(ByKey(KEY)), row(ByKey(KEY)), "selector"),
        (row(ByPdi(pdi(1))), row(ByPdi(pdi(2)), region=replace(SITE, radius_km=9.0)), "site_name"),
        (row(ByPdi(pdi(1)), eccn="3A090"), row(ByPdi(pdi(2)), eccn="4A090"), "eccn"),
        (row(ByPdi(pdi(1)), quantity=1), row(ByPdi(pdi(2)), quantity=2), "quantity"),
        (
            row(ByPdi(pdi(1)), shipment=SHIPMENT),
            row(ByPdi(pdi(2)), shipment=replace(SHIPMENT, shipped_at=START)),
            "shipment",
        ),
    ],
)
async def test_rows_that_contradict_each_other(store: Store, first: ImportRow, second: ImportRow, field: str) -> None:
    with pytest.raises(RecordConflictError) as refused:
        await given(store, first, second)
    assert refused.value.field == field
    assert await revisions(store) == []


async def test_a_check_counts_what_several_chunks_make_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.store.imports.ROWS", 1)
    rows = [row(ByPdi(pdi(number)), shipment=SHIPMENT) for number in (1, 2, 3)]
    checked = await given(store, *rows, validate_only=True)
    assert await revisions(store) == []
    assert await given(store, *rows) == checked
    assert (checked.counts, len(checked.summary)) == (ImportCounts(3, 0, 0), 5)


# two people


@pytest.mark.parametrize(
    "touching",
    [
        row(ByPdi(pdi(2))),
        row(ByPdi(pdi(1)), region=GERMANY),
        row(ByPdi(pdi(1)), terms_of("D2")),
        row(ByPdi(pdi(1)), terms_of(grace=HOUR)),
        row(ByPdi(pdi(1)), region=replace(SITE, radius_km=9.0)),
        row(ByKey(KEY)),
        row(ByPdi(pdi(1)), shipment=SHIPMENT),
    ],
)
async def test_one_person_writes_nothing_that_touches_a_license_in_force(store: Store, touching: ImportRow) -> None:
    await given(store, row(ByPdi(pdi(1))))
    await set_state(store, LicenseState.ACTIVE)
    before, number = await revisions(store), await store.records_number()
    more = row(ByPdi(pdi(7)), terms_of("D7"))
    checked = await given(store, touching, more, validate_only=True)
    assert checked.touches_force
    assert await given(store, touching, more) == checked
    assert (await revisions(store), await store.records_number()) == (before, number)
    # What stands as it is touches nothing.
    assert not (await given(store, row(ByPdi(pdi(1))), more)).touches_force


async def test_an_approved_file_is_written_with_its_change(store: Store) -> None:
    await in_force(store, site_id="frankfurt-1", region=SITE)
    await put(store, Site("D1", "frankfurt-1", "Frankfurt 1", SITE, jurisdiction="DE"))
    rows = [row(ByPdi(pdi(1))), row(ByPdi(pdi(2)), terms_of("D2"))]
    change = await store.records.propose_file([b"file"], "csv", ["x"], ["Example Cloud"], "ann", "more", START)
    decided = await store.records.approve(change.change_id, "bob", "seen", START, rows)
    assert decided.state is ChangeState.APPLIED
    assert await shown(store, 1) == (Standing.UNPROVEN, [])
    page = await store.records.revisions(RevisionFilter(name=deployment_name(ByPdi(pdi(1)))))
    assert [(each.by, each.approved_by, each.change_id) for each in page.revisions] == [
        ("ann", "bob", change.change_id)
    ]
    record = await on_record(store, "licenses/D2")
    assert isinstance(record, LicenseRecord)
    assert record.terms.state is LicenseState.DRAFT  # whoever approves a file activates nothing


@pytest.mark.parametrize("number", [1, 2])
async def test_a_file_is_stale_when_a_record_that_it_names_was_revised(store: Store, number: int) -> None:
    await store.import_deployments(
        [deployment(1, terms_of()), deployment(2, terms_of())], START, by="ann", reason="x", state=LicenseState.ACTIVE
    )
    await put(store, Site("D1", "fra", "Frankfurt 1", SITE, jurisdiction="DE"))
    change = await store.records.propose_file([b"file"], "csv", ["x"], ["Example Cloud"], "ann", "more", START)
    await put(store, DeploymentRecord(ByPdi(pdi(number)), "D1", "fra"))
    rows = [row(ByPdi(pdi(1)), region=GERMANY), row(ByPdi(pdi(5)), terms_of("D5"))]
    decided = await store.records.approve(change.change_id, "bob", "seen", START, rows)
    stale = number == 1
    assert decided.state is (ChangeState.STALE if stale else ChangeState.APPLIED)
    assert (await store.records.get("licenses/D5") is None) is stale
    assert await store.get_device(pdi(5)) is None


# who comes into a license by a file

OTHER = replace(terms_of(), licensee="Qumolith Hosting")


async def screened(store: Store, *found: Likeness) -> None:
    """A list is in force, and the party `qh` was screened against it."""
    entries = [ListEntry(each.entry_id, "invented", "Entity", each.title) for each in found]
    party = ScreenedParty(PartyNames("qh", 1, ("Qumolith Hosting",)), found)
    new = NewList("1", bytes(32), len(entries), "ann")
    await store.screening.replace_list(new, entries, [party], START)


async def approved(store: Store, *rows: ImportRow) -> ChangeRecord:
    change = await store.records.propose_file([b"file"], "csv", ["x"], ["Example Cloud"], "ann", "more", START)
    return await store.records.approve(change.change_id, "bob", "seen", START, rows)


@pytest.fixture
async def active(store: Store) -> Store:
    await given(store, row(ByPdi(pdi(1))))
    await set_state(store, LicenseState.ACTIVE)
    return store


async def licensee(store: Store) -> tuple[str, tuple[tuple[str, PartyRole], ...]]:
    record = await on_record(store, "licenses/D1")
    assert isinstance(record, LicenseRecord)
    return record.terms.licensee, record.parties


BEFORE = "Example Cloud", (("example-cloud", PartyRole.LICENSEE),)
AFTER = "Qumolith Hosting", (("qh", PartyRole.LICENSEE),)
HIT = Likeness("e1", 90.0, "Qumolith Hosting", "Qumolit Hosting", "Qumolit Hosting")


async def test_a_file_gives_no_active_license_a_party_that_nobody_screened(active: Store) -> None:
    with pytest.raises(RecordConflictError, match="write party qumolith-hosting before") as refused:
        await given(active, row(ByPdi(pdi(1)), OTHER), validate_only=True)
    assert refused.value.field == "licensee"
    decided = await approved(active, row(ByPdi(pdi(1)), OTHER))
    assert decided.state is ChangeState.STALE
    assert await licensee(active) == BEFORE
    assert await active.records.get("parties/qumolith-hosting") is None


async def test_nor_one_that_an_earlier_row_of_the_file_makes(active: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.store.imports.ROWS", 1)
    decided = await approved(active, row(ByPdi(pdi(2)), replace(OTHER, number="D2")), row(ByPdi(pdi(1)), OTHER))
    assert decided.state is ChangeState.STALE
    assert await licensee(active) == BEFORE
    assert await active.records.get("licenses/D2") is None


async def test_nor_one_with_a_hit(active: Store) -> None:
    await put(active, Party("qh", "Qumolith Hosting"))
    await screened(active, HIT)
    with pytest.raises(HitsOpenError) as refused:
        await approved(active, row(ByPdi(pdi(1)), OTHER))
    assert refused.value.party_ids == ("qh",)
    assert await licensee(active) == BEFORE


async def test_but_one_that_was_screened_and_is_like_nobody(active: Store) -> None:
    await put(active, Party("qh", "Qumolith Hosting"))
    await screened(active)
    decided = await approved(active, row(ByPdi(pdi(1)), OTHER))
    assert decided.state is ChangeState.APPLIED
    assert await licensee(active) == AFTER


async def test_a_draft_takes_any_party(store: Store) -> None:
    """It is looked at when it comes into force."""
    await given(store, row(ByPdi(pdi(1))))
    await put(store, Party("qh", "Qumolith Hosting"))
    await screened(store, HIT)
    await given(store, row(ByPdi(pdi(1)), OTHER))
    assert await licensee(store) == AFTER
    with pytest.raises(HitsOpenError):
        await set_state(store, LicenseState.ACTIVE)


# staging and names


def test_staging_gives_back_what_it_was_given_in_the_order_of_pdis() -> None:
    rows = [
        row(ByBoard(pdi(9), 8), terms_of("D2"), GERMANY, quantity=3),
        row(ByKey(KEY), eccn="3A090", shipment=SHIPMENT),
        row(ByPdi(pdi(2)), title="Frankfurt 1", eccn="3A090"),
        row(ByPdi(pdi(1)), replace(terms_of("D3"), tolerated_domains=2, surprises_per_day=0)),
    ]
    with Staging() as staging:
        assert [staging.add(line, each) for line, each in enumerate(rows, 1)] == [()] * 4
        back = list(staging.rows())
    named = [replace(each, site_title=each.site_title or title_of(each.region)) for each in reversed(rows)]
    # Every row of a license tells what any of them told.
    named[1] = replace(named[1], license=replace(named[1].license, eccn="3A090"))
    assert back == named


@pytest.mark.parametrize(
    ("second", "clashes"),
    [
        (row(ByPdi(pdi(1))), {"selector"}),
        (row(ByPdi(pdi(2)), replace(terms_of(), licensee="Other")), {"licensee"}),
        (row(ByPdi(pdi(1)), terms_of(grace=HOUR, cadence=2 * HOUR)), {"grace", "cadence", "selector"}),
        (row(ByPdi(pdi(2)), region=SiteDisc("Frankfurt 1", Position(50.0, 8.0), 25.0)), {"region"}),
        (row(ByPdi(pdi(2)), title="Frankfurt (1)"), {"title"}),
        (row(ByPdi(pdi(2)), eccn="4A090"), {"eccn"}),
        (row(ByPdi(pdi(2)), quantity=5), {"quantity"}),
        (row(ByPdi(pdi(2)), shipment=replace(SHIPMENT, activation_by=START)), {"activation_by"}),
        (row(ByPdi(pdi(2)), shipment=replace(SHIPMENT, shipped_at=START)), {"shipped_at"}),
        (row(ByPdi(pdi(2)), terms_of("D2"), shipment=SHIPMENT), {"shipment"}),
        (row(ByPdi(pdi(2)), region=GERMANY), set()),
        (row(ByPdi(pdi(2)), terms_of("D2"), replace(SITE, radius_km=9.0)), set()),
    ],
)
def test_staging_tells_in_what_a_row_contradicts_an_earlier_one(second: ImportRow, clashes: set[str]) -> None:
    first = row(ByPdi(pdi(1)), eccn="3A090", quantity=4, shipment=SHIPMENT)
    with Staging() as staging:
        assert staging.add(3, first) == ()
        assert set(staging.add(8, second)) == {Clash(name, 3) for name in clashes}
        assert len(list(staging.rows())) == (1 if clashes else 2)


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Frankfurt 1", "frankfurt-1"),
        ("  A:5 ", "a-5"),
        ("Zürich, Süd", "zurich-sud"),
        ("上海", "shanghai"),
        ("!!!", "site"),
        ("x" * 70, "x" * 63),
        ("y" * 62 + " z", "y" * 62),
    ],
)
def test_slugs(title: str, slug: str) -> None:
    assert slug_of(title, "site") == slug


def test_sites_without_a_name() -> None:
    drawn = Polygon("Yard", (((8.1, 50.0), (9.0, 50.0), (9.0, 50.3)),))
    both = Countries(frozenset({CountryCode("SG"), CountryCode("MY")}))
    assert title_of(AnyOf((drawn, replace(drawn), Group("A:5")))) == "Yard, A:5"
    assert title_of(Complement(both)) == "outside MY, SG"
    assert [jurisdiction_of(region) for region in (GERMANY, both, drawn)] == ["DE", "", ""]
