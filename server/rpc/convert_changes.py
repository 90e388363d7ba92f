"""Changes that wait for a second person, to protobuf."""

import re

from trigpoint.v1 import change_pb2

from server.rpc.convert import timestamp_to_proto
from server.rpc.errors import InvalidArgumentError
from server.store.record_types import ChangeRecord

_NAME = re.compile(r"changes/([1-9][0-9]{0,17})")


def change_id_from_name(name: str, field: str) -> int:
    """Read a change's resource name; raises `InvalidArgumentError`."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidArgumentError(field, "a change is named changes/ and its number")
    return int(match[1])


def change_to_proto(change: ChangeRecord) -> change_pb2.Change:
    """Write a change."""
    message = change_pb2.Change(
        name=change.name,
        state=change_pb2.ChangeState.Value(f"CHANGE_STATE_{change.state.name}"),
        summary=change.summary,
        proposed_by=change.proposed_by,
        propose_time=timestamp_to_proto(change.proposed_at),
        reason=change.reason,
        decided_by=change.decided_by,
        decision_reason=change.decision_reason,
    )
    if change.decided_at is not None:
        message.decide_time.CopyFrom(timestamp_to_proto(change.decided_at))
    return message
