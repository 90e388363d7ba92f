"""What a corrupt officer or an allied viewer tries (docs/protocol.md RC2, RC4, RC7, RC8, RC11)."""

from dataclasses import replace

import pytest

from server.records.values import ByBoard, MaintenanceWindow, RecordKind, Selector
from server.store import ChangeState, RecordConflictError, Store
from server.store.record_types import RecordFilter
from server.store.schema import SELECTORS
from server.store.types import ImportOutcome, ImportRow
from tests.store.record_world import (
    DAY,
    approve,
    by_board,
    by_pdi,
    draft,
    in_force,
    propose,
    shipment,
    site,
    window,
    write,
)
from tests.store.store_world import GERMANY, HOUR, START, pdi

TEN_DAYS = replace(window(site_id="ber"), ends_at=START + 10 * DAY)


def row(selector: Selector, title: str = "fra") -> ImportRow:
    return ImportRow(selector, replace(draft(), eccn="", quantity=None), title, GERMANY)


async def counted(store: Store, *rows: ImportRow) -> ImportOutcome:
    return await store.import_deployments(rows, START, by="ann", reason="because")


@pytest.mark.parametrize(
    ("stands", "meddled", "day"),
    [
        (window(), replace(window(), ends_at=START + 9 * DAY), 8),  # over, and made quiet afterwards
        (TEN_DAYS, replace(TEN_DAYS, site_id="fra"), 8),  # quiet days of one site become another's
        (TEN_DAYS, replace(TEN_DAYS, starts_at=START + 9 * DAY), 8),  # quiet days count after all
    ],
)
async def test_a_window_that_has_begun_makes_no_past_time_quiet_or_loud(
    store: Store, stands: MaintenanceWindow, meddled: MaintenanceWindow, day: int
) -> None:
    await write(store, draft(), site(), site("ber"), stands)
    with pytest.raises(RecordConflictError):
        await write(store, meddled, now=START + day * DAY)


async def test_a_window_that_moves_before_it_begins_is_stale_when_that_is_approved_later(store: Store) -> None:
    await in_force(store, site("ber"), TEN_DAYS)
    change = await propose(store, replace(TEN_DAYS, site_id="fra"), now=START + HOUR)
    assert (await approve(store, change, now=START + 5 * DAY)).state is ChangeState.STALE


async def test_a_file_is_stale_when_something_changed_between_its_count_and_its_proposal(store: Store) -> None:
    rows = [row(by_pdi(1).selector), row(by_pdi(3).selector)]
    await in_force(store, by_pdi(1), site("ber"))
    told = await counted(store, *rows)
    await approve(store, await propose(store, by_pdi(1, "ber"), by="cyd"), now=START)
    change = await store.records.propose_file(
        iter([b"x"]), "csv", told.summary, told.licensees, "ann", "why", START, told.basis
    )
    decided = await store.records.approve(change.change_id, "bob", "seen", START, rows)
    assert decided.state is ChangeState.STALE


async def test_a_file_tells_where_deployed_devices_go(store: Store) -> None:
    await in_force(store, by_pdi(1), by_pdi(2), site("ber"))
    told = await counted(store, row(by_pdi(1).selector, "ber"), row(by_pdi(2).selector, "ber"))
    assert "2 changed deployments: site licenses/D1/sites/fra -> licenses/D1/sites/ber" in told.summary


async def test_a_file_names_no_fewer_devices_of_a_board_than_have_reported(store: Store) -> None:
    await in_force(store, by_board(9, 4))
    await store._write(lambda connection: connection.execute(SELECTORS.update().values(adopted=3)))
    assert (await counted(store, row(ByBoard(pdi(9), 3)))).counts.updated == 1
    with pytest.raises(RecordConflictError):
        await counted(store, row(ByBoard(pdi(9), 2)))


async def test_a_jurisdiction_finds_no_license_by_a_shipment_to_a_site_elsewhere(store: Store) -> None:
    await write(store, draft(), site(), site("sin", jurisdiction="SG"), shipment("s1", "sin"))
    for jurisdiction, found in (("DE", 0), ("SG", 1)):
        chosen = RecordFilter(RecordKind.LICENSE, shipment_id="s1", jurisdiction=jurisdiction)
        assert len((await store.records.list(chosen)).records) == found
