"""Field masks over records (AIP-134): what a write changes of the record that stands."""

from collections.abc import Iterable

from google.protobuf.message import Message
from trigpoint.v1 import records_pb2

from server.rpc.errors import InvalidArgumentError

EVERYTHING = "*"
_OURS = "trigpoint.v1"


def masked(
    stands: records_pb2.Record, given: records_pb2.Record, paths: Iterable[str], field: str
) -> records_pb2.Record:
    """Return the record that stands with the masked fields as they were given.

    Paths lead into the kind's message; a path into a message that is not set on record is refused, since the fields
    beside it would be made up.

    Args:
        stands: As it stands.
        given: Holds the fields that the mask names.
        paths: The mask's.
        field: Path of the write in the request, for errors.

    Raises:
        InvalidArgumentError: A path leads nowhere.
    """
    made = records_pb2.Record()
    made.CopyFrom(stands)
    inner = stands.WhichOneof("record")
    assert inner is not None
    if given.WhichOneof("record") not in {inner, None}:
        raise InvalidArgumentError(f"{field}.record", f"{stands.name} is a {inner}")
    for path in paths:
        if path == EVERYTHING:
            getattr(made, inner).CopyFrom(getattr(given, inner))
        else:
            _set(getattr(made, inner), getattr(given, inner), path.split("."), f"{field}.update_mask", path)
    return made


def _set(made: Message, given: Message, path: list[str], field: str, whole: str) -> None:
    name, *rest = path
    described = made.DESCRIPTOR.fields_by_name.get(name)
    inner = None if described is None or described.is_repeated else described.message_type
    if described is None or (rest and (inner is None or inner.file.package != _OURS)):
        among = ", ".join(made.DESCRIPTOR.fields_by_name)
        where = "no field" if described is None else "leads into no message of ours"
        raise InvalidArgumentError(field, f"{whole!r}: {where}; {made.DESCRIPTOR.name} has {among}")
    if rest:
        if not made.HasField(name):
            raise InvalidArgumentError(field, f"{whole!r}: {name} is not set on record; name it whole")
        _set(getattr(made, name), getattr(given, name), rest, field, whole)
    elif described.is_repeated:
        made.ClearField(name)
        getattr(made, name).extend(getattr(given, name))
    elif described.has_presence and not given.HasField(name):
        made.ClearField(name)
    elif described.message_type is not None:
        getattr(made, name).CopyFrom(getattr(given, name))
    else:
        setattr(made, name, getattr(given, name))
