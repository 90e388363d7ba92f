"""WriteRecords' request as the store takes it: masks over what stands, etags, the jurisdiction of sites.

Whether the set may be written is the store's to say (server/store/record_checks.py).
"""

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence

from trigpoint.v1 import records_pb2

from server.records.values import RecordWrite, Site
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.record_masks import masked
from server.rpc.record_messages import stored_to_proto
from server.rpc.record_reading import Maps, read_name, read_record
from server.store import Store
from server.store.record_types import StoredRecord

MAX_WRITES = 1_000
_ETAG = re.compile(r"0|[1-9][0-9]{0,17}")
_REGION_FIELDS = frozenset({"circle", "polygon", "country"})

Standing = Mapping[str, StoredRecord]


async def read_writes(store: Store, maps: Maps, messages: Sequence[records_pb2.RecordWrite]) -> list[RecordWrite]:
    """Check and read what is to be written.

    Args:
        store: Holds what masks leave as it is.
        maps: What sites may name.
        messages: As they came.

    Raises:
        InvalidArgumentError: A field cannot be used.
        NotFoundError: A mask is over a record that is not there.
    """
    if not 1 <= len(messages) <= MAX_WRITES:
        raise InvalidArgumentError("writes", f"1 to {MAX_WRITES:,}")
    seen: dict[str, int] = {}
    for index, message in enumerate(messages):
        read_name(message.record.name, f"writes[{index}].record.name")
        earlier = seen.setdefault(message.record.name, index)
        if earlier != index:
            raise InvalidArgumentError(f"writes[{index}].record.name", f"writes[{earlier}] names it too")
    standing: dict[str, StoredRecord] = {}
    for message in messages:
        if message.update_mask.paths and not message.end:
            stands = await store.records.get(message.record.name)
            if stands is None:
                raise NotFoundError(message.record.name)
            standing[message.record.name] = stands
    # Beside the event loop: a polygon may have 10,000 points, and to find a site's country takes milliseconds.
    return await asyncio.to_thread(_read_all, messages, standing, maps)


def _read_all(messages: Sequence[records_pb2.RecordWrite], standing: Standing, maps: Maps) -> list[RecordWrite]:
    return [
        _read_one(message, f"writes[{index}]", standing.get(message.record.name), maps)
        for index, message in enumerate(messages)
    ]


def _read_one(message: records_pb2.RecordWrite, field: str, stands: StoredRecord | None, maps: Maps) -> RecordWrite:
    name, basis = message.record.name, _basis(message.record.etag, f"{field}.record.etag")
    if message.end:
        return RecordWrite(name, None, basis)
    given = message.record
    if stands is not None:
        paths = message.update_mask.paths
        given = masked(stored_to_proto(stands), given, paths, field)
        if _moves(paths) and isinstance(stands.record, Site):
            _forget_derived(given, stands.record, maps)
        # What the mask leaves is what stood when it was read, so that is what the write is based on (RC2).
        basis = stands.revision if basis is None else basis
    return RecordWrite(name, read_record(given, f"{field}.record", maps), basis)


def _basis(etag: str, field: str) -> int | None:
    if not etag:
        return None
    if not _ETAG.fullmatch(etag):
        raise InvalidArgumentError(field, "the revision in decimal, 0 for a record that must not exist, or empty")
    return int(etag)


def _moves(paths: Collection[str]) -> bool:
    """Whether a mask over a site sets its region, and leaves its jurisdiction."""
    fields = {path.partition(".")[0] for path in paths}
    return bool(fields & _REGION_FIELDS) and "jurisdiction" not in fields


def _forget_derived(message: records_pb2.Record, stands: Site, maps: Maps) -> None:
    """Let a site that moves have its new region's jurisdiction, unless somebody had set another than the old one's."""
    if stands.jurisdiction == maps.jurisdiction(stands.region):
        message.site.jurisdiction = ""
