"""The vectors are those that the script makes, and the verifier answers each as docs/protocol.md does."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.vectors import AUTHENTIC, load
from tests.vectors.make_vectors import HERE, KINDS, files, write
from verifier.errors import EvidenceError, Reason, TrigpointError
from verifier.evidence.attestation import DeviceReport, verify_device_list
from verifier.evidence.chain import ChainVerifier, DeviceKind, TrustRoots, VerifiedChain, chain_id
from verifier.evidence.claims import Claims, StatedRange, parse_claims, requester_nonce, verify_binding
from verifier.evidence.measurements import FirmwareState, Outcome
from verifier.evidence.spdm import LogEntry, MeasurementReport, verify_report
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.ranging import verify_ranges
from verifier.units import ChainId, Challenge, CountryCode, DeviceKeyId, LandmarkId, LandmarkKeyId, Pdi

Vector = dict[str, Any]
VECTORS = {kind: load(HERE, kind) for kind in KINDS}
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
MAX_BYTES = 600_000
ANY_PDI = Pdi(bytes.fromhex("1122334455667788"))

# Every rule with what the vectors of its kind must have: at least one that holds and one that does not.
RULES = (
    *(f"E{n}" for n in range(1, 7)),
    *(f"I{n}" for n in range(1, 8)),
    *("B1", "CL1", "CL2", "CL3", "C2", "C3", "C4", "CH2", "R1", "R2", "R3", "R4", "R5", "R7", "R8"),
)


class NeverAsked:
    """A report key for a report that is authentic already."""

    def verifies(self, der_signature: bytes, message: bytes) -> bool:
        raise AssertionError(der_signature, message)


def test_vectors_are_what_the_script_makes(tmp_path: Path) -> None:
    count = write(tmp_path)
    assert count == sum(map(len, VECTORS.values()))
    made = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*.json")}
    there = {str(p.relative_to(HERE)): p.read_bytes() for p in HERE.rglob("*.json")}
    assert made.keys() == there.keys()
    assert [path for path in made if made[path] != there[path]] == []
    assert made == dict(files())  # and a second run makes the same


def test_vectors_that_are_no_longer_made_are_removed(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    old = tmp_path / "claims" / "old.json"
    old.write_text("{}", encoding="ascii")
    write(tmp_path)
    assert not old.exists()


def test_vectors_stay_small() -> None:
    assert sum(p.stat().st_size for p in HERE.rglob("*.json")) < MAX_BYTES


def test_every_rule_is_kept_and_broken() -> None:
    expected: dict[str, set[bool]] = defaultdict(set)
    for vector in (v for kind in KINDS for v in VECTORS[kind]):
        expected[vector["rule"]].add(vector["expect"] == AUTHENTIC)
        assert vector["name"].startswith(vector["rule"].replace("§", "S") + "-")
        assert vector["expect"] == AUTHENTIC or vector["expect"] in Reason.__members__
    assert {rule: expected[rule] for rule in RULES} == {rule: {True, False} for rule in RULES}


def test_every_reason_of_authenticity_occurs() -> None:
    told = {v["expect"] for kind in KINDS for v in VECTORS[kind]}
    whole = {
        Reason.CHALLENGE_EXPIRED,  # a question of time
        Reason.LIMIT_EXCEEDED,  # a verifier's own budgets
        Reason.CHAIN_MISSING,  # a question of what travelled
        Reason.LANDMARK_NOT_COUNTED,  # a question of records
        Reason.STATEMENT_INVALID,  # of a range between landmarks, which is in no attestation
    }
    rejections = {r.name for r in Reason if r < 100 or r > 200} - {r.name for r in whole}
    assert told == rejections | {AUTHENTIC}


def named(kind: str) -> list[Any]:
    return [pytest.param(v, id=v["name"]) for v in VECTORS[kind]]


def refusal(check: Callable[[], object]) -> str:
    """The reason for which a check ends, or that it does not."""
    try:
        check()
    except EvidenceError as error:
        return error.reason.name
    return AUTHENTIC


def verified_report(vector: Vector) -> tuple[VerifiedChain, MeasurementReport]:
    certificates = [bytes.fromhex(c) for c in vector["chain"]]
    chains = ChainVerifier(TrustRoots(frozenset(bytes.fromhex(r) for r in vector["roots"])))
    chain = chains.verify(chain_id(certificates), certificates, datetime.fromisoformat(vector["now"]))
    return chain, verify_report(bytes.fromhex(vector["report"]), chain, bytes.fromhex(vector["nonce"]))


@pytest.mark.parametrize("vector", named("report"))
def test_report(vector: Vector) -> None:
    assert refusal(lambda: verified_report(vector)) == vector["expect"]


@pytest.mark.parametrize("vector", [v for v in named("report") if v.values[0]["expect"] == AUTHENTIC])
def test_report_shows_what_it_holds(vector: Vector) -> None:
    chain, report = verified_report(vector)
    assert vector["shows"] == {
        "kind": chain.kind.name.lower(),
        "pdi": chain.pdi.hex(),
        "device_key_id": chain.device_key_id.hex(),
        "chain_id": chain.chain_id.hex(),
        "fwid": chain.fwid.hex(),
        "linked": sorted(p.hex() for p in report.linked),
        "log": len(report.log),
        "counters": None if report.counters is None else [report.counters.boot, report.counters.attestation],
    }


def authentic_device(pdi: bytes, log: tuple[LogEntry, ...] = ()) -> DeviceReport:
    """A device whose report was verified before."""
    chain = VerifiedChain(
        chain_id=ChainId(bytes(32)),
        pdi=Pdi(pdi),
        kind=DeviceKind.GPU,
        device_key_id=DeviceKeyId(bytes(32)),
        fwid=bytes(48),
        model="",
        not_before=EPOCH,
        not_after=EPOCH,
        report_key=NeverAsked(),
    )
    return DeviceReport(0, chain, MeasurementReport(bytes(32), {}, "", "", frozenset(), log, None))


def verify_claims(vector: Vector) -> None:
    claims = parse_claims(bytes.fromhex(vector["claims"]))
    challenge = Challenge(bytes.fromhex(vector["challenge"]))
    verify_binding(claims, vector["host_id"], challenge, vector["report_count"])
    for index, pdi in enumerate(vector["report_pdis"]):
        verify_device_list(index, authentic_device(bytes.fromhex(pdi)).chain, claims.devices)


@pytest.mark.parametrize("vector", named("claims"))
def test_claims(vector: Vector) -> None:
    assert refusal(lambda: verify_claims(vector)) == vector["expect"]
    if vector["expect"] == AUTHENTIC:
        assert requester_nonce(bytes.fromhex(vector["claims"])).hex() == vector["requester_nonce"]


def registry(public_keys: list[str]) -> LandmarkRegistry:
    return LandmarkRegistry.build(
        Landmark(
            landmark_id=LandmarkId(f"landmark {n}"),
            public_key=bytes.fromhex(key),
            operator=f"operator {n}",
            hoster=f"hoster {n}",
            position=Position(float(n), float(n)),
            uncertainty_km=0.0,
            virtual_machine=False,
            country=CountryCode("XX"),
            revision=3,
            revised_at=EPOCH,
        )
        for n, key in enumerate(public_keys)
    )


def stated(vector: Vector, device: int) -> StatedRange:
    """A range as the claims tell it. Another one's device is told not to have reported: what it names counts still."""
    landmark = LandmarkKeyId(bytes.fromhex(vector["landmark"]))
    return StatedRange(device, landmark, int(vector["mask"], 16), bytes.fromhex(vector["receipt"]))


@pytest.mark.parametrize("vector", named("range"))
def test_range(vector: Vector) -> None:
    parts = ("session", "commitment", "transcript")
    device = authentic_device(ANY_PDI, tuple(LogEntry(*(bytes.fromhex(e[p]) for p in parts)) for e in vector["log"]))
    ranges = (stated(vector, 0), *(stated(other, 1) for other in vector["others"]))
    challenge = Challenge(bytes.fromhex(vector["challenge"]))
    claims = Claims(challenge, "host", 0, None, (ANY_PDI, Pdi(bytes(8))), ranges, ())
    firmware = FirmwareState(Outcome.MATCH, "firmware", can_range=vector["can_range"], differing=())
    found = verify_ranges(claims, [device], {ANY_PDI: firmware}, challenge, registry(vector["landmarks"]))
    if vector["expect"] == AUTHENTIC:
        assert found.void == ()
        assert [r.rtt_ns for r in found.verified] == [vector["rtt_ns"]]
    else:
        assert found.verified == ()
        assert [v.reason.name for v in found.void] == [vector["expect"]], found.void[0].detail


def test_reasons_of_the_vectors_are_errors_of_the_verifier() -> None:
    def leaves(error: type[TrigpointError]) -> set[str]:
        deeper = {name for e in error.__subclasses__() for name in leaves(e)}
        return deeper | ({error.reason.name} if hasattr(error, "reason") else set())

    told = {v["expect"] for kind in KINDS for v in VECTORS[kind]} - {AUTHENTIC}
    assert told <= leaves(TrigpointError)
