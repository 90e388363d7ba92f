"""Changes that are a file or landmarks, and the revisions that changes leave (docs/protocol.md RC1, RC4)."""

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.records.values import ByPdi, LicenseRecord, Party, Record
from server.store import (
    ChangeClosedError,
    ChangeFilter,
    ChangeKind,
    ChangeRecord,
    ChangeState,
    FourEyesError,
    RecordConflictError,
    RecordNotFoundError,
    RevisionCursor,
    RevisionFilter,
    Store,
)
from server.store.imports import ROWS
from server.store.landmark_codec import landmark_from_json, landmark_to_json
from server.store.record_types import LANDMARK
from server.store.types import ImportRow, LandmarkRecord
from server.times import EPOCH, moment
from tests.store.record_world import (
    ACME,
    approve,
    by_pdi,
    draft,
    end,
    get,
    in_force,
    pieces_kept,
    propose,
    revisions_kept,
    site,
    write,
)
from tests.store.store_world import GERMANY, HOUR, START, landmark, pdi
from verifier.license import LicenseState
from verifier.place.geodesy import Position

ACTIVE = LicenseState.ACTIVE


def state_of(record: Record | None) -> LicenseState:
    assert isinstance(record, LicenseRecord)
    return record.terms.state


# Files and landmarks.


def row(which: int, number: str = "D1") -> ImportRow:
    return ImportRow(ByPdi(pdi(which)), replace(draft(number), eccn="", quantity=None), "fra", GERMANY)


async def propose_rows(store: Store, pieces: tuple[bytes, ...] = (b"device_pdi", b",license\n", b"")) -> ChangeRecord:
    return await store.records.propose_file(
        iter(pieces), "csv", ["deployments: 1 new"], ["B", "A"], "ann", "why", START
    )


async def test_a_file_waits_in_pieces_and_goes_when_it_is_decided(store: Store) -> None:
    change = await propose_rows(store)
    assert (change.kind, change.summary, change.licensees) == (
        ChangeKind.DEPLOYMENT_FILE,
        ("deployments: 1 new",),
        ("A", "B"),
    )
    assert await pieces_kept(store) == 3
    file, file_format = await store.records.read_file(change.change_id)
    with file:
        assert (file.read(), file_format) == (b"device_pdi,license\n", "csv")
    await store.records.reject([change.change_id], "bob", "no", START)
    assert await pieces_kept(store) == 0
    with pytest.raises(ChangeClosedError):
        await store.records.read_file(change.change_id)
    with pytest.raises(RecordNotFoundError):
        await store.records.read_file(99)
    await write(store, draft())
    with pytest.raises(RecordNotFoundError):
        await store.records.read_file((await propose(store, draft(state=ACTIVE))).change_id)


async def test_a_file_is_imported_when_it_is_approved(store: Store) -> None:
    await in_force(store)
    change = await propose_rows(store)
    with pytest.raises(FourEyesError):
        await store.records.approve(change.change_id, "ANN", "seen", START, [row(1)])
    applied = await store.records.approve(change.change_id, "bob", "seen", START + HOUR, iter([row(1)]))
    assert applied.state is ChangeState.APPLIED, applied.decision_reason
    assert await pieces_kept(store) == 0
    assert await get(store, by_pdi(1)) == by_pdi(1)
    assert state_of(await get(store, draft())) is ACTIVE
    revision = (await store.records.revisions(RevisionFilter(name="deployments/0000000000000001"))).revisions[0]
    assert (revision.by, revision.approved_by, revision.reason, revision.change_id) == (
        "ann",
        "bob",
        "why",
        change.change_id,
    )


async def test_a_file_is_stale_when_what_it_names_was_changed(store: Store) -> None:
    await in_force(store, by_pdi(1))
    change = await propose_rows(store)
    await approve(store, await propose(store, site("ber"), by_pdi(1, "ber")))
    stale = await store.records.approve(change.change_id, "bob", "seen", START + HOUR, [row(1)])
    assert stale.state is ChangeState.STALE
    assert stale.decision_reason == "deployments/0000000000000001 was revised since the file was proposed"
    assert await get(store, by_pdi(1)) == by_pdi(1, "ber")
    assert await pieces_kept(store) == 0


async def test_a_file_that_fails_late_leaves_nothing_of_what_came_before(store: Store) -> None:
    await in_force(store)
    change = await propose_rows(store)
    kept, number = await revisions_kept(store), await store.records_number()
    rows = [row(which) for which in (*range(ROWS), 0)]
    stale = await store.records.approve(change.change_id, "bob", "seen", START + HOUR, iter(rows))
    assert stale.state is ChangeState.STALE
    assert stale.decision_reason == "device 0000000000000000 comes twice"
    assert (await revisions_kept(store), await store.records_number()) == (kept, number)
    assert await get(store, by_pdi(0)) is None
    assert await store.get_device(pdi(0)) is None


async def propose_landmarks(store: Store, *records: LandmarkRecord) -> ChangeRecord:
    return await store.records.propose_landmarks(records, ["landmarks/fra-1: new"], "ada", "new tower", START)


async def test_landmarks_wait_and_leave_revisions(store: Store) -> None:
    first = landmark("fra-1")
    change = await propose_landmarks(store, first, landmark("ber-1", operator="b"))
    assert change.kind is ChangeKind.LANDMARKS
    assert await store.load_registered_landmarks() == []
    assert (await approve(store, change)).state is ChangeState.APPLIED
    held = await store.load_registered_landmarks()
    assert [(str(r.landmark.landmark_id), r.landmark.revision, r.landmark.revised_at) for r in held] == [
        ("ber-1", 1, START + HOUR),
        ("fra-1", 1, START + HOUR),
    ]
    assert held[1].landmark.public_key == first.landmark.public_key
    moved = replace(first, landmark=replace(first.landmark, position=Position(50.2, 8.6)))
    await approve(store, await propose_landmarks(store, moved))
    page = await store.records.revisions(RevisionFilter(kind=LANDMARK))
    assert [(r.name, r.revision, r.by, r.approved_by, r.reason) for r in page.revisions] == [
        ("landmarks/fra-1", 2, "ada", "bob", "new tower"),
        ("landmarks/fra-1", 1, "ada", "bob", "new tower"),
        ("landmarks/ber-1", 1, "ada", "bob", "new tower"),
    ]
    before, after = page.revisions[0].before, page.revisions[0].after
    assert isinstance(before, LandmarkRecord)
    assert isinstance(after, LandmarkRecord)
    assert (before.landmark.position, after.landmark.position) == (first.landmark.position, Position(50.2, 8.6))
    assert (before.landmark.revision, after.landmark.revision) == (1, 2)


async def test_a_landmark_that_changed_meanwhile_makes_it_stale(store: Store) -> None:
    first = landmark("fra-1")
    one = await propose_landmarks(store, first)
    moved = replace(first, landmark=replace(first.landmark, position=Position(50.2, 8.6)))
    two = await propose_landmarks(store, moved)
    assert (await approve(store, one)).state is ChangeState.APPLIED
    stale = await approve(store, two)
    assert stale.state is ChangeState.STALE
    assert "landmarks/fra-1" in stale.decision_reason
    held = await store.load_registered_landmarks()
    assert held[0].landmark.position == first.landmark.position


async def test_landmarks_that_contradict_are_refused_at_once(store: Store) -> None:
    with pytest.raises(RecordConflictError):
        await propose_landmarks(store, landmark("fra-1"), landmark("fra-1"))
    assert (await store.records.list_changes(ChangeFilter())).changes == ()


# Revisions.


async def test_revisions_are_told_newest_first_page_by_page(store: Store) -> None:
    await write(store, ACME, Party("fwd", "Forwarder"))
    await write(store, replace(ACME, title="Acme Ltd"), by="cid", now=START + HOUR)
    await write(store, draft(), by="cid", now=START + 2 * HOUR)
    await write(store, end(ACME), now=START + 3 * HOUR)
    expected = [
        ("parties/acme", 3, "ann"),
        ("licenses/D1", 1, "cid"),
        ("parties/acme", 2, "cid"),
        ("parties/fwd", 1, "ann"),
        ("parties/acme", 1, "ann"),
    ]

    async def told(chosen: RevisionFilter) -> list[tuple[str, int, str]]:
        found: list[tuple[str, int, str]] = []
        cursor: RevisionCursor | None = None
        while True:
            page = await store.records.revisions(chosen, before_number=cursor, limit=2)
            found += [(r.name, r.revision, r.by) for r in page.revisions]
            if not page.more:
                return found
            cursor = page.revisions[-1].cursor

    assert await told(RevisionFilter()) == expected
    assert await told(RevisionFilter(name="parties/acme")) == [expected[0], expected[2], expected[4]]
    assert await told(RevisionFilter(by="cid")) == expected[1:3]
    license_kind = (await store.records.revisions(RevisionFilter(name="licenses/D1"))).revisions[0].kind
    assert await told(RevisionFilter(kind=license_kind)) == expected[1:2]
    assert await told(RevisionFilter(after=START + HOUR, before=START + 3 * HOUR)) == expected[1:3]
    assert await told(RevisionFilter(before=START)) == []


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_times = st.none() | st.integers(0, 2**52).map(moment)


@given(
    operator=_texts,
    hoster=_texts,
    latitude=st.floats(-90, 90),
    uncertainty=st.floats(0, 999),
    valid=st.tuples(_times, _times),
    virtual=st.booleans(),
    endpoints=st.lists(_texts, max_size=3).map(tuple),
    signature=st.binary(max_size=8),
)
def test_a_landmark_reads_back_exactly(
    *,
    operator: str,
    hoster: str,
    latitude: float,
    uncertainty: float,
    valid: tuple[datetime | None, datetime | None],
    virtual: bool,
    endpoints: tuple[str, ...],
    signature: bytes,
) -> None:
    bare = replace(
        landmark("fra-1").landmark,
        operator=operator,
        hoster=hoster,
        position=Position(latitude, 8.5),
        uncertainty_km=uncertainty,
        valid_from=valid[0],
        valid_until=valid[1],
        virtual_machine=virtual,
        signed=bool(signature),
        revision=0,
        revised_at=EPOCH,
    )
    record = LandmarkRecord(bare, "survey", endpoints, b"k" * 32, signature)
    text = landmark_to_json(record)
    assert landmark_from_json(text) == record
    assert landmark_to_json(landmark_from_json(text)) == text
