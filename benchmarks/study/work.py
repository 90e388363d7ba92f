"""Spreads the targets over processes; what is drawn depends on the seed and the target alone, never on the spread."""

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.study.data import Measurements
from benchmarks.study.target import Examiner, TargetOutcome
from benchmarks.study.world import Stage, World, make_policy
from verifier.place.choose import BUDGET

WORKERS = 2


@dataclass(frozen=True, slots=True)
class Job:
    """All that a process needs.

    Attributes:
        measurements: What was measured.
        honest: The landmarks as they are listed.
        displaced: The worlds in which some lie.
        seed: Of everything that is drawn.
        sessions: Budget of one challenge.
    """

    measurements: Measurements
    honest: Stage
    displaced: tuple[Stage, ...]
    seed: int
    sessions: int = BUDGET

    def examiner(self) -> Examiner:
        """Build everything that is shared by all targets."""
        policy = make_policy()
        worlds = [World(self.measurements, stage, policy.atlas) for stage in (self.honest, *self.displaced)]
        liars = [frozenset(stage.displaced) for stage in self.displaced]
        return Examiner(
            self.measurements, policy, worlds[0], tuple(zip(worlds[1:], liars, strict=True)), self.seed, self.sessions
        )


_examiner: Examiner | None = None
"""Of this process."""


def _set_up(job: Job) -> None:
    global _examiner  # noqa: PLW0603 - a pool has no other place for what its processes keep
    _examiner = job.examiner()


def _examine(target: int) -> TargetOutcome:
    assert _examiner is not None
    return _examiner.examine(target)


def examine_all(job: Job, targets: Sequence[int], workers: int) -> Iterator[TargetOutcome]:
    """Yield the outcomes of all targets, in any order.

    Args:
        job: What is studied.
        targets: Indices of nodes.
        workers: Processes; 1: this one.
    """
    if workers == 1:
        examiner = job.examiner()
        yield from map(examiner.examine, targets)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _set_up, (job,)) as pool:
        yield from pool.imap_unordered(_examine, targets, chunksize=4)
