"""What a write does, in one line for people: who approves reads this."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from hashlib import sha256

from server.records.names import license_name, site_name
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
from verifier.license import BoardSwap
from verifier.place.regions import AnyOf, Polygon, SiteDisc

MAX_LINES = 100
MAX_LINE = 2_000
"""Longer than two names of sites, so that nothing decisive is cut off; the list of parties stands last."""

_LONG = {"aliases", "addresses", "address", "reference", "reason"}
"""Fields that are named and not told: they may be long."""


def summary_of(lines: Sequence[str], most: int = MAX_LINES) -> tuple[str, ...]:
    """Return at most so many lines; the last one says how many more there are."""
    if len(lines) <= most:
        return tuple(lines)
    return (*lines[: most - 1], f"and {len(lines) - most + 1:,} more")


def summary_line(name: str, before: Record | None, after: Record | None) -> str:
    """Say what becomes of a record, as `licenses/D1: state DRAFT -> ACTIVE`."""
    if after is None:
        says = "ends"
    elif before is None:
        says = ", ".join(
            ["new", *(f"{field} {_shown(value)}" for field, value in _fields(after) if _tells(field, value))]
        )
    else:
        says = ", ".join(_differences(before, after)) or "no change"
    line = f"{name}: {says}"
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 3]}..."


def _tells(field: str, value: object) -> bool:
    return field not in _LONG and value not in {None, ""}


def _differences(before: Record, after: Record) -> Iterator[str]:
    was = dict(_fields(before))
    for field, value in _fields(after):
        if was.get(field) == value:
            continue
        if field in _LONG:
            yield f"{field} changes"
        elif field == "region":
            yield f"region changes: {_shown(was.get(field))} -> {_shown(value)}"
        else:
            yield f"{field} {_shown(was.get(field))} -> {_shown(value)}"


def _fields(record: Record) -> Iterator[tuple[str, object]]:
    match record:
        case Party(_, title, aliases, addresses, country):
            yield from (("title", title), ("aliases", aliases), ("addresses", addresses), ("country", country))
        case LicenseRecord(terms, parties, eccn, quantity):
            yield from (("state", terms.state), ("licensee", terms.licensee))
            yield from (("valid_from", terms.valid_from), ("valid_until", terms.valid_until))
            yield from (("presence", terms.presence), ("assurance", terms.assurance))
            yield from (("tolerated_domains", terms.tolerated_domains), ("cadence", terms.cadence))
            yield from (("grace", terms.grace), ("surprises_per_day", terms.surprises_per_day))
            # Which parties, since who approves must see them (docs/protocol.md RC4, RC5).
            who = ", ".join(f"{party_id} {role.name}" for party_id, role in parties)
            yield from (("eccn", eccn), ("quantity", quantity), ("parties", who))
        case Site(_, _, title, region, address, jurisdiction):
            yield from (("title", title), ("region", region), ("address", address), ("jurisdiction", jurisdiction))
        case DeploymentRecord(selector, number, site_id, shipment_id, swap):
            yield from (("site", site_name(number, site_id)), ("shipment", shipment_id))
            if isinstance(selector, ByBoard):
                yield "devices", selector.devices
            yield "swap", swap
        case Shipment(_, number, site_id, shipped_at, activation_by, reference):
            yield from (("site", site_name(number, site_id)), ("shipped_at", shipped_at))
            yield from (("activation_by", activation_by), ("reference", reference))
        case MaintenanceWindow(_, number, site_id, starts_at, ends_at, reason):
            yield "scope", site_name(number, site_id) if site_id else license_name(number)
            yield from (("starts_at", starts_at), ("ends_at", ends_at), ("reason", reason))


def _shown(value: object) -> str:
    match value:
        case None | "":
            return "none"
        case IntEnum():
            return value.name
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return _span(value)
        case _:
            return _placed(value)


def _placed(value: object) -> str:
    match value:
        case BoardSwap(switches, until):
            return f"to {' '.join(sorted(pdi.hex() for pdi in switches))} until {_shown(until)}"
        case SiteDisc(_, center, radius_km):
            # Exact, other than str(): a move by a meter must not look like none.
            return f"{radius_km:,} km around {center.latitude}, {center.longitude}"
        case Polygon() | AnyOf():
            return f"{value} {_drawn(value)}"
        case _:
            return str(value)


def _drawn(value: Polygon | AnyOf) -> str:
    """Tell drawings apart: they may move far with as many points as before."""
    parts = [part for part in (value.members if isinstance(value, AnyOf) else (value,)) if isinstance(part, Polygon)]
    longitudes, latitudes = zip(*(point for part in parts for ring in part.rings for point in ring), strict=True)
    box = f"latitude {min(latitudes)} to {max(latitudes)}, longitude {min(longitudes)} to {max(longitudes)}"
    return f"in {box}, SHA-256 {sha256(repr([part.rings for part in parts]).encode()).hexdigest()[:16]}"


def _span(value: timedelta) -> str:
    """Return the span in its largest whole unit."""
    seconds = value.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,g} s"
