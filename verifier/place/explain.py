"""A fix in sentences for an officer: which landmarks, how many milliseconds, how many kilometers."""

import math
from collections.abc import Sequence

from verifier.place.answers import Depths, DiscUse, PlaceAnswer
from verifier.place.regions import Ground

_TOLD = 3
"""Discs that a sentence names."""


def explain(
    discs: Sequence[DiscUse],
    answers: tuple[PlaceAnswer, PlaceAnswer],
    depths: tuple[Depths, Depths],
    violations: int,
    tolerated: int,
    ground: Ground,
) -> str:
    """Tell why the answers are what they are, in sentences for an officer."""
    if violations > tolerated:
        return (
            f"The ranges contradict each other: every place on Earth is outside at least {violations} of {len(discs)} "
            f"discs, and at most {tolerated} may be wrong. Nothing is said about the device; "
            "the landmarks must be looked at."
        )
    licensed = _tell_licensed(discs, answers[0], depths[0], tolerated, ground)
    return f"{licensed} {_tell_outside(discs, answers[1], depths[1])}"


def _tell_licensed(
    discs: Sequence[DiscUse], answer: PlaceAnswer, depths: Depths, tolerated: int, ground: Ground
) -> str:
    region = ground.region
    proving = [d for d in discs if d.may_prove_site or not ground.site]
    if answer is PlaceAnswer.REFUTED:
        used = [d for d in discs if d.excludes_licensed_region and d.may_accuse]
        apart = _apart([d.licensed_region_km for d in used])
        return f"{_heard(used)} The licensed region, {region}, is {apart} away from {_them(used)}."
    if depths.by_several:
        return f"{_heard(proving)} Together they leave no place outside the licensed region, {region}."
    if answer is PlaceAnswer.UNPROVEN or depths.in_complement_fibre:
        more = (
            "; at the speed of light in fibre, which is an assumption, it would be inside"
            if answer is PlaceAnswer.INDICATED
            else ""
        )
        return (
            f"{_heard(discs[:2])} That neither proves nor excludes the licensed region, {region}: it takes "
            f"{tolerated + 1} independent landmark domains{more}."
        )
    used = [d for d in proving if d.within_licensed_region]
    return f"{_heard(used)} All of that lies in the licensed region, {region}."


def _tell_outside(discs: Sequence[DiscUse], answer: PlaceAnswer, depths: Depths) -> str:
    if answer is PlaceAnswer.REFUTED:
        used = [d for d in discs if d.within_prohibited and d.may_accuse]
        return f"{_heard(used)} All of that lies in prohibited destinations."
    if depths.by_several:
        return f"No prohibited destination is within reach of all of {_names(discs)} but {depths.in_complement - 1}."
    if answer is PlaceAnswer.UNPROVEN:
        return "Whether it is outside prohibited destinations is not proven either way."
    if depths.in_complement_fibre:
        return (
            "At the speed of light in fibre, which is an assumption, prohibited destinations would be out of reach; "
            "that is advice and no proof."
        )
    used = [d for d in discs if d.excludes_prohibited]
    apart = _apart([d.prohibited_km for d in used])
    return f"The nearest prohibited destination is {apart} away from {_names(used)}: out of reach."


def _heard(discs: Sequence[DiscUse]) -> str:
    parts = [
        f"{d.landmark_id} heard the device in {d.rtt_ns / 1e6:.2f} ms, so it is within "
        f"{math.ceil(d.radius_km):,} km of it"
        for d in discs[:_TOLD]
    ]
    return f"{'; '.join(parts)}."


def _apart(distances_km: Sequence[float]) -> str:
    return f"{_listed([f'{math.floor(km):,}' for km in distances_km[:_TOLD]])} km"


def _names(discs: Sequence[DiscUse]) -> str:
    return _listed([d.landmark_id for d in discs[:_TOLD]])


def _them(discs: Sequence[DiscUse]) -> str:
    return "it" if len(discs) == 1 else "them"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
