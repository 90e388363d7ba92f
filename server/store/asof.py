"""What was in force as of a number of the records, from their revisions (docs/protocol.md RC6).

Only devices whose records changed since then need this; queries.py tells which.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from server.records.names import deployment_name, license_name, site_name
from server.records.values import ByPdi, DeploymentRecord, LicenseRecord, Record, Site
from server.store.revisions import read_record
from server.store.rows import chunks
from server.store.schema import REVISIONS
from verifier.license import Deployment, LicenseState
from verifier.units import Pdi


class InForce(NamedTuple):
    """A deployment that was in force, and the site that it was at."""

    deployment: Deployment
    site_id: str


def deployments_as_of(connection: Connection, pdis: Iterable[Pdi], number: int) -> dict[Pdi, InForce]:
    """Return the deployments that were in force when the records' number was this; a device without one is missing."""
    names = {deployment_name(ByPdi(pdi)): pdi for pdi in pdis}
    deployed = {
        names[name]: record
        for name, record in _records_as_of(connection, names, number).items()
        if isinstance(record, DeploymentRecord)
    }
    licenses = {license_name(record.license_number) for record in deployed.values()}
    places = {site_name(record.license_number, record.site_id) for record in deployed.values()}
    stood = _records_as_of(connection, licenses | places, number)
    found: dict[Pdi, InForce] = {}
    for pdi, record in deployed.items():
        held = stood.get(license_name(record.license_number))
        site = stood.get(site_name(record.license_number, record.site_id))
        if isinstance(held, LicenseRecord) and isinstance(site, Site) and held.terms.state is not LicenseState.DRAFT:
            found[pdi] = InForce(Deployment(pdi, held.terms, site.region, record.swap), record.site_id)
    return found


def first_deployment_since(connection: Connection, pdi: Pdi, number: int) -> InForce | None:
    """Return the first deployment that came into force after a number at which there was none in force."""
    since = first_number_since(connection, pdi, number)
    return None if since is None else deployments_as_of(connection, [pdi], since)[pdi]


def first_number_since(connection: Connection, pdi: Pdi, number: int) -> int | None:
    """Return the number at which it came into force; None: none ever did."""
    name = deployment_name(ByPdi(pdi))
    texts = connection.execute(select(REVISIONS.c.revision, REVISIONS.c.record).where(REVISIONS.c.name == name))
    records = [read_record(name, row.revision, row.record) for row in texts if row.record is not None]
    licenses = {license_name(record.license_number) for record in records if isinstance(record, DeploymentRecord)}
    numbers: set[int] = set()
    for some in chunks({name, *licenses}):
        query = select(REVISIONS.c.record_number).where(REVISIONS.c.name.in_(some), REVISIONS.c.record_number > number)
        numbers.update(connection.scalars(query))
    return next((since for since in sorted(numbers) if deployments_as_of(connection, [pdi], since)), None)


def _records_as_of(connection: Connection, names: Iterable[str], number: int) -> dict[str, Record]:
    """Return the records that were on record then, licenses with their revision."""
    found: dict[str, Record] = {}
    for some in chunks(names):
        latest = (
            select(REVISIONS.c.name, func.max(REVISIONS.c.revision).label("revision"))
            .where(REVISIONS.c.name.in_(some), REVISIONS.c.record_number <= number)
            .group_by(REVISIONS.c.name)
            .subquery()
        )
        same = (latest.c.name == REVISIONS.c.name) & (latest.c.revision == REVISIONS.c.revision)
        query = select(REVISIONS.c.name, REVISIONS.c.revision, REVISIONS.c.record).join(latest, same)
        for row in connection.execute(query):
            if row.record is not None:
                found[row.name] = read_record(row.name, row.revision, row.record)
    return found
