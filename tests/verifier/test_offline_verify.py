"""`trigpoint verify`: what it prints and its exit codes, over evidence of emulated devices and of real ones."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from console import offline
from console.offline import Evidence, Refused, UnusableInputError, check, load_evidence
from console.verify_command import verify
from firmware_stubs.ca import DeviceCA
from firmware_stubs.certificates import chain_pem
from firmware_stubs.device import Device
from firmware_stubs.firmware import GPU_CURRENT, GPU_OLDER
from firmware_stubs.firmware import Kind as FirmwareKind
from tests.verifier.helpers_evidence import NONCE, NOW, Host, RealSample, flip, make_chain, real_data, real_sample
from verifier.errors import Reason, UsageError
from verifier.evidence.chain import TrustRoots

APP = typer.Typer()
APP.command()(verify)
OTHER_NONCE = bytes(32)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(a) for a in arguments])


def run_json(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and what stands alone on stdout."""
    result = run("--json", *arguments)
    assert result.stderr == ""
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host.build(tmp_path_factory.mktemp("host"), DeviceCA.generate())


@pytest.fixture
def root(host: Host, tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_bytes(chain_pem([host.ca.root.certificate]))
    return path


def entry(device: Device, report: bytes, nonce: bytes = NONCE) -> dict[str, str]:
    return {
        "arch": "EMULATED",
        "certificate": base64.b64encode(chain_pem(device.chain)).decode(),
        "evidence": base64.b64encode(report).decode(),
        "nonce": nonce.hex(),
    }


def honest(host: Host, device: Device, nonce: bytes = NONCE) -> dict[str, str]:
    return entry(device, device.report(nonce, host.links(device)), nonce)


@pytest.fixture
def board_file(host: Host, tmp_path: Path) -> Path:
    """Both GPUs and the switch under one nonce."""
    return write(tmp_path / "board.json", [honest(host, d) for d in host.devices])


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_board(host: Host, root: Path, board_file: Path) -> None:
    code, shown = run_json(board_file, "--root", root)
    assert (code, shown["authentic_count"], shown["refused_count"]) == (0, 3, 0)
    gpus, switch = sorted(g.pdi.hex() for g in host.gpus), host.switches[0].pdi.hex()
    assert shown["boards"] == [{"nonce": NONCE.hex(), "gpus": gpus, "switches": [switch], "proven_edges": 2}]
    first, _, last = shown["reports"]
    assert (first["kind"], first["pdi"], first["proven_edges"]) == ("gpu", host.gpus[0].pdi.hex(), [switch])
    assert (last["kind"], last["proven_edges"], last["named_without_proof"]) == ("switch", gpus, [])
    assert (first["driver_version"], first["vbios_version"]) == (GPU_CURRENT.driver, GPU_CURRENT.vbios)
    assert (first["fwid"], first["nonce"], first["freshness"]) == (GPU_CURRENT.fwid.hex(), NONCE.hex(), "checked")
    assert first["authentic"] is True
    assert first["source"].endswith("board.json, entry 0")


def test_board_for_people(host: Host, root: Path, board_file: Path) -> None:
    result = run(board_file, "--root", root)
    assert result.exit_code == 0
    for text in (
        "3 authentic, 0 refused",
        "2 GPUs and 1 switches, 2 edges signed by both ends",
        f"GPU {host.gpus[0].pdi.hex()}",
        f"switch {host.switches[0].pdi.hex()}",
        f"proven to {host.switches[0].pdi.hex()}",
        "nonce checked",
        GPU_CURRENT.fwid.hex()[:48],
        GPU_CURRENT.fwid.hex()[48:],
    ):
        assert text in result.stdout


def test_gpu_alone_proves_no_edge(host: Host, root: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "gpu.json", [honest(host, host.gpus[0])])
    code, shown = run_json(path, "--root", root)
    assert (code, shown["boards"]) == (0, [])
    assert shown["reports"][0]["proven_edges"] == []
    assert shown["reports"][0]["named_without_proof"] == [host.switches[0].pdi.hex()]
    assert "none proven here; 1 more named by this device alone" in run(path, "--root", root).stdout


def test_card_without_links(host: Host, root: Path, tmp_path: Path) -> None:
    gpu = host.gpus[0]
    path = write(tmp_path / "card.json", [entry(gpu, gpu.report(NONCE, None))])
    assert "none named" in run(path, "--root", root).stdout


def test_one_end_of_an_edge(host: Host, root: Path, tmp_path: Path) -> None:
    content = [honest(host, host.gpus[0]), honest(host, host.switches[0])]
    path = write(tmp_path / "two.json", content)
    code, shown = run_json(path, "--root", root)
    assert (code, shown["boards"][0]["proven_edges"]) == (0, 1)
    assert shown["reports"][1]["named_without_proof"] == [host.gpus[1].pdi.hex()]
    assert "; 1 more named by this device alone" in run(path, "--root", root).stdout


def test_edges_count_under_one_nonce_only(host: Host, root: Path, tmp_path: Path) -> None:
    gpu = write(tmp_path / "gpu.json", [honest(host, host.gpus[0])])
    switch = write(tmp_path / "switch.json", [honest(host, host.switches[0], OTHER_NONCE)])
    code, shown = run_json(gpu, switch, "--root", root)
    assert (code, shown["authentic_count"], shown["boards"]) == (0, 2, [])


def refused(path: Path, root: Path, *options: object) -> dict[int, str]:
    """Reasons by entry; the exit code says the same."""
    code, shown = run_json(path, "--root", root, *options)
    found = {i: r["reason"] for i, r in enumerate(shown["reports"]) if not r["authentic"]}
    assert (code, shown["refused_count"]) == (1 if found else 0, len(found))
    return found


def test_one_file_given_twice_proves_no_more(root: Path, board_file: Path) -> None:
    code, shown = run_json(board_file, board_file, "--root", root)
    assert (code, shown["authentic_count"]) == (0, 6)
    assert [b["proven_edges"] for b in shown["boards"]] == [2]


def test_one_lie_one_reason(host: Host, root: Path, tmp_path: Path) -> None:
    gpu, other = host.gpus
    report = gpu.report(NONCE, None)
    foreign = Device.in_memory(gpu.path, DeviceCA.generate(), GPU_CURRENT, gpu.pdi).running_as(gpu)
    mixed = {**entry(gpu, report), "certificate": honest(host, other)["certificate"]}
    cut = base64.b64encode(chain_pem(gpu.chain[:4])).decode()
    broken = base64.b64encode(chain_pem(gpu.chain)[:-40]).decode()
    content = [
        entry(gpu, report),
        entry(gpu, flip(report, 60)),
        entry(gpu, report[:-1]),
        entry(gpu, report, OTHER_NONCE),
        entry(foreign, foreign.report(NONCE, None)),
        mixed,
        {**entry(gpu, report), "certificate": cut},
        {**entry(gpu, report), "certificate": broken},
        {**entry(gpu, report), "certificate": ""},
    ]
    assert refused(write(tmp_path / "lies.json", content), root) == {
        1: "REPORT_SIGNATURE_INVALID",
        2: "REPORT_MALFORMED",
        3: "NONCE_MISMATCH",
        4: "CHAIN_UNTRUSTED_ROOT",
        5: "REPORT_SIGNATURE_INVALID",
        6: "CHAIN_MALFORMED",
        7: "CHAIN_MALFORMED",
        8: "CHAIN_MALFORMED",
    }


def test_refusal_for_people(host: Host, root: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.json", [honest(host, host.gpus[1]), entry(host.gpus[0], b"")])
    result = run(path, "--root", root)
    assert result.exit_code == 1
    assert "REFUSED" in result.stdout
    assert "REPORT_MALFORMED" in result.stdout
    assert "1 authentic, 1 refused" in result.stdout


def test_nonce_option(root: Path, board_file: Path) -> None:
    assert refused(board_file, root, "--nonce", NONCE.hex()) == {}
    assert refused(board_file, root, "--nonce", OTHER_NONCE.hex()) == dict.fromkeys(range(3), "NONCE_MISMATCH")


def test_nonce_option_stands_for_a_missing_one(host: Host, root: Path, tmp_path: Path) -> None:
    content = honest(host, host.gpus[0])
    del content["nonce"]
    path = write(tmp_path / "bare.json", [content])
    assert run(path, "--root", root).exit_code == 2
    assert refused(path, root, "--nonce", NONCE.hex()) == {}


def test_two_roots(root: Path, board_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(chain_pem([DeviceCA.generate().root.certificate]))
    assert refused(board_file, other) == dict.fromkeys(range(3), "CHAIN_UNTRUSTED_ROOT")
    assert refused(board_file, other, "--root", root) == {}


@pytest.fixture
def report_files(host: Host, tmp_path: Path) -> tuple[Path, Path]:
    """One report in hex and its chain."""
    gpu = host.gpus[0]
    report, chain = tmp_path / "report.txt", tmp_path / "chain.txt"
    report.write_text(gpu.report(NONCE, None).hex() + "\n", encoding="ascii")
    chain.write_bytes(chain_pem(gpu.chain))
    return report, chain


def test_report_in_hex(root: Path, report_files: tuple[Path, Path]) -> None:
    report, chain = report_files
    code, shown = run_json("--report", report, "--chain", chain, "--root", root)
    assert (code, shown["reports"][0]["freshness"]) == (0, "not checked")
    result = run("--report", report, "--chain", chain, "--root", root)
    assert "freshness not checked: no nonce was given" in result.stdout
    code, shown = run_json("--report", report, "--chain", chain, "--root", root, "--nonce", NONCE.hex())
    assert (code, shown["reports"][0]["freshness"]) == (0, "checked")
    code, shown = run_json("--report", report, "--chain", chain, "--root", root, "--nonce", OTHER_NONCE.hex())
    assert (code, shown["reports"][0]["reason"]) == (1, "NONCE_MISMATCH")


def test_report_beside_files(root: Path, board_file: Path, report_files: tuple[Path, Path]) -> None:
    report, chain = report_files
    code, shown = run_json(board_file, "--report", report, "--chain", chain, "--root", root)
    assert (code, shown["authentic_count"]) == (0, 4)


def unusable(*arguments: object) -> str:
    """What is said on stderr; nothing stands on stdout and the exit code is 2."""
    result = run("--json", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert isinstance(result.exception, SystemExit)
    return result.stderr


GOOD_ENTRY = {"certificate": "", "evidence": "", "nonce": NONCE.hex()}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe\xfd", id="no text"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"{}", id="an object"),
        pytest.param(b"[]", id="an empty list"),
        pytest.param(b"7", id="a number"),
        pytest.param(b"[7]", id="a list of numbers"),
        pytest.param(json.dumps([{}]).encode(), id="an empty object"),
        pytest.param(json.dumps([{k: v for k, v in GOOD_ENTRY.items() if k != "evidence"}]).encode(), id="no evidence"),
        pytest.param(json.dumps([{**GOOD_ENTRY, "certificate": "%"}]).encode(), id="no base64"),
        pytest.param(json.dumps([{**GOOD_ENTRY, "certificate": "\N{SNOWMAN}"}]).encode(), id="no ASCII"),
        pytest.param(json.dumps([{**GOOD_ENTRY, "evidence": 7}]).encode(), id="evidence is a number"),
        pytest.param(json.dumps([{**GOOD_ENTRY, "nonce": None}]).encode(), id="nonce is null"),
        pytest.param(json.dumps([{**GOOD_ENTRY, "nonce": "zz"}]).encode(), id="nonce is no hex"),
        pytest.param(json.dumps([{**GOOD_ENTRY, "nonce": "00" * 31}]).encode(), id="short nonce"),
    ],
)
def test_file_that_is_no_evidence(root: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "evidence.json"
    path.write_bytes(content)
    assert str(path) in unusable(path, "--root", root)


def test_file_that_cannot_be_read(root: Path, board_file: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    assert f"{missing}: No such file" in unusable(missing, "--root", root)
    assert f"{missing}: No such file" in unusable(board_file, missing, "--root", root)
    assert f"{missing}: No such file" in unusable(board_file, "--root", missing)
    assert "Is a directory" in unusable(tmp_path, "--root", root)


def test_file_that_is_too_large(root: Path, board_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = board_file.stat().st_size
    monkeypatch.setattr(offline, "MAX_FILE_BYTES", size)
    assert run(board_file, "--root", root).exit_code == 0
    monkeypatch.setattr(offline, "MAX_FILE_BYTES", size - 1)
    assert str(board_file) in unusable(board_file, "--root", root)


def test_root_that_is_none(board_file: Path) -> None:
    assert "--root" in unusable(board_file, "--root", board_file)
    assert run(board_file).exit_code == 2  # nothing is trusted by default


def test_options_that_make_no_sense(root: Path, board_file: Path, report_files: tuple[Path, Path]) -> None:
    report, chain = report_files
    assert "--report and --chain" in unusable("--report", report, "--root", root)
    assert "--report and --chain" in unusable(board_file, "--chain", chain, "--root", root)
    assert "nothing to check" in unusable("--root", root)
    assert "--nonce" in unusable(board_file, "--root", root, "--nonce", "zz")
    assert "--nonce" in unusable(board_file, "--root", root, "--nonce", "00" * 31)
    assert "not a report in hex" in unusable("--report", chain, "--chain", chain, "--root", root)
    assert run(board_file, "--root", root, "--no-such-option").exit_code == 2


def test_evidence_keeps_its_bytes(host: Host, tmp_path: Path) -> None:
    content = honest(host, host.gpus[0])
    (loaded,) = load_evidence(write(tmp_path / "one.json", [content]), None)
    assert base64.b64encode(loaded.report).decode() == content["evidence"]
    assert loaded.nonce == NONCE
    with pytest.raises(UnusableInputError):
        load_evidence(tmp_path / "none.json", None)


def test_older_firmware_is_authentic_too(host: Host, root: Path, tmp_path: Path) -> None:
    """Which firmware is known is not asked offline."""
    gpu = host.gpus[0].flashed(GPU_OLDER)
    assert gpu.kind is FirmwareKind.GPU
    assert refused(write(tmp_path / "old.json", [entry(gpu, gpu.report(NONCE, None))]), root) == {}


# What follows checks evidence of real devices.

REAL_FILES = {
    "hgx_8gpu_evidence.json": 8,
    "hgx_4switch_evidence.json": 4,
    "hopper_evidence.json": 1,
    "multi_gpu_hopper.json": 4,
    "switch_evidence_ls10.json": 1,
}


def real_root() -> Path:
    return real_data() / "roots" / "verifier_device_root.pem"


def real_files() -> Sequence[Path]:
    return [real_data() / name for name in REAL_FILES]


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_file_is_authentic(name: str) -> None:
    code, shown = run_json(real_data() / name, "--root", real_root())
    assert (code, shown["authentic_count"], shown["refused_count"]) == (0, REAL_FILES[name], 0)
    assert {r["freshness"] for r in shown["reports"]} == {"checked"}


def test_real_board_in_one_command() -> None:
    data = real_data()
    files = data / "hgx_8gpu_evidence.json", data / "hgx_4switch_evidence.json"
    code, shown = run_json(*files, "--root", real_root())
    assert (code, shown["authentic_count"]) == (0, 12)
    (board,) = shown["boards"]
    assert (len(board["gpus"]), len(board["switches"]), board["proven_edges"]) == (8, 4, 32)
    assert all(not r["named_without_proof"] for r in shown["reports"])
    assert "8 GPUs and 4 switches, 32 edges signed by both ends" in run(*files, "--root", real_root()).stdout


def test_all_real_files_in_one_command() -> None:
    code, shown = run_json(*real_files(), "--root", real_root())
    assert (code, shown["authentic_count"], shown["refused_count"]) == (0, 18, 0)
    assert [(len(b["gpus"]), len(b["switches"]), b["proven_edges"]) for b in shown["boards"]] == [(8, 4, 32)]


def test_real_report_whose_signature_is_wrong_beside_good_ones() -> None:
    folder = real_data() / "hopper535"
    options = "--report", folder / "report_invalid_signature.txt", "--chain", folder / "chain.txt"
    code, shown = run_json(*real_files(), *options, "--root", real_root())
    assert (code, shown["authentic_count"], shown["refused_count"]) == (1, 18, 1)
    assert [r["reason"] for r in shown["reports"] if not r["authentic"]] == ["REPORT_SIGNATURE_INVALID"]
    code, shown = run_json(*options, "--root", real_root())
    assert (code, shown["reports"][0]["reason"]) == (1, "REPORT_SIGNATURE_INVALID")


def test_real_report_without_firmware_id() -> None:
    folder = real_data() / "hopper535"
    code, shown = run_json("--report", folder / "report.txt", "--chain", folder / "chain.txt", "--root", real_root())
    assert (code, shown["reports"][0]["driver_version"]) == (0, "535.86.09")


def test_real_files_under_another_nonce() -> None:
    code, shown = run_json(*real_files(), "--nonce", "00" * 32, "--root", real_root())
    assert (code, shown["refused_count"]) == (1, 18)
    assert {r["reason"] for r in shown["reports"]} == {"NONCE_MISMATCH"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> RealSample:
    return real_sample(tmp_path_factory.mktemp("wheel"))


def test_real_sample(sample: RealSample) -> None:
    arguments = "--report", sample.report, "--chain", sample.chain, "--root", sample.root
    code, shown = run_json(*arguments)
    assert (code, shown["reports"][0]["driver_version"]) == (0, "550.90.07")
    code, shown = run_json(*arguments, "--nonce", "00" * 32)
    assert (code, shown["reports"][0]["reason"]) == (1, "NONCE_MISMATCH")


def test_json_that_nests_without_end_is_unusable(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    with pytest.raises(UnusableInputError):
        load_evidence(path, None)


def _certificate_of_version_2() -> bytes:
    der = make_chain().certificates[0]
    at = der.index(bytes.fromhex("a003020102"))
    bent = der[: at + 4] + b"\x01" + der[at + 5 :]
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bent) + b"-----END CERTIFICATE-----\n"


def test_a_certificate_of_another_version_is_malformed() -> None:
    with pytest.raises(UsageError):
        TrustRoots.parse([_certificate_of_version_2()])
    outcome = check([Evidence("x", _certificate_of_version_2(), b"", None)], make_chain().roots, NOW)
    assert [r.reason for r in outcome.results if isinstance(r, Refused)] == [Reason.CHAIN_MALFORMED]
