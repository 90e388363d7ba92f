"""How long the location part of a verdict takes, once everything is warm."""

import time
from statistics import median

from benchmarks.study.data import Measurements
from benchmarks.study.world import LICENSEE, NOW, Stage, World, make_policy, seeded
from verifier.place.choose import choose_landmarks
from verifier.place.fix import locate
from verifier.place.regions import Countries

LANDMARKS = 5
_TARGETS = 100
_REPEATS = 9


def location_us(measurements: Measurements, honest: Stage, seed: int) -> float | None:
    """Return the median time of `locate` with five ranges and both questions, microseconds.

    The device stands where its license says, as most do: the license names its own country, and the five landmarks are
    those that the server asks first. None when nobody has five ranges.
    """
    policy = make_policy()
    world = World(measurements, honest, policy.atlas)
    rng = seeded(seed, "speed")
    known = policy.atlas.country_codes
    targets = [k for k, node in enumerate(measurements.nodes) if world.is_target(k) and node.country in known]
    took: list[int] = []
    for target in rng.sample(targets, min(_TARGETS, len(targets))):
        registry = world.without(target)
        ranges = {v.landmark.key_id: v for v in world.ranges(target, registry)}
        not_asked = frozenset(r.key_id for r in registry.landmarks if r.key_id not in ranges)
        region = Countries(frozenset({measurements.nodes[target].country}))
        budget = len(not_asked) + LANDMARKS
        chosen = choose_landmarks(registry, region, not_asked, None, 1, rng, NOW, policy, budget, LICENSEE)
        if len(chosen) < LANDMARKS:
            continue
        held = [ranges[landmark.key_id] for landmark in chosen]
        locate(held, region, registry, policy, LICENSEE, NOW, NOW)
        for _ in range(_REPEATS):
            start = time.perf_counter_ns()
            locate(held, region, registry, policy, LICENSEE, NOW, NOW)
            took.append(time.perf_counter_ns() - start)
    return median(took) / 1e3 if took else None
