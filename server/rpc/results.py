"""GetResult: who may see which attestation result, and by which name (docs/protocol.md §16)."""

import re
from collections.abc import Callable
from datetime import datetime

from trigpoint.v1 import licensing_pb2

from server.rpc.access import visible_jurisdiction
from server.rpc.convert_records import pdi_from_name
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.reading import note_read
from server.store import Store
from server.store.results import StoredResult
from verifier.units import Challenge

_ATTESTATION_NAME = re.compile(r"attestations/([0-9a-f]{64})")


async def get_result(
    store: Store, request: licensing_pb2.GetResultRequest, clock: Callable[[], datetime]
) -> licensing_pb2.GetResultResponse:
    """Return a result by its device or its attestation; raises what the caller is told instead."""
    found = await _find(store, request.name)
    visible = visible_jurisdiction()
    # docs/protocol.md RC11: a result cannot be divided, so whoever is limited to a jurisdiction sees those alone that
    # tell of its devices and of no other's.
    if found is None or (visible is not None and found.jurisdictions != {visible}):
        raise NotFoundError(request.name)
    await note_read(store.reads, "GetResult", request.name, len(found.pdis), clock())
    return licensing_pb2.GetResultResponse(attestation=f"attestations/{found.challenge.hex()}", result=found.token)


async def _find(store: Store, name: str) -> StoredResult | None:
    if name.startswith("devices/"):
        return await store.newest_result(pdi_from_name(name, "name"))
    match = _ATTESTATION_NAME.fullmatch(name)
    if match is None:
        expected = "devices/ and a PDI of 16 lower-case hex digits, or attestations/ and a challenge of 64"
        raise InvalidArgumentError("name", expected)
    return await store.find_result(Challenge(bytes.fromhex(match[1])))
