"""RecordService over gRPC: written by two people, read as it stands and stood, by page, filter and jurisdiction."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from trigpoint.v1 import change_pb2, place_pb2, records_pb2

from tests.records.records_rpc_world import (
    KIND,
    NOW,
    World,
    Write,
    as_peer,
    deployment_write,
    license_write,
    masked,
    party,
    serve,
    site_write,
)
from tests.two_people import approve_all

D1 = "licenses/D1"
FRA1 = "licenses/D1/sites/fra1"
BERLIN = records_pb2.SiteCircle(latitude=52.52, longitude=13.4, radius_km=10)
SINGAPORE = records_pb2.SiteCircle(latitude=1.35, longitude=103.82, radius_km=10)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with serve(tmp_path / "trigpoint.db") as opened:
        yield opened


async def draft(world: World, *more: Write) -> records_pb2.WriteRecordsResponse:
    return await world.write(party(), license_write(), site_write(), *more)


async def in_force(world: World, *more: Write) -> None:
    await draft(world, *more)
    await world.set_state("ACTIVE")


def refusal(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            info = ErrorInfo()
            assert Status.FromString(value).details[0].Unpack(info)
            return error.code(), info.reason, dict(info.metadata)
    raise AssertionError(error)


async def test_a_draft_is_written_by_one_officer_with_its_records_and_reads_back(world: World) -> None:
    response = await draft(world, deployment_write(1))
    assert not response.HasField("change")
    assert [(record.name, record.etag) for record in response.records] == [
        ("parties/acme", "1"),
        (D1, "1"),
        (FRA1, "1"),
        ("deployments/0000000000000001", "1"),
    ]
    got = await world.get(D1)
    assert got.record == response.records[1]
    assert got.record.license.number == "D1"
    assert got.record.license.state == records_pb2.LICENSE_STATE_DRAFT
    assert got.record.revise_time.ToDatetime(tzinfo=NOW.tzinfo) == NOW
    assert got.deployed_count == 1
    assert (await world.get(FRA1)).record.site.jurisdiction == "DE"


async def test_what_is_in_force_changes_when_a_second_person_approves(world: World) -> None:
    await in_force(world)
    moved = records_pb2.Record(name=FRA1, etag="1", site=records_pb2.Site(circle=BERLIN))
    response = await world.write(masked(moved, "circle"))
    assert response.change.state == change_pb2.CHANGE_STATE_OPEN
    assert response.change.proposed_by == "ann"
    assert response.records[0].site.circle == BERLIN  # as it would stand
    assert (await world.get(FRA1)).record.site.circle != BERLIN
    await approve_all(world.channel)
    stands = (await world.get(FRA1)).record
    assert (stands.site.circle, stands.site.title, stands.etag) == (BERLIN, "Frankfurt 1", "2")


async def test_a_check_writes_nothing_and_says_whether_it_takes_two(world: World) -> None:
    assert not (await world.write(party(), validate_only=True)).notices
    assert await world.names(records_pb2.RECORD_KIND_PARTY) == []
    await in_force(world)
    suspended = records_pb2.License(state=records_pb2.LICENSE_STATE_SUSPENDED)
    write = masked(records_pb2.Record(name=D1, license=suspended), "state")
    response = await world.write(write, validate_only=True)
    assert not response.HasField("change")
    assert any("another person must approve" in notice for notice in response.notices)
    assert (await world.get(D1)).record.license.state == records_pb2.LICENSE_STATE_ACTIVE
    assert not (
        await world.changes.ListChanges(
            change_pb2.ListChangesRequest(filter='state = "OPEN"'), metadata=as_peer("officer/ann")
        )
    ).changes


async def test_an_etag_that_no_longer_stands_is_refused_and_nothing_of_the_set_is_written(world: World) -> None:
    await draft(world)
    renamed = records_pb2.Record(name=FRA1, etag="1", site=records_pb2.Site(title="FRA one"))
    await world.write(masked(renamed, "title"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.write(masked(renamed, "title"), party("other", "Other"))
    assert refusal(caught.value) == (grpc.StatusCode.ABORTED, "REVISION_STALE", {"name": FRA1, "revision": "2"})
    assert await world.names(records_pb2.RECORD_KIND_PARTY) == ["parties/acme"]


async def test_etag_zero_makes_a_record_and_never_changes_one(world: World) -> None:
    first = party()
    first.record.etag = "0"
    await world.write(first)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.write(first)
    assert refusal(caught.value)[1] == "REVISION_STALE"


async def test_a_change_that_is_based_on_what_a_mask_left_goes_stale_with_it(world: World) -> None:
    await in_force(world)
    titled = masked(records_pb2.Record(name=FRA1, site=records_pb2.Site(title="FRA one")), "title")
    moved = masked(records_pb2.Record(name=FRA1, site=records_pb2.Site(circle=BERLIN)), "circle")
    first, second = await world.write(titled), await world.write(moved)
    request = change_pb2.ApproveChangesRequest(names=[first.change.name, second.change.name])
    response = await world.changes.ApproveChanges(request, metadata=as_peer("approver/bob"))
    assert [change.state for change in response.changes] == [
        change_pb2.CHANGE_STATE_APPLIED,
        change_pb2.CHANGE_STATE_STALE,
    ]
    stands = (await world.get(FRA1)).record.site
    assert (stands.title, stands.circle.latitude) == ("FRA one", 50.11)


async def test_a_site_that_moves_gets_the_jurisdiction_of_its_new_region_unless_one_was_set(world: World) -> None:
    await draft(world)
    moved = masked(records_pb2.Record(name=FRA1, site=records_pb2.Site(circle=SINGAPORE)), "circle")
    await world.write(moved)
    assert (await world.get(FRA1)).record.site.jurisdiction == "SG"
    told = masked(records_pb2.Record(name=FRA1, site=records_pb2.Site(jurisdiction="NL")), "jurisdiction")
    await world.write(told)
    back = masked(records_pb2.Record(name=FRA1, site=records_pb2.Site(circle=BERLIN)), "circle")
    await world.write(back)
    assert (await world.get(FRA1)).record.site.jurisdiction == "NL"


async def test_a_record_that_ends_is_gone_and_stays_in_its_revisions(world: World) -> None:
    await draft(world)
    world.clock.now = NOW + timedelta(hours=1)
    await world.write(Write(record=records_pb2.Record(name=FRA1, etag="1"), end=True))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.get(FRA1)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert (await world.get(FRA1, as_of=NOW)).record.site.title == "Frankfurt 1"
    request = records_pb2.ListRevisionsRequest(name=FRA1)
    ended, made = (await world.records.ListRevisions(request, metadata=as_peer("auditor/eve"))).revisions
    assert (ended.revision, ended.by, ended.reason, ended.before.etag) == (2, "ann", "says the test", "1")
    assert not ended.HasField("after")
    assert ended.before == made.after
    assert not made.HasField("before")


async def test_revisions_name_both_people_and_come_newest_first_by_page_and_filter(world: World) -> None:
    await in_force(world)
    token = ""
    seen: list[records_pb2.Revision] = []
    while True:
        request = records_pb2.ListRevisionsRequest(page_size=1, page_token=token)
        page = await world.records.ListRevisions(request, metadata=as_peer("auditor/eve"))
        seen.extend(page.revisions)
        token = page.next_page_token
        if not token:
            break
    assert [(one.name, one.revision) for one in seen] == [(D1, 2), ("parties/acme", 1), (FRA1, 1), (D1, 1)]
    assert (seen[0].by, seen[0].approved_by, seen[0].change) == ("ann", "bob", "changes/1")
    assert (seen[1].by, seen[1].approved_by, seen[1].change) == ("ann", "", "")
    for chosen, count in (('kind = "LICENSE"', 2), ('by = "bob"', 0), ('kind = "SITE" AND by = "ann"', 1)):
        request = records_pb2.ListRevisionsRequest(filter=chosen)
        page = await world.records.ListRevisions(request, metadata=as_peer("auditor/eve"))
        assert len(page.revisions) == count
    before = records_pb2.ListRevisionsRequest()
    before.before.FromDatetime(NOW)
    assert not (await world.records.ListRevisions(before, metadata=as_peer("auditor/eve"))).revisions


async def test_lists_go_on_page_by_page_and_a_token_is_of_its_list(world: World) -> None:
    await draft(world, *(deployment_write(pdi) for pdi in (3, 1, 2)))
    token = ""
    names: list[str] = []
    while True:
        request = records_pb2.ListRecordsRequest(
            kind=records_pb2.RECORD_KIND_DEPLOYMENT, page_size=2, page_token=token, filter='license = "D1"'
        )
        page = await world.records.ListRecords(request, metadata=as_peer("viewer/vic"))
        assert page.total_size == 3
        names.extend(record.name for record in page.records)
        if not page.next_page_token:
            break
        token = page.next_page_token
    assert names == [f"deployments/{pdi:016x}" for pdi in (1, 2, 3)]
    other = records_pb2.ListRecordsRequest(kind=records_pb2.RECORD_KIND_DEPLOYMENT, page_token=token)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.records.ListRecords(other, metadata=as_peer("viewer/vic"))
    assert refusal(caught.value)[2] == {"field": "page_token"}


async def test_filters_choose(world: World) -> None:
    await draft(world)
    await world.write(license_write("D2", parties=()), site_write("sin1", "D2", "Singapore 1"))
    kind = records_pb2.RECORD_KIND_LICENSE
    assert await world.names(kind, 'party = "acme"') == [D1]
    assert await world.names(kind, 'state = "LICENSE_STATE_DRAFT" AND licensee = "Acme Computing"') == [
        D1,
        "licenses/D2",
    ]
    assert await world.names(kind, f'expires_before = "{NOW + timedelta(days=301):%Y-%m-%dT%H:%M:%SZ}"') == [
        D1,
        "licenses/D2",
    ]
    assert await world.names(kind, f'expires_before = "{NOW:%Y-%m-%dT%H:%M:%SZ}"') == []
    assert await world.names(records_pb2.RECORD_KIND_SITE, 'site = "sin1"') == ["licenses/D2/sites/sin1"]
    assert await world.names(records_pb2.RECORD_KIND_SITE, 'jurisdiction = "FR"') == []


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        (records_pb2.RECORD_KIND_LICENSE, 'ends_after = "2026-01-01T00:00:00Z"'),
        (records_pb2.RECORD_KIND_WINDOW, 'expires_before = "2026-01-01T00:00:00Z"'),
        (records_pb2.RECORD_KIND_WINDOW, 'ends_after = "2026-01-01"'),
        (records_pb2.RECORD_KIND_WINDOW, 'ends_after = "2026-01-01T00:00:00"'),
        (records_pb2.RECORD_KIND_WINDOW, 'ends_after = "soon"'),
        (records_pb2.RECORD_KIND_LICENSE, 'state = "LOST"'),
        (records_pb2.RECORD_KIND_LICENSE, "state = DRAFT"),
    ],
)
async def test_a_filter_that_is_none_is_refused(world: World, kind: KIND.ValueType, chosen: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.names(kind, chosen)
    assert refusal(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", {"field": "filter"})


async def test_what_cannot_be_written_is_refused_with_the_path_of_its_field(world: World) -> None:
    await draft(world)
    bad = license_write("D2")
    bad.record.license.ClearField("cadence")
    absent = records_pb2.Record(name=FRA1, etag="one", site=records_pb2.Site(title="x"))
    for writes, field in (
        ((party("b", "B"), bad), "writes[1].record.license.cadence"),
        ((), "writes"),
        ((party(), party()), "writes[1].record.name"),
        ((masked(absent, "title"),), "writes[0].record.etag"),
        ((masked(records_pb2.Record(name=FRA1), "radius"),), "writes[0].update_mask"),
        ((license_write("D3", parties=("nobody",)),), "writes[0].record.license.parties"),
        ((party("b", "B"), deployment_write(1, shipment="shipments/s1")), "writes.record.deployment.shipment"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.write(*writes)
        assert refusal(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", {"field": field})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.records.WriteRecords(
            records_pb2.WriteRecordsRequest(writes=[party()]), metadata=as_peer("officer/ann")
        )
    assert refusal(caught.value)[2] == {"field": "reason"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.write(masked(records_pb2.Record(name="parties/new"), "title"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_window_starts_no_earlier_than_now_but_for_a_minute_between_clocks(world: World) -> None:
    await draft(world)
    window = records_pb2.MaintenanceWindow(scope=FRA1, reason="new cooling")
    window.starts_at.FromDatetime(NOW - timedelta(seconds=61))
    window.ends_at.FromDatetime(NOW + timedelta(hours=2))
    write = Write(record=records_pb2.Record(name="maintenanceWindows/w1", window=window))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.write(write)
    assert refusal(caught.value)[2] == {"field": "writes[0].record.window.starts_at"}
    write.record.window.starts_at.FromDatetime(NOW - timedelta(seconds=60))
    await world.write(write)
    world.clock.now = NOW + timedelta(hours=1)
    write.record.window.ends_at.FromDatetime(NOW + timedelta(hours=3))  # it has begun, and takes longer
    await world.write(write)
    stands = (await world.get("maintenanceWindows/w1")).record
    assert (stands.etag, stands.window) == ("2", write.record.window)


async def test_a_license_number_of_any_text_is_spelled_in_names(world: World) -> None:
    name = "licenses/D_20123_2fB"
    await world.write(party(), license_write("D_20123_2fB"), site_write("fra1", "D_20123_2fB"))
    assert (await world.get(name)).record.license.number == "D 123/B"
    assert await world.names(records_pb2.RECORD_KIND_SITE, 'license = "D 123/B"') == [f"{name}/sites/fra1"]


async def test_a_jurisdiction_sees_its_sites_their_licenses_and_nothing_else(world: World) -> None:
    abroad = site_write("sin1", "D1", "Singapore 1")
    abroad.record.site.circle.CopyFrom(SINGAPORE)
    here, there = deployment_write(1), deployment_write(2, "licenses/D1/sites/sin1")
    await draft(world, abroad, here, there)
    await world.write(license_write("D2"), site_write("fra2", "D2", "Frankfurt 2"))
    kinds = records_pb2.RecordKind.values()[1:]
    seen = {name for kind in kinds for name in await world.names(kind, who="viewer/SG/sue")}
    assert seen == {D1, "licenses/D1/sites/sin1", "deployments/0000000000000002"}
    assert await world.names(records_pb2.RECORD_KIND_SITE, 'jurisdiction = "DE"', who="viewer/SG/sue") == []
    for name in seen:
        assert (await world.get(name, "viewer/SG/sue")).record.name == name
    assert (await world.get(D1, "viewer/SG/sue")).deployed_count == 1
    assert (await world.get(D1)).deployed_count == 2
    for name in ("parties/acme", FRA1, "licenses/D2", "deployments/0000000000000001"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.get(name, "viewer/SG/sue")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.write(party("b", "B"), who="officer/SG/sam")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert b"0000000000000002" in (await world.export(who="viewer/SG/sue"))
    assert b"0000000000000001" not in (await world.export(who="viewer/SG/sue"))


async def test_a_forged_page_token_is_refused(world: World) -> None:
    await draft(world, deployment_write(1), deployment_write(2))
    asked = records_pb2.ListRecordsRequest(kind=records_pb2.RECORD_KIND_PARTY, page_token="bm90IG91cnM")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.records.ListRecords(asked, metadata=as_peer("viewer/vic"))
    assert refusal(caught.value)[2] == {"field": "page_token"}


async def test_the_answer_tells_what_can_be_proven_and_what_could_be_asked_instead(world: World) -> None:
    response = await draft(world)
    told = {(one.site, one.presence): one for one in response.provability}
    assert list(told) == [
        (FRA1, place_pb2.PRESENCE_SITE),
        (FRA1, place_pb2.PRESENCE_COUNTRY),
        (FRA1, place_pb2.PRESENCE_OUTSIDE_PROHIBITED),
    ]
    asked = told[FRA1, place_pb2.PRESENCE_SITE]
    assert not asked.provable
    assert asked.detail.startswith("Landmarks cannot prove presence at the site: needs 2 more failure domains")
    assert "presence in DE" in told[FRA1, place_pb2.PRESENCE_COUNTRY].detail
