"""Records to protobuf and back: whatever is on record reads back the same, and every field that is wrong is named."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trigpoint.v1 import place_pb2, records_pb2

from server.records.names import record_name
from server.records.values import (
    ByBoard,
    ByKey,
    ByPdi,
    DeploymentRecord,
    LicenseRecord,
    MaintenanceWindow,
    Party,
    PartyRole,
    Record,
    Shipment,
    Site,
)
from server.rpc.errors import InvalidArgumentError
from server.rpc.record_masks import masked
from server.rpc.record_messages import record_to_proto, stored_to_proto
from server.rpc.record_reading import Maps, read_record
from server.store.record_types import StoredRecord
from verifier.license import BoardSwap, License, LicenseState, Presence
from verifier.place.answers import Assurance
from verifier.place.geodesy import Position
from verifier.place.regions import AnyOf, Countries, Group, Polygon, Region, SiteDisc
from verifier.units import CountryCode, DeviceKeyId, Pdi

MAPS = Maps(frozenset({"DE", "SG", "A:5"}), lambda _region: "")
START = datetime(2026, 7, 1, 12, tzinfo=UTC)

printable = st.characters(codec="utf-8", categories=("L", "N", "P", "S"))
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive
ids = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
seconds = st.integers(1, 366 * 86_400).map(lambda count: timedelta(seconds=count))


def texts(most: int, least: int = 1) -> st.SearchStrategy[str]:
    return st.text(printable, min_size=least, max_size=min(most, 12))


numbers = texts(128)


@st.composite
def licenses(draw: st.DrawFn) -> LicenseRecord:
    start, end = sorted(draw(st.lists(moments, min_size=2, max_size=2, unique=True)))
    parts = st.tuples(ids, st.sampled_from(PartyRole))
    terms = License(
        number=draw(numbers),
        licensee=draw(texts(128)),
        valid_from=start,
        valid_until=end,
        presence=draw(st.sampled_from(Presence)),
        cadence=draw(seconds),
        grace=draw(seconds) - timedelta(seconds=1),
        revision=0,
        state=draw(st.sampled_from(LicenseState)),
        tolerated_domains=draw(st.none() | st.integers(0, 16)),
        assurance=draw(st.sampled_from(Assurance)),
        surprises_per_day=draw(st.integers(0, 96)),
    )
    parties = tuple(draw(st.lists(parts, max_size=4, unique=True)))
    return LicenseRecord(terms, parties, draw(texts(32, 0)), draw(st.none() | st.integers(1, 2**63 - 1)))


longitudes = st.floats(-60, 60)
latitudes = st.floats(-80, 80)
rings = st.lists(st.tuples(longitudes, latitudes), min_size=3, max_size=6).map(tuple)
ring_sets = st.lists(rings, min_size=1, max_size=2).map(tuple)


@st.composite
def sites(draw: st.DrawFn) -> Site:
    title = draw(texts(128))
    areas = draw(st.lists(st.builds(Polygon, st.just(title), ring_sets), min_size=2, max_size=3))
    center = Position(draw(latitudes), draw(longitudes))
    regions: list[Region] = [
        SiteDisc(title, center, draw(st.floats(0.001, 1_000))),
        areas[0],
        AnyOf(tuple(areas)),
        Countries(frozenset({CountryCode("DE")})),
        Group("A:5"),
    ]
    region = draw(st.sampled_from(regions))
    jurisdiction = draw(st.sampled_from(["", "DE", "SG"]))
    return Site(draw(numbers), draw(ids), title, region, draw(texts(500, 0)), jurisdiction)


pdis = st.binary(min_size=8, max_size=8).map(Pdi)
swaps = st.builds(BoardSwap, st.frozensets(pdis, min_size=1, max_size=8), moments)
key_ids = st.binary(min_size=32, max_size=32).map(DeviceKeyId)
deployments = st.one_of(
    st.builds(DeploymentRecord, st.builds(ByPdi, pdis), numbers, ids, st.just("") | ids, st.none() | swaps),
    st.builds(DeploymentRecord, st.builds(ByKey, key_ids), numbers, ids, st.just("") | ids),
    st.builds(DeploymentRecord, st.builds(ByBoard, pdis, st.integers(1, 64)), numbers, ids, st.just("") | ids),
)
spans = st.lists(moments, min_size=2, max_size=2, unique=True).map(sorted)
shipments = st.builds(
    lambda one, number, site, span, reference: Shipment(one, number, site, span[0], span[1], reference),
    *(ids, numbers, ids, spans, texts(200, 0)),
)
windows = st.builds(
    lambda one, number, site, start, days, reason: MaintenanceWindow(
        one, number, site, start, start + timedelta(days=days), reason
    ),
    *(ids, numbers, st.just("") | ids, moments, st.integers(1, 14), texts(500)),
)
parties = st.builds(
    Party,
    *(ids, texts(200), st.lists(texts(200), max_size=3).map(tuple), st.lists(texts(500), max_size=3).map(tuple)),
    st.sampled_from(["", "DE", "XK"]),
)
records = st.one_of(parties, licenses(), sites(), deployments, shipments, windows)


@given(records, st.integers(1, 10**6), moments)
def test_a_record_reads_back_the_same(record: Record, revision: int, revised_at: datetime) -> None:
    message = stored_to_proto(StoredRecord(record_name(record), record, revision, revised_at))
    wire = records_pb2.Record.FromString(message.SerializeToString())
    assert read_record(wire, "record", MAPS) == record
    assert wire.etag == str(revision)
    assert wire.revise_time.ToDatetime(tzinfo=UTC) == revised_at


@given(records)
def test_a_mask_of_every_field_writes_the_whole_record(record: Record) -> None:
    given_ = record_to_proto(record, 1)
    inner = given_.WhichOneof("record")
    assert inner is not None
    stands = records_pb2.Record(name=given_.name, etag="1")
    getattr(stands, inner).SetInParent()
    paths = getattr(given_, inner).DESCRIPTOR.fields_by_name
    assert read_record(masked(stands, given_, paths, "writes[0]"), "record", MAPS) == record
    assert read_record(masked(stands, given_, ["*"], "writes[0]"), "record", MAPS) == record


def license_message(**changes: object) -> records_pb2.Record:
    terms = License(
        number="D 1/2",
        licensee="Example Cloud",
        valid_from=START,
        valid_until=START + timedelta(days=365),
        presence=Presence.SITE,
        cadence=timedelta(hours=1),
        grace=timedelta(minutes=10),
        revision=0,
        state=LicenseState.DRAFT,
    )
    message = record_to_proto(LicenseRecord(terms, (("acme", PartyRole.LICENSEE),)), 3)
    for name, value in changes.items():
        setattr(message.license, name, value)
    return message


def site_message(**changes: object) -> records_pb2.Record:
    region = SiteDisc("Frankfurt 1", Position(50.11, 8.68), 25.0)
    message = record_to_proto(Site("D1", "fra1", "Frankfurt 1", region), 1)
    for name, value in changes.items():
        setattr(message.site, name, value)
    return message


def deployment_message(name: str) -> records_pb2.Record:
    deployment = records_pb2.Deployment(site="licenses/D1/sites/fra1")
    return records_pb2.Record(name=name, deployment=deployment)


def window_message(hours: float) -> records_pb2.Record:
    window = MaintenanceWindow("w1", "D1", "fra1", START, START + timedelta(hours=1), "new cooling")
    message = record_to_proto(window, 1)
    message.window.ends_at.FromDatetime(START + timedelta(hours=hours))
    return message


def edited(message: records_pb2.Record, edit: Callable[[records_pb2.Record], object]) -> records_pb2.Record:
    edit(message)
    return message


PDI = "deployments/0123456789abcdef"
KEY = f"deployments/key-{'ab' * 32}"
BOARD = "deployments/board-0123456789abcdef"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (records_pb2.Record(name="licenses/"), "name"),
        (records_pb2.Record(name="licenses/D_20"), "name"),
        (records_pb2.Record(name=f"licenses/{'D' * 129}"), "name"),
        (records_pb2.Record(name="licenses/D1"), "license"),
        (records_pb2.Record(name="licenses/D1", party=records_pb2.Party(title="A")), "license"),
        (license_message(licensee=""), "license.licensee"),
        (license_message(licensee=" Example"), "license.licensee"),
        (license_message(licensee="a\nb"), "license.licensee"),
        (license_message(eccn="3" * 33), "license.eccn"),
        (license_message(quantity=-1), "license.quantity"),
        (license_message(presence=0), "license.presence"),
        (license_message(presence=9), "license.presence"),
        (license_message(state=9), "license.state"),
        (license_message(assurance=9), "license.assurance"),
        (license_message(tolerated_domains=17), "license.tolerated_domains"),
        (license_message(tolerated_domains=-1), "license.tolerated_domains"),
        (license_message(surprises_per_day=97), "license.surprises_per_day"),
        (edited(license_message(), lambda m: m.license.ClearField("valid_from")), "license.valid_from"),
        (edited(license_message(), lambda m: m.license.valid_until.FromDatetime(START)), "license.valid_until"),
        (edited(license_message(), lambda m: setattr(m.license.valid_from, "nanos", 1)), "license.valid_from"),
        (edited(license_message(), lambda m: setattr(m.license.valid_from, "seconds", 10**15)), "license.valid_from"),
        (edited(license_message(), lambda m: m.license.ClearField("cadence")), "license.cadence"),
        (edited(license_message(), lambda m: setattr(m.license.cadence, "nanos", 5)), "license.cadence"),
        (
            edited(license_message(), lambda m: setattr(m.license.cadence, "seconds", 366 * 86_400 + 1)),
            "license.cadence",
        ),
        (edited(license_message(), lambda m: setattr(m.license.grace, "seconds", -1)), "license.grace"),
        (edited(license_message(), lambda m: m.license.parties.add(party="acme")), "license.parties[1].party"),
        (edited(license_message(), lambda m: m.license.parties.add(party="licenses/D1")), "license.parties[1].party"),
        (edited(license_message(), lambda m: m.license.parties.add(party="parties/x")), "license.parties[1].role"),
        (
            edited(license_message(), lambda m: m.license.parties.add(party="parties/acme", role=1)),
            "license.parties[1]",
        ),
        (edited(license_message(), lambda m: m.license.parties.extend(50 * [m.license.parties[0]])), "license.parties"),
        (records_pb2.Record(name="parties/a", party=records_pb2.Party()), "party.title"),
        (
            records_pb2.Record(name="parties/a", party=records_pb2.Party(title="A", aliases=["b", ""])),
            "party.aliases[1]",
        ),
        (records_pb2.Record(name="parties/a", party=records_pb2.Party(title="A", aliases=51 * ["b"])), "party.aliases"),
        (
            records_pb2.Record(name="parties/a", party=records_pb2.Party(title="A", addresses=21 * ["b"])),
            "party.addresses",
        ),
        (records_pb2.Record(name="parties/a", party=records_pb2.Party(title="A", country="de")), "party.country"),
        (site_message(title=""), "site.title"),
        (site_message(address="x" * 501), "site.address"),
        (site_message(jurisdiction="EU1"), "site.jurisdiction"),
        (site_message(country="ZZ"), "site.country"),
        (site_message(country="Z:9"), "site.country"),
        (site_message(polygon="[1"), "site.polygon"),
        (site_message(polygon="[" * 100_000), "site.polygon"),
        (site_message(polygon='{"type":"Polygon","coordinates":[[[0,0],[1,0],[0,0]]]}'), "site.polygon"),
        (edited(site_message(), lambda m: m.site.ClearField("circle")), "site"),
        (edited(site_message(), lambda m: setattr(m.site.circle, "latitude", 91)), "site.circle.latitude"),
        (edited(site_message(), lambda m: setattr(m.site.circle, "longitude", math.nan)), "site.circle.longitude"),
        (edited(site_message(), lambda m: setattr(m.site.circle, "radius_km", 0)), "site.circle.radius_km"),
        (edited(site_message(), lambda m: setattr(m.site.circle, "radius_km", 1_001)), "site.circle.radius_km"),
        (edited(deployment_message(PDI), lambda m: setattr(m.deployment, "site", "licenses/D1")), "deployment.site"),
        (edited(deployment_message(PDI), lambda m: setattr(m.deployment, "shipment", "s1")), "deployment.shipment"),
        (edited(deployment_message(PDI), lambda m: setattr(m.deployment, "devices", 1)), "deployment.devices"),
        (edited(deployment_message(BOARD), lambda m: setattr(m.deployment, "devices", 65)), "deployment.devices"),
        (deployment_message(BOARD), "deployment.devices"),
        (edited(deployment_message(KEY), lambda m: m.deployment.swap.SetInParent()), "deployment.swap"),
        (edited(deployment_message(PDI), lambda m: m.deployment.swap.SetInParent()), "deployment.swap.switches"),
        (
            edited(deployment_message(PDI), lambda m: m.deployment.swap.switches.append("XY")),
            "deployment.swap.switches[0]",
        ),
        (
            edited(deployment_message(PDI), lambda m: m.deployment.swap.switches.extend(2 * ["0" * 16])),
            "deployment.swap.switches",
        ),
        (
            edited(deployment_message(PDI), lambda m: m.deployment.swap.switches.append("0" * 16)),
            "deployment.swap.until",
        ),
        (window_message(0), "window.ends_at"),
        (window_message(14 * 24 + 1), "window.ends_at"),
        (edited(window_message(1), lambda m: setattr(m.window, "scope", "parties/a")), "window.scope"),
        (edited(window_message(1), lambda m: setattr(m.window, "reason", "")), "window.reason"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(message: records_pb2.Record, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read_record(message, "writes[3].record", MAPS)
    assert caught.value.field == f"writes[3].record.{field}"


def test_what_is_unset_stands_for_what_the_schema_says() -> None:
    message = license_message(state=0, assurance=0)
    message.license.ClearField("surprises_per_day")
    record = read_record(message, "record", MAPS)
    assert isinstance(record, LicenseRecord)
    assert record.terms.number == "D 1/2"
    assert message.name == "licenses/D_201_2f2"
    assert (record.terms.state, record.terms.assurance) == (LicenseState.DRAFT, Assurance.DEVICE_RANGED)
    assert (record.terms.surprises_per_day, record.terms.tolerated_domains, record.quantity) == (1, None, None)


def test_a_site_without_a_jurisdiction_gets_that_of_its_region() -> None:
    maps = Maps(frozenset(), lambda region: "DE" if isinstance(region, SiteDisc) else "")
    derived = read_record(site_message(), "record", maps)
    told = read_record(site_message(jurisdiction="SG"), "record", maps)
    assert isinstance(derived, Site)
    assert isinstance(told, Site)
    assert (derived.jurisdiction, told.jurisdiction) == ("DE", "SG")


def test_a_mask_changes_what_it_names_and_nothing_beside_it() -> None:
    stands = license_message(quantity=7)
    given_ = license_message(licensee="Somebody Else", quantity=9, presence=place_pb2.PRESENCE_COUNTRY)
    given_.license.ClearField("surprises_per_day")
    made = masked(stands, given_, ["quantity", "surprises_per_day", "cadence"], "writes[0]")
    assert (made.license.quantity, made.license.licensee) == (9, "Example Cloud")
    assert made.license.presence == place_pb2.PRESENCE_SITE
    assert not made.license.HasField("surprises_per_day")
    assert made.etag == "3"


def test_a_mask_reaches_into_messages_that_are_set_and_repeated_fields_are_written_whole() -> None:
    stands, given_ = site_message(), site_message()
    given_.site.circle.radius_km, given_.site.circle.latitude = 40, 1
    made = masked(stands, given_, ["circle.radius_km"], "writes[0]")
    assert (made.site.circle.radius_km, made.site.circle.latitude) == (40, 50.11)
    emptied = masked(license_message(), records_pb2.Record(license=records_pb2.License()), ["parties"], "writes[0]")
    assert not emptied.license.parties


def test_a_mask_that_names_another_region_takes_the_one_that_stands_away() -> None:
    made = masked(site_message(), site_message(country="DE"), ["country"], "writes[0]")
    assert made.site.WhichOneof("region") == "country"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("radius", "no field"),
        ("", "no field"),
        ("circle.size", "no field"),
        ("title.length", "leads into no message"),
        ("circle.", "no field"),
    ],
)
def test_a_mask_that_leads_nowhere_is_refused(path: str, said: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        masked(site_message(), site_message(), [path], "writes[2]")
    assert caught.value.field == "writes[2].update_mask"
    assert said in caught.value.message


def test_a_mask_into_what_is_not_set_is_refused_since_the_rest_would_be_made_up() -> None:
    with pytest.raises(InvalidArgumentError, match="name it whole"):
        masked(site_message(country="DE"), site_message(), ["circle.radius_km"], "writes[0]")
    with pytest.raises(InvalidArgumentError, match="leads into no message"):
        masked(license_message(), license_message(), ["cadence.seconds"], "writes[0]")
