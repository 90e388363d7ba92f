"""Records as JSON text, as revisions and changes keep them. Exact both ways, and one record has one text.

What the name tells (ids, numbers, which devices) is not in the text, nor is a license's revision. Times are integer
microseconds since 1970 UTC, enumerations their names.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from server.records.names import parse_name, selector_of
from server.records.values import (
    ByBoard,
    DeploymentRecord,
    LicenseRecord,
    MaintenanceWindow,
    Party,
    PartyRole,
    Record,
    RecordKind,
    Shipment,
    Site,
)
from server.times import MICROSECOND, micros, moment
from verifier.license import BoardSwap, License, LicenseState, Presence
from verifier.place.answers import Assurance
from verifier.place.region_json import region_from_json, region_to_json
from verifier.units import Pdi

Plain: TypeAlias = Mapping[str, Any]
"""A JSON object."""


def record_to_json(record: Record) -> str:
    """Write a record."""
    return _text(_plain(record))


def record_from_json(kind: RecordKind, name: str, text: str) -> Record:
    """Read what `record_to_json` wrote for the record of this name. A license gets revision 0."""
    plain, key = json.loads(text), parse_name(name).key
    match kind:
        case RecordKind.PARTY:
            return Party(key[0], plain["title"], tuple(plain["aliases"]), tuple(plain["addresses"]), plain["country"])
        case RecordKind.LICENSE:
            return _license(key[0], plain)
        case RecordKind.SITE:
            number, site_id = key
            region = region_from_json(_text(plain["region"]))
            return Site(number, site_id, plain["title"], region, plain["address"], plain["jurisdiction"])
        case RecordKind.DEPLOYMENT:
            selector = selector_of(name, plain["devices"])
            swap = None if plain["swap"] is None else swap_from_json(_text(plain["swap"]))
            return DeploymentRecord(selector, plain["license"], plain["site"], plain["shipment"], swap)
        case RecordKind.SHIPMENT:
            times = moment(plain["shipped_at"]), moment(plain["activation_by"])
            return Shipment(key[0], plain["license"], plain["site"], *times, plain["reference"])
        case RecordKind.WINDOW:
            times = moment(plain["starts_at"]), moment(plain["ends_at"])
            return MaintenanceWindow(key[0], plain["license"], plain["site"], *times, plain["reason"])


def swap_to_json(swap: BoardSwap) -> str:
    """Write a swap."""
    return _text(_swap_plain(swap))


def swap_from_json(text: str) -> BoardSwap:
    """Read what `swap_to_json` wrote."""
    plain = json.loads(text)
    return BoardSwap(frozenset(Pdi(bytes.fromhex(pdi)) for pdi in plain["switches"]), moment(plain["until"]))


def parties_to_json(parties: Iterable[tuple[str, PartyRole]]) -> str:
    """Write the parties of a license."""
    return _text(_parties_plain(parties))


def parties_from_json(text: str) -> tuple[tuple[str, PartyRole], ...]:
    """Read what `parties_to_json` wrote."""
    return _parties(json.loads(text))


def _plain(record: Record) -> Plain:
    match record:
        case Party(_, title, aliases, addresses, country):
            return {"title": title, "aliases": aliases, "addresses": addresses, "country": country}
        case LicenseRecord():
            return _license_plain(record)
        case Site(_, _, title, region, address, jurisdiction):
            drawn = json.loads(region_to_json(region))
            return {"title": title, "region": drawn, "address": address, "jurisdiction": jurisdiction}
        case DeploymentRecord(selector, number, site_id, shipment_id, swap):
            return {
                "license": number,
                "site": site_id,
                "shipment": shipment_id,
                "devices": selector.devices if isinstance(selector, ByBoard) else 1,
                "swap": None if swap is None else _swap_plain(swap),
            }
        case Shipment(_, number, site_id, shipped_at, activation_by, reference):
            return {
                "license": number,
                "site": site_id,
                "shipped_at": micros(shipped_at),
                "activation_by": micros(activation_by),
                "reference": reference,
            }
        case MaintenanceWindow(_, number, site_id, starts_at, ends_at, reason):
            times = {"starts_at": micros(starts_at), "ends_at": micros(ends_at)}
            return {"license": number, "site": site_id, **times, "reason": reason}


def _license_plain(record: LicenseRecord) -> Plain:
    terms = record.terms
    return {
        "licensee": terms.licensee,
        "state": terms.state.name,
        "valid_from": micros(terms.valid_from),
        "valid_until": micros(terms.valid_until),
        "presence": terms.presence.name,
        "assurance": terms.assurance.name,
        "tolerated_domains": terms.tolerated_domains,
        "cadence_us": terms.cadence // MICROSECOND,
        "grace_us": terms.grace // MICROSECOND,
        "surprises_per_day": terms.surprises_per_day,
        "parties": _parties_plain(record.parties),
        "eccn": record.eccn,
        "quantity": record.quantity,
    }


def _license(number: str, plain: Plain) -> LicenseRecord:
    terms = License(
        number=number,
        licensee=plain["licensee"],
        valid_from=moment(plain["valid_from"]),
        valid_until=moment(plain["valid_until"]),
        presence=Presence[plain["presence"]],
        cadence=plain["cadence_us"] * MICROSECOND,
        grace=plain["grace_us"] * MICROSECOND,
        revision=0,
        state=LicenseState[plain["state"]],
        tolerated_domains=plain["tolerated_domains"],
        assurance=Assurance[plain["assurance"]],
        surprises_per_day=plain["surprises_per_day"],
    )
    return LicenseRecord(terms, _parties(plain["parties"]), plain["eccn"], plain["quantity"])


def _swap_plain(swap: BoardSwap) -> Plain:
    return {"switches": sorted(pdi.hex() for pdi in swap.switches), "until": micros(swap.until)}


def _parties_plain(parties: Iterable[tuple[str, PartyRole]]) -> list[list[str]]:
    return [[party_id, role.name] for party_id, role in parties]


def _parties(plain: Iterable[Iterable[str]]) -> tuple[tuple[str, PartyRole], ...]:
    return tuple((party_id, PartyRole[role]) for party_id, role in plain)


def _text(plain: object) -> str:
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)
