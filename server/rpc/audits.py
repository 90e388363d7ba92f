"""What the newest landmark audit says of each landmark, for `LandmarkService.ListLandmarkAudits`."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from trigpoint.v1 import landmark_pb2

from server.rpc.convert import timestamp_to_proto
from server.rpc.pages import page_size, read_token, write_token
from server.store import Store
from server.store.types import AuditInputs, LandmarkPage, LandmarkRange
from verifier.errors import RangeError
from verifier.place.audit import Contradiction, position_bound_km
from verifier.place.discs import check_landmark_counts
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.units import LandmarkId

MAX_CONTRADICTIONS = 100
"""Shown of one landmark; the largest say enough."""

DAY = timedelta(hours=24)
"""Ranges count for a day (docs/protocol.md LA3); under a policy that asks for no audit they are shown for one."""

_LISTED = "landmark audits"


class AuditLister:
    """Lists audits.

    Args:
        store: Where ranges and distrust are kept.
        policy: Says what a landmark needs to count.
        clock: Returns the current time, aware.
    """

    def __init__(self, store: Store, policy: PlacePolicy, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    async def list(self, request: landmark_pb2.ListLandmarkAuditsRequest) -> landmark_pb2.ListLandmarkAuditsResponse:
        """Return a page in the order of names; raises `InvalidArgumentError`."""
        size = page_size(request.page_size)
        token = read_token(_LISTED, request.page_token)
        after = None if token is None else LandmarkId(token.decode(errors="replace"))
        async with self._one_at_a_time:  # a page of 800 landmarks that all range each other takes seconds
            inputs = await self._store.load_audit_inputs(LandmarkPage(after, size + 1))
            page, now = inputs.chosen[:size], self._clock()
            audits = await asyncio.to_thread(lambda: list(self._audits(inputs, page, now)))
        more = len(inputs.chosen) > size
        return landmark_pb2.ListLandmarkAuditsResponse(
            audits=audits,
            next_page_token=write_token(_LISTED, page[-1].encode()) if more else "",
            audit_time=None if inputs.audited_at is None else timestamp_to_proto(inputs.audited_at),
        )

    def _audits(
        self, inputs: AuditInputs, page: Iterable[LandmarkId], now: datetime
    ) -> Iterable[landmark_pb2.LandmarkAudit]:
        registry = LandmarkRegistry.build(record.landmark for record in inputs.records)
        landmarks = {r.landmark_id: r for r in registry.landmarks}
        ranges: dict[LandmarkId, list[LandmarkRange]] = defaultdict(list)
        for ranged in inputs.ranges:
            ranges[ranged.pair.of].append(ranged)
        for landmark_id in page:
            message = self._audit(landmarks[landmark_id], registry, ranges[landmark_id], now)
            stands = inputs.distrust.get(landmark_id)
            if stands is not None:
                message.rule = landmark_pb2.AuditRule.ValueType(stands.distrust.rule)
                message.explanation = stands.distrust.explanation
                message.distrust_time.CopyFrom(timestamp_to_proto(stands.since))
                message.contradictions.extend(map(_contradiction, stands.distrust.contradictions[:MAX_CONTRADICTIONS]))
            yield message

    def _audit(
        self, landmark: Landmark, registry: LandmarkRegistry, ranges: Iterable[LandmarkRange], now: datetime
    ) -> landmark_pb2.LandmarkAudit:
        policy = self._policy
        why_not = ""
        try:
            # No licensee is called nothing: its own landmarks are told apart only when a device is appraised.
            check_landmark_counts(landmark, registry, policy, "", now)
        except RangeError as error:
            why_not = str(error)
        recent = [ranged for ranged in ranges if now - ranged.latest_at <= DAY]
        message = landmark_pb2.LandmarkAudit(
            name=f"landmarks/{landmark.landmark_id}",
            domain=registry.domain_of(landmark.landmark_id),
            counts=not why_not,
            why_not=why_not,
            ranged_by_domains=sum(1 for _ in registry.witnesses(landmark, now, policy.audited_within or DAY)),
            position_bound_km=position_bound_km(
                landmark, (ranged.pair for ranged in recent), registry, policy.tolerated_domains
            )
            or 0.0,
        )
        latest = max((ranged.latest_at for ranged in ranges), default=None)
        if latest is not None:
            message.last_range_time.CopyFrom(timestamp_to_proto(latest))
        return message


def _contradiction(found: Contradiction) -> landmark_pb2.Contradiction:
    return landmark_pb2.Contradiction(
        by_landmark_id=found.by,
        of_landmark_id=found.of,
        rtt_ns=found.rtt_ns,
        apart_km=found.apart_km,
        reach_km=found.reach_km,
    )
