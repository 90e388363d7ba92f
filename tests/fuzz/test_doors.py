"""Each door stands a seeded run of bent inputs, and each named malformation has a reason."""

import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuzz import doors
from tests.fuzz.__main__ import main
from tests.fuzz.doors import CHALLENGE, DOORS, UNIX_S, VECTORS, split_chain
from tests.fuzz.mutations import MALFORMATIONS, OVERSIZE_BYTES, mutated
from tests.vectors.builder import Device, key_id, sign1, spki
from verifier import cbor, cose
from verifier.errors import EvidenceError, RangeError, Reason, UsageError
from verifier.evidence.chain import TrustRoots, verify_chain
from verifier.evidence.claims import parse_claims
from verifier.evidence.dice import parse_composite_device_id, parse_tcb_info
from verifier.evidence.measurements import ReferenceValues
from verifier.evidence.spdm import verify_report
from verifier.place.borders import parse_borders
from verifier.place.ranging import verify_receipt
from verifier.place.regions import Atlas

RUNS = 400
TRIES = 40
SEED = 20_260_102
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", DOORS)
def test_door_lets_in_what_is_good(name: str) -> None:
    samples = DOORS[name].samples()
    assert samples
    for sample in samples:
        DOORS[name].fuzz(sample)


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@pytest.mark.parametrize("name", DOORS)
def test_door_stands_bent_inputs(name: str) -> None:
    rng, samples = random.Random(SEED), DOORS[name].samples()
    for _ in range(RUNS):
        DOORS[name].fuzz(mutated(samples, rng))


@dataclass(frozen=True, slots=True)
class Parser:
    """One parser of evidence, the door whose samples it takes, and the reasons that it may give."""

    parse: Callable[[bytes], object]
    door: str
    reasons: frozenset[Reason]


def _gpu_report(data: bytes) -> object:
    gpu, _ = doors.believing_chains()
    return verify_report(data, gpu, None)


_RECEIPT = frozenset(
    {Reason.RECEIPT_MALFORMED, Reason.RECEIPT_SIGNATURE_INVALID, Reason.LANDMARK_UNKNOWN, Reason.SESSION_MISMATCH}
)
_CHAIN = frozenset(
    {
        Reason.CHAIN_MALFORMED,
        Reason.CHAIN_UNTRUSTED_ROOT,
        Reason.CHAIN_SIGNATURE_INVALID,
        Reason.CHAIN_CONSTRAINT_VIOLATED,
        Reason.LIMIT_EXCEEDED,
    }
)
PARSERS = {
    "claims": Parser(parse_claims, "parse_claims", frozenset({Reason.CLAIMS_MALFORMED, Reason.LIMIT_EXCEEDED})),
    "report": Parser(_gpu_report, "parse_report", frozenset({Reason.REPORT_MALFORMED, Reason.FWID_MISMATCH})),
    "chain": Parser(lambda data: verify_chain(split_chain(data), doors.roots()), "verify_chain", _CHAIN),
    "composite device id": Parser(
        lambda data: parse_composite_device_id(data, spki(Device().label)),
        "parse_composite_device_id",
        frozenset({Reason.CHAIN_CONSTRAINT_VIOLATED}),
    ),
    "tcb info": Parser(parse_tcb_info, "parse_tcb_info", frozenset({Reason.CHAIN_CONSTRAINT_VIOLATED})),
    "receipt": Parser(lambda data: verify_receipt(data, CHALLENGE, doors.registry()), "verify_receipt", _RECEIPT),
    "receipt payload": Parser(
        lambda data: verify_receipt(sign1(data, doors.LANDMARK), CHALLENGE, doors.registry()),
        "receipt_payload",
        _RECEIPT,
    ),
}
_NAME_NO_ALGORITHM = {"receipt payload"}


def reason_of(parse: Callable[[bytes], object], data: bytes) -> Reason | None:
    """Why the parser refuses these bytes; None when it does not. Any other exception ends the test."""
    try:
        parse(data)
    except (EvidenceError, RangeError) as error:
        return error.reason
    return None


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@pytest.mark.parametrize("malformation", MALFORMATIONS)
@pytest.mark.parametrize("parser", PARSERS)
def test_named_malformation_has_a_reason(parser: str, malformation: str) -> None:
    subject, bend = PARSERS[parser], MALFORMATIONS[malformation]
    rng = random.Random(f"{parser} {malformation}")
    samples = DOORS[subject.door].samples()
    bent = {bend(sample, rng) for sample in samples for _ in range(TRIES // len(samples))} - set(samples)
    assert bent or parser in _NAME_NO_ALGORITHM
    told = {data: reason_of(subject.parse, data) for data in bent}
    assert [data.hex()[:400] for data, reason in told.items() if reason not in subject.reasons] == []


TRUSTED: dict[str, tuple[Callable[[bytes], object], str]] = {
    "reference values": (lambda data: ReferenceValues.parse([data]), "reference_values"),
    "atlas": (lambda data: Atlas.parse(data, "bent"), "atlas"),
    "trust roots": (lambda data: TrustRoots.parse([data]), "trust_roots"),
    "borders": (parse_borders, "parse_borders"),
}


@pytest.mark.parametrize("malformation", ["empty", "truncated"])
@pytest.mark.parametrize("parser", TRUSTED)
def test_operator_is_told_what_is_wrong_with_a_file(parser: str, malformation: str) -> None:
    """These files are the operator's own: a bent one is a misuse, never another exception."""
    parse, door = TRUSTED[parser]
    rng = random.Random(f"{parser} {malformation}")
    (sample, *_) = DOORS[door].samples()
    for _ in range(TRIES):
        with pytest.raises(UsageError):
            parse(MALFORMATIONS[malformation](sample, rng))


def test_operator_is_told_that_a_schema_is_another_one() -> None:
    (sample,) = DOORS["reference_values"].samples()
    with pytest.raises(UsageError):
        ReferenceValues.parse([MALFORMATIONS["wrong_algorithm"](sample, random.Random(SEED))])


@pytest.mark.parametrize("malformation", MALFORMATIONS)
def test_bent_cbor_is_not_deterministic(malformation: str) -> None:
    rng = random.Random(malformation)
    for name, parse in (("cbor_decode", cbor.decode), ("cose_parse_sign1", cose.parse_sign1)):
        for sample in DOORS[name].samples():
            data = MALFORMATIONS[malformation](sample, rng)
            if name == "cbor_decode" and malformation == "wrong_algorithm":
                continue  # it is no business of CBOR's
            with pytest.raises(cbor.NotDeterministicError):
                parse(data)


def test_samples_are_not_refused_for_another_reason() -> None:
    for subject in PARSERS.values():
        for sample in DOORS[subject.door].samples()[:1]:
            subject.parse(sample)


def test_a_door_that_falls_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fuzz_broken(data: bytes) -> None:
        raise ZeroDivisionError(data[:1])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DOORS, "broken", doors.Door(fuzz_broken, lambda: [b"sample"]))
    with pytest.raises(ZeroDivisionError):
        main(["broken", "--runs", "3", "--plain"])
    with pytest.raises(ZeroDivisionError):
        main(["broken", "--input", "fuzz-broken.bin", "--plain"])


def test_mutator_is_seeded_and_bounded() -> None:
    samples = [b"\xa2\x01\x02\x03\x41\x04", b""]
    first, second = ([mutated(samples, rng) for _ in range(300)] for rng in (random.Random(7), random.Random(7)))
    assert first == second
    assert max(map(len, first)) == OVERSIZE_BYTES
    assert len(set(first)) > 150


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["list", "--plain"]) == 0
    assert capsys.readouterr().out.split() == list(DOORS)
    assert main(["parse_claims", "--runs", "5", "--plain"]) == 0
    assert "5 inputs" in capsys.readouterr().out
    assert main(["no such door", "--plain"]) == 2
    path = tmp_path / "input"
    path.write_bytes(b"\xff")
    assert main(["parse_claims", "--input", str(path), "--plain"]) == 0


def test_module_runs() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "landmark_datagram", "--runs", "5", "--plain"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=REPOSITORY, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_parser_has_a_door() -> None:
    """A new `parse_*` or `decode` of these rooms needs a door, or a line here."""
    elsewhere = {
        "parse_fault": "firmware_stubs/faults.py: from whoever runs the emulator",
        "parse_public_key": "landmark/keys.py: from the operator's configuration",
        "parse_endpoint": "landmark/config.py: from the operator's configuration",
        "parse_moment": "landmark/record.py: from the operator's command line",
    }
    found: set[str] = set()
    for room in ("verifier", "landmark", "firmware_stubs"):
        for path in (REPOSITORY / room).rglob("*.py"):
            found.update(re.findall(r"^def ((?:parse|decode)\w*)\(", path.read_text(encoding="utf-8"), re.MULTILINE))
    source = (REPOSITORY / "tests" / "fuzz" / "doors.py").read_text(encoding="utf-8")
    assert sorted(name for name in found if not re.search(rf"\b{name}\(", source)) == sorted(elsewhere)


def test_doors_use_the_vectors_that_are_there() -> None:
    assert (VECTORS / "certificates.json").is_file()
    assert len(key_id(doors.LANDMARK)) == 32
    assert UNIX_S < 2**32
