"""The landmarks of a study as the server would know them, honest or displaced, audited and left out one by one.

Leave-one-out holds for the audit too: a target's verdict uses the audit of the others, over all pairs without the
target. That audit is the one over all landmarks, less the target itself, unless the target is part of a contradiction;
only then is it run again, over the contradictions alone, since no other pair decides anything (docs/protocol.md LA5).
So a target that is distrusted as a landmark is still ranged, as any device, by those that the others trust.
"""

import hashlib
import math
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np

import geodata
from benchmarks.study.data import Measurements, Node
from verifier.place.audit import Distrust, PairRange, audit
from verifier.place.geodesy import EARTH_RADIUS_KM, Position
from verifier.place.groups import parse_groups
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.ranging import VerifiedRange
from verifier.place.regions import Atlas
from verifier.units import LandmarkId, Nanoseconds, Pdi

NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""Any time does: nothing in the study moves or expires."""

LICENSEE = "the licensee"

_PDI = Pdi(bytes(8))


@dataclass(frozen=True, slots=True)
class Displacement:
    """How many landmarks lie about their position, and by how much."""

    share: float
    km: float


DISPLACEMENTS = tuple(Displacement(share, km) for share in (0.02, 0.10) for km in (300.0, 1000.0, 3000.0))


def seeded(*parts: object) -> random.Random:
    """Return a generator that depends on these words alone, whatever was drawn before."""
    return random.Random(" ".join(map(str, parts)))  # noqa: S311 - a study must be repeatable


def make_policy() -> PlacePolicy:
    """Return the server's default rules, with the data that ship; landmarks here have no history to ask for."""
    groups = parse_groups(geodata.read_country_groups(), geodata.COUNTRY_GROUPS_VERSION)
    return PlacePolicy(
        atlas=Atlas.parse(geodata.read_borders(), geodata.BORDERS_VERSION, groups.members),
        prohibited=groups.prohibited(),
        prohibited_version=groups.version,
        audited_within=None,
        standing_for=timedelta(0),
    )


def shifted(start: Position, bearing: float, km: float) -> Position:
    """Return the place that lies `km` from another, on the sphere, in a direction in radians from north."""
    phi, turn = math.radians(start.latitude), km / EARTH_RADIUS_KM
    sine = math.sin(phi) * math.cos(turn) + math.cos(phi) * math.sin(turn) * math.cos(bearing)
    east = math.sin(bearing) * math.sin(turn) * math.cos(phi)
    longitude = start.longitude + math.degrees(math.atan2(east, math.cos(turn) - math.sin(phi) * sine))
    return Position(math.degrees(math.asin(max(-1.0, min(1.0, sine)))), (longitude + 180) % 360 - 180)


def displace(nodes: tuple[Node, ...], how: Displacement, seed: int) -> dict[int, Position]:
    """Draw who lies, at least one, and where each says it stands. The stated country stays."""
    rng = seeded(seed, "displaced", how.share, how.km)
    liars = rng.sample(range(len(nodes)), max(1, round(how.share * len(nodes))))
    return {k: shifted(nodes[k].position, rng.uniform(0, 2 * math.pi), how.km) for k in liars}


@dataclass(frozen=True, slots=True)
class Stage:
    """A world before anybody asks it, cheap to send to another process.

    Attributes:
        displaced: Nodes that state another position, by index.
        distrusted: What the audit over all landmarks found.
    """

    displaced: dict[int, Position]
    distrusted: tuple[Distrust, ...]


def landmarks_of(nodes: tuple[Node, ...], displaced: dict[int, Position]) -> tuple[Landmark, ...]:
    """Return one landmark a node, in their order, each a failure domain of its own."""
    return tuple(
        Landmark(
            landmark_id=LandmarkId(node.name),
            public_key=hashlib.sha256(node.name.encode()).digest(),
            operator=f"operator {k}",
            hoster=f"operator {k}",
            position=displaced.get(k, node.position),
            uncertainty_km=0.0,
            virtual_machine=False,
            country=node.country,
            revision=1,
            revised_at=NOW,
        )
        for k, node in enumerate(nodes)
    )


def set_stage(measurements: Measurements, displaced: dict[int, Position], atlas: Atlas) -> Stage:
    """Audit all landmarks over all pairs."""
    names = [LandmarkId(node.name) for node in measurements.nodes]
    pairs = [
        PairRange(names[by], names[of], Nanoseconds(rtt_ns))
        for by, of, rtt_ns in zip(
            measurements.by.tolist(), measurements.of.tolist(), measurements.rtt_ns.tolist(), strict=True
        )
    ]
    return Stage(displaced, audit(landmarks_of(measurements.nodes, displaced), pairs, atlas))


class World:
    """One stage with its registries: who ranges a target, and with what result."""

    def __init__(self, measurements: Measurements, stage: Stage, atlas: Atlas) -> None:
        self._atlas = atlas
        self._landmarks = landmarks_of(measurements.nodes, stage.displaced)
        self._keys = [r.key_id for r in self._landmarks]
        self._distrusted = {d.landmark_id: d.explanation for d in stage.distrusted}
        contradictions = [c for d in stage.distrusted for c in d.contradictions]
        self._contradicting = [PairRange(c.by, c.of, c.rtt_ns) for c in contradictions]
        self._disputed = {name for c in contradictions for name in (c.by, c.of)}
        self._registries: dict[frozenset[LandmarkId], LandmarkRegistry] = {}
        # Ranges by target: which landmarks, and how long.
        order = np.argsort(measurements.of, kind="stable")
        bounds = np.searchsorted(measurements.of[order], np.arange(len(measurements.nodes) + 1)).tolist()
        by, rtt_ns = measurements.by[order].tolist(), measurements.rtt_ns[order].tolist()
        self._ranges = [tuple(zip(by[start:end], rtt_ns[start:end], strict=True)) for start, end in pairwise(bounds)]

    def landmark(self, node: int) -> Landmark:
        """Return a node's landmark as it is registered before any audit."""
        return self._landmarks[node]

    def without(self, target: int) -> LandmarkRegistry:
        """Return the registry for a target: distrusted is who the audit of the others distrusts.

        The target itself stays in it, unasked: nobody has ranged himself.
        """
        distrusted = self._distrusted
        own = self._landmarks[target].landmark_id
        if own in self._disputed:
            others = [r for r in self._landmarks if r.landmark_id != own]
            distrusted = {d.landmark_id: d.explanation for d in audit(others, self._contradicting, self._atlas)}
        key = frozenset(distrusted) - {own}
        registry = self._registries.get(key)
        if registry is None:
            registry = self._registries[key] = LandmarkRegistry.build(
                replace(r, distrusted=distrusted[r.landmark_id]) if r.landmark_id in key else r for r in self._landmarks
            )
        return registry

    def ranges(self, target: int, registry: LandmarkRegistry) -> list[VerifiedRange]:
        """Return what the registry's landmarks measured to a target, as if its device had logged it."""
        return [
            VerifiedRange(_PDI, registry.by_key[self._keys[by]], Nanoseconds(rtt_ns))
            for by, rtt_ns in self._ranges[target]
        ]

    def is_target(self, node: int) -> bool:
        """Whether any landmark has ranged a node."""
        return bool(self._ranges[node])
