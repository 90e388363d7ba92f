"""Appraisal: from authentic facts to findings and standing (docs/protocol.md §13).

It collects every finding; nothing here decides what is authentic.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from verifier.continuity import Changes, CounterOddity
from verifier.errors import Reason
from verifier.evidence.attestation import DeviceReport
from verifier.evidence.board import Boards
from verifier.evidence.chain import DeviceKind
from verifier.evidence.measurements import FirmwareState, Outcome
from verifier.license import Adoption, Deployment, Presence, appraise_validity
from verifier.place.answers import Assurance, PlaceAnswer
from verifier.place.fix import Fix
from verifier.place.ranging import VoidRange
from verifier.verdict import DeviceVerdict, Finding, Severity, Standing

SEVERITY: Mapping[Reason, Severity] = MappingProxyType(
    {
        Reason.OUTSIDE_LICENSED_REGION: Severity.VIOLATION,
        Reason.IN_PROHIBITED_DESTINATION: Severity.VIOLATION,
        Reason.BOARD_CHANGED: Severity.VIOLATION,
        Reason.BOARD_BROKEN: Severity.VIOLATION,
        Reason.UNKNOWN_DEVICE: Severity.VIOLATION,
        Reason.FOREIGN_REPORT: Severity.VIOLATION,
        Reason.FIRMWARE_MISMATCH: Severity.VIOLATION,
        Reason.LICENSE_EXPIRED: Severity.VIOLATION,
        Reason.LICENSE_NOT_YET_VALID: Severity.VIOLATION,
        Reason.LICENSE_SUSPENDED: Severity.VIOLATION,
        Reason.LICENSE_REVOKED: Severity.VIOLATION,
        Reason.QUANTITY_EXCEEDED: Severity.VIOLATION,
        # Duties that were not kept; none of them says where the device is.
        Reason.PRESENCE_OVERDUE: Severity.VIOLATION,
        Reason.SILENT: Severity.VIOLATION,
        Reason.NEVER_ACTIVATED: Severity.VIOLATION,
        # Shows that something asked for is missing, never that the device is elsewhere.
        Reason.LOCATION_UNPROVEN: Severity.WARNING,
        # Unknown is not the same as tampered.
        Reason.REFERENCE_MISSING: Severity.WARNING,
        # One odd counter or way opens a case; it is no violation yet (docs/protocol.md AP3).
        Reason.COUNTER_ROLLBACK: Severity.WARNING,
        Reason.IDENTITY_CLONED: Severity.WARNING,
        Reason.IMPOSSIBLE_TRAVEL: Severity.WARNING,
        # A dropped range never accuses (docs/protocol.md R7).
        Reason.RANGE_VOID: Severity.NOTICE,
    }
)

_SAYS_NOTHING = frozenset({Reason.SILENT, Reason.NEVER_ACTIVATED})
"""Findings about a device that does not report (docs/protocol.md AP4)."""


def finding(reason: Reason, detail: str) -> Finding:
    """Make a finding with the severity that belongs to its reason."""
    return Finding(reason, SEVERITY[reason], detail)


def standing_of(findings: Iterable[Finding], *, deployed: bool) -> Standing:
    """Return the standing of a GPU from its findings."""
    if not deployed:
        return Standing.UNLICENSED
    found = list(findings)
    if any(f.severity is Severity.VIOLATION and f.reason not in _SAYS_NOTHING for f in found):
        return Standing.VIOLATION
    if any(f.reason in _SAYS_NOTHING for f in found):
        return Standing.SILENT
    if any(f.severity is Severity.WARNING for f in found):
        return Standing.UNPROVEN
    return Standing.COMPLIANT


def appraise_device(
    *,
    report: DeviceReport,
    boards: Boards,
    firmware: FirmwareState,
    voids: Sequence[VoidRange],
    fix: Fix | None,
    changes: Changes,
    deployment: Deployment | None,
    adopted: Adoption | None,
    reporter_licensee: str,
    now: datetime,
) -> DeviceVerdict:
    """Collect all that was found about one authentic device."""
    findings = [*_appraise_firmware(firmware), *_appraise_continuity(changes), *_appraise_ranges(voids)]
    standing: Standing | None = None
    proven = False
    if report.kind is DeviceKind.GPU:  # switches are witnesses: docs/protocol.md AP4
        if deployment is None:
            findings.append(finding(Reason.UNKNOWN_DEVICE, f"no deployment record names device {report.pdi.hex()}"))
        else:
            findings.extend(_appraise_license(deployment, reporter_licensee, now))
            held = deployment.license
            findings.extend(appraise_place(held.presence, held.assurance, fix))
            proven = presence_answer(held.presence, held.assurance, fix) is PlaceAnswer.PROVEN
        standing = standing_of(findings, deployed=deployment is not None)
    return DeviceVerdict(
        pdi=report.pdi,
        kind=report.kind,
        device_key_id=report.chain.device_key_id,
        chain_id=report.chain.chain_id,
        model=report.chain.model,
        firmware=firmware.name,
        standing=standing,
        findings=tuple(sorted(findings, key=lambda f: (-f.severity, f.reason))),
        fix=fix,
        presence_proven=proven,
        proven_edges=tuple(sorted(boards.edges[report.pdi])),
        state=changes.state,
        void_ranges=tuple(voids),
        adopted=adopted,
        swapped=changes.swapped,
    )


def presence_answer(presence: Presence, assurance: Assurance, fix: Fix | None) -> PlaceAnswer:
    """Return the answer to the question that a license counts as presence, by ranges of enough assurance."""
    if fix is None or fix.assurance > assurance:
        return PlaceAnswer.UNPROVEN
    return fix.outside_prohibited if presence is Presence.OUTSIDE_PROHIBITED else fix.in_licensed_region


def appraise_place(presence: Presence, assurance: Assurance, fix: Fix | None) -> list[Finding]:
    """Return what a fix means under a license's conditions of presence and assurance (docs/protocol.md AP2)."""
    found: list[Finding] = []
    if fix is not None and fix.in_licensed_region is PlaceAnswer.REFUTED:
        found.append(finding(Reason.OUTSIDE_LICENSED_REGION, fix.explanation))
    if fix is not None and fix.outside_prohibited is PlaceAnswer.REFUTED:
        found.append(finding(Reason.IN_PROHIBITED_DESTINATION, fix.explanation))
    answer = presence_answer(presence, assurance, fix)
    # OUTSIDE_LICENSED_REGION suppresses it (docs/protocol.md AP2).
    if answer not in {PlaceAnswer.PROVEN, PlaceAnswer.REFUTED} and not found:
        why = "it has no range that counts, and no proven edge to a device that has" if fix is None else fix.explanation
        found.append(finding(Reason.LOCATION_UNPROVEN, why))
    return found


def _appraise_firmware(firmware: FirmwareState) -> list[Finding]:
    if firmware.outcome is Outcome.MATCH:
        return []
    if firmware.outcome is Outcome.REFERENCE_MISSING:
        return [finding(Reason.REFERENCE_MISSING, "no reference values are known for this device's firmware id")]
    blocks = ", ".join(map(str, firmware.differing[:8])) + (" and more" if len(firmware.differing) > 8 else "")
    detail = f"{firmware.name}: measurement blocks {blocks} differ from the reference values"
    return [finding(Reason.FIRMWARE_MISMATCH, detail)]


def _appraise_continuity(changes: Changes) -> list[Finding]:
    found: list[Finding] = []
    if changes.other_board:
        now = ", ".join(sorted(p.hex() for p in changes.other_board))
        before = ", ".join(sorted(p.hex() for p in changes.state.board))
        found.append(
            finding(Reason.BOARD_CHANGED, f"joined by NVLink to the switches {now}; its own board has {before}")
        )
    if changes.out_of_slot:
        found.append(finding(Reason.BOARD_BROKEN, "twice in a row no switch beside it named it, and it named none"))
    if changes.oddity is not None and changes.counters is not None:
        was, now_is = (f"boot {c.boot}, attestation {c.attestation}" for c in changes.counters)
        reason = Reason.COUNTER_ROLLBACK if changes.oddity is CounterOddity.ROLLED_BACK else Reason.IDENTITY_CLONED
        found.append(finding(reason, f"its counters say {now_is}; accepted were {was}"))
    if (travel := changes.travel) is not None:
        found.append(
            finding(
                Reason.IMPOSSIBLE_TRAVEL,
                f"the places that this fix and the one before allow are {math.floor(travel.apart_km):,} km apart at "
                f"least; in the {travel.within} between them at most {math.ceil(travel.reach_km):,} km can be flown",
            )
        )
    return found


def _appraise_ranges(voids: Iterable[VoidRange]) -> list[Finding]:
    dropped = [f"{v.reason.name}: {v.detail}" for v in voids]
    if not dropped:
        return []
    more = f" (and {len(dropped) - 1} more)" if len(dropped) > 1 else ""
    return [finding(Reason.RANGE_VOID, dropped[0] + more)]


def _appraise_license(deployment: Deployment, reporter_licensee: str, now: datetime) -> list[Finding]:
    found: list[Finding] = []
    held = deployment.license
    invalid = appraise_validity(held, now)
    if invalid is not None:
        found.append(finding(*invalid))
    if held.licensee != reporter_licensee:
        found.append(finding(Reason.FOREIGN_REPORT, f"deployed to {held.licensee}, reported by {reporter_licensee}"))
    return found
