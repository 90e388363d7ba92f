"""Records of every kind, as Hypothesis makes them."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

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
from verifier.license import BoardSwap, License, LicenseState, Presence
from verifier.place.answers import Assurance
from verifier.place.geodesy import Position
from verifier.place.regions import Countries, Group, Polygon, Region, SiteDisc
from verifier.units import CountryCode, DeviceKeyId, Pdi

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?", fullmatch=True)
numbers = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
times = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - aware by the zones
spans = st.timedeltas(timedelta(microseconds=1), timedelta(days=13))
pdis = st.binary(min_size=8, max_size=8).map(Pdi)
_degrees = st.floats(-80, 80, allow_nan=False)
_points = st.tuples(_degrees, _degrees)
positions = st.builds(Position, _degrees, _degrees)
regions: st.SearchStrategy[Region] = st.one_of(
    st.builds(SiteDisc, texts, positions, st.floats(0.1, 900)),
    st.builds(Polygon, texts, st.tuples(st.tuples(_points, _points, _points))),
    st.sets(st.sampled_from(["DE", "SG", "US"]).map(CountryCode), min_size=1).map(
        lambda codes: Countries(frozenset(codes))
    ),
    st.builds(Group, st.sampled_from(["A:5", "D:1"])),
)


@st.composite
def licenses(draw: st.DrawFn) -> LicenseRecord:
    begin = draw(times)
    terms = License(
        number=draw(numbers),
        licensee=draw(texts),
        valid_from=begin,
        valid_until=begin + draw(spans),
        presence=draw(st.sampled_from(Presence)),
        cadence=draw(spans),
        grace=draw(spans),
        revision=0,
        state=draw(st.sampled_from(LicenseState)),
        tolerated_domains=draw(st.none() | st.integers(0, 16)),
        assurance=draw(st.sampled_from(Assurance)),
        surprises_per_day=draw(st.integers(0, 96)),
    )
    parties = draw(st.lists(st.tuples(ids, st.sampled_from(PartyRole)), max_size=3))
    return LicenseRecord(terms, tuple(parties), draw(texts), draw(st.none() | st.integers(0, 10**12)))


@st.composite
def deployments(draw: st.DrawFn) -> DeploymentRecord:
    selector = draw(
        st.one_of(
            pdis.map(ByPdi),
            st.binary(min_size=32, max_size=32).map(lambda key: ByKey(DeviceKeyId(key))),
            st.builds(ByBoard, pdis, st.integers(1, 64)),
        )
    )
    swaps = st.none() | st.builds(BoardSwap, st.frozensets(pdis, min_size=1, max_size=4), times)
    swap = draw(swaps) if isinstance(selector, ByPdi) else None
    return DeploymentRecord(selector, draw(numbers), draw(ids), draw(st.just("") | ids), swap)


@st.composite
def windows(draw: st.DrawFn) -> MaintenanceWindow:
    begin = draw(times)
    return MaintenanceWindow(draw(ids), draw(numbers), draw(st.just("") | ids), begin, begin + draw(spans), draw(texts))


tuples_of_texts = st.lists(texts, max_size=3).map(tuple)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(Party, ids, texts, tuples_of_texts, tuples_of_texts, st.sampled_from(["", "DE"])),
    licenses(),
    st.builds(Site, numbers, ids, texts, regions, texts, st.sampled_from(["", "SG"])),
    deployments(),
    st.builds(Shipment, ids, numbers, ids, times, times, texts),
    windows(),
)
