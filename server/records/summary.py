"""What a write does, in one line for people: who approves reads this."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum

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
from verifier.place.regions import SiteDisc

MAX_LINES = 100
MAX_LINE = 500

_LONG = {"aliases", "addresses", "address", "parties", "reference", "reason"}
"""Fields that are named and not told: they may be long."""


def summary_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Return at most MAX_LINES lines; the last one says how many more there are."""
    if len(lines) <= MAX_LINES:
        return tuple(lines)
    return (*lines[: MAX_LINES - 1], f"and {len(lines) - MAX_LINES + 1:,} more")


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
            yield from (("parties", parties), ("eccn", eccn), ("quantity", quantity))
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
        case _:
            return str(value)


def _span(value: timedelta) -> str:
    """Return the span in its largest whole unit."""
    seconds = value.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,g} s"
