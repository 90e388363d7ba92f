"""Verdicts and records made by hand, for tests of what the store does with them."""

import asyncio
import hashlib
import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from server.store import AttestationRecord, LandmarkRecord, Store
from server.store.types import LoadedInputs
from verifier.appraise import SEVERITY
from verifier.continuity import DeviceState, SignedCounters
from verifier.errors import Reason
from verifier.evidence.attestation import IssuedChallenge, UnverifiedAttestation, UnverifiedReport
from verifier.evidence.chain import DeviceKind
from verifier.evidence.spdm import Counters
from verifier.license import Deployment, License, LicenseState, Presence
from verifier.place.answers import Assurance, Depths, DiscUse, PlaceAnswer, Told
from verifier.place.fix import Fix
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark
from verifier.place.regions import Countries, Region, SiteDisc
from verifier.units import (
    ChainId,
    Challenge,
    CountryCode,
    DeviceKeyId,
    Domain,
    Kilometers,
    LandmarkId,
    Nanoseconds,
    Pdi,
)
from verifier.verdict import DeviceVerdict, Finding, Rejection, Standing, Verdict

START = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
SITE = SiteDisc("Frankfurt 1", Position(50.11, 8.68), 25.0)
GERMANY = Countries(frozenset({CountryCode("DE")}))

_challenges = itertools.count(1)


class Gate:
    """Holds the writer thread, so that what is put meanwhile meets in one group."""

    def __init__(self, store: Store) -> None:
        self._open = threading.Event()
        self._held = store._writer.run(self._wait)

    def _wait(self, _: Connection) -> None:
        self._open.wait(30)

    async def open(self) -> None:
        self._open.set()
        await asyncio.wrap_future(self._held)


def pdi(number: int) -> Pdi:
    return Pdi(number.to_bytes(8, "big"))


def chain(number: int) -> tuple[ChainId, tuple[bytes, ...]]:
    certificates = tuple(f"certificate {number}.{index}".encode() for index in range(5))
    return ChainId(hashlib.sha256(b"".join(certificates)).digest()), certificates


def license_of(number: str = "D1", *, cadence: timedelta = HOUR, grace: timedelta = HOUR / 2) -> License:
    return License(
        number=number,
        licensee="Example Cloud",
        valid_from=START - timedelta(days=30),
        valid_until=START + timedelta(days=300),
        presence=Presence.COUNTRY,
        cadence=cadence,
        grace=grace,
        revision=0,
        state=LicenseState.ACTIVE,
    )


def deployment(number: int, held: License | None = None, region: Region = GERMANY) -> Deployment:
    return Deployment(pdi(number), held or license_of(), region)


async def load(store: Store, *pdis: Pdi) -> LoadedInputs:
    """What stands of these devices now."""
    return await store.load_inputs(pdis, await store.records_number())


def fix(*, licensed: PlaceAnswer = PlaceAnswer.PROVEN) -> Fix:
    disc = DiscUse(
        landmark_id=LandmarkId("fra-1"),
        domain=Domain("operator-a"),
        rtt_ns=Nanoseconds(270_123),
        radius_km=Kilometers(40.1 + 0.2),
        licensed_region_km=Kilometers(0.0),
        prohibited_km=Kilometers(1234.5678),
        excludes_licensed_region=False,
        within_licensed_region=True,
        excludes_prohibited=True,
        within_prohibited=False,
        may_accuse=True,
        may_prove_site=False,
        position=Position(50.03, 8.57),
        landmark_revision=3,
        fibre_radius_km=Kilometers(26.7),
    )
    return Fix(
        ranged_by=pdi(7),
        assurance=Assurance.DEVICE_RANGED,
        in_licensed_region=licensed,
        outside_prohibited=PlaceAnswer.PROVEN,
        tolerated_domains=1,
        least_violations=0,
        border_margin_km=5.0,
        borders_version="borders-1",
        prohibited_version="prohibited-1",
        demonstration=False,
        licensed_depths=Depths(0, 1, 1, by_several=False),
        outside_depths=Depths(0, 2, 2, by_several=True),
        contradicting=(Domain("fraport"),),
        told=Told.of((disc,), "fra-1 heard it within 40 km: “inside”, né?"),
    )


def finding(reason: Reason, detail: str = "because") -> Finding:
    return Finding(reason, SEVERITY[reason], detail)


def signed(counters: Counters | None, at: datetime = START) -> SignedCounters | None:
    """Counters that were signed within five seconds before a time."""
    return None if counters is None else SignedCounters(counters, at - timedelta(seconds=5), at)


def device(
    number: int,
    *findings: Finding,
    standing: Standing | None = Standing.COMPLIANT,
    kind: DeviceKind = DeviceKind.GPU,
    counters: Counters | None = None,
    board: Iterable[Pdi] = (),
    located: Fix | None = None,
) -> DeviceVerdict:
    return DeviceVerdict(
        pdi=pdi(number),
        kind=kind,
        device_key_id=DeviceKeyId(hashlib.sha256(pdi(number)).digest()),
        chain_id=chain(number)[0],
        model="GH100",
        firmware="stub-1",
        standing=standing if kind is DeviceKind.GPU else None,
        findings=findings,
        fix=located,
        presence_proven=located is not None and located.in_licensed_region is PlaceAnswer.PROVEN,
        proven_edges=(),
        state=DeviceState(signed(counters), frozenset(board)),
    )


def record(
    received_at: datetime,
    devices: Sequence[DeviceVerdict],
    *,
    host_id: str = "host-1",
    challenge: Challenge | None = None,
    rejection: Rejection | None = None,
    based_on: Mapping[Pdi, DeviceState] | None = None,
    as_of: int | None = None,
) -> AttestationRecord:
    named = challenge or Challenge(hashlib.sha256(next(_challenges).to_bytes(8, "big")).digest())
    reports = tuple(UnverifiedReport(b"spdm of " + each.pdi, each.chain_id) for each in devices)
    return AttestationRecord(
        verdict=Verdict(host_id, named, received_at, rejection, (), tuple(devices)),
        attestation=UnverifiedAttestation(host_id, named, b"claims", reports),
        issued=IssuedChallenge(named, host_id, received_at - timedelta(seconds=5)),
        preimage=bytes(64),
        agent="rack-7",
        licensee="Example Cloud",
        new_chains=dict(chain(int.from_bytes(each.pdi, "big")) for each in devices),
        based_on=based_on or {},
        as_of=as_of,
    )


def landmark(name: str, *, operator: str = "operator-a", hoster: str = "", key: bytes = b"") -> LandmarkRecord:
    return LandmarkRecord(
        Landmark(
            landmark_id=LandmarkId(name),
            public_key=key or hashlib.sha256(name.encode()).digest(),
            operator=operator,
            hoster=hoster or f"hoster of {name}",
            position=Position(50.1, 8.7),
            uncertainty_km=0.5,
            virtual_machine=False,
            country=CountryCode("DE"),
            revision=0,
            revised_at=START,
            valid_from=START,
        ),
        "surveyed",
        ("192.0.2.1:4100", "[2001:db8::1]:4100"),
    )
