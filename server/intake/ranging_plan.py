"""Which devices of a host range, and with which landmarks, step by step within one challenge.

One GPU of each board is enough, since a fix extends along proven edges (docs/protocol.md B2); a GPU without a board
ranges for itself. A board is the one that the store last accepted; the inventory's hint stands in until there is one,
because it only steers and is never evidence (A1). A device that no deployment names has no region to range for. Which
landmarks are asked is chosen by verifier/place/choose.py.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from server.intake.tickets import TicketOffice
from verifier.continuity import DeviceState
from verifier.evidence.attestation import IssuedChallenge
from verifier.evidence.chain import DeviceKind
from verifier.license import Deployment, License
from verifier.limits import MAX_RANGES
from verifier.place.choose import choose_landmarks
from verifier.place.fix import Fix
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Region
from verifier.units import ChainId, LandmarkKeyId, Pdi

LAST_STEP_AFTER = timedelta(seconds=30)
"""Half of a challenge's life. A step may take seconds, and signing and sending need time too."""


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """A device as the host lists it. The host's word: it steers who is asked to range, and nothing else.

    Attributes:
        pdi: Its identity.
        kind: GPU or switch.
        board: The host's name for its board; empty without one.
        chain_id: Its chain.
    """

    pdi: Pdi
    kind: DeviceKind
    board: str
    chain_id: ChainId


@dataclass(frozen=True, slots=True)
class RangeOrder:
    """One session to hold: who, with whom, where, and the ticket for it."""

    pdi: Pdi
    landmark: LandmarkKeyId
    endpoints: tuple[str, ...]
    ticket: bytes


@dataclass(frozen=True, slots=True)
class RangeStep:
    """One step of orders. `final`: none follows."""

    number: int
    orders: tuple[RangeOrder, ...]
    final: bool


class ProvisionalFixer(Protocol):
    """What the plan asks of `verifier.verifier.Verifier`."""

    def provisional_fix(
        self,
        receipts: Iterable[bytes],
        region: Region,
        issued: IssuedChallenge,
        registry: LandmarkRegistry,
        held: License,
        now: datetime,
        pdi: Pdi,
    ) -> Fix | None:
        """Return what the receipts seem to show; never evidence."""


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What all plans share.

    Attributes:
        fixer: Reads receipts to choose the next landmarks.
        policy: Rules of place.
        tickets: Signs tickets.
        sessions_per_device: Budget of ranging sessions of one device under one challenge.
        rng: Source of the server's choices; unpredictable except in tests.
    """

    fixer: ProvisionalFixer
    policy: PlacePolicy
    tickets: TicketOffice
    sessions_per_device: int
    rng: random.Random


@dataclass(slots=True)
class _Ranger:
    deployment: Deployment
    used: set[LandmarkKeyId]
    receipts: list[bytes]
    done: bool = False


class RangingPlan:
    """The steps of one challenge. `next_step` gives the next orders, `add_results` takes what came of them."""

    def __init__(
        self,
        settings: PlanSettings,
        challenge: IssuedChallenge,
        registry: LandmarkRegistry,
        endpoints: Mapping[LandmarkKeyId, tuple[str, ...]],
        rangers: Sequence[Deployment],
    ) -> None:
        self._settings = settings
        self._challenge = challenge
        self._registry = registry
        self._endpoints = endpoints
        self._rangers = {deployment.pdi: _Ranger(deployment, set(), []) for deployment in rangers}
        # All ranges of an attestation share one budget of the verifier.
        self._budget = min(settings.sessions_per_device, MAX_RANGES // max(1, len(self._rangers)))
        self.step_number = 0
        self._final = False

    @property
    def is_final(self) -> bool:
        """Whether the last step was given out."""
        return self._final

    def add_results(self, receipts: Mapping[Pdi, Sequence[bytes]]) -> None:
        """Take the receipts of a step; those of devices that were not asked, and those over the budget, are ignored."""
        for pdi, gathered in receipts.items():
            if (ranger := self._rangers.get(pdi)) is not None:
                room = len(ranger.used) - len(ranger.receipts)
                ranger.receipts.extend(gathered[:room])

    def next_step(self, now: datetime) -> RangeStep:
        """Choose the next orders. A step with nothing to order is final."""
        self.step_number += 1
        orders: list[RangeOrder] = []
        if now - self._challenge.issued_at < LAST_STEP_AFTER:
            for ranger in self._rangers.values():
                orders.extend(self._orders_of(ranger, now))
        spent = all(ranger.done or len(ranger.used) >= self._budget for ranger in self._rangers.values())
        self._final = spent or not orders
        return RangeStep(self.step_number, tuple(orders), self._final)

    def _orders_of(self, ranger: _Ranger, now: datetime) -> list[RangeOrder]:
        if ranger.done or len(ranger.used) >= self._budget:
            return []
        settings, deployment = self._settings, ranger.deployment
        fix = None
        if ranger.receipts:
            fix = settings.fixer.provisional_fix(
                receipts=ranger.receipts,
                region=deployment.region,
                issued=self._challenge,
                registry=self._registry,
                held=deployment.license,
                now=now,
                pdi=deployment.pdi,
            )
        chosen = choose_landmarks(
            registry=self._registry,
            region=deployment.region,
            used=frozenset(ranger.used),
            fix=fix,
            step=self.step_number,
            rng=settings.rng,
            now=now,
            policy=settings.policy.tolerating(deployment.license.tolerated_domains),
            budget=self._budget,
            licensee=deployment.license.licensee,
        )
        ranger.done = not chosen
        ranger.used.update(landmark.key_id for landmark in chosen)
        return [self._order(deployment.pdi, landmark) for landmark in chosen]

    def _order(self, pdi: Pdi, landmark: Landmark) -> RangeOrder:
        key_id = landmark.key_id
        return RangeOrder(
            pdi, key_id, self._endpoints.get(key_id, ()), self._settings.tickets.issue(self._challenge, key_id)
        )


def choose_rangers(
    devices: Sequence[ListedDevice],
    deployments: Mapping[Pdi, Deployment],
    last: Mapping[Pdi, DeviceState],
    rng: random.Random,
) -> tuple[Deployment, ...]:
    """Return the devices that range: of each board one GPU, drawn at random, and each GPU without a board.

    Only GPUs with a deployment. At most `MAX_RANGES`, since each holds at least one session.
    """
    boards = _Groups()
    alone = []
    groups: dict[Pdi, tuple[str, bytes]] = {}
    for device in devices:
        if device.kind is not DeviceKind.GPU or device.pdi not in deployments or device.pdi in groups:
            continue
        state = last.get(device.pdi)
        if state is not None:
            marks = [("switch", bytes(switch)) for switch in sorted(state.board)]
        else:
            marks = [("hint", device.board.encode())] if device.board else []
        if not marks:
            alone.append(device.pdi)
            continue
        boards.join(marks)
        groups[device.pdi] = marks[0]
    members: dict[tuple[str, bytes], list[Pdi]] = {}
    for pdi, mark in groups.items():
        members.setdefault(boards.root(mark), []).append(pdi)
    chosen = [rng.choice(gpus) for gpus in members.values()] + list(dict.fromkeys(alone))
    if len(chosen) > MAX_RANGES:
        chosen = rng.sample(chosen, MAX_RANGES)
    return tuple(deployments[pdi] for pdi in chosen)


class _Groups:
    """Boards from their marks: two GPUs that share a switch share a board."""

    def __init__(self) -> None:
        self._parent: dict[tuple[str, bytes], tuple[str, bytes]] = {}

    def root(self, mark: tuple[str, bytes]) -> tuple[str, bytes]:
        while self._parent.setdefault(mark, mark) != mark:
            mark = self._parent[mark]
        return mark

    def join(self, marks: Sequence[tuple[str, bytes]]) -> None:
        first = self.root(marks[0])
        for mark in marks[1:]:
            self._parent[self.root(mark)] = first
            first = self.root(first)
