"""Deployments as a commit meets them: which are in force, who gets one by key or board, whose swap is done."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from server.records.codec import swap_from_json
from server.records.names import deployment_name
from server.records.values import ByBoard, ByKey, ByPdi, DeploymentRecord, Record, Selector
from server.store.asof import deployments_as_of
from server.store.counters import take_numbers
from server.store.record_rows import BY_BOARD, BY_KEY
from server.store.revisions import Authorship, append_revisions, last_revisions
from server.store.rows import IN_FORCE, Values, chunks, license_columns, license_of
from server.store.schema import DEPLOYMENTS, LICENSES, SELECTORS
from server.times import micros
from verifier.license import Adoption, License, LicenseState
from verifier.units import DeviceKeyId, Pdi
from verifier.verdict import DeviceVerdict

WHO = "trigpoint"
"""Writes deployments that follow from a report, and from what two people wrote before."""

_DEPLOYED = select(
    DEPLOYMENTS,
    LICENSES.c.record_number.label("license_record"),
    *license_columns(),
).select_from(DEPLOYMENTS.join(LICENSES, LICENSES.c.number == DEPLOYMENTS.c.license_number))
_ADOPTABLE = (
    select(SELECTORS, *license_columns())
    .select_from(SELECTORS.join(LICENSES, LICENSES.c.number == SELECTORS.c.license_number))
    .where(IN_FORCE)
)
_UPDATE_DEPLOYMENT = update(DEPLOYMENTS).where(DEPLOYMENTS.c.device_pdi == bindparam("key"))
_COUNT_ADOPTED = (
    update(SELECTORS)
    .where(SELECTORS.c.kind == bindparam("key_kind"), SELECTORS.c.selector == bindparam("key"))
    .values(adopted=SELECTORS.c.adopted + bindparam("more"))
)


@dataclass(frozen=True, slots=True)
class Duty:
    """A device's deployment as it stands.

    Attributes:
        record: What it says.
        revision: Its revision.
        number: Number of the records when it was revised.
        held: Its license.
        license_number: Number of the records when that was revised.
        licensed_at: Since when, microseconds.
    """

    record: DeploymentRecord
    revision: int
    number: int
    held: License
    license_number: int
    licensed_at: int


@dataclass(slots=True)
class _Offer:
    """A deployment by key or board in the making: `left` goes down with each device that takes it."""

    kind: int
    selector: bytes
    license_number: str
    held: License
    site_id: str
    shipment_id: str
    devices: int
    left: int

    def name(self) -> str:
        which: Selector = ByBoard(Pdi(self.selector), self.devices)
        return deployment_name(ByKey(DeviceKeyId(self.selector)) if self.kind == BY_KEY else which)


class Duties:
    """Deployments of the devices of one group of attestations.

    Args:
        connection: The transaction.
        devices: What was shown about them.
    """

    def __init__(self, connection: Connection, devices: Sequence[DeviceVerdict]) -> None:
        self._connection = connection
        self._in_force: dict[Pdi, Duty] = {}
        self._drafts: set[Pdi] = set()
        self._read({device.pdi for device in devices})
        wanted = {device.adopted.selector for device in devices if device.adopted is not None}
        self._offers = _read_offers(connection, wanted)
        self._adopted: list[tuple[Pdi, _Offer, datetime]] = []
        self._swapped: list[tuple[Pdi, datetime]] = []

    def _read(self, pdis: Collection[Pdi]) -> None:
        for some in chunks(pdis):
            for row in self._connection.execute(_DEPLOYED.where(DEPLOYMENTS.c.device_pdi.in_(some))):
                pdi = Pdi(row.device_pdi)
                if row.state == int(LicenseState.DRAFT):
                    self._drafts.add(pdi)
                else:
                    self._in_force[pdi] = _duty_of(row)

    def of(self, pdi: Pdi) -> Duty | None:
        """Return what is in force for a device; None when nothing is."""
        return self._in_force.get(pdi)

    def can_adopt(self, devices: Iterable[DeviceVerdict]) -> bool:
        """Whether the devices of one attestation that were appraised under a deployment by key or board get one.

        Another worker may have used up the count, or the device may have got a deployment, since the verdict was made
        (docs/protocol.md RC8).
        """
        wanted: Counter[bytes] = Counter()
        for device in devices:
            adopted: Adoption | None = device.adopted
            if adopted is None:
                continue
            offer = self._offers.get(adopted.selector)
            if offer is None or offer.license_number != adopted.license.number or device.pdi in self._in_force:
                return False
            wanted[adopted.selector] += 1
        return all(self._offers[selector].left >= count for selector, count in wanted.items())

    def adopt(self, pdi: Pdi, adopted: Adoption, received_at: datetime) -> Duty:
        """Give a device a deployment of its own, as `can_adopt` allowed; a draft's that it had gives way."""
        offer = self._offers[adopted.selector]
        offer.left -= 1
        self._adopted.append((pdi, offer, received_at))
        record = DeploymentRecord(ByPdi(pdi), offer.license_number, offer.site_id, offer.shipment_id)
        duty = Duty(record, 1, 0, offer.held, 0, micros(received_at))
        self._in_force[pdi] = duty
        return duty

    def is_past(self, device: DeviceVerdict, as_of: int) -> bool:
        """Whether a verdict that was made as of a number is about another site or license than the one in force now."""
        duty = self.of(device.pdi)
        if duty is None or duty.number <= as_of or duty.revision == 1:
            return False
        then = deployments_as_of(self._connection, [device.pdi], as_of).get(device.pdi)
        now = duty.record.license_number, duty.record.site_id
        return then is not None and (then.deployment.license.number, then.site_id) != now

    def end_swap(self, pdi: Pdi, received_at: datetime) -> None:
        """Take a swap that is done off the record."""
        duty = self.of(pdi)
        if duty is not None and duty.record.swap is not None:
            self._in_force[pdi] = replace(duty, record=replace(duty.record, swap=None))
            self._swapped.append((pdi, received_at))

    def write(self) -> None:
        """Write deployments that devices got, and swaps that ended, under one number of the records."""
        if not self._adopted and not self._swapped:
            return
        number = take_numbers(self._connection, "records", 1)[0]
        touched = [pdi for pdi, *_ in self._adopted] + [pdi for pdi, _ in self._swapped]
        last = last_revisions(self._connection, [deployment_name(ByPdi(pdi)) for pdi in touched])
        texts: dict[tuple[str, datetime], list[tuple[str, int, Record | None]]] = defaultdict(list)

        def revise(pdi: Pdi, at: datetime, reason: str) -> Values:
            name = deployment_name(ByPdi(pdi))
            last[name] = last.get(name, 0) + 1
            texts[reason, at].append((name, last[name], self._in_force[pdi].record))
            return {"revision": last[name], "revised_at": micros(at), "record_number": number}

        self._write_adopted([(pdi, at, revise(pdi, at, f"adopted by {o.name()}")) for pdi, o, at in self._adopted])
        swapped = [
            {"key": pdi, "swap": None, **revise(pdi, at, "it reported on the board of its swap")}
            for pdi, at in self._swapped
        ]
        if swapped:
            self._connection.execute(_UPDATE_DEPLOYMENT, swapped)
        for (reason, at), written in texts.items():
            append_revisions(self._connection, written, Authorship(number, WHO, reason, at))

    def _write_adopted(self, revised: Iterable[tuple[Pdi, datetime, Values]]) -> None:
        new: list[Values] = []
        moved: list[Values] = []
        for pdi, at, columns in revised:
            record = self._in_force[pdi].record
            values = {
                "license_number": record.license_number,
                "site_id": record.site_id,
                "shipment_id": record.shipment_id or None,
                "swap": None,
                "licensed_at": micros(at),
                **columns,
            }
            if pdi in self._drafts:
                moved.append({"key": pdi, **values})
            else:
                new.append({"device_pdi": pdi, **values})
        counts = Counter((offer.kind, offer.selector) for _, offer, _ in self._adopted)
        taken = [{"key_kind": kind, "key": selector, "more": more} for (kind, selector), more in counts.items()]
        for statement, rows in ((insert(DEPLOYMENTS), new), (_UPDATE_DEPLOYMENT, moved), (_COUNT_ADOPTED, taken)):
            if rows:
                self._connection.execute(statement, rows)


def _duty_of(row: Row[Any]) -> Duty:
    swap = None if row.swap is None else swap_from_json(row.swap)
    selector = ByPdi(Pdi(row.device_pdi))
    record = DeploymentRecord(selector, row.license_number, row.site_id, row.shipment_id or "", swap)
    held = license_of(row)
    return Duty(record, row.revision, row.record_number, held, row.license_record, row.licensed_at)


def _read_offers(connection: Connection, selectors: Collection[bytes]) -> dict[bytes, _Offer]:
    found: dict[bytes, _Offer] = {}
    for some in chunks(selectors):
        # A key's id and a PDI differ in length, so that no selector is of both kinds.
        query = _ADOPTABLE.where(SELECTORS.c.kind.in_([BY_KEY, BY_BOARD]), SELECTORS.c.selector.in_(some))
        for row in connection.execute(query):
            found[row.selector] = _Offer(
                kind=row.kind,
                selector=row.selector,
                license_number=row.license_number,
                held=license_of(row),
                site_id=row.site_id,
                shipment_id=row.shipment_id or "",
                devices=row.devices,
                left=row.devices - row.adopted,
            )
    return found
