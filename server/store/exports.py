"""Deployments as rows of a deployment file, with the license, site and shipment that each names.

Read in one transaction, so all rows tell of one state; chunk by chunk, so any number needs the memory of one chunk.
"""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from server.records.values import DeploymentRecord, LicenseRecord, Record, Shipment, Site
from server.store.record_lists import stream_deployments
from server.store.record_rows import Key, load_rows
from server.store.record_types import RecordFilter
from server.store.rows import chunks
from server.store.schema import LICENSES, SHIPMENTS, SITES
from server.store.types import ImportRow, ImportShipment

ROWS = 2_000
"""Rows whose licenses, sites and shipments are read at once."""


def export_deployments(connection: Connection, chosen: RecordFilter, take: Callable[[ImportRow], None]) -> None:
    """Give `take` the row of each deployment that matches, in the order of names."""
    deployments = (stored.record for stored in stream_deployments(connection, chosen))
    for some in chunks((each for each in deployments if isinstance(each, DeploymentRecord)), ROWS):
        named = _Named(connection, some)
        for deployment in some:
            take(named.row(deployment))


class _Named:
    """What some deployments name."""

    def __init__(self, connection: Connection, deployments: Sequence[DeploymentRecord]) -> None:
        numbers: set[Key] = {(each.license_number,) for each in deployments}
        places: set[Key] = {(each.license_number, each.site_id) for each in deployments}
        shipments: set[Key] = {(each.shipment_id,) for each in deployments if each.shipment_id}
        self._licenses: dict[str, LicenseRecord] = {}
        self._sites: dict[tuple[str, str], Site] = {}
        self._shipments: dict[str, ImportShipment] = {}
        for table, keys in ((LICENSES, numbers), (SITES, places), (SHIPMENTS, shipments)):
            for stored in load_rows(connection, table, keys):
                self._keep(stored.record)

    def row(self, deployment: DeploymentRecord) -> ImportRow:
        """Return the row of one of them."""
        held = self._licenses[deployment.license_number]
        site = self._sites[deployment.license_number, deployment.site_id]
        brings = self._shipments.get(deployment.shipment_id)
        return ImportRow(deployment.selector, held, site.title, site.region, site.jurisdiction, brings)

    def _keep(self, record: Record) -> None:
        match record:
            case LicenseRecord(terms):
                self._licenses[terms.number] = record
            case Site(number, site_id):
                self._sites[number, site_id] = record
            case Shipment():
                brings = ImportShipment(record.shipment_id, record.shipped_at, record.activation_by)
                self._shipments[record.shipment_id] = brings
