"""What a record says, field by field, in the words that the commands take."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from trigpoint.v1 import records_pb2

from console import asked
from console.plain import enum_text
from console.text import absolute, clean, instant

NOTHING = "nothing"
_LAST_DAYS = frozenset({"valid_until", "activation_by", "until"})
"""Times that are the first instant after something; where that is midnight, people say its last day."""

_UNLIMITED = "no limit"


def called(name: str) -> str:
    """Return a record's name as people say it: a license by its number, a site as LICENSE/SITE."""
    collection, _, rest = name.partition("/")
    if collection == "licenses":
        number, _, site = rest.partition("/sites/")
        return clean(f"{asked.number_of(number)}/{site}" if site else asked.number_of(number))
    short = {"parties", "deployments", "shipments", "maintenanceWindows", "devices"}
    return clean(rest) if collection in short else clean(name)


def facts(message: Message) -> Iterator[tuple[str, str]]:
    """Yield what is said: a label and a text for each field that is set."""
    for field in _fields(message):
        if not _is_unset(message, field):
            yield _label(field), _text(message, field)


def differences(before: Message | None, after: Message) -> Iterator[str]:
    """Yield a line for each field that is another one; without `before`, for each that is set."""
    if before is None:
        yield from (f"{label}: {text}" for label, text in facts(after))
        return
    for field in _fields(after):
        if _value(before, field) == _value(after, field):
            continue
        was, now = _text(before, field), _text(after, field)
        yield f"{_label(field)}: {was} -> {now}" if was != now else f"{_label(field)}: changed"


def region(site: records_pb2.Site) -> str:
    """Return where a site is, in short."""
    which = site.WhichOneof("region")
    return "" if which is None else _region_text(site, which)


def span(length: timedelta) -> str:
    """Return a span as `90 s`, `30 min`, `24 h`, `7 d`: in the largest unit that holds it whole."""
    seconds = length // timedelta(seconds=1)
    for unit, size, least in (("d", 86_400, 2), ("h", 3_600, 1), ("min", 60, 1)):
        if seconds >= size * least and seconds % size == 0:
            return f"{seconds // size:,} {unit}"
    return f"{seconds:,} s"


def last_day(stamp: Timestamp) -> str:
    """Return the last day before a time."""
    return f"{(instant(stamp) - timedelta(microseconds=1)):%Y-%m-%d}"


def _region_text(site: records_pb2.Site, which: str) -> str:
    if which == "circle":
        circle = site.circle
        # As given: a move by a meter must not look like none.
        return f"{circle.radius_km:,} km around {circle.latitude}, {circle.longitude}".replace(".0 km", " km")
    return "as drawn" if which == "polygon" else clean(site.country)


def _fields(message: Message) -> Sequence[FieldDescriptor]:
    fields: Sequence[FieldDescriptor] = message.DESCRIPTOR.fields  # type: ignore[assignment]  # the stub's union
    return [field for field in fields if field.name != "number"]  # a license's name has it


def _label(field: FieldDescriptor) -> str:
    return _LABELS.get(field.name) or field.name.replace("_", " ")


def _is_unset(message: Message, field: FieldDescriptor) -> bool:
    if field.has_presence:  # then 0 is something else than nothing
        return not message.HasField(field.name)
    return _value(message, field) in ("", 0, ())


def _value(message: Message, field: FieldDescriptor) -> object:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    return tuple(value) if field.is_repeated else value


def _text(message: Message, field: FieldDescriptor) -> str:
    value = _value(message, field)
    if value in (None, "", ()) or (value == 0 and field.enum_type is not None):
        return NOTHING
    if field.name == "quantity" and value == 0:
        return _UNLIMITED
    if isinstance(message, records_pb2.Site) and field.name in {"circle", "polygon"}:
        return _region_text(message, field.name)
    entries = value if isinstance(value, tuple) else (value,)
    return ", ".join(_entry(field, entry) for entry in entries)


def _entry(field: FieldDescriptor, value: object) -> str:
    match value:
        case records_pb2.LicenseParty():
            part = (enum_text(records_pb2.PartyRole.DESCRIPTOR, value.role) or "").lower()
            text = f"{called(value.party)}:{part}"
        case records_pb2.BoardSwap():
            text = f"to {', '.join(map(clean, value.switches))} until {_moment('until', value.until)}"
        case Timestamp():
            text = _moment(field.name, value)
        case Duration():
            text = span(value.ToTimedelta())
        case int():
            text = f"{value:,}" if field.enum_type is None else _word(field, value)
        case _:
            text = called(str(value)) if field.name in _NAMES else clean(str(value))
    return text


def _word(field: FieldDescriptor, number: int) -> str:
    """Return an enum's value as the commands take it; a state as it is shown everywhere."""
    assert field.enum_type is not None
    name = enum_text(field.enum_type, number) or NOTHING
    return name if field.name == "state" else name.lower()


def _moment(name: str, stamp: Timestamp) -> str:
    when = instant(stamp)
    if when.astimezone(UTC).time() != datetime.min.time():
        return absolute(when)
    return f"{last_day(stamp)}, that day included" if name in _LAST_DAYS else f"{when:%Y-%m-%d}"


_NAMES = frozenset({"site", "shipment", "scope", "party"})
_LABELS: Mapping[str, str] = {"title": "name", "circle": "disc", "tolerated_domains": "tolerated domains (f)"}
