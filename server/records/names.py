"""Resource names of records (AIP-122), and which record has which.

`parties/{id}`, `licenses/{number}`, `licenses/{number}/sites/{id}`, `deployments/{pdi}`, `deployments/key-{key id}`,
`deployments/board-{switch pdi}`, `shipments/{id}`, `maintenanceWindows/{id}`. A license's number is free text and is
spelled by server/escapes.py.
"""

import re
from typing import NamedTuple

from server.escapes import escape, unescape
from server.records.values import (
    ByBoard,
    ByKey,
    ByPdi,
    DeploymentRecord,
    LicenseRecord,
    MaintenanceWindow,
    Party,
    Record,
    RecordKind,
    Selector,
    Shipment,
    Site,
)
from verifier.units import DeviceKeyId, Pdi

ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""What officers may call a party, site, shipment or window."""

_DEPLOYMENT = re.compile(
    r"deployments/(?:(?P<pdi>[0-9a-f]{16})|key-(?P<key>[0-9a-f]{64})|board-(?P<board>[0-9a-f]{16}))"
)
_COLLECTIONS = {"parties": RecordKind.PARTY, "shipments": RecordKind.SHIPMENT, "maintenanceWindows": RecordKind.WINDOW}


class RecordNameError(ValueError):
    """Not the name of a record."""


class ParsedName(NamedTuple):
    """A name in parts: for a site the license's number and the site's id, else the one key in text."""

    kind: RecordKind
    key: tuple[str, ...]


def parse_name(name: str) -> ParsedName:
    """Read a resource name; raises `RecordNameError`."""
    match = _DEPLOYMENT.fullmatch(name)
    if match is not None:
        return ParsedName(RecordKind.DEPLOYMENT, (name.partition("/")[2],))
    match name.split("/"):
        case [("parties" | "shipments" | "maintenanceWindows") as collection, one] if ID.fullmatch(one):
            return ParsedName(_COLLECTIONS[collection], (one,))
        case ["licenses", number] if number:
            return ParsedName(RecordKind.LICENSE, (_number(number),))
        case ["licenses", number, "sites", site] if number and ID.fullmatch(site):
            return ParsedName(RecordKind.SITE, (_number(number), site))
    raise RecordNameError(f"{name!r} names no record")


def license_name(number: str) -> str:
    """Return the name of a license."""
    return f"licenses/{escape(number)}"


def site_name(license_number: str, site_id: str) -> str:
    """Return the name of a site."""
    return f"{license_name(license_number)}/sites/{site_id}"


def deployment_name(selector: Selector) -> str:
    """Return the name of a deployment."""
    match selector:
        case ByPdi(pdi):
            return f"deployments/{pdi.hex()}"
        case ByKey(key_id):
            return f"deployments/key-{key_id.hex()}"
        case ByBoard(switch, _):
            return f"deployments/board-{switch.hex()}"


def record_name(record: Record) -> str:
    """Return the name of any record."""
    match record:
        case Party():
            return f"parties/{record.party_id}"
        case LicenseRecord():
            return license_name(record.terms.number)
        case Site():
            return site_name(record.license_number, record.site_id)
        case DeploymentRecord():
            return deployment_name(record.selector)
        case Shipment():
            return f"shipments/{record.shipment_id}"
        case MaintenanceWindow():
            return f"maintenanceWindows/{record.window_id}"


def selector_of(name: str, devices: int = 0) -> Selector:
    """Return what a deployment's name selects; `devices` is a board's count. Raises `RecordNameError`."""
    match = _DEPLOYMENT.fullmatch(name)
    if match is None:
        raise RecordNameError(f"{name!r} names no deployment")
    if match["pdi"]:
        return ByPdi(Pdi(bytes.fromhex(match["pdi"])))
    if match["key"]:
        return ByKey(DeviceKeyId(bytes.fromhex(match["key"])))
    return ByBoard(Pdi(bytes.fromhex(match["board"])), devices)


def _number(segment: str) -> str:
    try:
        return unescape(segment)
    except ValueError as error:
        raise RecordNameError(str(error)) from error
