"""A desk written row by row, for tests of the watch alone: what is on record, who reported when, who was up when."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from server.store import Store
from server.store.counters import read_counter, take_numbers
from server.store.findings import write_findings
from server.store.rows import Values
from server.store.schema import (
    DEPLOYMENTS,
    DEVICES,
    FINDINGS,
    LANDMARK_UPTIME,
    LICENSES,
    SELECTORS,
    SERVICE_INTERVALS,
    SHIPMENTS,
    SITES,
    WINDOWS,
)
from server.store.watch_types import Able, AbleLandmark, AbleSite, SiteKey, SweepOutcome
from server.times import MICROSECOND, micros, optional_micros
from tests.store.store_world import GERMANY, HOUR, START, finding, pdi
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import LicenseState, Presence
from verifier.place.answers import Assurance
from verifier.place.region_json import region_to_json
from verifier.units import Domain, LandmarkId
from verifier.verdict import Standing

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
ALLOWED = HOUR + HOUR / 2
"""Cadence + grace of the license D1."""

BEGAN = START - 40 * DAY
"""Since then everything is on record, if nothing else is said."""


def able(*domains: str, needed: int = 2, license_number: str = "D1", site_id: str = "fra") -> Able:
    """One site that these domains could prove, each by one landmark of its name."""
    landmarks = {Domain(each): (AbleLandmark(LandmarkId(each), 0),) for each in domains}
    return {SiteKey(license_number, site_id): AbleSite(needed, landmarks)}


@dataclass(frozen=True)
class Desk:
    """Writes rows and reads what the watch made of them."""

    store: Store

    async def row(self, table: Table, **values: object) -> None:
        """Insert a row, as a write of records does."""
        await self.store._write(lambda connection: _insert_record(connection, table, values))

    async def change(self, table: Table, where: object, **values: object) -> None:
        """Update rows, as a write of records does."""

        def write(connection: Connection) -> None:
            take_numbers(connection, "records", 1)
            connection.execute(update(table).where(where).values(**values))  # type: ignore[arg-type]

        await self.store._write(write)

    async def end(self, table: Table, where: object) -> None:
        """Delete rows, as a write of records does."""

        def write(connection: Connection) -> None:
            take_numbers(connection, "records", 1)
            connection.execute(delete(table).where(where))  # type: ignore[arg-type]

        await self.store._write(write)

    async def license(
        self,
        number: str = "D1",
        *,
        cadence: timedelta = HOUR,
        grace: timedelta = HOUR / 2,
        state: LicenseState = LicenseState.ACTIVE,
        until: datetime = START + 300 * DAY,
        quantity: int | None = None,
        tightened_at: datetime = BEGAN,
        sites: Iterable[str] = ("fra",),
    ) -> None:
        """Put a license on record, with sites in Germany."""
        await self.row(
            LICENSES,
            number=number,
            licensee="Example Cloud",
            valid_from=micros(BEGAN),
            valid_until=micros(until),
            presence=int(Presence.COUNTRY),
            cadence_us=cadence // MICROSECOND,
            grace_us=grace // MICROSECOND,
            state=int(state),
            assurance=int(Assurance.DEVICE_RANGED),
            surprises_per_day=1,
            eccn="",
            quantity=quantity,
            parties="[]",
            tightened_at=micros(tightened_at),
        )
        for site_id in sites:
            named: Values = {"license_number": number, "site_id": site_id, "title": site_id, "jurisdiction": "DE"}
            await self.row(SITES, **named, region=region_to_json(GERMANY), address="")

    async def shipment(self, activation_by: datetime, shipment_id: str = "s1") -> None:
        """Put a shipment to Frankfurt on record."""
        times: Values = {"shipped_at": micros(BEGAN), "activation_by": micros(activation_by)}
        await self.row(SHIPMENTS, shipment_id=shipment_id, license_number="D1", site_id="fra", reference="", **times)

    async def window(
        self, starts_at: datetime, ends_at: datetime, *, site_id: str = "fra", license_number: str = "D1"
    ) -> None:
        """Put a maintenance window on record."""
        times: Values = {"starts_at": micros(starts_at), "ends_at": micros(ends_at)}
        name = f"w-{license_number}-{site_id}-{micros(starts_at)}"
        await self.row(WINDOWS, window_id=name, license_number=license_number, site_id=site_id, reason="", **times)

    async def selector(self, devices: int, adopted: int, revised_at: datetime) -> None:
        """Put a deployment by board on record."""
        values: Values = {"kind": 2, "selector": pdi(900), "license_number": "D1", "site_id": "fra"}
        await self.row(SELECTORS, **values, devices=devices, adopted=adopted, revised_at=micros(revised_at))

    async def deploy(
        self,
        number: int = 1,
        *,
        license_number: str = "D1",
        site_id: str = "fra",
        at: datetime = BEGAN,
        shipment_id: str | None = None,
        reported: datetime | None = None,
        activated: datetime | None = None,
        proven: datetime | None = None,
        found: Iterable[Reason] = (),
        kind: DeviceKind | None = DeviceKind.GPU,
    ) -> None:
        """Deploy a device that reported at these times, with what its last report showed."""
        first = activated or reported
        values: Values = {
            "pdi": pdi(number),
            "kind": None if reported is None else kind,
            "standing": int(Standing.UNPROVEN if reported is None else Standing.COMPLIANT),
            "last_report_at": optional_micros(reported),
            "activated_at": optional_micros(first),
            "last_proof_at": optional_micros(proven),
        }
        opened = [
            {
                "pdi": pdi(number),
                "reason": int(reason),
                "opened_at": micros(reported or at),
                "closed_at": None,
                "severity": int(finding(reason).severity),
                "detail": "because",
            }
            for reason in found
        ]

        def write(connection: Connection) -> None:
            change = take_numbers(connection, "changes", 1)[0]
            connection.execute(insert(DEVICES), {**values, "change_number": change})
            write_findings(connection, opened=opened)

        await self.store._write(write)
        place: Values = {"license_number": license_number, "site_id": site_id, "shipment_id": shipment_id}
        await self.row(DEPLOYMENTS, device_pdi=pdi(number), licensed_at=micros(at), **place)

    async def reports(self, number: int, **values: object) -> None:
        """Change a device's row as a commit does: no record is written."""
        await self.store._write(
            lambda connection: connection.execute(update(DEVICES).where(DEVICES.c.pdi == pdi(number)).values(**values))
        )

    async def up(self, since: datetime, until: datetime, node: str = "node-1") -> None:
        """Say when the service was up, in this one piece."""
        await self._interval(SERVICE_INTERVALS, "node", node, since, until)

    async def landmark_up(self, name: str, since: datetime, until: datetime) -> None:
        """Say when a landmark was up, in this one piece."""
        await self._interval(LANDMARK_UPTIME, "landmark_id", name, since, until)

    async def _interval(self, table: Table, column: str, name: str, since: datetime, until: datetime) -> None:
        row = {column: name, "started_at": micros(since), "alive_until": micros(until)}

        def write(connection: Connection) -> None:
            connection.execute(delete(table).where(table.c[column] == name, table.c.started_at == micros(since)))
            connection.execute(insert(table), row)

        await self.store._write(write)

    async def sweep(self, now: datetime, who: Able | None = None) -> SweepOutcome:
        """Sweep."""
        return await self.store.watch.sweep(now, who or {})

    async def standing(self, number: int = 1) -> Standing:
        """Return how a device stands."""
        query = select(DEVICES.c.standing).where(DEVICES.c.pdi == pdi(number))
        return Standing(await self.store._read(lambda connection: connection.execute(query).scalar_one()))

    async def open(self, number: int = 1) -> set[Reason]:
        """Return what stands open, hidden or not."""
        query = select(FINDINGS.c.reason).where(FINDINGS.c.pdi == pdi(number), FINDINGS.c.closed_at.is_(None))
        return {Reason(r) for r in await self.store._read(lambda connection: connection.scalars(query).all())}

    async def count(self, reason: Reason) -> int:
        """Return how often a finding was opened, of any device."""
        query = select(func.count()).select_from(FINDINGS).where(FINDINGS.c.reason == int(reason))
        return await self.store._read(lambda connection: connection.execute(query).scalar_one())

    async def numbers(self) -> list[int]:
        """Return the numbers of all findings, in order."""
        query = select(FINDINGS.c.number).order_by(FINDINGS.c.number)
        return list(await self.store._read(lambda connection: connection.scalars(query).all()))

    async def findings_number(self) -> int:
        """Return the counter of findings."""
        return await self.store._read(lambda connection: read_counter(connection, "findings"))


def _insert_record(connection: Connection, table: Table, values: Values) -> None:
    number = take_numbers(connection, "records", 1)[0]
    connection.execute(insert(table), {"revision": 1, "revised_at": 0, **values, "record_number": number})
