"""From outcomes to figures. Only here is it known which landmarks are bad."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.study.data import Measurements
from benchmarks.study.target import (
    CLAIMED,
    GRADES,
    OFF_SITE_KM,
    SITE_RADII_KM,
    TOLERANCES,
    TargetOutcome,
)
from benchmarks.study.world import Stage, seeded
from verifier.place.discs import Grade

STRICT = (Grade.PHYSICAL, 1)
"""The only grade and f that count for a license (docs/protocol.md PL6)."""


@dataclass(frozen=True, slots=True)
class GradeFigures:
    """Figures of one grade and f. A share is None when there is nothing to take it of.

    Attributes:
        targets: Sound targets.
        targets_in_d: Those of them in a prohibited destination.
        false_accusations: Sound targets shown to be out of their country, or in D when they are not.
        accusations_of_known_bad: The same of targets known to be elsewhere than they say; None when nothing is known.
        wrongly_not_prohibited: Sound targets in D shown to be outside of it.
        detection: For each claimed country, the share of sound targets elsewhere shown not to be in it.
        not_prohibited_proven: Share of sound targets outside D shown to be.
        site_inside: Share proven to be in a site around them, by its radius in km.
        site_outside: Share shown not to be in a site, by its distance in km.
    """

    targets: int
    targets_in_d: int
    false_accusations: int
    accusations_of_known_bad: int | None
    wrongly_not_prohibited: int
    detection: dict[str, float | None]
    not_prohibited_proven: float | None
    site_inside: dict[str, float | None]
    site_outside: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of a study.

    Attributes:
        grades: By grade and f.
        audit_precision: Share of the distrusted that are known to be bad.
        audit_recall: Share of the known bad that are distrusted.
        good_dropped: Sound landmarks that the audit distrusts.
        adaptive_share: Of the questions that all landmarks settle, the share that the stepwise choice settles.
        adaptive_sessions: Median of the sessions that it took for those.
        displaced_false_accusations: False accusations over all worlds in which some landmarks lie.
        fast_path_share: Share of questions that single discs answer.
        stepwise: For each question that all landmarks settle, the sessions after which the stepwise choice had settled
            it; None: it did not.
    """

    grades: dict[tuple[Grade, int], GradeFigures]
    audit_precision: float | None
    audit_recall: float | None
    good_dropped: int
    adaptive_share: float | None
    adaptive_sessions: float | None
    displaced_false_accusations: int
    fast_path_share: float | None
    stepwise: tuple[int | None, ...]


def score(measurements: Measurements, honest: Stage, outcomes: Iterable[TargetOutcome], seed: int) -> Figures:
    """Count everything; the seed draws which license D is asked under."""
    bad = measurements.known_bad
    outcomes = sorted(outcomes, key=lambda o: o.node)
    sound = [o for o in outcomes if bad is None or o.node not in bad]
    unsound = None if bad is None else [o for o in outcomes if o.node in bad]
    names = {node.name: k for k, node in enumerate(measurements.nodes)}
    distrusted = {names[d.landmark_id] for d in honest.distrusted}
    found = None if bad is None else len(distrusted & bad)
    stepwise = _stepwise(sound, measurements, seed)
    after = [sessions for sessions in stepwise if sessions is not None]
    return Figures(
        grades={
            (grade, tolerated): _grade_figures(measurements, sound, unsound, (grade, tolerated))
            for grade in GRADES
            for tolerated in TOLERANCES
        },
        audit_precision=None if found is None else _ratio(found, len(distrusted)),
        audit_recall=None if found is None or bad is None else _ratio(found, len(bad)),
        good_dropped=len(distrusted - (bad or frozenset())),
        adaptive_share=_ratio(len(after), len(stepwise)),
        adaptive_sessions=float(median(after)) if after else None,
        displaced_false_accusations=sum(o.displaced_accusations for o in sound),
        fast_path_share=_ratio(
            sum(o.answers[STRICT].fast for o in sound if o.ranged),
            sum(len(CLAIMED) + 1 for o in sound if o.ranged),
        ),
        stepwise=stepwise,
    )


def _grade_figures(
    measurements: Measurements,
    sound: Sequence[TargetOutcome],
    unsound: Sequence[TargetOutcome] | None,
    key: tuple[Grade, int],
) -> GradeFigures:
    nodes = measurements.nodes
    present = {node.country for node in nodes}
    answers = [o.answers[key] for o in sound]
    in_d = [o.answers[key] for o in sound if o.in_prohibited]
    out_of_d = [o.answers[key] for o in sound if not o.in_prohibited]
    detection: dict[str, float | None] = {}
    for k, code in enumerate(CLAIMED):
        elsewhere = [o.answers[key].claims_refuted[k] for o in sound if nodes[o.node].country != code]
        detection[code] = _share(elsewhere) if code in present else None
    return GradeFigures(
        targets=len(sound),
        targets_in_d=len(in_d),
        false_accusations=_accused(sound, key),
        accusations_of_known_bad=None if unsound is None else _accused(unsound, key),
        wrongly_not_prohibited=sum(a.not_prohibited_proven for a in in_d),
        detection=detection,
        not_prohibited_proven=_share([a.not_prohibited_proven for a in out_of_d]),
        site_inside={str(km): _share([a.inside[k] for a in answers]) for k, km in enumerate(SITE_RADII_KM)},
        site_outside={str(km): _share([a.outside[k] for a in answers]) for k, km in enumerate(OFF_SITE_KM)},
    )


def _accused(outcomes: Sequence[TargetOutcome], key: tuple[Grade, int]) -> int:
    return sum(o.answers[key].accuses(in_prohibited=o.in_prohibited) for o in outcomes)


def _stepwise(outcomes: Sequence[TargetOutcome], measurements: Measurements, seed: int) -> tuple[int | None, ...]:
    """Return `Figures.stepwise`.

    Eight questions a target: the seven claimed countries, each under a license that names it, and D. Every license asks
    D beside its region; so D counts once, as it was asked under a license for one of the seven, drawn at random.
    """
    found: list[int | None] = []
    for outcome in outcomes:
        license_for_d = seeded(seed, "license for D", measurements.nodes[outcome.node].name).randrange(len(CLAIMED))
        took = [asked.claim_after for asked in outcome.asked] + [outcome.asked[license_for_d].outside_after]
        found += [after for by_all, after in zip(outcome.answers[STRICT].settled, took, strict=True) if by_all]
    return tuple(found)


def _share(flags: Sequence[bool]) -> float | None:
    return _ratio(sum(flags), len(flags))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
