"""Writes of records: bases, what they name, what they may become, whole or not at all (docs/protocol.md RC1 to RC3)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from server.records.names import parse_name
from server.records.values import ByPdi, LicenseRecord, MaintenanceWindow, Party, Record, RecordKind, RecordWrite
from server.store import (
    RecordConflictError,
    RecordFilter,
    RecordNotFoundError,
    RevisionFilter,
    StaleRevisionError,
    Store,
    StoredRecord,
)
from server.store.schema import SELECTORS
from tests.store.record_world import (
    ACME,
    DAY,
    add_hit,
    by_board,
    by_key,
    by_pdi,
    draft,
    end,
    get,
    put,
    revisions_kept,
    shipment,
    site,
    window,
    write,
)
from tests.store.store_world import HOUR, START, pdi
from verifier.license import BoardSwap, LicenseState

EVERYTHING: list[Record] = [
    ACME,
    draft(parties=["acme"]),
    site(),
    shipment(),
    replace(by_pdi(1, shipment="s1"), swap=BoardSwap(frozenset({pdi(9)}), START + DAY)),
    by_board(2),
    by_key(3),
    window(),
]


async def test_every_kind_is_written_and_read_as_it_was(store: Store) -> None:
    outcome = await write(store, *reversed(EVERYTHING))
    assert outcome.change is None
    assert not outcome.two_people
    assert [stored.revision for stored in outcome.records] == [1] * 8
    for record in EVERYTHING:
        back = await get(store, record)
        expected = (
            record
            if not isinstance(record, LicenseRecord)
            else replace(record, terms=replace(record.terms, revision=1))
        )
        assert back == expected
    assert [stored.record for stored in outcome.records] == [
        await get(store, record) for record in reversed(EVERYTHING)
    ]


async def test_what_is_written_again_gets_no_revision(store: Store) -> None:
    await write(store, *EVERYTHING)
    kept, number = await revisions_kept(store), await store.records_number()
    again = await write(store, *EVERYTHING, now=START + HOUR)
    assert [stored.revised_at for stored in again.records] == [START] * 8
    assert await revisions_kept(store) == kept
    assert await store.records_number() == number


async def test_one_write_takes_one_number(store: Store) -> None:
    before = await store.records_number()
    await write(store, *EVERYTHING)
    assert await store.records_number() == before + 1


async def test_a_write_on_another_revision_is_refused_whole(store: Store) -> None:
    await write(store, ACME)
    await write(store, replace(ACME, title="Acme Ltd"))
    for basis, stands in ((0, 2), (1, 2), (3, 2)):
        with pytest.raises(StaleRevisionError) as stale:
            await write(store, Party("other", "Other"), put(replace(ACME, title="Acme GmbH"), basis))
        assert (stale.value.name, stale.value.stands) == ("parties/acme", stands)
    assert await get(store, Party("other", "")) is None
    await write(store, put(replace(ACME, title="Acme GmbH"), 2))
    assert await get(store, ACME) == replace(ACME, title="Acme GmbH")


async def test_there_must_be_none_when_the_basis_says_so(store: Store) -> None:
    await write(store, put(ACME, 0))
    with pytest.raises(StaleRevisionError):
        await write(store, put(ACME, 0))
    with pytest.raises(StaleRevisionError) as stale:
        await write(store, put(draft(), 4))
    assert stale.value.stands == 0


async def test_what_ended_leaves_a_revision_and_goes_on_counting(store: Store) -> None:
    await write(store, ACME)
    await write(store, end(ACME, 1), now=START + HOUR)
    assert await get(store, ACME) is None
    with pytest.raises(RecordNotFoundError) as missing:
        await write(store, end(ACME))
    assert missing.value.name == "parties/acme"
    outcome = await write(store, put(ACME, 0), now=START + 2 * HOUR)
    assert outcome.records[0].revision == 3
    page = await store.records.revisions(RevisionFilter(name="parties/acme"))
    assert [(r.revision, r.before, r.after) for r in page.revisions] == [
        (3, None, ACME),
        (2, ACME, None),
        (1, None, ACME),
    ]


async def test_a_record_as_of_a_time_is_the_one_that_stood(store: Store) -> None:
    later = replace(ACME, title="Acme Ltd")
    await write(store, ACME)
    await write(store, later, now=START + HOUR)
    await write(store, end(ACME), now=START + 2 * HOUR)
    second = timedelta(seconds=1)
    for at, expected in (
        (START - second, None),
        (START, ACME),
        (START + HOUR - second, ACME),
        (START + HOUR, later),
        (START + 2 * HOUR - second, later),
        (START + 2 * HOUR, None),
    ):
        stood = await store.records.get("parties/acme", at)
        assert (None if stood is None else stood.record) == expected
    stood = await store.records.get("parties/acme", START + HOUR)
    assert stood == StoredRecord("parties/acme", later, 2, START + HOUR)


async def test_a_license_as_of_a_time_carries_its_revision(store: Store) -> None:
    await write(store, draft())
    await write(store, replace(draft(), eccn="4A090"), now=START + HOUR)
    for at, revision in ((START, 1), (START + HOUR, 2)):
        stood = await store.records.get("licenses/D1", at)
        assert stood is not None
        assert isinstance(stood.record, LicenseRecord)
        assert stood.record.terms.revision == stood.revision == revision


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([draft(parties=["nobody"])], "license.parties"),
        ([site()], "name"),
        ([draft(), by_pdi(1)], "deployment.site"),
        ([draft(), site(), by_pdi(1, shipment="s1")], "deployment.shipment"),
        ([draft(), site(), site("ber"), shipment("s1", "ber"), by_pdi(1, shipment="s1")], "deployment.shipment"),
        ([draft(), shipment()], "shipment.site"),
        ([draft(), window("w1", "fra")], "window.scope"),
        ([window()], "window.scope"),
        ([draft(), window(start=START - HOUR)], "window.starts_at"),
        ([draft(), site(), replace(by_key(1), swap=BoardSwap(frozenset({pdi(1)}), START))], "deployment.swap"),
        ([draft(), site(), by_board(1, devices=0)], "deployment.devices"),
        ([draft(state=LicenseState.ACTIVE)], "license.state"),
        ([ACME, ACME], "name"),
    ],
)
async def test_what_contradicts_is_refused_whole(store: Store, given: list[Record], field: str) -> None:
    with pytest.raises(RecordConflictError) as conflict:
        await write(store, *given)
    assert conflict.value.field == field
    assert await revisions_kept(store) == 0


async def test_a_record_goes_by_its_own_name(store: Store) -> None:
    with pytest.raises(RecordConflictError) as conflict:
        await write(store, RecordWrite("parties/other", ACME, None))
    assert conflict.value.field == "name"


@pytest.mark.parametrize("ends", [ACME, draft(), site(), shipment()])
async def test_what_is_used_does_not_end(store: Store, ends: Record) -> None:
    await write(store, *EVERYTHING)
    kept = await revisions_kept(store)
    with pytest.raises(RecordConflictError) as conflict:
        await write(store, end(ends))
    assert conflict.value.field == "name"
    assert await revisions_kept(store) == kept
    assert await get(store, ends) is not None


async def test_what_uses_it_may_end_with_it(store: Store) -> None:
    await write(store, *EVERYTHING)
    await write(store, *map(end, EVERYTHING))
    for record in EVERYTHING:
        assert await get(store, record) is None


async def test_what_is_written_anew_beside_its_end_is_refused(store: Store) -> None:
    await write(store, draft(), site(), shipment(), by_pdi(1, shipment="s1"))
    for ends in (end(shipment()), end(site())):
        with pytest.raises(RecordConflictError):
            await write(store, by_pdi(1, shipment="s1"), ends)
    await write(store, by_pdi(1), end(shipment()))
    assert await get(store, by_pdi(1)) == by_pdi(1)


async def test_a_shipment_goes_elsewhere_only_with_what_it_brings(store: Store) -> None:
    await write(store, draft(), site(), site("ber"), shipment(), by_pdi(1, shipment="s1"))
    with pytest.raises(RecordConflictError) as conflict:
        await write(store, shipment("s1", "ber"))
    assert conflict.value.field == "shipment.site"
    with pytest.raises(RecordConflictError) as conflict:
        await write(store, shipment("s1", "ber"), by_pdi(1, shipment="s1"))
    assert conflict.value.field == "deployment.shipment"
    await write(store, shipment("s1", "ber"), by_pdi(1, "ber", shipment="s1"))
    assert await get(store, shipment()) == shipment("s1", "ber")


async def test_a_board_allows_no_fewer_devices_than_have_reported(store: Store) -> None:
    await write(store, draft(), site(), by_board(2, 4))

    def adopt(connection: Connection) -> None:
        connection.execute(SELECTORS.update().values(adopted=3))

    await store._write(adopt)
    with pytest.raises(RecordConflictError) as conflict:
        await write(store, by_board(2, 2))
    assert conflict.value.field == "deployment.devices"
    outcome = await write(store, by_board(2, 3))
    assert outcome.records[0].adopted == 3
    stored = await store.records.get("deployments/board-0000000000000002")
    assert stored is not None
    assert (stored.adopted, stored.record) == (3, by_board(2, 3))


async def test_devices_are_counted_by_pdi_key_and_board(store: Store) -> None:
    await write(store, *EVERYTHING, draft("D2"), site(number="D2"), by_board(7, 8, number="D2"))
    assert await store.records.deployed_count("D1") == 1 + 4 + 1
    assert await store.records.deployed_count("D2") == 8
    assert await store.records.deployed_count("D3") == 0


async def test_a_party_with_hits_stays(store: Store) -> None:
    await write(store, ACME)
    await add_hit(store, "acme", state=2)
    with pytest.raises(RecordConflictError):
        await write(store, end(ACME))


async def test_a_running_window_may_be_made_longer_and_its_start_stays(store: Store) -> None:
    await write(store, draft(), window())
    running = START + DAY + HOUR / 2
    longer = replace(window(), ends_at=START + DAY + 2 * HOUR)
    await write(store, longer, now=running)
    assert await get(store, window()) == longer
    with pytest.raises(RecordConflictError):
        await write(store, replace(longer, starts_at=START + DAY + HOUR / 4), now=running)


async def test_a_running_window_ends_now_at_the_earliest(store: Store) -> None:
    """docs/protocol.md RC7: what was quiet when it passed counts against nobody afterwards."""
    await write(store, draft(), window())
    running = START + DAY + HOUR / 2
    for gone in (end(window()), replace(window(), ends_at=running - HOUR / 4)):
        with pytest.raises(RecordConflictError):
            await write(store, gone, now=running)
    await write(store, replace(window(), ends_at=running), now=running)
    ended = await get(store, window())
    assert isinstance(ended, MaintenanceWindow)
    assert ended.ends_at == running
    # One that has not begun just ends.
    await write(store, window("w2", start=START + 2 * DAY), now=running)
    await write(store, end(window("w2")), now=running)


async def test_a_check_tells_and_changes_nothing(store: Store) -> None:
    await write(store, ACME)
    writes = [put(replace(ACME, title="Acme Ltd")), put(draft())]
    checked = await store.records.write(writes, "ann", "because", START, validate_only=True)
    assert [(stored.name, stored.revision) for stored in checked.records] == [("parties/acme", 2), ("licenses/D1", 1)]
    assert not checked.two_people
    assert await get(store, ACME) == ACME
    assert await revisions_kept(store) == 1
    with pytest.raises(StaleRevisionError):
        await store.records.write([put(ACME, 5)], "ann", "because", START, validate_only=True)


# Lists.


async def _names(store: Store, chosen: RecordFilter, limit: int = 100) -> list[str]:
    """Read all pages; the parts must agree with the totals."""
    names: list[str] = []
    after: str | None = None
    while True:
        page = await store.records.list(chosen, after=after, limit=limit)
        names += [stored.name for stored in page.records]
        if not page.more:
            assert page.total == len(names)
            return names
        assert len(page.records) == limit
        after = names[-1]


ODD = ("A", "A-1", "A 1", "a", "B/2", "Ä")


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_lists_are_in_the_order_of_names_page_by_page(store: Store, limit: int) -> None:
    high = [
        replace(by_pdi(1, number="A"), selector=ByPdi(type(pdi(1))(bytes([first] * 8)))) for first in (0xBF, 0xC0, 0xFF)
    ]
    records: list[Record] = [
        *(draft(number) for number in ODD),
        *(site(number=number) for number in ODD),
        *(site("ber", number) for number in ODD),
        *(replace(by_pdi(which), license_number="A") for which in range(5)),
        *high,
        *(replace(by_board(which), license_number="A") for which in (1, 255)),
        *(replace(by_key(which), license_number="A") for which in (0, 7)),
        *(Party(party_id, party_id) for party_id in ("a", "a-b", "ab", "9")),
        *(shipment(shipment_id, number="A") for shipment_id in ("s-1", "s1", "s")),
        *(window(window_id, number="A") for window_id in ("w-1", "w1", "w")),
    ]
    await write(store, *records)
    for kind in {type(record) for record in records}:
        stored = [await store.records.get(put(record).name) for record in records if type(record) is kind]
        names = sorted(one.name for one in stored if one is not None)

        assert await _names(store, RecordFilter(parse_name(names[0]).kind), limit) == names


PARTY, LICENSE, SITE, DEPLOYMENT, SHIPMENT, WINDOW = range(1, 7)


@pytest.mark.parametrize(
    ("kind", "make", "expected"),
    [
        (LICENSE, lambda k: RecordFilter(k, license_number="A"), ["licenses/A"]),
        (LICENSE, lambda k: RecordFilter(k, licensee="Other"), ["licenses/B"]),
        (LICENSE, lambda k: RecordFilter(k, party_id="acme"), ["licenses/A"]),
        (LICENSE, lambda k: RecordFilter(k, party_id="ac"), []),
        (LICENSE, lambda k: RecordFilter(k, jurisdiction="SG"), ["licenses/B"]),
        (LICENSE, lambda k: RecordFilter(k, state=LicenseState.DRAFT), ["licenses/A", "licenses/B"]),
        (LICENSE, lambda k: RecordFilter(k, state=LicenseState.ACTIVE), []),
        (LICENSE, lambda k: RecordFilter(k, expires_before=START + 300 * DAY), ["licenses/B"]),
        (LICENSE, lambda k: RecordFilter(k, site_id="sin"), ["licenses/B"]),
        (LICENSE, lambda k: RecordFilter(k, shipment_id="s1"), ["licenses/A"]),
        (PARTY, RecordFilter, ["parties/acme", "parties/fwd"]),
        (PARTY, lambda k: RecordFilter(k, jurisdiction="SG"), ["parties/fwd"]),
        (PARTY, lambda k: RecordFilter(k, jurisdiction="DE"), ["parties/acme"]),
        (PARTY, lambda k: RecordFilter(k, party_id="fwd"), ["parties/fwd"]),
        (PARTY, lambda k: RecordFilter(k, license_number="A"), ["parties/acme"]),
        (SITE, lambda k: RecordFilter(k, jurisdiction="SG"), ["licenses/B/sites/sin"]),
        (SITE, lambda k: RecordFilter(k, licensee="Other"), ["licenses/B/sites/fra", "licenses/B/sites/sin"]),
        (SITE, lambda k: RecordFilter(k, site_id="fra"), ["licenses/A/sites/fra", "licenses/B/sites/fra"]),
        (SITE, lambda k: RecordFilter(k, shipment_id="s2"), ["licenses/B/sites/sin"]),
        (DEPLOYMENT, lambda k: RecordFilter(k, jurisdiction="SG"), ["deployments/0000000000000002"]),
        (
            DEPLOYMENT,
            lambda k: RecordFilter(k, license_number="A"),
            ["deployments/0000000000000001", "deployments/board-0000000000000009"],
        ),
        (DEPLOYMENT, lambda k: RecordFilter(k, shipment_id="s2"), ["deployments/0000000000000002"]),
        (DEPLOYMENT, lambda k: RecordFilter(k, licensee="Other"), ["deployments/0000000000000002"]),
        (DEPLOYMENT, lambda k: RecordFilter(k, party_id="acme", site_id="sin"), []),
        (SHIPMENT, lambda k: RecordFilter(k, jurisdiction="DE"), ["shipments/s1"]),
        (SHIPMENT, lambda k: RecordFilter(k, ends_after=START + 7 * DAY), ["shipments/s2"]),
        (WINDOW, lambda k: RecordFilter(k, jurisdiction="SG"), ["maintenanceWindows/all", "maintenanceWindows/sin"]),
        (WINDOW, lambda k: RecordFilter(k, jurisdiction="DE"), ["maintenanceWindows/a"]),
        (WINDOW, lambda k: RecordFilter(k, site_id="sin"), ["maintenanceWindows/all", "maintenanceWindows/sin"]),
        (WINDOW, lambda k: RecordFilter(k, site_id="sin", jurisdiction="DE"), []),
        (WINDOW, lambda k: RecordFilter(k, ends_after=START + DAY + HOUR), ["maintenanceWindows/sin"]),
        (WINDOW, lambda k: RecordFilter(k, shipment_id="s2"), ["maintenanceWindows/all", "maintenanceWindows/sin"]),
    ],
)
async def test_filters_choose(
    store: Store, kind: int, make: Callable[[int], RecordFilter], expected: list[str]
) -> None:
    b = draft("B", parties=["fwd"])
    other = replace(b, terms=replace(b.terms, licensee="Other", valid_until=START + 9 * DAY))
    await write(
        store,
        *(ACME, Party("fwd", "Forwarder")),
        *(draft("A", parties=["acme"]), other),
        *(site(number="A"), site("sin", "B", jurisdiction="SG"), site("fra", "B", jurisdiction="")),
        *(shipment("s1", number="A"), replace(shipment("s2", "sin", "B"), activation_by=START + 8 * DAY)),
        *(by_pdi(1, number="A", shipment="s1"), by_pdi(2, "sin", "B", shipment="s2"), by_board(9, number="A")),
        *(window("a", "fra", "A"), window("all", "", "B"), window("sin", "sin", "B", start=START + 2 * DAY)),
    )
    assert await _names(store, make(RecordKind(kind))) == expected


async def test_an_end_is_asked_of_windows_and_shipments_alone(store: Store) -> None:
    with pytest.raises(RecordConflictError) as conflict:
        await store.records.list(RecordFilter(RecordKind.LICENSE, ends_after=START))
    assert conflict.value.field == "filter"


async def test_a_jurisdiction_sees_its_own_and_nothing_else(store: Store) -> None:
    mine: list[Record] = [
        draft("S", parties=["acme"]),
        site("sin", "S", jurisdiction="SG"),
        by_pdi(1, "sin", "S"),
        window("w", "", "S"),
    ]
    others: list[Record] = [
        draft("D"),
        site("fra", "D"),
        by_pdi(2, "fra", "D"),
        window("v", "", "D"),
        Party("fwd", "Forwarder"),
    ]
    await write(store, ACME, *mine, *others)
    for record in (ACME, *mine):
        assert await store.records.get(put(record).name, jurisdiction="SG") is not None
        assert await store.records.get(put(record).name, START, jurisdiction="SG") is not None
    for record in others:
        assert await store.records.get(put(record).name, jurisdiction="SG") is None
        assert await store.records.get(put(record).name) is not None


async def test_a_jurisdiction_does_not_see_what_stood_elsewhere(store: Store) -> None:
    await write(store, draft(), site(), site("sin", jurisdiction="SG"), by_pdi(1))
    await write(store, by_pdi(1, "sin"), now=START + HOUR)
    name = put(by_pdi(1)).name
    assert await store.records.get(name, jurisdiction="SG") is not None
    assert await store.records.get(name, START + HOUR, jurisdiction="SG") is not None
    assert await store.records.get(name, START, jurisdiction="SG") is None
    assert await store.records.get(name, START) is not None
