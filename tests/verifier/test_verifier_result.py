"""Attestation results: claims of a verdict, and the reading of either spelling (docs/protocol.md §16)."""

import json
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_stubs.ca import DeviceCA
from tests.verifier.helpers_evidence import (
    CHALLENGE,
    NEAR_NS,
    NOW,
    PROHIBITED,
    Host,
    borders,
    hold_session,
    make_license,
    references_document,
)
from verifier.appraise import SEVERITY, finding
from verifier.errors import Reason, UsageError
from verifier.evidence.chain import DeviceKind
from verifier.evidence.measurements import ReferenceValues
from verifier.license import Adoption, Deployment, License, Presence
from verifier.place.answers import Assurance, Depths, PlaceAnswer
from verifier.place.discs import Grade
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas
from verifier.result import POLICY_ID, PROFILE, Claims, Tier, result_claims, tier_of, worst_of
from verifier.result_reading import Result, ResultError, parse_result, read_result
from verifier.units import Pdi
from verifier.verdict import DeviceVerdict, Severity, Standing, Verdict
from verifier.verifier import Inputs, Verifier

POLICY = PlacePolicy(
    atlas=Atlas.parse(borders(), "squares"), prohibited=PROHIBITED, prohibited_version="test", audited_within=None
)
REFERENCES = ReferenceValues.parse([json.dumps(references_document()).encode()])
DRAFT_FIGURE_3 = """{
  "eat_profile": "tag:ietf.org,2026:rats/ear#03",
  "iat": 1666529184,
  "ear_verifier_id": {"developer": "https://veraison-project.org", "build": "vts 0.0.1"},
  "ear_raw_evidence": "NzQ3MjY5NzM2NTYzNzQK",
  "submods": {"PSA": {
    "ear_status": "contraindicated",
    "ear_trustworthiness_vector": {"instance-identity": 2, "executables": 96, "hardware": 2},
    "ear_appraisal_policy_ids": ["https://veraison.example/policy/1/60a0068d"]}}}"""
VERAISON = """{
  "ear.raw-evidence": "3q2-7w",
  "iat": 1666091373,
  "ear.verifier-id": {"build": "rrtrap-v1.0.0", "developer": "Acme Inc."},
  "eat_profile": "tag:github.com,2023:veraison/ear",
  "submods": {"test": {
    "ear.status": "affirming",
    "ear.trustworthiness-vector": {"instance-identity": 2, "configuration": 2, "executables": 3, "file-system": 2,
      "hardware": 2, "runtime-opaque": 2, "storage-opaque": 2, "sourced-data": 2},
    "ear.appraisal-policy-id": "policy://psa/60a0068d"}}}"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host.build(tmp_path_factory.mktemp("host"), DeviceCA.generate())


@pytest.fixture(scope="module")
def honest(host: Host) -> tuple[Verdict, Inputs]:
    """Two GPUs at home, and their switch."""
    attestation, chains = host.attest(ranged={0: [hold_session(p, CHALLENGE, NEAR_NS) for p in host.home]})
    inputs = host.inputs(chains)
    return Verifier(host.roots, REFERENCES, POLICY).verify(attestation, inputs), inputs


def made(verdict: Verdict, inputs: Inputs, issuer: str = "") -> Claims:
    claims = result_claims(verdict, inputs, issuer=issuer, developer="Example Ltd", build="trigpoint 1")
    assert claims is not None
    return claims


def read(claims: Claims) -> Result:
    """Read claims as a reader gets them, through JSON."""
    return read_result(json.dumps(claims).encode())


def of_first(verdict: Verdict, inputs: Inputs) -> dict[str, Any]:
    """The first device's submodule."""
    submods = made(verdict, inputs)["submods"]
    assert isinstance(submods, dict)
    first: dict[str, Any] = submods[verdict.devices[0].pdi.hex()]
    return first


def with_device(verdict: Verdict, index: int = 0, **changes: Any) -> Verdict:
    devices = list(verdict.devices)
    devices[index] = replace(devices[index], **changes)
    return replace(verdict, devices=tuple(devices))


def with_findings(verdict: Verdict, *reasons: Reason, index: int = 0) -> Verdict:
    return with_device(verdict, index, findings=tuple(finding(reason, "because") for reason in reasons))


def test_claims_of_an_honest_host(honest: tuple[Verdict, Inputs], host: Host) -> None:
    """Every member of docs/protocol.md EA2 and EA3, literally."""
    verdict, inputs = honest
    gpu = {
        "ear_status": "affirming",
        "ear_trustworthiness_vector": {"instance-identity": 2, "executables": 3, "hardware": 2},
        "ear_appraisal_policy_ids": ["tag:trigpoint.dev,2026:appraisal#1"],
        "trigpoint.dev": {
            "kind": "GPU",
            "standing": "COMPLIANT",
            "findings": {},
            "license": {"number": "D123456", "revision": 1},
            "presence": {"question": "COUNTRY", "proven": True, "grade": "PHYSICAL"},
            "place": {
                "in_licensed_region": "PROVEN",
                "outside_prohibited": "PROVEN",
                "tolerated_domains": 1,
                "assurance": "DEVICE_RANGED",
                "demonstration": True,
                "borders": "squares",
                "lists": "test",
            },
        },
    }
    switch = {
        "ear_status": "affirming",
        "ear_trustworthiness_vector": {"executables": 3, "hardware": 2},
        "ear_appraisal_policy_ids": ["tag:trigpoint.dev,2026:appraisal#1"],
        "trigpoint.dev": {"kind": "SWITCH", "findings": {}},
    }
    claims = made(verdict, inputs, "https://verifier.example")
    nonce = claims.pop("eat_nonce")
    assert isinstance(nonce, str)
    assert len(nonce) == 43
    assert claims == {
        "eat_profile": "tag:ietf.org,2026:rats/ear#03",
        "iat": int(NOW.timestamp()),
        "exp": int((NOW + timedelta(hours=24)).timestamp()),
        "iss": "https://verifier.example",
        "ear_verifier_id": {"developer": "Example Ltd", "build": "trigpoint 1"},
        "submods": {
            host.gpus[0].pdi.hex(): gpu,
            host.gpus[1].pdi.hex(): gpu,
            host.switches[0].pdi.hex(): switch,
        },
    }
    assert "iss" not in made(verdict, inputs)


def test_what_is_written_reads_back(honest: tuple[Verdict, Inputs], host: Host) -> None:
    verdict, inputs = honest
    result = read(made(verdict, inputs, "https://verifier.example"))
    assert (result.profile, result.issuer, result.developer, result.build) == (
        PROFILE,
        "https://verifier.example",
        "Example Ltd",
        "trigpoint 1",
    )
    assert result.nonce == CHALLENGE
    assert result.issued_at == NOW.replace(microsecond=0)
    assert result.expires_at == NOW.replace(microsecond=0) + timedelta(hours=24)
    gpu, switch = (result.submods[pdi.hex()] for pdi in (host.gpus[0].pdi, host.switches[0].pdi))
    assert (gpu.status, gpu.vector, gpu.policy_ids) == (
        Tier.AFFIRMING,
        {"instance-identity": 2, "executables": 3, "hardware": 2},
        (POLICY_ID,),
    )
    assert gpu.device is not None
    assert (gpu.device.kind, gpu.device.standing, gpu.device.findings) == (DeviceKind.GPU, Standing.COMPLIANT, {})
    held, place = gpu.device.license, gpu.device.place
    assert held is not None
    assert (held.number, held.revision, held.question, held.proven, held.grade) == (
        "D123456",
        1,
        Presence.COUNTRY,
        True,
        Grade.PHYSICAL,
    )
    assert place is not None
    assert (place.in_licensed_region, place.outside_prohibited) == (PlaceAnswer.PROVEN, PlaceAnswer.PROVEN)
    assert (place.tolerated_domains, place.assurance, place.demonstration) == (1, Assurance.DEVICE_RANGED, True)
    assert (place.borders, place.lists) == ("squares", "test")
    assert switch.device is not None
    assert (switch.device.kind, switch.device.standing, switch.device.license) == (DeviceKind.SWITCH, None, None)
    assert switch.device.place is None


def test_no_authentic_device_no_result(honest: tuple[Verdict, Inputs]) -> None:
    """docs/protocol.md EA1."""
    verdict, inputs = honest
    bare = replace(verdict, devices=())
    assert result_claims(bare, inputs, issuer="", developer="d", build="b") is None


AFFIRMED = {"instance-identity": 2, "executables": 3, "hardware": 2}


@pytest.mark.parametrize(
    ("reasons", "vector", "status"),
    [
        ((), AFFIRMED, Tier.AFFIRMING),
        ((Reason.RANGE_VOID,), AFFIRMED, Tier.AFFIRMING),
        ((Reason.LOCATION_UNPROVEN,), AFFIRMED, Tier.WARNING),
        ((Reason.REFERENCE_MISSING,), {**AFFIRMED, "executables": 33}, Tier.WARNING),
        ((Reason.FIRMWARE_MISMATCH,), {**AFFIRMED, "executables": 96}, Tier.CONTRAINDICATED),
        ((Reason.BOARD_CHANGED,), {**AFFIRMED, "hardware": 96}, Tier.CONTRAINDICATED),
        ((Reason.BOARD_BROKEN,), {**AFFIRMED, "hardware": 96}, Tier.CONTRAINDICATED),
        ((Reason.COUNTER_ROLLBACK,), {**AFFIRMED, "instance-identity": -33}, Tier.WARNING),
        ((Reason.IDENTITY_CLONED,), {**AFFIRMED, "instance-identity": -33}, Tier.WARNING),
        ((Reason.IMPOSSIBLE_TRAVEL,), {**AFFIRMED, "instance-identity": -33}, Tier.WARNING),
        ((Reason.UNKNOWN_DEVICE,), {**AFFIRMED, "instance-identity": 97}, Tier.CONTRAINDICATED),
        # AR4SI 2.3.3: of two that apply, the worse tier.
        (
            (Reason.UNKNOWN_DEVICE, Reason.IDENTITY_CLONED),
            {**AFFIRMED, "instance-identity": 97},
            Tier.CONTRAINDICATED,
        ),
        # No claim of AR4SI is about licenses and places, and the status tells.
        ((Reason.LICENSE_EXPIRED,), AFFIRMED, Tier.CONTRAINDICATED),
        ((Reason.FOREIGN_REPORT,), AFFIRMED, Tier.CONTRAINDICATED),
        ((Reason.IN_PROHIBITED_DESTINATION, Reason.RANGE_VOID), AFFIRMED, Tier.CONTRAINDICATED),
    ],
)
def test_vector_and_status(
    honest: tuple[Verdict, Inputs], reasons: tuple[Reason, ...], vector: Mapping[str, int], status: Tier
) -> None:
    verdict, inputs = honest
    bent = with_findings(verdict, *reasons)
    submodule = of_first(bent, inputs)
    assert (submodule["ear_trustworthiness_vector"], submodule["ear_status"]) == (vector, status.value)
    assert submodule["trigpoint.dev"]["findings"] == {reason.name: SEVERITY[reason].name for reason in reasons}
    device = read(made(bent, inputs)).submods[verdict.devices[0].pdi.hex()].device
    assert device is not None
    assert device.findings == {reason: SEVERITY[reason] for reason in reasons}


def test_every_finding_of_a_verdict_has_its_tier(honest: tuple[Verdict, Inputs]) -> None:
    """docs/protocol.md EA3: the status is never better than the worst value of the vector, nor than the findings."""
    verdict, inputs = honest
    tiers = {Severity.NOTICE: Tier.AFFIRMING, Severity.WARNING: Tier.WARNING, Severity.VIOLATION: Tier.CONTRAINDICATED}
    for reason, severity in SEVERITY.items():
        submodule = of_first(with_findings(verdict, reason), inputs)
        assert submodule["ear_status"] == tiers[severity].value, reason
        values = [tier_of(value) for value in submodule["ear_trustworthiness_vector"].values()]
        assert worst_of((tiers[severity], *values)) is tiers[severity], reason


def test_a_switch_is_recognized_by_no_record(honest: tuple[Verdict, Inputs]) -> None:
    verdict, inputs = honest
    bent = with_findings(verdict, Reason.IDENTITY_CLONED, index=2)
    pdi = verdict.devices[2].pdi.hex()
    assert read(made(bent, inputs)).submods[pdi].vector == {"instance-identity": -33, "executables": 3, "hardware": 2}
    # A record that names it by mistake licenses nothing.
    named = replace(inputs, deployments={**inputs.deployments, verdict.devices[2].pdi: deployed(make_license())})
    device = read(made(verdict, named)).submods[pdi].device
    assert device is not None
    assert device.license is None


def deployed(held: License) -> Deployment:
    return Deployment(Pdi(bytes(8)), held, PROHIBITED)


def expiry(verdict: Verdict, inputs: Inputs) -> timedelta:
    result = read(made(verdict, inputs))
    assert result.expires_at is not None
    return result.expires_at - result.issued_at


def test_expiry(honest: tuple[Verdict, Inputs]) -> None:
    """docs/protocol.md EA2: the shortest cadence, and no later than a license ends."""
    verdict, inputs = honest
    first, second = (device.pdi for device in verdict.devices[:2])
    held = make_license()

    def under(one: License | None, other: License | None) -> timedelta:
        named = {pdi: deployed(each) for pdi, each in ((first, one), (second, other)) if each is not None}
        return expiry(verdict, replace(inputs, deployments=named))

    assert under(held, replace(held, cadence=timedelta(hours=6))) == timedelta(hours=6)
    assert under(held, None) == timedelta(hours=24)
    assert under(None, None) == timedelta(hours=1)
    ending = replace(held, valid_until=NOW + timedelta(minutes=90))
    assert under(ending, held) == timedelta(minutes=90)
    assert under(replace(held, cadence=timedelta(milliseconds=1500)), None) == timedelta(seconds=1)
    over = replace(held, valid_until=NOW)  # the finding says so; the result tells of now all the same
    assert under(over, over) == timedelta(hours=24)


def test_seconds_are_rounded_so_that_nothing_lives_longer(honest: tuple[Verdict, Inputs]) -> None:
    verdict, inputs = honest
    late = replace(verdict, received_at=NOW + timedelta(microseconds=999_999))
    held = {device.pdi: deployed(replace(make_license(), cadence=timedelta(seconds=1.5))) for device in verdict.devices}
    claims = made(late, replace(inputs, deployments=held))
    assert (claims["iat"], claims["exp"]) == (int(NOW.timestamp()), int(NOW.timestamp()) + 1)


PLACES = st.builds(
    lambda licensed, outside, f, demonstration, fibre: {
        "in_licensed_region": licensed,
        "outside_prohibited": outside,
        "tolerated_domains": f,
        "demonstration": demonstration,
        "licensed_depths": Depths(0, 0, fibre, by_several=False),
    },
    st.sampled_from(PlaceAnswer),
    st.sampled_from(PlaceAnswer),
    st.integers(0, 9),
    st.booleans(),
    st.integers(0, 3),
)


@given(
    found=st.lists(st.sets(st.sampled_from(sorted(SEVERITY))), min_size=3, max_size=3),
    places=st.lists(st.none() | PLACES, min_size=2, max_size=2),
    presence=st.sampled_from(Presence),
)
def test_any_verdict_reads_back(
    honest: tuple[Verdict, Inputs],
    found: list[set[Reason]],
    places: list[dict[str, Any] | None],
    presence: Presence,
) -> None:
    """Whatever is found, the reader takes what the writer makes, and finds it again."""
    verdict, inputs = honest
    fix = verdict.devices[0].fix
    assert fix is not None
    for index, reasons in enumerate(found):
        verdict = with_findings(verdict, *sorted(reasons), index=index)
    for index, place in enumerate(places):
        verdict = with_device(verdict, index, fix=None if place is None else fix._replace(**place))
    held = {device.pdi: deployed(make_license(presence)) for device in verdict.devices}
    result = read(made(verdict, replace(inputs, deployments=held)))
    for device, reasons in zip(verdict.devices, found, strict=True):
        told = result.submods[device.pdi.hex()].device
        assert told is not None
        assert set(told.findings) == reasons
        assert (told.kind, told.standing) == (device.kind, device.standing)
        assert (told.place is None) is (device.fix is None)
        if told.place is not None and device.fix is not None:
            assert told.place.in_licensed_region is device.fix.in_licensed_region
            assert told.place.outside_prohibited is device.fix.outside_prohibited
            assert told.place.tolerated_domains == device.fix.tolerated_domains
            assert told.place.demonstration is device.fix.demonstration


def test_adopted_devices_show_their_license(honest: tuple[Verdict, Inputs]) -> None:
    verdict, inputs = honest
    held = replace(make_license(), number="D7", cadence=timedelta(hours=2))
    adopted = with_device(verdict, adopted=Adoption(bytes(32), held, PROHIBITED, 3))
    bare = replace(inputs, deployments={})
    device = read(made(adopted, bare)).submods[verdict.devices[0].pdi.hex()].device
    assert device is not None
    assert device.license is not None
    assert device.license.number == "D7"
    assert expiry(adopted, bare) == timedelta(hours=2)


def test_grades(honest: tuple[Verdict, Inputs]) -> None:
    verdict, inputs = honest
    fix = verdict.devices[0].fix
    assert fix is not None

    def grade(presence: Presence, device: DeviceVerdict) -> str | None:
        held = {device.pdi: deployed(make_license(presence))}
        told = of_first(with_device(verdict, fix=device.fix), replace(inputs, deployments=held))["trigpoint.dev"]
        named: str | None = told["presence"].get("grade")
        return named

    first = verdict.devices[0]
    fibre = fix._replace(
        in_licensed_region=PlaceAnswer.INDICATED, licensed_depths=fix.licensed_depths._replace(in_complement_fibre=2)
    )
    assert grade(Presence.COUNTRY, first) == "PHYSICAL"
    assert grade(Presence.COUNTRY, replace(first, fix=fibre)) == "FIBRE"
    assert grade(Presence.OUTSIDE_PROHIBITED, replace(first, fix=fibre)) == "PHYSICAL"
    # Only what is INDICATED may rest on that grade.
    assert (
        grade(Presence.COUNTRY, replace(first, fix=fibre._replace(in_licensed_region=PlaceAnswer.PROVEN))) == "PHYSICAL"
    )
    # f = 0 makes INDICATED of what is proven at the physical grade.
    trusting = fix._replace(in_licensed_region=PlaceAnswer.INDICATED)
    assert grade(Presence.COUNTRY, replace(first, fix=trusting)) == "PHYSICAL"
    assert grade(Presence.COUNTRY, replace(first, fix=fix._replace(in_licensed_region=PlaceAnswer.UNPROVEN))) is None
    assert grade(Presence.COUNTRY, replace(first, fix=fix._replace(assurance=Assurance.SIGNED_RANGE))) is None
    assert grade(Presence.COUNTRY, replace(first, fix=None)) is None


@pytest.mark.parametrize(
    ("values", "tier"),
    [
        ((-1, 0, 1), Tier.NONE),
        ((-32, -2, 2, 31), Tier.AFFIRMING),
        ((-96, -33, 32, 95), Tier.WARNING),
        ((-128, -97, 96, 127), Tier.CONTRAINDICATED),
    ],
)
def test_tiers(values: tuple[int, ...], tier: Tier) -> None:
    """The bounds of AR4SI §2.3.2."""
    assert {tier_of(value) for value in values} == {tier}


@pytest.mark.parametrize("value", [-129, 128])
def test_a_claim_is_a_signed_byte(value: int) -> None:
    with pytest.raises(UsageError):
        tier_of(value)


# Reading.


def test_the_draft_s_own_example() -> None:
    result = read_result(DRAFT_FIGURE_3.encode())
    psa = result.submods["PSA"]
    assert (psa.status, psa.vector["executables"], psa.device) == (Tier.CONTRAINDICATED, 96, None)
    assert psa.policy_ids == ("https://veraison.example/policy/1/60a0068d",)
    assert (result.issuer, result.expires_at, result.nonce) == ("", None, b"")
    assert result.issued_at == datetime(2022, 10, 23, 12, 46, 24, tzinfo=UTC)


def test_the_earlier_spelling() -> None:
    """docs/protocol.md EA4, as github.com/veraison/ear writes it."""
    result = read_result(VERAISON.encode())
    assert result.profile == "tag:github.com,2023:veraison/ear"
    assert (result.developer, result.build) == ("Acme Inc.", "rrtrap-v1.0.0")
    test = result.submods["test"]
    assert (test.status, len(test.vector), test.policy_ids) == (Tier.AFFIRMING, 8, ("policy://psa/60a0068d",))


def dotted(value: Any) -> Any:
    """Respell the keys of EAR."""
    if not isinstance(value, dict):
        return value
    return {
        "ear." + k.removeprefix("ear_").replace("_", "-") if k.startswith("ear_") else k: dotted(v)
        for k, v in value.items()
    }


def test_either_spelling_says_the_same(honest: tuple[Verdict, Inputs]) -> None:
    claims = made(*honest)
    other = dotted(claims)
    assert "ear_" not in json.dumps(other)
    assert parse_result(other) == parse_result(claims)


@pytest.mark.parametrize("spelled", ["ear.verifier-id", "ear.status"])
def test_both_spellings_of_one_claim_are_refused(honest: tuple[Verdict, Inputs], spelled: str) -> None:
    claims = made(*honest)
    claims["ear_status"] = "affirming"
    read(claims)
    claims[spelled] = claims["ear_" + spelled.removeprefix("ear.").replace("-", "_")]
    with pytest.raises(ResultError, match="both spellings"):
        read(claims)


@pytest.mark.parametrize(
    "spelled", ["ear.status", "ear.trustworthiness-vector", "ear.appraisal-policy-ids", "ear.appraisal-policy-id"]
)
def test_both_spellings_in_a_submodule_are_refused(honest: tuple[Verdict, Inputs], spelled: str) -> None:
    claims = bendable(honest)
    submodule = first_of(claims)
    again = {"ear.appraisal-policy-id": "ear.appraisal-policy-ids"}.get(spelled, spelled)
    submodule[spelled] = submodule["ear_" + again.removeprefix("ear.").replace("-", "_")]
    with pytest.raises(ResultError, match="both spellings"):
        read(claims)


def bendable(honest: tuple[Verdict, Inputs]) -> dict[str, Any]:
    return deepcopy(made(*honest))


def first_of(claims: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = next(iter(claims["submods"].values()))
    return first


Path_ = tuple[str, ...]
FIRST, OWN = ("submods", "*"), ("submods", "*", "trigpoint.dev")


class _Gone:
    """Says that a claim is left out."""

    def __str__(self) -> str:
        return "gone"


GONE = _Gone()


def bend(claims: dict[str, Any], path: Path_, value: object) -> None:
    *way, last = path
    at: dict[str, Any] = claims
    for step in way:
        at = next(iter(at.values())) if step == "*" else at[step]
    if value is GONE:
        del at[last]
    else:
        at[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("eat_profile",), "tag:example.com,2026:other"),
        (("eat_profile",), GONE),
        (("eat_profile",), 265),
        (("iat",), GONE),
        (("iat",), 1.5),
        (("iat",), True),
        (("iat",), -1),
        (("iat",), 253_402_300_800),
        (("exp",), 1e9),
        (("exp",), "soon"),
        (("iss",), None),
        (("ear_verifier_id",), GONE),
        (("ear_verifier_id",), "trigpoint"),
        (("ear_verifier_id", "developer"), GONE),
        (("ear_verifier_id", "build"), 1),
        (("eat_nonce",), "AAAA"),
        (("eat_nonce",), "A" * 200),
        (("eat_nonce",), "not base64url"),
        (("eat_nonce",), "AAAAAAAAAAB"),  # bits that no byte has
        (("eat_nonce",), None),
        (("submods",), {}),
        (("submods",), GONE),
        (("submods",), []),
        (("ear_status",), "fine"),
        ((*FIRST[:1], "x"), {"ear_status": "affirming", "trigpoint.dev": {"kind": "GPU"}}),
        ((*FIRST, "ear_status"), GONE),
        ((*FIRST, "ear_status"), "good"),
        ((*FIRST, "ear_status"), ["affirming"]),
        ((*FIRST, "ear_status"), 2),
        ((*FIRST, "ear_trustworthiness_vector"), {}),
        ((*FIRST, "ear_trustworthiness_vector"), [2]),
        ((*FIRST, "ear_trustworthiness_vector", "hardware"), 2.0),
        ((*FIRST, "ear_trustworthiness_vector", "hardware"), True),
        ((*FIRST, "ear_trustworthiness_vector", "hardware"), 128),
        ((*FIRST, "ear_trustworthiness_vector", "hardware"), -129),
        # A status of more trust than its vector.
        ((*FIRST, "ear_trustworthiness_vector", "hardware"), 96),
        ((*FIRST, "ear_trustworthiness_vector", "hardware"), -33),
        ((*FIRST, "ear_appraisal_policy_ids"), []),
        ((*FIRST, "ear_appraisal_policy_ids"), [1]),
        ((*FIRST, "ear_appraisal_policy_ids"), {"a": "b"}),
        ((*FIRST, "trigpoint.dev"), "GPU"),
        ((*OWN, "kind"), "TPU"),
        ((*OWN, "kind"), 1),
        ((*OWN, "kind"), "SWITCH"),
        ((*OWN, "standing"), GONE),
        ((*OWN, "standing"), "FINE"),
        ((*OWN, "findings"), GONE),
        ((*OWN, "findings"), []),
        ((*OWN, "findings"), {"NO_SUCH_REASON": "WARNING"}),
        ((*OWN, "findings"), {"SILENT": "GRAVE"}),
        ((*OWN, "license"), []),
        ((*OWN, "license", "number"), 7),
        ((*OWN, "license", "revision"), -1),
        ((*OWN, "license", "revision"), "1"),
        ((*OWN, "presence"), GONE),
        ((*OWN, "presence", "question"), "WHERE"),
        ((*OWN, "presence", "proven"), 1),
        ((*OWN, "presence", "grade"), "COPPER"),
        ((*OWN, "place"), 1),
        ((*OWN, "place", "in_licensed_region"), "YES"),
        ((*OWN, "place", "outside_prohibited"), GONE),
        ((*OWN, "place", "tolerated_domains"), 1.0),
        ((*OWN, "place", "assurance"), None),
        ((*OWN, "place", "demonstration"), "false"),
        ((*OWN, "place", "borders"), GONE),
        ((*OWN, "place", "lists"), 3),
    ],
    ids=str,
)
def test_refused(honest: tuple[Verdict, Inputs], path: Path_, value: object) -> None:
    claims = bendable(honest)
    read(claims)
    bend(claims, path, value)
    with pytest.raises(ResultError):
        read(claims)


@pytest.mark.parametrize("label", ["x", "", "00", "A" * 16, "zz" * 8, "aa " * 8])
def test_our_submodules_are_named_by_pdis(honest: tuple[Verdict, Inputs], label: str) -> None:
    claims = bendable(honest)
    claims["submods"] = {label: first_of(claims)}
    with pytest.raises(ResultError, match="16 hex digits"):
        read(claims)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("more",), {"a": [1, 2.5]}),
        ((*FIRST, "more"), None),
        ((*OWN, "more"), 1),
        # Less trust than the vector is anybody's right, and a claim of the tier none is none.
        ((*FIRST, "ear_status"), "none"),
        ((*FIRST, "ear_status"), "contraindicated"),
        ((*FIRST, "ear_trustworthiness_vector", "hardware"), 0),
        ((*FIRST, "ear_trustworthiness_vector", "hardware"), -1),
        ((*FIRST, "ear_trustworthiness_vector", "tomorrow's"), 5),
        ((*FIRST, "ear_trustworthiness_vector"), GONE),
        ((*FIRST, "ear_appraisal_policy_ids"), GONE),
        ((*OWN, "place"), GONE),
        ((*OWN, "license"), GONE),
        (("ear_status",), "affirming"),
        (("exp",), GONE),
        (("iat",), 253_402_300_799),
    ],
    ids=str,
)
def test_let_pass(honest: tuple[Verdict, Inputs], path: Path_, value: object) -> None:
    claims = bendable(honest)
    bend(claims, path, value)
    read(claims)


def test_an_overall_status_better_than_a_submodule_is_refused(honest: tuple[Verdict, Inputs]) -> None:
    verdict, inputs = honest
    claims = made(with_findings(verdict, Reason.LOCATION_UNPROVEN), inputs)
    for status, good in (("affirming", False), ("none", False), ("warning", True), ("contraindicated", True)):
        claims["ear_status"] = status
        if good:
            read(claims)
        else:
            with pytest.raises(ResultError, match="better than"):
                read(claims)


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"iat": NaN}', b'{"iat": 1, "iat": 1}'])
def test_no_json_object(payload: bytes) -> None:
    with pytest.raises(ResultError):
        read_result(payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(value=JSON, data=st.data())
def test_any_value_anywhere_reads_or_is_refused(
    honest_claims: dict[str, Any], value: object, data: st.DataObject
) -> None:
    claims = deepcopy(honest_claims)
    paths = list(walk(claims))
    bend(claims, data.draw(st.sampled_from(paths)), value)
    with suppress(ResultError):
        parse_result(claims)


def walk(value: dict[str, Any], way: Path_ = ()) -> list[Path_]:
    found = [(*way, key) for key in value]
    return found + [path for key, held in value.items() if isinstance(held, dict) for path in walk(held, (*way, key))]


@pytest.fixture(scope="module")
def honest_claims(honest: tuple[Verdict, Inputs]) -> dict[str, Any]:
    return made(*honest)


def test_the_samples_are_the_documents() -> None:
    """docs/results.md lists every value of the vector that this service writes."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    for value in ("`-33`", "`97`", "`96`", "`33`", "`3`", "`2`", POLICY_ID, PROFILE):
        assert value in page
