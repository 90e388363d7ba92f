"""Changes that take two people: proposed, approved, too late, taken back (docs/protocol.md RC4, RC5)."""

from dataclasses import replace
from pathlib import Path

import pytest

from server.records.values import LicenseRecord, MaintenanceWindow, Record, RecordWrite
from server.store import (
    ChangeClosedError,
    ChangeFilter,
    ChangeKind,
    ChangeRecord,
    ChangeState,
    FourEyesError,
    HitsOpenError,
    RecordConflictError,
    RecordNotFoundError,
    RevisionFilter,
    StaleRevisionError,
    Store,
)
from server.store.counters import read_counter
from tests.store.record_world import (
    ACME,
    DAY,
    add_hit,
    approve,
    by_board,
    by_pdi,
    draft,
    end,
    get,
    in_force,
    propose,
    put,
    revisions_kept,
    set_hits,
    shipment,
    site,
    window,
    write,
)
from tests.store.store_world import GERMANY, HOUR, START, license_of, pdi
from verifier.license import LicenseState
from verifier.units import CountryCode
from verifier.verdict import Standing

ACTIVE, SUSPENDED, REVOKED = LicenseState.ACTIVE, LicenseState.SUSPENDED, LicenseState.REVOKED


def state_of(record: Record | None) -> LicenseState:
    assert isinstance(record, LicenseRecord)
    return record.terms.state


async def test_an_activation_waits_and_is_applied_when_another_person_approves(store: Store) -> None:
    await write(store, draft(), site(), by_pdi(1))
    kept, number = await revisions_kept(store), await store.records_number()
    outcome = await write(store, draft(state=ACTIVE), now=START + HOUR)
    assert outcome.two_people
    assert outcome.change == ChangeRecord(
        change_id=1,
        kind=ChangeKind.RECORDS,
        state=ChangeState.OPEN,
        summary=("licenses/D1: state DRAFT -> ACTIVE",),
        proposed_by="ann",
        proposed_at=START + HOUR,
        reason="because",
        decided_by="",
        decided_at=None,
        decision_reason="",
        licensees=("Example Cloud",),
    )
    assert [(stored.revision, state_of(stored.record)) for stored in outcome.records] == [(2, ACTIVE)]
    assert state_of(await get(store, draft())) is LicenseState.DRAFT
    assert (await revisions_kept(store), await store.records_number()) == (kept, number)
    assert await store.get_device(pdi(1)) is None

    applied = await approve(store, outcome.change, now=START + 2 * HOUR)
    assert applied.state is ChangeState.APPLIED
    assert (applied.decided_by, applied.decided_at, applied.decision_reason) == ("bob", START + 2 * HOUR, "seen")
    assert await store.records.get_change(1) == applied
    assert state_of(await get(store, draft())) is ACTIVE
    device = await store.get_device(pdi(1))
    assert device is not None
    assert device.standing is Standing.UNPROVEN
    page = await store.records.revisions(RevisionFilter(name="licenses/D1"))
    newest = page.revisions[0]
    assert (newest.by, newest.approved_by, newest.reason, newest.change_id) == ("ann", "bob", "because", 1)
    assert newest.revised_at == START + 2 * HOUR
    assert (state_of(newest.before), state_of(newest.after)) == (LicenseState.DRAFT, ACTIVE)  # type: ignore[arg-type]  # no landmarks
    assert (page.revisions[1].approved_by, page.revisions[1].change_id) == ("", None)


@pytest.mark.parametrize("by", ["ann", "Ann", "ANN", " ann ", "\uff41nn"])
async def test_the_proposer_is_no_second_person_however_the_name_is_written(store: Store, by: str) -> None:
    await write(store, draft())
    change = await propose(store, draft(state=ACTIVE), by="ann")
    with pytest.raises(FourEyesError):
        await approve(store, change, by)
    with pytest.raises(FourEyesError):
        await store.records.reject([change.change_id], by, "no", START)
    assert state_of(await get(store, draft())) is LicenseState.DRAFT
    assert (await approve(store, change, "anna")).state is ChangeState.APPLIED


@pytest.mark.parametrize(
    "given",
    [
        draft(state=SUSPENDED),
        draft(state=REVOKED),
        replace(draft(state=ACTIVE), eccn="4A090"),
        replace(site(), address="2 Road"),
        site("ber"),
        by_pdi(2),
        by_board(3),
        end(by_pdi(1)),
        shipment(),
        window(),
    ],
)
async def test_what_belongs_to_a_license_in_force_waits(store: Store, given: Record | RecordWrite) -> None:
    await in_force(store, by_pdi(1))
    kept = await revisions_kept(store)
    change = await propose(store, given)
    assert await revisions_kept(store) == kept
    assert (await approve(store, change)).state is ChangeState.APPLIED
    assert await revisions_kept(store) == kept + 1


async def test_parties_and_drafts_are_written_alone_even_beside_one_in_force(store: Store) -> None:
    await in_force(store)
    outcome = await write(store, ACME, draft("D2", parties=["acme"]), site(number="D2"), by_pdi(5, number="D2"))
    assert outcome.change is None
    assert await get(store, ACME) == ACME


async def test_a_set_waits_whole_when_one_of_it_must(store: Store) -> None:
    await in_force(store)
    change = await propose(store, ACME, site("ber"))
    assert change.summary[0].startswith("parties/acme: new")
    assert await get(store, ACME) is None
    await approve(store, change)
    assert await get(store, ACME) == ACME
    assert await get(store, site("ber")) == site("ber")


async def test_a_device_does_not_leave_a_license_in_force_by_one_person(store: Store) -> None:
    await in_force(store, by_pdi(1))
    await write(store, draft("D2"), site(number="D2"))
    await propose(store, by_pdi(1, number="D2"))
    assert await get(store, by_pdi(1)) == by_pdi(1)


@pytest.mark.parametrize("basis", [None, 2])
async def test_a_change_is_stale_when_what_it_is_based_on_stands_no_more(store: Store, basis: int | None) -> None:
    await in_force(store)
    change = await propose(store, put(replace(draft(state=ACTIVE), eccn="first"), basis), site("ber"))
    other = await propose(store, put(replace(draft(state=ACTIVE), eccn="second"), basis), by="cid")
    await approve(store, other)
    kept = await revisions_kept(store)
    stale = await approve(store, change)
    assert stale.state is ChangeState.STALE
    assert stale.decided_by == "bob"
    assert "licenses/D1 stands at revision 3" in stale.decision_reason
    assert await revisions_kept(store) == kept
    assert await get(store, site("ber")) is None
    held = await get(store, draft())
    assert isinstance(held, LicenseRecord)
    assert held.eccn == "second"
    with pytest.raises(ChangeClosedError):
        await approve(store, stale)


async def test_what_a_set_repeats_unchanged_it_is_based_on_too(store: Store) -> None:
    await in_force(store)
    await write(store, ACME)
    change = await propose(store, ACME, site("ber"))
    await write(store, replace(ACME, title="Acme Ltd"))
    assert (await approve(store, change)).state is ChangeState.STALE


async def test_what_should_not_be_there_yet_makes_it_stale(store: Store) -> None:
    await in_force(store)
    first, second = await propose(store, site("ber")), await propose(store, site("ber", jurisdiction="FR"))
    assert (await approve(store, first)).state is ChangeState.APPLIED
    assert (await approve(store, second)).state is ChangeState.STALE
    assert await get(store, site("ber")) == site("ber")


async def test_what_it_names_and_ended_meanwhile_makes_it_stale(store: Store) -> None:
    await in_force(store)
    await write(store, ACME)
    change = await propose(store, draft(state=ACTIVE, parties=["acme"]))
    await write(store, end(ACME))
    stale = await approve(store, change)
    assert stale.state is ChangeState.STALE
    assert "parties/acme" in stale.decision_reason


@pytest.mark.parametrize(
    "meddle",
    [
        replace(site(), region=replace(GERMANY, codes=frozenset({CountryCode("CN")}))),
        site("pek"),
        end(site("ber")),
        by_pdi(2),
        by_board(3),
        end(by_pdi(1)),
        shipment(),
        window(),
        replace(ACME, title="Evil Trading"),
    ],
)
async def test_a_draft_that_was_changed_after_its_activation_was_proposed_stays_one(
    store: Store, meddle: Record | RecordWrite
) -> None:
    await write(store, ACME, draft(parties=["acme"]), site(), site("ber"), by_pdi(1))
    change = await propose(store, draft(state=ACTIVE, parties=["acme"]))
    assert (await write(store, meddle)).change is None
    stale = await approve(store, change)
    assert stale.state is ChangeState.STALE
    assert "licenses/D1" in stale.decision_reason
    assert state_of(await get(store, draft())) is LicenseState.DRAFT


async def test_one_that_ends_and_another_that_comes_are_seen_together(store: Store) -> None:
    await write(store, draft(), site(), by_pdi(1))
    change = await propose(store, draft(state=ACTIVE))
    await write(store, end(by_pdi(1)), by_pdi(2))
    assert (await approve(store, change)).state is ChangeState.STALE


async def test_a_window_that_is_ended_late_ends_when_that_is_approved(store: Store) -> None:
    """docs/protocol.md RC7: what was quiet until then counts against nobody afterwards."""
    await in_force(store, window("w1", start=START + DAY), window("w2", start=START + DAY))
    begun = START + DAY + HOUR / 4
    shorter = await propose(store, replace(window("w1", start=START + DAY), ends_at=begun), now=begun)
    # This one had not begun when its end was proposed.
    gone = await propose(store, end(window("w2", start=START + DAY)), now=START + HOUR)
    approved = START + DAY + HOUR / 2
    for change in (shorter, gone):
        assert (await approve(store, change, now=approved)).state is ChangeState.APPLIED
    for name in ("w1", "w2"):
        stands = await get(store, window(name))
        assert isinstance(stands, MaintenanceWindow)
        assert stands.ends_at == approved


async def test_other_drafts_may_change_meanwhile(store: Store) -> None:
    await write(store, draft(), site(), draft("D2"))
    change = await propose(store, draft(state=ACTIVE))
    await write(store, site(number="D2"), ACME, by_pdi(7, number="D2"))
    assert (await approve(store, change)).state is ChangeState.APPLIED


@pytest.mark.parametrize("hit", [1, 3])
async def test_a_license_with_a_hit_does_not_come_into_force(store: Store, hit: int) -> None:
    await write(store, ACME, draft(parties=["acme"]))
    await add_hit(store, "acme", hit)
    with pytest.raises(HitsOpenError) as hits:
        await propose(store, draft(state=ACTIVE, parties=["acme"]))
    assert hits.value.party_ids == ("acme",)
    await set_hits(store, 2)
    change = await propose(store, draft(state=ACTIVE, parties=["acme"]))
    await set_hits(store, hit)
    with pytest.raises(HitsOpenError):
        await approve(store, change)
    still = await store.records.get_change(change.change_id)
    assert still == change
    assert state_of(await get(store, draft())) is LicenseState.DRAFT
    await set_hits(store, 2)
    assert (await approve(store, change)).state is ChangeState.APPLIED


async def test_a_licensee_that_no_party_is_called_has_not_been_screened(store: Store) -> None:
    """docs/protocol.md RC5: a license that names no party, or another, must not come into force under a list."""
    other = replace(ACME, party_id="other", title="Other", aliases=())
    await write(store, ACME, other, draft())
    free = await propose(store, draft(state=ACTIVE))  # no list is in force yet, and nothing is screened
    await add_hit(store, "acme", 2)
    with pytest.raises(RecordConflictError, match="called Example Cloud"):
        await propose(store, draft(state=ACTIVE))
    assert (await approve(store, free)).state is ChangeState.STALE
    with pytest.raises(RecordConflictError):
        await propose(store, draft(state=ACTIVE, parties=["other"]))
    change = await propose(store, draft(state=ACTIVE, parties=["other", "acme"]))
    assert (await approve(store, change)).state is ChangeState.APPLIED
    with pytest.raises(RecordConflictError):
        await propose(store, draft(state=ACTIVE, parties=["other"]))  # nor may it lose that party


async def test_a_party_that_was_not_screened_as_it_stands_counts_as_one_with_a_hit(store: Store) -> None:
    await write(store, ACME, draft(parties=["acme"]))
    await add_hit(store, "acme", 2)
    await write(store, replace(ACME, title="Acme Ltd"))
    with pytest.raises(HitsOpenError):
        await propose(store, draft(state=ACTIVE, parties=["acme"]))


async def test_nor_does_a_suspended_one_or_a_party_with_a_hit_join_one(store: Store) -> None:
    await in_force(store)
    await write(store, ACME)
    await add_hit(store, "acme", 1)
    with pytest.raises(HitsOpenError):
        await propose(store, draft(state=ACTIVE, parties=["acme"]))
    await approve(store, await propose(store, draft(state=SUSPENDED, parties=["acme"])))
    with pytest.raises(HitsOpenError):
        await propose(store, draft(state=ACTIVE, parties=["acme"]))
    assert (
        await approve(store, await propose(store, draft(state=REVOKED, parties=["acme"])))
    ).state is ChangeState.APPLIED


async def test_a_hit_at_a_license_in_force_does_not_keep_it_from_being_worked(store: Store) -> None:
    await write(store, ACME, draft(parties=["acme"]))
    await approve(store, await propose(store, draft(state=ACTIVE, parties=["acme"])))
    await add_hit(store, "acme", 1)
    change = await propose(store, replace(draft(state=ACTIVE, parties=["acme"]), eccn="4A090"))
    assert (await approve(store, change)).state is ChangeState.APPLIED


async def test_a_party_is_written_before_its_license_comes_into_force(store: Store) -> None:
    await write(store, draft())
    with pytest.raises(RecordConflictError) as conflict:
        await propose(store, ACME, draft(state=ACTIVE, parties=["acme"]))
    assert conflict.value.field == "license.parties"


async def test_rejected_and_withdrawn_changes_write_nothing_and_stay_so(store: Store) -> None:
    await in_force(store)
    kept = await revisions_kept(store)
    one, two, three = [await propose(store, site(site_id)) for site_id in ("a", "b", "c")]
    rejected = await store.records.reject([one.change_id, two.change_id], "bob", "no", START + HOUR)
    assert [(c.state, c.decided_by, c.decision_reason) for c in rejected] == [(ChangeState.REJECTED, "bob", "no")] * 2
    with pytest.raises(FourEyesError):
        await store.records.withdraw([three.change_id], "bob", "", START)
    withdrawn = await store.records.withdraw([three.change_id], "Ann", "", START + HOUR)
    assert withdrawn[0].state is ChangeState.WITHDRAWN
    for change in (one, three):
        for call in (store.records.reject, store.records.withdraw):
            by = "bob" if call == store.records.reject else "ann"
            with pytest.raises(ChangeClosedError):
                await call([change.change_id], by, "again", START)
        with pytest.raises(ChangeClosedError):
            await approve(store, change)
    assert await revisions_kept(store) == kept


async def test_several_are_rejected_together_or_not_at_all(store: Store) -> None:
    await in_force(store)
    one, two = await propose(store, site("a")), await propose(store, site("b"), by="bob")
    with pytest.raises(FourEyesError):
        await store.records.reject([one.change_id, two.change_id], "bob", "no", START)
    with pytest.raises(RecordNotFoundError) as missing:
        await store.records.reject([one.change_id, 99], "bob", "no", START)
    assert missing.value.name == "changes/99"
    assert await store.records.get_change(one.change_id) == one


async def test_changes_are_listed_newest_first_by_state_person_and_licensee(store: Store) -> None:
    await in_force(store)
    other = draft("D2")
    other = replace(other, terms=replace(other.terms, licensee="Example CLOUD"))
    await write(store, other)
    await propose(store, site("a"))
    await propose(store, site("b"), by="cid")
    await propose(store, replace(other, terms=replace(other.terms, state=ACTIVE)), by="cid")

    async def ids(chosen: ChangeFilter, after: int | None = None, limit: int = 10) -> tuple[list[int], bool]:
        page = await store.records.list_changes(chosen, after=after, limit=limit)
        return [change.change_id for change in page.changes], page.more

    assert await ids(ChangeFilter()) == ([4, 3, 2, 1], False)
    assert await ids(ChangeFilter(), limit=2) == ([4, 3], True)
    assert await ids(ChangeFilter(), after=3, limit=2) == ([2, 1], False)
    assert await ids(ChangeFilter(state=ChangeState.OPEN)) == ([4, 3, 2], False)
    assert await ids(ChangeFilter(by="cid")) == ([4, 3], False)
    assert await ids(ChangeFilter(licensee="Example Cloud"), limit=2) == ([3, 2], True)
    assert await ids(ChangeFilter(licensee="Example CLOUD")) == ([4], False)
    assert await ids(ChangeFilter(licensee="Example CLOUD", by="ann")) == ([], False)
    assert await store.records.get_change(9) is None


async def test_changes_outlive_the_process(store: Store) -> None:
    await in_force(store)
    change = await propose(store, site("ber"))
    path = str(store._writing.url.database)
    await store.close()
    again = await Store.open(Path(path))
    try:
        assert (await approve(again, change)).state is ChangeState.APPLIED
        assert await get(again, site("ber")) == site("ber")
    finally:
        await again.close()


async def test_what_fails_in_the_middle_of_an_approval_leaves_it_open(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_force(store, by_pdi(1))
    change = await propose(store, site("ber"), by_pdi(1, "ber"))
    kept = await revisions_kept(store)

    def fail(*_: object) -> None:
        raise OSError("disk")

    with monkeypatch.context() as patched:
        patched.setattr("server.store.effects.deployments_changed", fail)
        with pytest.raises(OSError, match="disk"):
            await approve(store, change)
    assert await revisions_kept(store) == kept
    assert await get(store, by_pdi(1)) == by_pdi(1)
    assert (await approve(store, change)).state is ChangeState.APPLIED
    assert await get(store, by_pdi(1)) == by_pdi(1, "ber")


async def test_a_license_comes_into_force_with_devices_of_the_same_set(store: Store) -> None:
    gone = license_of()
    expired = replace(draft(), terms=replace(gone, valid_until=START - DAY, state=LicenseState.DRAFT))
    await write(store, expired, site(), site("ber"), by_pdi(1))
    active = replace(expired, terms=replace(expired.terms, state=ACTIVE))
    number = await _findings_number(store)
    change = await propose(store, active, by_pdi(1, "ber"), by_pdi(2))
    assert (await approve(store, change)).state is ChangeState.APPLIED
    for which in (1, 2):
        device = await store.get_device(pdi(which))
        assert device is not None
        assert device.standing is Standing.VIOLATION
    # Each is found once: none ends and comes again within the same write.
    assert await _findings_number(store) == number + 2


async def _findings_number(store: Store) -> int:
    return await store._read(lambda connection: read_counter(connection, "findings"))


async def test_a_stale_basis_at_the_proposal_is_refused(store: Store) -> None:
    await in_force(store)
    with pytest.raises(StaleRevisionError):
        await propose(store, put(replace(draft(state=ACTIVE), eccn="x"), 1))
    assert len((await store.records.list_changes(ChangeFilter())).changes) == 1


async def test_a_summary_stays_short(store: Store) -> None:
    await in_force(store)
    change = await propose(store, *(by_pdi(which) for which in range(150)))
    assert len(change.summary) == 100
    assert change.summary[-1] == "and 51 more"
    assert change.summary[0] == "deployments/0000000000000000: new, site licenses/D1/sites/fra"
