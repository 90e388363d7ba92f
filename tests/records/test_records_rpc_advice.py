"""What the answer to a write tells beside the records: hits, quantities, prohibited places, what can be proven."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from trigpoint.v1 import place_pb2, records_pb2

from server.rpc import record_notices
from server.rpc.plan import LandmarkPlanner
from server.store import LandmarkRecord, Store
from tests.licensing.licensing_world import policy
from tests.records.records_rpc_world import (
    NOW,
    World,
    Write,
    deployment_write,
    license_write,
    masked,
    party,
    serve,
    site_write,
)
from tests.screening.list_file import entry, file_of
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.units import CountryCode, LandmarkId

FRA1 = "licenses/D1/sites/fra1"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with serve(tmp_path / "trigpoint.db") as opened:
        yield opened


def landmark(number: int) -> LandmarkRecord:
    return LandmarkRecord(
        Landmark(
            landmark_id=LandmarkId(f"l-{number}"),
            public_key=hashlib.sha256(str(number).encode()).digest(),
            operator=f"operator {number}",
            hoster=f"hoster {number}",
            position=Position(50.11 + number / 1_000, 8.68),
            uncertainty_km=0.1,
            virtual_machine=False,
            country=CountryCode("DE"),
            revision=0,
            revised_at=NOW,
        ),
        "map",
        ("192.0.2.1:7000",),
    )


def site(circle: records_pb2.SiteCircle | None = None, polygon: str = "", country: str = "") -> Write:
    message = records_pb2.Site(title="Somewhere")
    if circle is not None:
        message.circle.CopyFrom(circle)
    elif polygon:
        message.polygon = polygon
    else:
        message.country = country
    return Write(record=records_pb2.Record(name="licenses/D1/sites/here", site=message))


async def test_two_landmarks_near_a_site_prove_it_under_the_operators_f_and_not_under_a_greater_one(
    world: World,
) -> None:
    await world.store.import_landmarks([landmark(1), landmark(2)], NOW)
    response = await world.write(party(), license_write(), site_write())
    asked = response.provability[0]
    assert (asked.site, asked.presence, asked.provable) == (FRA1, place_pb2.PRESENCE_SITE, True)
    assert asked.detail.startswith(
        "Landmarks of 2 independent domains can prove presence at the site: l-1, 0 km away, needs a round trip of 0.1"
    )
    assert [one.provable for one in response.provability] == [True, True, True]
    stricter = records_pb2.Record(name="licenses/D1", license=records_pb2.License(tolerated_domains=2))
    again = await world.write(masked(stricter, "tolerated_domains"))
    assert [(one.site, one.provable) for one in again.provability] == [(FRA1, False)] * 3
    assert "needs 1 more failure domain on bare metal within" in again.provability[0].detail


async def test_a_site_in_a_country_is_told_for_its_country_first(world: World) -> None:
    license_ = license_write()
    license_.record.license.presence = place_pb2.PRESENCE_COUNTRY
    response = await world.write(party(), license_, site(country="DE"))
    assert [one.presence for one in response.provability] == [
        place_pb2.PRESENCE_COUNTRY,
        place_pb2.PRESENCE_OUTSIDE_PROHIBITED,
    ]
    assert not response.notices


async def test_more_devices_than_the_quantity_are_told_before_and_after_they_are_written(world: World) -> None:
    writes = (party(), license_write(quantity=2), site_write(), *(deployment_write(pdi) for pdi in (1, 2)))
    assert not (await world.write(*writes)).notices
    board = Write(
        record=records_pb2.Record(
            name="deployments/board-00000000000000aa", deployment=records_pb2.Deployment(site=FRA1, devices=4)
        )
    )
    told = ["license D1 allows 2 devices, and its deployments name 6"]
    assert (await world.write(board, validate_only=True)).notices == told
    assert (await world.write(board)).notices == told
    board.record.deployment.devices = 3
    assert (await world.write(board, validate_only=True)).notices == [told[0].replace("6", "5")]
    ended = Write(record=records_pb2.Record(name="deployments/0000000000000001"), end=True)
    board.record.deployment.devices = 1
    assert not (await world.write(board, ended, validate_only=True)).notices


async def test_hits_at_parties_are_told_when_they_are_written_and_when_a_license_names_them(world: World) -> None:
    assert await world.screen_against(file_of([entry("e1", "Zarvelin Dynamics Co., Ltd.")])) == 0
    response = await world.write(party("zd", "Zarvelin Dynamics"), party("acme", "Acme Computing"))
    assert len(response.notices) == 1
    assert response.notices[0].startswith(
        "parties/zd, Zarvelin Dynamics, is called like Zarvelin Dynamics Co., Ltd. (Entity List (EL) - Example Bureau, "
    )
    assert "the hit is OPEN" in response.notices[0]
    named = await world.write(license_write(parties=("zd", "acme")))
    assert named.notices == response.notices
    checked = await world.write(party("new", "Newcomers"), validate_only=True)
    assert checked.notices == ["parties/new is not screened yet: no license of it can come into force"]


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            site(records_pb2.SiteCircle(latitude=39.9, longitude=116.4, radius_km=10)),
            "lies in a prohibited destination",
        ),
        (site(records_pb2.SiteCircle(latitude=59.4, longitude=27.5, radius_km=60)), "reaches into a prohibited"),
        (
            site(polygon='{"type":"Polygon","coordinates":[[[27,59.4],[28.5,59.2],[27,59],[26,59.2],[27,59.4]]]}'),
            "reaches",
        ),
        (site(records_pb2.SiteCircle(latitude=50.11, longitude=8.68, radius_km=60)), ""),
        (site(polygon='{"type":"Polygon","coordinates":[[[8,50],[9,50],[8,51],[8,50]]]}'), ""),
    ],
)
async def test_a_site_that_lies_in_or_reaches_into_a_prohibited_destination_is_told(
    world: World, write: Write, said: str
) -> None:
    response = await world.write(party(), license_write(), write)
    assert [notice.startswith("licenses/D1/sites/here ") and said in notice for notice in response.notices] == (
        [True] if said else []
    )
    if said != "lies in a prohibited destination":
        outside = records_pb2.License(presence=place_pb2.PRESENCE_OUTSIDE_PROHIBITED)
        record = records_pb2.Record(name="licenses/D1", license=outside)
        assert not (await world.write(masked(record, "presence"))).notices


async def test_a_site_of_another_kind_than_the_license_asks_for_is_refused(world: World) -> None:
    """A row of a file could not say it, so an export would not come back."""
    with pytest.raises(grpc.aio.AioRpcError, match="presence is site, so DE cannot be one"):
        await world.write(party(), license_write(), site(country="DE"))
    await world.write(party(), license_write(), site_write())
    held = records_pb2.License(presence=place_pb2.PRESENCE_COUNTRY)
    asks = masked(records_pb2.Record(name="licenses/D1", license=held), "presence")
    with pytest.raises(grpc.aio.AioRpcError, match="presence is country, so"):
        await world.write(asks)


async def test_what_is_over_or_nearly_is_told(world: World) -> None:
    ends = license_write()
    ends.record.license.valid_until.FromDatetime(NOW + timedelta(days=29))
    late = records_pb2.Shipment(site=FRA1)
    late.shipped_at.FromDatetime(NOW - timedelta(days=9))
    late.activation_by.FromDatetime(NOW)
    shipment = Write(record=records_pb2.Record(name="shipments/s1", shipment=late))
    swapped = deployment_write(1)
    swapped.record.deployment.swap.switches.append("00000000000000aa")
    swapped.record.deployment.swap.until.FromDatetime(NOW)
    response = await world.write(party(), ends, site_write(), shipment, swapped)
    assert [notice.partition(" ")[0].rstrip(":") for notice in response.notices] == [
        "licenses/D1",
        "shipments/s1",
        "deployments/0000000000000001",
    ]
    world.clock.now = NOW + timedelta(days=29)
    titled = masked(records_pb2.Record(name="licenses/D1", license=records_pb2.License(eccn="3A090")), "eccn")
    assert (await world.write(titled)).notices == ["licenses/D1 was valid until 2026-07-30 12:00 UTC"]


async def test_of_many_sites_some_are_told_and_it_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_notices, "MAX_PLANNED_SITES", 2)
    sites = [site_write(f"s{number}", title=f"Hall {number}") for number in range(5)]
    response = await world.write(party(), license_write(), *sites)
    assert {one.site for one in response.provability} == {"licenses/D1/sites/s0", "licenses/D1/sites/s1"}
    told = "what landmarks can prove is told of the first 2 sites alone: ask PlanLandmarks about the others"
    assert response.notices == [told]
    later = masked(records_pb2.Record(name="licenses/D1", license=records_pb2.License(eccn="x")), "eccn")
    assert (await world.write(later)).notices == response.notices


async def test_a_planner_that_is_busy_keeps_no_answer_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_notices, "PLAN_WAIT", timedelta(milliseconds=50))
    busy, done = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def long_plan(_registry: LandmarkRegistry, _now: object) -> None:
        loop.call_soon_threadsafe(busy.set)
        assert done.wait(30)

    planners: list[LandmarkPlanner] = []
    make = LandmarkPlanner.__init__

    def remembered(self: LandmarkPlanner, store: Store, *rest: object) -> None:
        make(self, store, *rest)  # type: ignore[arg-type]
        planners.append(self)

    monkeypatch.setattr(LandmarkPlanner, "__init__", remembered)
    async with serve(tmp_path / "trigpoint.db") as world:
        working = asyncio.create_task(planners[0].work(long_plan))
        await busy.wait()
        response = await world.write(party(), license_write(), site_write())
        done.set()
        await working
    assert [record.etag for record in response.records] == ["1", "1", "1"]
    assert not response.provability
    assert response.notices == ["what landmarks can prove was not worked out in time: ask PlanLandmarks"]


def test_the_policy_of_these_tests_prohibits_what_they_say() -> None:
    assert {"CN", "RU"} <= policy().prohibited.codes
