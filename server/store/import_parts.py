"""What the deployments of a file name: licenses with parties, sites, shipments. Compared with what stands alone."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, select

from server.records.names import license_name, record_name, site_name
from server.records.sites import jurisdiction_of, slug_of, title_of
from server.records.values import (
    DeploymentRecord,
    LicenseRecord,
    Party,
    PartyRole,
    Record,
    Shipment,
    Site,
)
from server.store.errors import HitsOpenError, RecordConflictError
from server.store.record_rows import load_records, load_rows
from server.store.record_types import StoredRecord
from server.store.rows import chunks
from server.store.schema import LICENSES, PARTIES, SITES
from server.store.screening import blocked_parties
from server.store.types import ImportRow
from verifier.license import License, LicenseState

Revision = tuple[StoredRecord | None, Record]
"""A record as it stands, None when it does not, and as it shall."""


class Parts:
    """What the rows of one chunk name.

    Args:
        connection: The transaction.
        rows: The chunk.
        state: Of licenses that are new.
        made: What this import has made or changed before, by name: where nothing is written, it does not stand.
    """

    def __init__(
        self, connection: Connection, rows: Sequence[ImportRow], state: LicenseState, made: Mapping[str, Record]
    ) -> None:
        self._connection = connection
        self._state = state
        self._made = made
        self.changes: list[Revision] = []
        self.names: set[str] = set()
        self.touched: set[str] = set()
        self._parties: dict[str, str] = {}
        self._sites: dict[tuple[str, str], str] = {}
        self._licenses: dict[str, LicenseRecord] = {}
        given = _licenses_of(rows)
        self._stored = {
            stored.record.terms.number: stored
            for stored in load_rows(connection, LICENSES, [(number,) for number in given])
            if isinstance(stored.record, LicenseRecord)
        }
        for number, told in given.items():
            self._take_license(number, told)
        self._take_sites(_sites_of(rows))
        self._take_shipments(rows)

    def terms(self) -> dict[str, License]:
        """Return the terms of the licenses as they shall stand, by number."""
        return {number: record.terms for number, record in self._licenses.items()}

    def in_force(self, number: str) -> bool:
        """Whether a license is in force before the import touches it."""
        stored = self._stored.get(number)
        return (
            stored is not None
            and isinstance(stored.record, LicenseRecord)
            and stored.record.terms.state is not LicenseState.DRAFT
        )

    def deployment(self, row: ImportRow, before: DeploymentRecord | None) -> DeploymentRecord:
        """Return the deployment of a row; what the row does not tell stays as it is."""
        number = row.license.terms.number
        site_id = self._sites[number, _slug(row)]
        if row.shipment is not None:
            shipment_id = row.shipment.shipment_id
        else:
            stays = before is not None and (before.license_number, before.site_id) == (number, site_id)
            shipment_id = before.shipment_id if before is not None and stays else ""
        swap = None if before is None else before.swap
        return DeploymentRecord(row.selector, number, site_id, shipment_id, swap)

    def _change(self, number: str | None, before: StoredRecord | None, after: Record) -> None:
        name = record_name(after)
        if name in self._made:
            if self._made[name] != after:
                raise RecordConflictError("license_number", f"rows contradict each other in what they say of {name}")
            return
        self.changes.append((before, after))
        if number is not None:
            self.touched.add(number)

    def _take_license(self, number: str, told: LicenseRecord) -> None:
        self.names.add(license_name(number))
        stored = self._stored.get(number)
        terms = told.terms
        if stored is None or not isinstance(stored.record, LicenseRecord):
            named = ((self._party_of(terms.licensee), PartyRole.LICENSEE),)
            new = replace(terms, state=self._state, revision=1)
            self._licenses[number] = LicenseRecord(new, named, told.eccn, told.quantity)
            self._change(number, None, self._licenses[number])
            return
        was = stored.record
        held = replace(
            was.terms,
            licensee=terms.licensee,
            valid_from=terms.valid_from,
            valid_until=terms.valid_until,
            presence=terms.presence,
            cadence=terms.cadence,
            grace=terms.grace,
        )
        parties = was.parties
        if held.licensee != was.terms.licensee:
            others = tuple(each for each in was.parties if each[1] is not PartyRole.LICENSEE)
            party_id = self._party_of(held.licensee)
            self._check_party(was.terms, party_id)
            parties = ((party_id, PartyRole.LICENSEE), *others)
        quantity = was.quantity if told.quantity is None else told.quantity
        self._licenses[number] = LicenseRecord(held, parties, told.eccn or was.eccn, quantity)
        if self._licenses[number] != was:
            self._change(number, stored, self._licenses[number])

    def _check_party(self, held: License, party_id: str) -> None:
        """Let nobody come into an active license who was not screened (docs/protocol.md RC5).

        Any other license is looked at when it becomes active.
        """
        if held.state is not LicenseState.ACTIVE:
            return
        others = [*self._made, *(record_name(after) for _, after in self.changes)]
        if f"parties/{party_id}" in others:
            raise RecordConflictError(
                "licensee", f"write party {party_id} before it comes to license {held.number}, to be screened"
            )
        if hits := blocked_parties(self._connection, [party_id]):
            raise HitsOpenError(hits)

    def _party_of(self, title: str) -> str:
        """Return the party of this name, one to be made when there is none."""
        found = self._parties.get(title)
        if found is None:
            query = select(PARTIES.c.party_id).where(PARTIES.c.title == title).order_by(PARTIES.c.party_id).limit(1)
            found = self._connection.scalars(query).first()
        if found is None:
            party = Party(self._free_id(slug_of(title, "party"), title), title)
            found = party.party_id
            self._change(None, None, party)
        self._parties[title] = found
        return found

    def _free_id(self, slug: str, title: str) -> str:
        taken = set(self._connection.scalars(select(PARTIES.c.party_id).where(PARTIES.c.party_id.startswith(slug))))
        others = [*self._made.values(), *(after for _, after in self.changes)]
        taken |= {each.party_id for each in others if isinstance(each, Party) and each.title != title}
        count = 1
        free = slug
        while free in taken:
            count += 1
            free = f"{slug[:56]}-{count}"
        return free

    def _take_sites(self, given: Mapping[tuple[str, str], ImportRow]) -> None:
        stored = {
            (site.record.license_number, site.record.site_id): site
            for site in load_rows(self._connection, SITES, given)
            if isinstance(site.record, Site)
        }
        titles = self._by_title(given, stored)
        for (number, slug), row in given.items():
            title = row.site_title or title_of(row.region)
            site = titles.get((number, title)) or stored.get((number, slug))
            if site is None or not isinstance(site.record, Site):
                jurisdiction = jurisdiction_of(row.region) if row.jurisdiction is None else row.jurisdiction
                after = Site(number, slug, title, row.region, jurisdiction=jurisdiction)
                self._change(number, None, after)
            elif slug_of(site.record.title, "site") != slug:
                named = f"{site.record.title!r}, not {title!r}"
                raise RecordConflictError("site_name", f"site {slug} of license {number} is called {named}")
            else:
                after = replace(site.record, region=row.region)
                if after != site.record:
                    self._change(number, site, after)
            self._sites[number, slug] = after.site_id
            self.names.add(site_name(number, after.site_id))

    def _by_title(
        self, given: Mapping[tuple[str, str], ImportRow], stored: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], StoredRecord]:
        """Return sites that officers gave another id than the one that follows from their name, by license and name."""
        missing = {key: row.site_title or title_of(row.region) for key, row in given.items() if key not in stored}
        keys: list[tuple[str, str]] = []
        for some in chunks(missing):
            query = select(SITES.c.license_number, SITES.c.site_id).where(
                SITES.c.license_number.in_({number for number, _ in some}),
                SITES.c.title.in_({missing[key] for key in some}),
            )
            keys.extend((row.license_number, row.site_id) for row in self._connection.execute(query))
        found: dict[tuple[str, str], StoredRecord] = {}
        for site in sorted(load_rows(self._connection, SITES, keys), key=lambda each: each.name):
            if isinstance(site.record, Site):
                found.setdefault((site.record.license_number, site.record.title), site)
        return found

    def _take_shipments(self, rows: Iterable[ImportRow]) -> None:
        given: dict[str, Shipment] = {}
        for row in rows:
            if (brings := row.shipment) is None:
                continue
            number = row.license.terms.number
            site_id = self._sites[number, _slug(row)]
            told = Shipment(brings.shipment_id, number, site_id, brings.shipped_at, brings.activation_by)
            if given.setdefault(brings.shipment_id, told) != told:
                raise RecordConflictError("shipment", f"rows of shipment {told.shipment_id} contradict each other")
        stored = load_records(self._connection, [record_name(told) for told in given.values()])
        for told in given.values():
            name = record_name(told)
            self.names.add(name)
            before = stored.get(name)
            if before is None or not isinstance(before.record, Shipment):
                self._change(told.license_number, None, told)
                continue
            was = before.record
            if (was.license_number, was.site_id) != (told.license_number, told.site_id):
                raise RecordConflictError(
                    "shipment", f"shipment {told.shipment_id} goes to {site_name(was.license_number, was.site_id)}"
                )
            after = replace(told, reference=was.reference)
            if after != was:
                self._change(told.license_number, before, after)


def _slug(row: ImportRow) -> str:
    return slug_of(row.site_title or title_of(row.region), "site")


def _licenses_of(rows: Iterable[ImportRow]) -> dict[str, LicenseRecord]:
    licenses: dict[str, LicenseRecord] = {}
    for row in rows:
        number = row.license.terms.number
        other = licenses.setdefault(number, row.license)
        if other is row.license:
            continue
        if other.terms != row.license.terms:
            raise RecordConflictError("license_number", f"rows of license {number} contradict each other")
        licenses[number] = _with_extras(other, row.license)
    return licenses


def _with_extras(one: LicenseRecord, other: LicenseRecord) -> LicenseRecord:
    """Join what two rows say of a license beside its terms; either may leave it out."""
    number = one.terms.number
    if one.eccn and other.eccn and one.eccn != other.eccn:
        raise RecordConflictError("eccn", f"rows of license {number} differ in eccn")
    if None not in {one.quantity, other.quantity} and one.quantity != other.quantity:
        raise RecordConflictError("quantity", f"rows of license {number} differ in quantity")
    quantity = other.quantity if one.quantity is None else one.quantity
    return replace(one, eccn=one.eccn or other.eccn, quantity=quantity)


def _sites_of(rows: Iterable[ImportRow]) -> dict[tuple[str, str], ImportRow]:
    sites: dict[tuple[str, str], ImportRow] = {}
    for row in rows:
        number = row.license.terms.number
        key = number, _slug(row)
        other = sites.setdefault(key, row)
        if other is not row and (other.region, other.site_title) != (row.region, row.site_title):
            raise RecordConflictError("site_name", f"rows of license {number} tell site {key[1]} in two ways")
    return sites
