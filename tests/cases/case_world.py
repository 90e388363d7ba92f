"""A store file with records and findings written by hand, and the door to its cases."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, insert, select, update

from server.store import sqlite
from server.store.case_door import CaseDoor
from server.store.case_types import CaseEntryKind, CaseFilter, CaseRecord, CaseState
from server.store.counters import take_numbers
from server.store.schema import ATTESTATIONS, DEPLOYMENTS, DEVICE_VERDICTS, DEVICES, FINDINGS, LICENSES, SITES
from server.times import MICROSECOND, micros
from verifier.appraise import SEVERITY
from verifier.errors import Reason
from verifier.place.geodesy import Position
from verifier.place.region_json import region_to_json
from verifier.place.regions import SiteDisc
from verifier.units import Pdi

START = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

Result = TypeVar("Result")


def pdi(number: int) -> Pdi:
    return Pdi(number.to_bytes(8, "big"))


@dataclass
class CaseWorld:
    """One node on a store file."""

    writing: Engine
    reading: Engine
    cases: CaseDoor = field(init=False)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.cases = CaseDoor(self.read, self.write)

    async def read(self, query: Callable[[Connection], Result], /) -> Result:
        return await asyncio.to_thread(sqlite.run_in_transaction, self.reading, query)

    async def write(self, change: Callable[[Connection], Result], /, *, changes_devices: bool = True) -> Result:
        del changes_devices
        return await asyncio.to_thread(sqlite.run_in_transaction, self.writing, change)

    async def license(
        self, number: str = "D1", *, licensee: str = "Example Cloud", sites: Iterable[str] = ("fra",), country: str = ""
    ) -> None:
        """A license in force, with sites named by their ids."""

        def work(connection: Connection) -> None:
            revised = {"revision": 3, "revised_at": micros(START - 90 * DAY), "record_number": 1}
            held = {
                "number": number,
                "licensee": licensee,
                "valid_from": micros(START - 100 * DAY),
                "valid_until": micros(START + 200 * DAY),
                "presence": 1,
                "cadence_us": HOUR // MICROSECOND,
                "grace_us": 30 * MINUTE // MICROSECOND,
                "state": 2,
                "tolerated_domains": None,
                "assurance": 1,
                "surprises_per_day": 1,
                "eccn": "3A090",
                "quantity": None,
                "parties": "[]",
                "tightened_at": micros(START - 90 * DAY),
                **revised,
            }
            connection.execute(insert(LICENSES), held)
            rows = [
                {
                    "license_number": number,
                    "site_id": site,
                    "title": f"Hall {site}",
                    "region": region_to_json(SiteDisc(f"Hall {site}", Position(50.11, 8.68), 25.0)),
                    "address": "",
                    "jurisdiction": country,
                    **revised,
                }
                for site in sites
            ]
            connection.execute(insert(SITES), rows)

        await self.write(work)

    async def deploy(
        self,
        numbers: Iterable[int],
        *,
        license_number: str = "D1",
        site: str = "fra",
        agent: str = "",
        last_report: datetime | None = None,
        last_proof: datetime | None = None,
    ) -> None:
        """Devices that are deployed."""
        known = list(numbers)
        revised = {"revision": 1, "revised_at": micros(START - 80 * DAY), "record_number": 1}

        def work(connection: Connection) -> None:
            deployments = [
                {
                    "device_pdi": pdi(number),
                    "license_number": license_number,
                    "site_id": site,
                    "shipment_id": None,
                    "swap": None,
                    "licensed_at": micros(START - 80 * DAY),
                    **revised,
                }
                for number in known
            ]
            connection.execute(insert(DEPLOYMENTS), deployments)
            devices = [
                {
                    "pdi": pdi(number),
                    "kind": 1,
                    "agent": agent,
                    "last_report_at": None if last_report is None else micros(last_report),
                    "last_proof_at": None if last_proof is None else micros(last_proof),
                    "change_number": change,
                }
                for number, change in zip(known, take_numbers(connection, "changes", len(known)), strict=True)
            ]
            connection.execute(insert(DEVICES), devices)

        await self.write(work)

    async def strangers(self, numbers: Iterable[int], licensee: str, at: datetime, reason: Reason) -> None:
        """Devices without a deployment that an agent of this licensee reports, with a finding."""
        known = list(numbers)
        challenge = hashlib.sha256(f"{licensee} {at} {known[0]}".encode()).digest()

        def work(connection: Connection) -> None:
            attestation = {
                "challenge": challenge,
                "preimage": bytes(64),
                "host_id": "host",
                "agent": "rack-1",
                "licensee": licensee,
                "issued_at": micros(at),
                "received_at": micros(at),
                "claims_sha256": bytes(32),
                "reports_sha256": bytes(32),
                "rejection": None,
                "rejection_detail": "",
                "report_rejections": "[]",
                "transition": True,
                "result": "",
            }
            connection.execute(insert(ATTESTATIONS), attestation)
            seen = set(
                connection.scalars(select(DEVICES.c.pdi).where(DEVICES.c.pdi.in_([pdi(n) for n in known[:500]])))
            )
            changes = take_numbers(connection, "changes", len(known))
            devices = [
                {"pdi": pdi(n), "kind": 1, "change_number": c}
                for n, c in zip(known, changes, strict=True)
                if pdi(n) not in seen
            ]
            if devices:
                connection.execute(insert(DEVICES), devices)
            verdicts = [
                {
                    "pdi": pdi(n),
                    "received_at": micros(at),
                    "challenge": challenge,
                    "chain_id": bytes(32),
                    "standing": 5,
                    "presence_proven": False,
                    "findings": "[]",
                    "fix": None,
                    "void_ranges": "[]",
                    "basis": "{}",
                }
                for n in known
            ]
            connection.execute(insert(DEVICE_VERDICTS), verdicts)

        await self.write(work)
        await self.find(reason, known, at)

    async def find(self, reason: Reason, numbers: Iterable[int], at: datetime, detail: str = "because") -> None:
        """Findings that open."""
        known = list(numbers)

        def work(connection: Connection) -> None:
            rows = [
                {
                    "pdi": pdi(number),
                    "reason": int(reason),
                    "opened_at": micros(at),
                    "closed_at": None,
                    "severity": int(SEVERITY[reason]),
                    "detail": detail,
                    "number": taken,
                }
                for number, taken in zip(known, take_numbers(connection, "findings", len(known)), strict=True)
            ]
            connection.execute(insert(FINDINGS), rows)

        await self.write(work)

    async def end(self, reason: Reason, numbers: Iterable[int], at: datetime) -> None:
        """Findings that end."""

        def work(connection: Connection) -> None:
            for number in numbers:
                (taken,) = take_numbers(connection, "findings", 1)
                of_device = FINDINGS.c.pdi == pdi(number), FINDINGS.c.reason == int(reason)
                connection.execute(
                    update(FINDINGS)
                    .where(*of_device, FINDINGS.c.closed_at.is_(None))
                    .values(closed_at=micros(at), number=taken)
                )

        await self.write(work)

    async def report(self, number: int, at: datetime) -> None:
        """A verified report of a device."""
        values = {"last_report_at": micros(at)}
        await self.write(lambda c: c.execute(update(DEVICES).where(DEVICES.c.pdi == pdi(number)).values(values)))

    # What there is.

    async def all(self, state: CaseState | None = None) -> Sequence[CaseRecord]:
        return (await self.cases.list(CaseFilter(state=state), limit=1_000)).cases

    async def one(self) -> CaseRecord:
        """The one case that is not resolved."""
        (case,) = await self.all()
        return case

    async def story(self, number: int) -> list[tuple[CaseEntryKind, str]]:
        found = await self.cases.get(number)
        assert found is not None
        return [(entry.kind, entry.text) for entry in found.entries]

    async def kinds(self, number: int) -> list[str]:
        return [kind.name for kind, _ in await self.story(number)]


@asynccontextmanager
async def open_world(path: Path) -> AsyncIterator[CaseWorld]:
    writing, reading = await asyncio.to_thread(sqlite.open_engines, path)
    try:
        yield CaseWorld(writing, reading)
    finally:
        reading.dispose()
        writing.dispose()
