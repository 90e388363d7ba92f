"""Records out of protobuf: every field is checked, and whatever passes can be stored.

What records may hold together is server/records/rules.py's business and the store's. Writing messages is
record_messages.py's.
"""

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from trigpoint.v1 import records_pb2

from server.records.names import ParsedName, RecordNameError, parse_name, selector_of
from server.records.values import (
    LONGEST_WINDOW,
    ByBoard,
    ByPdi,
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
from server.rpc.errors import InvalidArgumentError
from server.rpc.rows import MAX_BOARD_DEVICES, MAX_CADENCE_S, MAX_SITE_RADIUS_KM
from verifier.errors import UsageError
from verifier.license import BoardSwap, License, LicenseState, Presence
from verifier.place.answers import Assurance
from verifier.place.geodesy import Position
from verifier.place.regions import Countries, Group, Region, SiteDisc, polygon_of
from verifier.units import CountryCode, Pdi

MAX_PARTY_NAME = 200
MAX_ALIASES = 50
MAX_ADDRESSES = 20
MAX_ADDRESS = 500
MAX_LICENSE_NUMBER = 128
MAX_LICENSEE = 128
MAX_PARTIES = 50
MAX_ECCN = 32
MAX_TOLERATED_DOMAINS = 16
MAX_SURPRISES = 96
MAX_SITE_TITLE = 128
MAX_SWITCHES = 8
MAX_REFERENCE = 200
MAX_REASON = 500

KIND_FIELDS = {
    RecordKind.PARTY: "party",
    RecordKind.LICENSE: "license",
    RecordKind.SITE: "site",
    RecordKind.DEPLOYMENT: "deployment",
    RecordKind.SHIPMENT: "shipment",
    RecordKind.WINDOW: "window",
}
"""Field of `Record` that holds a kind's message."""

_COUNTRY = re.compile(r"[A-Z]{2}")
_SWITCH = re.compile(r"[0-9a-f]{16}")
_GROUP = re.compile(r"[A-Z]:\d{1,2}")


@dataclass(frozen=True, slots=True)
class Maps:
    """What there is on the maps in use.

    Attributes:
        codes: Codes of countries whose borders are known, and names of country groups.
        jurisdiction: Returns the country whose officers may see a region, or an empty text.
    """

    codes: Collection[str]
    jurisdiction: Callable[[Region], str]


def read_name(name: str, field: str) -> ParsedName:
    """Read a record's resource name; raises `InvalidArgumentError`."""
    try:
        parsed = parse_name(name)
    except RecordNameError as error:
        raise InvalidArgumentError(field, str(error)) from error
    if parsed.kind in {RecordKind.LICENSE, RecordKind.SITE}:
        check_text(parsed.key[0], field, most=MAX_LICENSE_NUMBER)
    return parsed


def read_record(message: records_pb2.Record, field: str, maps: Maps) -> Record:
    """Check and read a record that is to be written; etag and output-only fields are ignored.

    Args:
        message: As it came, or as a mask made it.
        field: Its path in the request, for errors.
        maps: What sites may name.

    Raises:
        InvalidArgumentError: A field cannot be used.
    """
    kind, key = read_name(message.name, f"{field}.name")
    inner = KIND_FIELDS[kind]
    if message.WhichOneof("record") != inner:
        raise InvalidArgumentError(f"{field}.{inner}", f"must be set and nothing beside it: {message.name} is one")
    at = f"{field}.{inner}"
    match kind:
        case RecordKind.PARTY:
            return _party(key[0], message.party, at)
        case RecordKind.LICENSE:
            return _license(key[0], message.license, at)
        case RecordKind.SITE:
            return _site(key, message.site, at, maps)
        case RecordKind.DEPLOYMENT:
            return _deployment(message.name, message.deployment, at)
        case RecordKind.SHIPMENT:
            return _shipment(key[0], message.shipment, at)
        case RecordKind.WINDOW:
            return _window(key[0], message.window, at)


def check_text(text: str, field: str, *, most: int, least: int = 1) -> str:
    """Return a text that people will read; raises `InvalidArgumentError`."""
    if not least <= len(text) <= most or not text.isprintable() or text != text.strip():
        raise InvalidArgumentError(field, f"{least} to {most} printable characters without blanks at the ends")
    return text


def read_time(message: Message, name: str, field: str) -> datetime:
    """Read a time that must be set, which is the field `name` of `message`; raises `InvalidArgumentError`."""
    at = f"{field}.{name}" if field else name
    if not message.HasField(name):
        raise InvalidArgumentError(at, "must be set")
    stamp: Timestamp = getattr(message, name)
    if stamp.nanos % 1_000:
        raise InvalidArgumentError(at, "finer than a microsecond, which would not be kept")
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentError(at, "not a time of the years 1 to 9999") from error


def _party(party_id: str, message: records_pb2.Party, field: str) -> Party:
    aliases = _texts(message.aliases, f"{field}.aliases", MAX_ALIASES, MAX_PARTY_NAME)
    addresses = _texts(message.addresses, f"{field}.addresses", MAX_ADDRESSES, MAX_ADDRESS)
    title = check_text(message.title, f"{field}.title", most=MAX_PARTY_NAME)
    return Party(party_id, title, aliases, addresses, _country(message.country, f"{field}.country"))


def _license(number: str, message: records_pb2.License, field: str) -> LicenseRecord:
    licensee = check_text(message.licensee, f"{field}.licensee", most=MAX_LICENSEE)
    valid_from = read_time(message, "valid_from", field)
    valid_until = read_time(message, "valid_until", field)
    if valid_until <= valid_from:
        raise InvalidArgumentError(f"{field}.valid_until", "must be after valid_from")
    surprises = message.surprises_per_day if message.HasField("surprises_per_day") else 1
    tolerated = message.tolerated_domains if message.HasField("tolerated_domains") else None
    terms = License(
        number=number,
        licensee=licensee,
        valid_from=valid_from,
        valid_until=valid_until,
        presence=_presence(message.presence, f"{field}.presence"),
        cadence=_seconds(message.cadence, f"{field}.cadence", least=1),
        grace=_seconds(message.grace, f"{field}.grace", least=0),
        revision=0,
        state=_state(message.state, f"{field}.state"),
        tolerated_domains=None
        if tolerated is None
        else _counted(tolerated, f"{field}.tolerated_domains", most=MAX_TOLERATED_DOMAINS),
        assurance=_assurance(message.assurance, f"{field}.assurance"),
        surprises_per_day=_counted(surprises, f"{field}.surprises_per_day", most=MAX_SURPRISES),
    )
    if message.quantity < 0:
        raise InvalidArgumentError(f"{field}.quantity", "must not be negative")
    eccn = check_text(message.eccn, f"{field}.eccn", least=0, most=MAX_ECCN)
    return LicenseRecord(terms, _parties(message.parties, f"{field}.parties"), eccn, message.quantity or None)


def _parties(messages: Sequence[records_pb2.LicenseParty], field: str) -> tuple[tuple[str, PartyRole], ...]:
    if len(messages) > MAX_PARTIES:
        raise InvalidArgumentError(field, f"{MAX_PARTIES} at most")
    found: dict[tuple[str, PartyRole], int] = {}
    for index, message in enumerate(messages):
        kind, key = read_name(message.party, f"{field}[{index}].party")
        if kind is not RecordKind.PARTY:
            raise InvalidArgumentError(f"{field}[{index}].party", "a party is named parties/ and its id")
        try:
            role = PartyRole(message.role)
        except ValueError as error:
            raise InvalidArgumentError(f"{field}[{index}].role", "says the party's part; it is not set") from error
        earlier = found.setdefault((key[0], role), index)
        if earlier != index:
            raise InvalidArgumentError(f"{field}[{index}]", f"stands at {field}[{earlier}] already")
    return tuple(found)


def _site(key: Sequence[str], message: records_pb2.Site, field: str, maps: Maps) -> Site:
    number, site_id = key
    title = check_text(message.title, f"{field}.title", most=MAX_SITE_TITLE)
    region = _region(message, title, field, maps.codes)
    jurisdiction = _country(message.jurisdiction, f"{field}.jurisdiction") or maps.jurisdiction(region)
    address = check_text(message.address, f"{field}.address", least=0, most=MAX_ADDRESS)
    return Site(number, site_id, title, region, address, jurisdiction)


def _region(message: records_pb2.Site, title: str, field: str, codes: Collection[str]) -> Region:
    match message.WhichOneof("region"):
        case "circle":
            return _disc(message.circle, title, f"{field}.circle")
        case "polygon":
            return _drawn(message.polygon, title, f"{field}.polygon")
        case "country":
            if message.country not in codes:
                text = "neither a country whose borders are known (ISO 3166-1 alpha-2) nor a country group in force"
                raise InvalidArgumentError(f"{field}.country", text)
            if _GROUP.fullmatch(message.country):
                return Group(message.country)
            return Countries(frozenset({CountryCode(message.country)}))
        case _:
            raise InvalidArgumentError(field, "one of circle, polygon and country must be set")


def _disc(circle: records_pb2.SiteCircle, title: str, field: str) -> SiteDisc:
    for name, bound in (("latitude", 90.0), ("longitude", 180.0)):
        if not abs(getattr(circle, name)) <= bound:  # nor is a NaN
            raise InvalidArgumentError(f"{field}.{name}", f"degrees from -{bound:g} to {bound:g}")
    if not 0 < circle.radius_km <= MAX_SITE_RADIUS_KM:
        raise InvalidArgumentError(f"{field}.radius_km", f"above 0, to {MAX_SITE_RADIUS_KM:g} kilometers")
    return SiteDisc(title, Position(circle.latitude, circle.longitude), circle.radius_km)


def _drawn(text: str, title: str, field: str) -> Region:
    try:
        return polygon_of(title, json.loads(text))
    except (RecursionError, json.JSONDecodeError) as error:
        raise InvalidArgumentError(field, "must be a GeoJSON Polygon or MultiPolygon (RFC 7946)") from error
    except UsageError as error:
        raise InvalidArgumentError(field, str(error)) from error


def _deployment(name: str, message: records_pb2.Deployment, field: str) -> DeploymentRecord:
    number, site_id = _site_of(message.site, f"{field}.site")
    selector = selector_of(name, message.devices)
    if isinstance(selector, ByBoard):
        if not 1 <= message.devices <= MAX_BOARD_DEVICES:
            raise InvalidArgumentError(
                f"{field}.devices", f"how many devices sit on the board, 1 to {MAX_BOARD_DEVICES}"
            )
    elif message.devices:
        raise InvalidArgumentError(f"{field}.devices", "stands with a board alone")
    swap = None
    if message.HasField("swap"):
        if not isinstance(selector, ByPdi):
            raise InvalidArgumentError(f"{field}.swap", "stands with a device by PDI alone")
        swap = _swap(message.swap, f"{field}.swap")
    return DeploymentRecord(selector, number, site_id, _shipment_of(message.shipment, f"{field}.shipment"), swap)


def _swap(message: records_pb2.BoardSwap, field: str) -> BoardSwap:
    if not 1 <= len(message.switches) <= MAX_SWITCHES:
        raise InvalidArgumentError(f"{field}.switches", f"1 to {MAX_SWITCHES} switches")
    for index, switch in enumerate(message.switches):
        if not _SWITCH.fullmatch(switch):
            raise InvalidArgumentError(f"{field}.switches[{index}]", "a PDI is 16 lower-case hex digits")
    switches = frozenset(Pdi(bytes.fromhex(switch)) for switch in message.switches)
    if len(switches) != len(message.switches):
        raise InvalidArgumentError(f"{field}.switches", "names a switch twice")
    return BoardSwap(switches, read_time(message, "until", field))


def _shipment(shipment_id: str, message: records_pb2.Shipment, field: str) -> Shipment:
    number, site_id = _site_of(message.site, f"{field}.site")
    shipped_at = read_time(message, "shipped_at", field)
    activation_by = read_time(message, "activation_by", field)
    if activation_by <= shipped_at:
        raise InvalidArgumentError(f"{field}.activation_by", "must be after shipped_at")
    reference = check_text(message.reference, f"{field}.reference", least=0, most=MAX_REFERENCE)
    return Shipment(shipment_id, number, site_id, shipped_at, activation_by, reference)


def _window(window_id: str, message: records_pb2.MaintenanceWindow, field: str) -> MaintenanceWindow:
    kind, key = read_name(message.scope, f"{field}.scope")
    if kind not in {RecordKind.LICENSE, RecordKind.SITE}:
        raise InvalidArgumentError(f"{field}.scope", "a license, or one of its sites")
    starts_at = read_time(message, "starts_at", field)
    ends_at = read_time(message, "ends_at", field)
    if not timedelta(0) < ends_at - starts_at <= LONGEST_WINDOW:
        raise InvalidArgumentError(f"{field}.ends_at", f"after starts_at, at most {LONGEST_WINDOW.days} days")
    reason = check_text(message.reason, f"{field}.reason", most=MAX_REASON)
    return MaintenanceWindow(window_id, key[0], "".join(key[1:]), starts_at, ends_at, reason)


def _site_of(name: str, field: str) -> tuple[str, str]:
    kind, key = read_name(name, field)
    if kind is not RecordKind.SITE:
        raise InvalidArgumentError(field, "a site is named licenses/{license}/sites/{site}")
    return key[0], key[1]


def _shipment_of(name: str, field: str) -> str:
    if not name:
        return ""
    kind, key = read_name(name, field)
    if kind is not RecordKind.SHIPMENT:
        raise InvalidArgumentError(field, "a shipment is named shipments/ and its id")
    return key[0]


def _texts(texts: Sequence[str], field: str, count: int, most: int) -> tuple[str, ...]:
    if len(texts) > count:
        raise InvalidArgumentError(field, f"{count} at most")
    return tuple(check_text(text, f"{field}[{index}]", most=most) for index, text in enumerate(texts))


def _country(code: str, field: str) -> str:
    if code and not _COUNTRY.fullmatch(code):
        raise InvalidArgumentError(field, "ISO 3166-1 alpha-2, upper case, or empty")
    return code


def _seconds(duration: Duration, field: str, *, least: int) -> timedelta:
    if duration.nanos or not least <= duration.seconds <= MAX_CADENCE_S:
        raise InvalidArgumentError(field, f"whole seconds, {least} to {MAX_CADENCE_S:,}")
    return timedelta(seconds=duration.seconds)


def _counted(number: int, field: str, *, most: int) -> int:
    if not 0 <= number <= most:
        raise InvalidArgumentError(field, f"from 0 to {most}")
    return number


def _presence(number: int, field: str) -> Presence:
    try:
        return Presence(number)
    except ValueError as error:
        raise InvalidArgumentError(field, "says what counts as presence; it is not set") from error


def _state(number: int, field: str) -> LicenseState:
    try:
        return LicenseState(number or LicenseState.DRAFT)
    except ValueError as error:
        raise InvalidArgumentError(field, f"no state has the number {number}") from error


def _assurance(number: int, field: str) -> Assurance:
    try:
        return Assurance(number or Assurance.DEVICE_RANGED)
    except ValueError as error:
        raise InvalidArgumentError(field, f"no assurance has the number {number}") from error
