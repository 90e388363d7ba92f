"""Fixes and findings as JSON text, for the columns that keep them.

Every field is written by name, so that a stored fix can be read without this release.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from verifier.place.answers import Assurance, Depths, DiscUse, PlaceAnswer, Told
from verifier.place.fix import Fix
from verifier.place.geodesy import Position
from verifier.place.ranging import VoidRange
from verifier.units import Domain, LandmarkId, Pdi
from verifier.verdict import Finding, ReportRejection

_COMPACT: Final = (",", ":")


def fix_to_json(fix: Fix) -> str:
    """Write a fix. Floats are written so that they read back exactly; enumerations as their names."""
    return json.dumps(
        {
            "ranged_by": fix.ranged_by.hex(),
            "assurance": fix.assurance.name,
            "in_licensed_region": fix.in_licensed_region.name,
            "outside_prohibited": fix.outside_prohibited.name,
            "discs": [_disc_to_json(disc) for disc in fix.discs],
            "tolerated_domains": fix.tolerated_domains,
            "least_violations": fix.least_violations,
            "border_margin_km": fix.border_margin_km,
            "borders_version": fix.borders_version,
            "prohibited_version": fix.prohibited_version,
            "explanation": fix.explanation,
            "demonstration": fix.demonstration,
            "contradicting": fix.contradicting,
            "licensed_depths": fix.licensed_depths._asdict(),
            "outside_depths": fix.outside_depths._asdict(),
        },
        separators=_COMPACT,
        ensure_ascii=False,
    )


def fix_from_json(text: str) -> Fix:
    """Read what `fix_to_json` wrote."""
    read = json.loads(text)
    return Fix(
        ranged_by=Pdi(bytes.fromhex(read["ranged_by"])),
        assurance=Assurance[read["assurance"]],
        in_licensed_region=PlaceAnswer[read["in_licensed_region"]],
        outside_prohibited=PlaceAnswer[read["outside_prohibited"]],
        tolerated_domains=read["tolerated_domains"],
        least_violations=read["least_violations"],
        border_margin_km=read["border_margin_km"],
        borders_version=read["borders_version"],
        prohibited_version=read["prohibited_version"],
        demonstration=read["demonstration"],
        licensed_depths=Depths(**read["licensed_depths"]),
        outside_depths=Depths(**read["outside_depths"]),
        contradicting=tuple(map(Domain, read["contradicting"])),
        told=Told.of(tuple(map(_disc_from_json, read["discs"])), read["explanation"]),
    )


def _disc_from_json(disc: dict[str, Any]) -> DiscUse:
    return DiscUse(
        landmark_id=LandmarkId(disc["landmark_id"]),
        domain=Domain(disc["domain"]),
        rtt_ns=disc["rtt_ns"],
        radius_km=disc["radius_km"],
        licensed_region_km=disc["licensed_region_km"],
        prohibited_km=disc["prohibited_km"],
        excludes_licensed_region=disc["excludes_licensed_region"],
        within_licensed_region=disc["within_licensed_region"],
        excludes_prohibited=disc["excludes_prohibited"],
        within_prohibited=disc["within_prohibited"],
        may_accuse=disc["may_accuse"],
        may_prove_site=disc["may_prove_site"],
        position=Position(disc["latitude"], disc["longitude"]),
        landmark_revision=disc["landmark_revision"],
        fibre_radius_km=disc["fibre_radius_km"],
    )


def _disc_to_json(disc: DiscUse) -> dict[str, str | float | bool]:
    return {
        "landmark_id": disc.landmark_id,
        "domain": disc.domain,
        "rtt_ns": disc.rtt_ns,
        "radius_km": disc.radius_km,
        "licensed_region_km": disc.licensed_region_km,
        "prohibited_km": disc.prohibited_km,
        "excludes_licensed_region": disc.excludes_licensed_region,
        "within_licensed_region": disc.within_licensed_region,
        "excludes_prohibited": disc.excludes_prohibited,
        "within_prohibited": disc.within_prohibited,
        "may_accuse": disc.may_accuse,
        "may_prove_site": disc.may_prove_site,
        "latitude": disc.position.latitude,
        "longitude": disc.position.longitude,
        "landmark_revision": disc.landmark_revision,
        "fibre_radius_km": disc.fibre_radius_km,
    }


def findings_to_json(findings: Iterable[Finding]) -> str:
    """Write findings as a list of [reason, severity, detail], reasons and severities by name."""
    rows = [[finding.reason.name, finding.severity.name, finding.detail] for finding in findings]
    return json.dumps(rows, separators=_COMPACT, ensure_ascii=False)


def void_ranges_to_json(voids: Iterable[VoidRange]) -> str:
    """Write dropped ranges as a list of [landmark key id in hex, reason, detail]."""
    rows = [[void.landmark.hex(), void.reason.name, void.detail] for void in voids]
    return json.dumps(rows, separators=_COMPACT, ensure_ascii=False)


def report_rejections_to_json(rejections: Iterable[ReportRejection]) -> str:
    """Write refused reports as a list of [index, reason, detail]."""
    rows = [[refused.index, refused.rejection.reason.name, refused.rejection.detail] for refused in rejections]
    return json.dumps(rows, separators=_COMPACT, ensure_ascii=False)
