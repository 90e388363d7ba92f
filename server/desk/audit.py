"""The landmark audit: judges what landmarks say of each other, and appraises again what rested on those that fail.

The rules are in verifier/place/audit.py. Two processes may audit one store: both find the same, and only differences
are written. A distrusted landmark stops counting with the next challenge; devices whose last fix used its domain are
appraised again without it, when an answer does not hold (docs/protocol.md LA6).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from server.store.errors import StoreError
from server.store.types import AuditInputs, AuditOutcome, LocatedDevice, Reappraisal
from server.telemetry import Telemetry
from verifier.appraise import appraise_place, presence_answer
from verifier.errors import RangeError
from verifier.limits import CHALLENGE_LIFE
from verifier.place.answers import PlaceAnswer
from verifier.place.audit import Distrust, audit
from verifier.place.discs import check_landmark_counts
from verifier.place.fix import Fix, discs_of_fix, fix_of, fix_without
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.units import Domain, LandmarkId, Pdi

DAY = timedelta(hours=24)
"""A pair is judged by ranges of the last day (docs/protocol.md LA3)."""

LOOK_AGAIN = timedelta(hours=1)
"""An audit looks again after so long even when nothing came: ranges grow old too."""

IN_FLIGHT = CHALLENGE_LIFE + timedelta(seconds=30)
"""A verdict under records of before the distrust may still be committed for so long; till then devices are watched."""

LOCATED_AT_ONCE = 500

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class AuditStore(Protocol):
    """What the audit needs of `server.store.Store`."""

    async def has_audit_news(self) -> bool:
        """Whether ranges or records came that no audit has looked at."""

    async def load_audit_inputs(self) -> AuditInputs:
        """Return all that an audit looks at."""

    async def set_distrust(self, found: Sequence[Distrust], basis: int, now: datetime) -> AuditOutcome:
        """Make what an audit found the distrust that stands, and return what changed."""

    async def settle_distrust(self, landmark_ids: Sequence[LandmarkId]) -> None:
        """Note that the devices whose fixes used these landmarks have been appraised again."""

    async def load_located(self, *, after: Pdi | None, limit: int) -> list[LocatedDevice]:
        """Return deployed GPUs that have a fix, in the order of PDIs."""

    async def reappraise(self, given: Sequence[Reappraisal], now: datetime) -> tuple[Pdi, ...]:
        """Write what fixes show without distrusted landmarks, and return the devices that were changed."""


class LandmarkAudit:
    """One node's audit.

    Args:
        store: Where ranges, distrust and devices are kept.
        policy: How place is judged.
        run_every: Pause between two looks.
        clock: Returns the current time, aware.
        telemetry: Counts landmarks by state.
    """

    def __init__(
        self,
        store: AuditStore,
        policy: PlacePolicy,
        run_every: timedelta,
        clock: Callable[[], datetime],
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._policy = policy
        self._run_every = run_every
        self._clock = clock
        self._telemetry = telemetry
        self._looked_at: datetime | None = None
        self._unsettled = True

    async def run(self) -> None:
        """Look until cancelled. A store fault makes a look late, no more."""
        while True:
            try:
                await self.run_once()
            except StoreError as error:
                _LOG.warning("landmark_audit_failed", error=str(error))
            await asyncio.sleep(self._run_every.total_seconds())

    async def run_once(self) -> None:
        """Audit if there is reason to, and settle what that brings; raises `StoreError`."""
        now = self._clock()
        rested = self._looked_at is not None and now - self._looked_at < LOOK_AGAIN
        if rested and not self._unsettled and not await self._store.has_audit_news():
            self._telemetry.landmark_audit_timestamp.set(now.timestamp())
            return
        inputs = await self._store.load_audit_inputs()
        found = await asyncio.to_thread(self._audit, inputs, now)
        outcome = await self._store.set_distrust(found, inputs.basis, now)
        self._tell(outcome)
        if outcome.begun or outcome.ended:
            inputs = await self._store.load_audit_inputs()
        await self._settle(inputs, now)
        self._count(inputs, now)
        self._looked_at = now
        self._telemetry.landmark_audit_timestamp.set(now.timestamp())

    def _audit(self, inputs: AuditInputs, now: datetime) -> tuple[Distrust, ...]:
        pairs = (ranged.pair for ranged in inputs.ranges if now - ranged.latest_at <= DAY)
        registry = LandmarkRegistry.build(record.landmark for record in inputs.records)
        return audit((r for r in registry.landmarks if r.is_valid(now)), pairs, self._policy.atlas, registry)

    @staticmethod
    def _tell(outcome: AuditOutcome) -> None:
        for distrust in outcome.begun:
            _LOG.warning(
                "landmark_distrusted",
                landmark=distrust.landmark_id,
                rule=distrust.rule.name,
                explanation=distrust.explanation,
                contradictions=len(distrust.contradictions),
            )
        for landmark_id in outcome.ended:
            _LOG.info("landmark_trusted_again", landmark=landmark_id)

    async def _settle(self, inputs: AuditInputs, now: datetime) -> None:
        """Appraise again until no verdict can come any more that used a landmark which is distrusted."""
        unsettled = [stands for stands in inputs.distrust.values() if not stands.settled]
        self._unsettled = bool(unsettled)
        if not unsettled:
            return
        registry = LandmarkRegistry.build(record.landmark for record in inputs.records)
        domains = frozenset(registry.domain_of(stands.distrust.landmark_id) for stands in unsettled)
        await self._appraise_again(registry, domains, frozenset(inputs.distrust), now)
        settled = [stands.distrust.landmark_id for stands in unsettled if now - stands.since >= IN_FLIGHT]
        if settled:
            await self._store.settle_distrust(settled)

    async def _appraise_again(
        self, registry: LandmarkRegistry, domains: frozenset[Domain], distrusted: frozenset[LandmarkId], now: datetime
    ) -> None:
        after: Pdi | None = None
        while devices := await self._store.load_located(after=after, limit=LOCATED_AT_ONCE):
            after = devices[-1].pdi
            fallen = await asyncio.to_thread(self._fallen, devices, registry, domains, distrusted)
            changed = await self._store.reappraise(fallen, now) if fallen else ()
            if changed:
                _LOG.warning("devices_appraised_again", count=len(changed), first=changed[0].hex())

    def _says_the_same(self, device: LocatedDevice) -> bool:
        """Whether a fix still is about the region that the license names now, of which alone it said something.

        Under other borders or margins than it was made with that cannot be told; then it is taken to be.
        """
        policy, fix = self._policy, device.fix
        terms = (policy.atlas.version, policy.prohibited_version, policy.border_margin_km)
        if (fix.borders_version, fix.prohibited_version, fix.border_margin_km) != terms:
            return True
        return fix_of(discs_of_fix(fix), device.region, policy).discs == fix.discs

    def _fallen(
        self,
        devices: Iterable[LocatedDevice],
        registry: LandmarkRegistry,
        domains: frozenset[Domain],
        distrusted: frozenset[LandmarkId],
    ) -> list[Reappraisal]:
        """Return the devices that have an answer which does not hold without these domains."""
        fallen: list[Reappraisal] = []
        for device in devices:
            # A fix names domains as they were called when it was made; they may have merged since, or split. Those
            # whose distrust was settled before are still in it where its answers did not need them.
            used = frozenset(
                d.domain
                for d in device.fix.discs
                if d.landmark_id in distrusted or registry.domain_of_party(d.domain) in domains
            )
            if not used or not self._says_the_same(device):
                continue
            fix = fix_without(device.fix, used, device.region, self._policy)
            if _answers(fix) == _answers(device.fix):
                continue
            proven = presence_answer(device.presence, device.assurance, fix) is PlaceAnswer.PROVEN
            findings = tuple(appraise_place(device.presence, device.assurance, fix))
            fallen.append(Reappraisal(device, fix, findings, proven))
        return fallen

    def _count(self, inputs: AuditInputs, now: datetime) -> None:
        registry = LandmarkRegistry.build(record.landmark for record in inputs.records)
        states = Counter({"counted": 0, "uncounted": 0, "distrusted": 0})
        for landmark in registry.landmarks:
            try:
                # Nobody's own landmarks are told apart here: a licensee comes with a device.
                check_landmark_counts(landmark, registry, self._policy, "", now)
                states["counted"] += 1
            except RangeError:
                states["distrusted" if landmark.distrusted else "uncounted"] += 1
        for state, count in states.items():
            self._telemetry.landmarks.labels(state).set(count)


def _answers(fix: Fix | None) -> tuple[PlaceAnswer, PlaceAnswer]:
    """Return the answers to both questions; without a disc there is none to either."""
    if fix is None:
        return PlaceAnswer.UNPROVEN, PlaceAnswer.UNPROVEN
    return fix.in_licensed_region, fix.outside_prohibited
