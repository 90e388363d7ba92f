"""Records to protobuf. Reading them, with every check, is record_reading.py's."""

import json
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from trigpoint.v1 import place_pb2, records_pb2

from server.records.names import license_name, record_name, site_name
from server.records.values import (
    ByBoard,
    DeploymentRecord,
    LicenseRecord,
    MaintenanceWindow,
    Party,
    Record,
    Shipment,
    Site,
)
from server.rpc.convert import timestamp_to_proto
from server.store.record_types import RevisionRecord, StoredRecord
from server.store.types import LandmarkRecord
from verifier.errors import UsageError
from verifier.license import BoardSwap
from verifier.place.regions import AnyOf, Complement, Countries, Group, Polygon, SiteDisc


def stored_to_proto(stored: StoredRecord) -> records_pb2.Record:
    """Write a record as the store has it."""
    message = record_to_proto(stored.record, stored.revision, stored.revised_at)
    if message.HasField("deployment"):
        message.deployment.adopted = stored.adopted
    return message


def record_to_proto(record: Record, revision: int, revised_at: datetime | None = None) -> records_pb2.Record:
    """Write a record of this revision."""
    message = records_pb2.Record(name=record_name(record), etag=str(revision))
    match record:
        case Party(_, title, aliases, addresses, country):
            party = records_pb2.Party(title=title, aliases=aliases, addresses=addresses, country=country)
            message.party.CopyFrom(party)
        case LicenseRecord():
            message.license.CopyFrom(_license(record))
        case Site():
            message.site.CopyFrom(_site(record))
        case DeploymentRecord():
            message.deployment.CopyFrom(_deployment(record))
        case Shipment():
            shipment = records_pb2.Shipment(
                site=site_name(record.license_number, record.site_id),
                shipped_at=timestamp_to_proto(record.shipped_at),
                activation_by=timestamp_to_proto(record.activation_by),
                reference=record.reference,
            )
            message.shipment.CopyFrom(shipment)
        case MaintenanceWindow(_, number, site_id, starts_at, ends_at, reason):
            window = records_pb2.MaintenanceWindow(
                scope=site_name(number, site_id) if site_id else license_name(number),
                starts_at=timestamp_to_proto(starts_at),
                ends_at=timestamp_to_proto(ends_at),
                reason=reason,
            )
            message.window.CopyFrom(window)
    if revised_at is not None:
        message.revise_time.CopyFrom(timestamp_to_proto(revised_at))
    return message


def revision_to_proto(revision: RevisionRecord) -> records_pb2.Revision:
    """Write a revision. That of a landmark says who, when and why; its fields are LandmarkService's."""
    message = records_pb2.Revision(
        name=revision.name,
        revision=revision.revision,
        revise_time=timestamp_to_proto(revision.revised_at),
        by=revision.by,
        approved_by=revision.approved_by,
        reason=revision.reason,
        change="" if revision.change_id is None else f"changes/{revision.change_id}",
    )
    for field, record, number in (
        (message.before, revision.before, revision.revision - 1),
        (message.after, revision.after, revision.revision),
    ):
        match record:
            case None:
                continue
            case LandmarkRecord():
                field.CopyFrom(records_pb2.Record(name=revision.name, etag=str(number)))
            case _:
                field.CopyFrom(record_to_proto(record, number))
    return message


def _license(record: LicenseRecord) -> records_pb2.License:
    terms = record.terms
    message = records_pb2.License(
        number=terms.number,
        licensee=terms.licensee,
        parties=[
            records_pb2.LicenseParty(party=f"parties/{party_id}", role=records_pb2.PartyRole.ValueType(role))
            for party_id, role in record.parties
        ],
        eccn=record.eccn,
        quantity=record.quantity or 0,
        valid_from=timestamp_to_proto(terms.valid_from),
        valid_until=timestamp_to_proto(terms.valid_until),
        state=records_pb2.LicenseState.ValueType(terms.state),
        presence=place_pb2.Presence.ValueType(terms.presence),
        assurance=place_pb2.Assurance.ValueType(terms.assurance),
        cadence=_duration(terms.cadence),
        grace=_duration(terms.grace),
        surprises_per_day=terms.surprises_per_day,
    )
    if terms.tolerated_domains is not None:
        message.tolerated_domains = terms.tolerated_domains
    return message


def _site(record: Site) -> records_pb2.Site:
    message = records_pb2.Site(title=record.title, address=record.address, jurisdiction=record.jurisdiction)
    match record.region:
        case SiteDisc(_, center, radius_km):
            circle = records_pb2.SiteCircle(latitude=center.latitude, longitude=center.longitude, radius_km=radius_km)
            message.circle.CopyFrom(circle)
        case Polygon() | AnyOf():
            message.polygon = polygon_text(record.region)
        case Countries(codes):
            message.country = min(codes)  # a site names one country
        case Group(name):
            message.country = name
        case Complement():
            raise UsageError(f"site {record.site_id}: no site is all but a region")
    return message


def polygon_text(region: Polygon | AnyOf) -> str:
    """Write a drawn site as GeoJSON; `polygon_of` reads the same region from it."""
    if isinstance(region, Polygon):
        geometry: dict[str, object] = {"type": "Polygon", "coordinates": _rings(region)}
    else:
        parts = [_rings(part) for part in region.members if isinstance(part, Polygon)]
        geometry = {"type": "MultiPolygon", "coordinates": parts}
    return json.dumps(geometry, separators=(",", ":"))


def _rings(polygon: Polygon) -> list[list[tuple[float, float]]]:
    return [[*ring, ring[0]] for ring in polygon.rings]


def _deployment(record: DeploymentRecord) -> records_pb2.Deployment:
    message = records_pb2.Deployment(
        site=site_name(record.license_number, record.site_id),
        shipment=f"shipments/{record.shipment_id}" if record.shipment_id else "",
        devices=record.selector.devices if isinstance(record.selector, ByBoard) else 0,
    )
    if record.swap is not None:
        message.swap.CopyFrom(_swap(record.swap))
    return message


def _swap(swap: BoardSwap) -> records_pb2.BoardSwap:
    switches = sorted(pdi.hex() for pdi in swap.switches)
    return records_pb2.BoardSwap(switches=switches, until=timestamp_to_proto(swap.until))


def _duration(span: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(span)
    return message
