"""From facts to findings and standing."""

import dataclasses
from datetime import timedelta

import pytest

from tests.verifier.helpers_evidence import LICENSED, NOW, make_chain, make_license
from verifier import appraise
from verifier.continuity import Changes, CounterOddity, DeviceState
from verifier.errors import Reason, UsageError
from verifier.evidence import board
from verifier.evidence.attestation import DeviceReport
from verifier.evidence.chain import DeviceKind
from verifier.evidence.measurements import FirmwareState, Outcome
from verifier.evidence.spdm import Counters, MeasurementReport
from verifier.license import Deployment, License, LicenseState, Presence, appraise_validity
from verifier.place.answers import Assurance, Depths, PlaceAnswer, Told
from verifier.place.fix import Fix
from verifier.place.ranging import VoidRange
from verifier.place.travel import ImpossibleTravel
from verifier.units import Kilometers, LandmarkKeyId, Pdi
from verifier.verdict import DeviceVerdict, Severity, Standing

CHAIN = make_chain().verified()
GPU, S1, S2, S3 = (Pdi(name.ljust(8, b"-")) for name in (b"gpu", b"s1", b"s2", b"s3"))
MATCH = FirmwareState(Outcome.MATCH, "firmware 1", can_range=True, differing=())
NOTHING = Changes(None, None, frozenset(), out_of_slot=False)
SECOND = timedelta(microseconds=1)


def report(
    pdi: Pdi = GPU, kind: DeviceKind = DeviceKind.GPU, counters: Counters | None = None, linked: tuple[Pdi, ...] = ()
) -> DeviceReport:
    content = MeasurementReport(bytes(32), {}, "", "", frozenset(linked), (), counters)
    return DeviceReport(0, dataclasses.replace(CHAIN, pdi=pdi, kind=kind), content)


def fix(licensed: PlaceAnswer, outside: PlaceAnswer = PlaceAnswer.UNPROVEN) -> Fix:
    return Fix(
        ranged_by=GPU,
        assurance=Assurance.DEVICE_RANGED,
        in_licensed_region=licensed,
        outside_prohibited=outside,
        tolerated_domains=1,
        least_violations=0,
        border_margin_km=5.0,
        borders_version="b",
        prohibited_version="p",
        demonstration=False,
        licensed_depths=Depths(0, 0, 0, by_several=False),
        outside_depths=Depths(0, 0, 0, by_several=False),
        told=Told.of((), "because"),
    )


HOME = fix(PlaceAnswer.PROVEN, PlaceAnswer.PROVEN)


def judged(
    *,
    firmware: FirmwareState = MATCH,
    voids: tuple[VoidRange, ...] = (),
    where: Fix | None = HOME,
    changes: Changes = NOTHING,
    held: License | None = None,
    deployed: bool = True,
    reporter: str = "Example Cloud",
    kind: DeviceKind = DeviceKind.GPU,
) -> DeviceVerdict:
    device = report(kind=kind)
    return appraise.appraise_device(
        report=device,
        boards=board.join([device]),
        firmware=firmware,
        voids=voids,
        fix=where,
        changes=changes,
        deployment=Deployment(GPU, held or make_license(), LICENSED) if deployed else None,
        adopted=None,
        reporter_licensee=reporter,
        now=NOW,
    )


def reasons(verdict: DeviceVerdict) -> list[Reason]:
    return [f.reason for f in verdict.findings]


def test_nothing_found() -> None:
    verdict = judged()
    assert (verdict.findings, verdict.standing, verdict.presence_proven) == ((), Standing.COMPLIANT, True)
    assert (verdict.firmware, verdict.model, verdict.pdi) == ("firmware 1", "GH100", GPU)
    assert (verdict.chain_id, verdict.device_key_id) == (CHAIN.chain_id, CHAIN.device_key_id)
    assert verdict.fix == HOME


def test_firmware() -> None:
    differing = tuple(range(1, 11))
    mismatch = judged(firmware=FirmwareState(Outcome.MISMATCH, "firmware 1", can_range=False, differing=differing))
    assert (reasons(mismatch), mismatch.standing) == ([Reason.FIRMWARE_MISMATCH], Standing.VIOLATION)
    assert "1, 2, 3, 4, 5, 6, 7, 8 and more" in mismatch.findings[0].detail
    few = judged(firmware=FirmwareState(Outcome.MISMATCH, "firmware 1", can_range=False, differing=differing[:8]))
    assert "and more" not in few.findings[0].detail
    missing = judged(firmware=FirmwareState(Outcome.REFERENCE_MISSING, "", can_range=False, differing=()))
    assert (reasons(missing), missing.standing) == ([Reason.REFERENCE_MISSING], Standing.UNPROVEN)


def test_changes() -> None:
    kept = DeviceState(board=frozenset({S1}))
    moved = judged(changes=Changes(None, None, frozenset({S2, S3}), out_of_slot=False, state=kept))
    assert (reasons(moved), moved.standing) == ([Reason.BOARD_CHANGED], Standing.VIOLATION)
    assert all(p.hex() in moved.findings[0].detail for p in (S1, S2, S3))
    assert moved.state == kept
    unseated = judged(changes=Changes(None, None, frozenset(), out_of_slot=True))
    assert (reasons(unseated), unseated.standing) == ([Reason.BOARD_BROKEN], Standing.VIOLATION)


@pytest.mark.parametrize(
    ("oddity", "reason"),
    [
        (CounterOddity.ROLLED_BACK, Reason.COUNTER_ROLLBACK),
        (CounterOddity.FORKED, Reason.IDENTITY_CLONED),
    ],
)
def test_odd_counters_are_no_violation_yet(oddity: CounterOddity, reason: Reason) -> None:
    odd = judged(changes=Changes(oddity, (Counters(2, 19), Counters(2, 17)), frozenset(), out_of_slot=False))
    assert (reasons(odd), odd.standing) == ([reason], Standing.UNPROVEN)
    assert "19" in odd.findings[0].detail
    assert "17" in odd.findings[0].detail


def test_impossible_travel_is_no_violation_yet() -> None:
    far = ImpossibleTravel(Kilometers(8123.9), timedelta(minutes=90), Kilometers(1920.1))
    travelled = judged(changes=dataclasses.replace(NOTHING, travel=far))
    assert (reasons(travelled), travelled.standing) == ([Reason.IMPOSSIBLE_TRAVEL], Standing.UNPROVEN)
    assert travelled.findings[0].severity is Severity.WARNING
    # The distance is told no longer, and what can be flown no shorter, than it is.
    assert "8,123 km apart" in travelled.findings[0].detail
    assert "1:30:00" in travelled.findings[0].detail
    assert "1,921 km" in travelled.findings[0].detail


def test_void_ranges_never_accuse() -> None:
    void = VoidRange(GPU, LandmarkKeyId(bytes(32)), Reason.MASK_INVALID, "why")
    verdict = judged(voids=(void,))
    assert (reasons(verdict), verdict.standing) == ([Reason.RANGE_VOID], Standing.COMPLIANT)
    assert verdict.findings[0].severity is Severity.NOTICE
    assert verdict.findings[0].detail == "MASK_INVALID: why"
    assert judged(voids=(void, void, void)).findings[0].detail == "MASK_INVALID: why (and 2 more)"


def test_unknown_device() -> None:
    verdict = judged(deployed=False, reporter="anybody")
    assert (reasons(verdict), verdict.standing) == ([Reason.UNKNOWN_DEVICE], Standing.UNLICENSED)
    assert not verdict.presence_proven


def test_switch_is_a_witness() -> None:
    verdict = judged(kind=DeviceKind.SWITCH, deployed=False, where=None)
    assert (verdict.findings, verdict.standing, verdict.presence_proven) == ((), None, False)


def test_license() -> None:
    held = make_license()
    expired = judged(held=dataclasses.replace(held, valid_until=NOW))
    assert (reasons(expired), expired.standing) == ([Reason.LICENSE_EXPIRED], Standing.VIOLATION)
    early = judged(held=dataclasses.replace(held, valid_from=NOW + SECOND))
    assert (reasons(early), early.standing) == ([Reason.LICENSE_NOT_YET_VALID], Standing.VIOLATION)
    foreign = judged(reporter="Example Cloud 2")
    assert (reasons(foreign), foreign.standing) == ([Reason.FOREIGN_REPORT], Standing.VIOLATION)


def test_validity_includes_its_start_and_not_its_end() -> None:
    held = make_license()
    assert appraise_validity(held, held.valid_from) is None
    assert appraise_validity(held, held.valid_until - SECOND) is None
    early, late = appraise_validity(held, held.valid_from - SECOND), appraise_validity(held, held.valid_until)
    assert early is not None
    assert early[0] is Reason.LICENSE_NOT_YET_VALID
    assert late is not None
    assert late[0] is Reason.LICENSE_EXPIRED


P, M, R, U = PlaceAnswer.PROVEN, PlaceAnswer.INDICATED, PlaceAnswer.REFUTED, PlaceAnswer.UNPROVEN  # M: a maybe


@pytest.mark.parametrize(
    ("presence", "licensed", "outside", "found", "proven"),
    [
        (Presence.COUNTRY, P, P, [], True),
        (Presence.COUNTRY, P, U, [], True),
        (Presence.SITE, P, U, [], True),
        (Presence.COUNTRY, U, P, [Reason.LOCATION_UNPROVEN], False),
        (Presence.SITE, U, P, [Reason.LOCATION_UNPROVEN], False),
        (Presence.COUNTRY, M, P, [Reason.LOCATION_UNPROVEN], False),
        (Presence.COUNTRY, R, P, [Reason.OUTSIDE_LICENSED_REGION], False),
        (Presence.COUNTRY, R, R, [Reason.OUTSIDE_LICENSED_REGION, Reason.IN_PROHIBITED_DESTINATION], False),
        (Presence.COUNTRY, U, R, [Reason.IN_PROHIBITED_DESTINATION], False),
        (Presence.OUTSIDE_PROHIBITED, U, P, [], True),
        (Presence.OUTSIDE_PROHIBITED, P, U, [Reason.LOCATION_UNPROVEN], False),
        (Presence.OUTSIDE_PROHIBITED, P, M, [Reason.LOCATION_UNPROVEN], False),
        (Presence.OUTSIDE_PROHIBITED, U, R, [Reason.IN_PROHIBITED_DESTINATION], False),
        (Presence.OUTSIDE_PROHIBITED, R, U, [Reason.OUTSIDE_LICENSED_REGION], False),
        (Presence.OUTSIDE_PROHIBITED, R, P, [Reason.OUTSIDE_LICENSED_REGION], True),
        (Presence.OUTSIDE_PROHIBITED, U, M, [Reason.LOCATION_UNPROVEN], False),
        (Presence.SITE, M, M, [Reason.LOCATION_UNPROVEN], False),
        (Presence.SITE, P, R, [Reason.IN_PROHIBITED_DESTINATION], True),
    ],
)
def test_place(
    presence: Presence, licensed: PlaceAnswer, outside: PlaceAnswer, found: list[Reason], *, proven: bool
) -> None:
    verdict = judged(held=make_license(presence), where=fix(licensed, outside))
    assert (reasons(verdict), verdict.presence_proven) == (found, proven)


def test_no_fix() -> None:
    for presence in Presence:
        verdict = judged(held=make_license(presence), where=None)
        assert (reasons(verdict), verdict.standing) == ([Reason.LOCATION_UNPROVEN], Standing.UNPROVEN)
        assert not verdict.presence_proven


def test_findings_stand_worst_first() -> None:
    void = VoidRange(GPU, LandmarkKeyId(bytes(32)), Reason.MASK_INVALID, "why")
    verdict = judged(
        firmware=FirmwareState(Outcome.REFERENCE_MISSING, "", can_range=False, differing=()),
        voids=(void,),
        where=None,
        reporter="other",
        changes=Changes(
            CounterOddity.ROLLED_BACK, (Counters(1, 2), Counters(1, 1)), frozenset({S2}), out_of_slot=False
        ),
    )
    assert reasons(verdict) == [
        Reason.BOARD_CHANGED,
        Reason.FOREIGN_REPORT,
        Reason.LOCATION_UNPROVEN,
        Reason.REFERENCE_MISSING,
        Reason.COUNTER_ROLLBACK,
        Reason.RANGE_VOID,
    ]
    assert verdict.standing is Standing.VIOLATION


def test_standing() -> None:
    def standing(*found: Reason) -> Standing:
        return appraise.standing_of([appraise.finding(r, "") for r in found], deployed=True)

    assert standing() is Standing.COMPLIANT
    assert standing(Reason.RANGE_VOID) is Standing.COMPLIANT
    assert standing(Reason.RANGE_VOID, Reason.LOCATION_UNPROVEN) is Standing.UNPROVEN
    assert standing(Reason.LOCATION_UNPROVEN, Reason.SILENT) is Standing.SILENT
    assert standing(Reason.SILENT, Reason.BOARD_CHANGED) is Standing.VIOLATION
    assert appraise.standing_of(iter([appraise.finding(Reason.SILENT, "")]), deployed=False) is Standing.UNLICENSED


ACCUSING = {
    Reason.OUTSIDE_LICENSED_REGION,
    Reason.IN_PROHIBITED_DESTINATION,
    Reason.BOARD_BROKEN,
    Reason.BOARD_CHANGED,
    Reason.UNKNOWN_DEVICE,
    Reason.FOREIGN_REPORT,
    Reason.FIRMWARE_MISMATCH,
    Reason.LICENSE_EXPIRED,
    Reason.LICENSE_NOT_YET_VALID,
    Reason.SILENT,
    Reason.LICENSE_SUSPENDED,
    Reason.LICENSE_REVOKED,
    Reason.QUANTITY_EXCEEDED,
    Reason.PRESENCE_OVERDUE,
    Reason.NEVER_ACTIVATED,
}


def test_what_may_accuse() -> None:
    assert {r for r, severity in appraise.SEVERITY.items() if severity is Severity.VIOLATION} == ACCUSING
    assert {r for r, severity in appraise.SEVERITY.items() if severity is Severity.NOTICE} == {Reason.RANGE_VOID}


def test_license_that_is_none() -> None:
    held = make_license()
    for bent in (
        {"valid_from": held.valid_from.replace(tzinfo=None)},
        {"valid_until": held.valid_until.replace(tzinfo=None)},
        {"valid_until": held.valid_from},
        {"cadence": timedelta(0)},
        {"grace": -SECOND},
    ):
        with pytest.raises(UsageError):
            dataclasses.replace(held, **bent)
    assert dataclasses.replace(held, grace=timedelta(0)).grace == timedelta(0)


def test_edges_and_state_stand_in_the_verdict() -> None:
    device = report(linked=(S2, S1))
    boards = board.join([device, *(report(s, DeviceKind.SWITCH, linked=(GPU,)) for s in (S1, S2))])
    kept = DeviceState(board=frozenset({S1, S2}), unseated=True)
    verdict = appraise.appraise_device(
        report=device,
        boards=boards,
        firmware=MATCH,
        voids=(),
        fix=None,
        changes=dataclasses.replace(NOTHING, state=kept),
        deployment=None,
        adopted=None,
        reporter_licensee="",
        now=NOW,
    )
    assert (verdict.proven_edges, verdict.state) == ((S1, S2), kept)


@pytest.mark.parametrize(
    ("state", "reason"),
    [(LicenseState.SUSPENDED, Reason.LICENSE_SUSPENDED), (LicenseState.REVOKED, Reason.LICENSE_REVOKED)],
)
def test_license_out_of_force_is_told_before_its_time(state: LicenseState, reason: Reason) -> None:
    held = dataclasses.replace(make_license(), state=state)
    verdict = judged(held=held)
    assert (reasons(verdict), verdict.standing) == ([reason], Standing.VIOLATION)
    assert verdict.presence_proven  # where it is, is another question
    over = dataclasses.replace(held, valid_until=NOW)
    assert appraise_validity(over, NOW) == (reason, f"license D123456 is {state.name.lower()}")


def test_ranges_of_too_little_assurance_are_no_presence() -> None:
    weak = HOME._replace(assurance=Assurance.SIGNED_RANGE)
    strict = judged(where=weak)
    assert (reasons(strict), strict.presence_proven) == ([Reason.LOCATION_UNPROVEN], False)
    content = judged(where=weak, held=dataclasses.replace(make_license(), assurance=Assurance.SIGNED_RANGE))
    assert (content.findings, content.presence_proven) == ((), True)


def test_who_says_nothing_is_silent() -> None:
    never = appraise.finding(Reason.NEVER_ACTIVATED, "")
    assert appraise.standing_of([never], deployed=True) is Standing.SILENT
    overdue = appraise.finding(Reason.PRESENCE_OVERDUE, "")
    assert appraise.standing_of([never, overdue], deployed=True) is Standing.VIOLATION
    assert appraise.standing_of([never], deployed=False) is Standing.UNLICENSED


def test_conditions_that_no_appraisal_could_use() -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(make_license(), tolerated_domains=-1)
    with pytest.raises(UsageError):
        dataclasses.replace(make_license(), surprises_per_day=-1)
