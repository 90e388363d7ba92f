"""Any message as JSON values by its descriptor: snake_case names, RFC 3339 times, enums without prefix, bytes in hex.

What is not set is null. `console/as_json.py` writes by hand what needs more than that.
"""

import math
import re
from collections.abc import Sequence
from datetime import UTC

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from console.text import instant

Json = dict[str, object]


def plain(message: Message) -> Json:
    """Return a message with every field, in the order of the schema."""
    fields: Sequence[FieldDescriptor] = message.DESCRIPTOR.fields  # type: ignore[assignment]  # the stub's union
    return {field.name: _field(message, field) for field in fields}


def enum_text(kind: EnumDescriptor, number: int) -> str | None:
    """Return an enum value's name without its prefix; None for the value that means not set, a number if unknown."""
    if number == 0:
        return None
    value = kind.values_by_number.get(number)
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.name).upper() + "_"
    return str(number) if value is None else value.name.removeprefix(prefix)


def _field(message: Message, field: FieldDescriptor) -> object:
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_value(field, entry) for entry in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(field, value)


def _value(field: FieldDescriptor, value: object) -> object:
    if isinstance(value, Timestamp):
        return instant(value).astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Duration):
        return value.ToTimedelta().total_seconds()
    if isinstance(value, Message | bytes):
        return plain(value) if isinstance(value, Message) else value.hex()
    if field.enum_type is not None and isinstance(value, int):
        return enum_text(field.enum_type, value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
