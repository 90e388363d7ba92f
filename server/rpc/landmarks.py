"""LandmarkService: the registry of landmarks. Who may call stands in access.py."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime

from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc

from server.rpc.convert_records import landmark_from_proto, landmark_id_from_name, landmark_to_proto
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.handlers import Context
from server.rpc.pages import page_size, read_token, write_token
from server.store import LandmarkRecord, RecordConflictError, Store
from verifier.place.landmarks import LandmarkRegistry

MAX_LANDMARKS = 10_000
"""In one import. The registry is held in memory whole; a world's worth of landmarks is some thousands."""

_LISTED = "landmarks"


def utc_now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


class LandmarkServicer(landmark_pb2_grpc.LandmarkServiceServicer):
    """Serves the registry.

    Args:
        store: Where it is kept.
        ticket_public_key: Raw Ed25519 key that tickets are signed with.
        country_codes: Codes that have a shape.
        clock: Returns the current time, aware.
    """

    def __init__(
        self,
        store: Store,
        ticket_public_key: bytes,
        country_codes: Collection[str],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._ticket_public_key = ticket_public_key
        self._country_codes = frozenset(country_codes)
        self._clock = clock

    async def ImportLandmarks(  # noqa: N802 - the schema's name
        self, request: landmark_pb2.ImportLandmarksRequest, _context: Context
    ) -> landmark_pb2.ImportLandmarksResponse:
        """Add landmarks or new revisions: all or none."""
        if not 1 <= len(request.landmarks) <= MAX_LANDMARKS:
            raise InvalidArgumentError("landmarks", f"1 to {MAX_LANDMARKS} landmarks")
        now = self._clock()
        records = [
            landmark_from_proto(message, f"landmarks[{index}]", self._country_codes, now)
            for index, message in enumerate(request.landmarks)
        ]
        try:
            counts = await self._store.import_landmarks(records, now, validate_only=request.validate_only)
        except RecordConflictError as error:
            raise InvalidArgumentError(f"landmarks.{error.field}", str(error)) from error
        return landmark_pb2.ImportLandmarksResponse(
            created_count=counts.created, updated_count=counts.updated, unchanged_count=counts.unchanged
        )

    async def GetLandmark(  # noqa: N802 - the schema's name
        self, request: landmark_pb2.GetLandmarkRequest, _context: Context
    ) -> landmark_pb2.GetLandmarkResponse:
        """Return one landmark."""
        landmark_id = landmark_id_from_name(request.name, "name")
        records, registry = await self._registry()
        for record in records:
            if record.landmark.landmark_id == landmark_id:
                return landmark_pb2.GetLandmarkResponse(
                    landmark=landmark_to_proto(record, registry.domain_of(landmark_id))
                )
        raise NotFoundError(request.name)

    async def ListLandmarks(  # noqa: N802 - the schema's name
        self, request: landmark_pb2.ListLandmarksRequest, _context: Context
    ) -> landmark_pb2.ListLandmarksResponse:
        """Return a page in the order of names."""
        size = page_size(request.page_size)
        after = read_token(_LISTED, request.page_token)
        records, registry = await self._registry()
        following = [record for record in records if after is None or record.landmark.landmark_id.encode() > after]
        page = following[:size]
        more = len(following) > size
        return landmark_pb2.ListLandmarksResponse(
            landmarks=[landmark_to_proto(record, registry.domain_of(record.landmark.landmark_id)) for record in page],
            next_page_token=write_token(_LISTED, page[-1].landmark.landmark_id.encode()) if more else "",
        )

    async def GetTicketKey(  # noqa: N802 - the schema's name
        self, _request: landmark_pb2.GetTicketKeyRequest, _context: Context
    ) -> landmark_pb2.GetTicketKeyResponse:
        """Return the key that tickets are signed with."""
        return landmark_pb2.GetTicketKeyResponse(public_key=self._ticket_public_key)

    async def _registry(self) -> tuple[list[LandmarkRecord], LandmarkRegistry]:
        """Domains merge over the whole registry, so even one landmark's needs all of them."""
        records = await self._store.load_landmark_records()
        return records, LandmarkRegistry.build(record.landmark for record in records)
