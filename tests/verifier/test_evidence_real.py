"""Evidence that real H100 GPUs and NVSwitches signed.

Skipped, with the reason, where neither the folder of real evidence nor the vendor's wheel is there.
"""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.verifier.helpers_evidence import RealSample, flip, real_data, real_sample
from verifier.errors import EvidenceError, Reason
from verifier.evidence import board
from verifier.evidence.attestation import DeviceReport
from verifier.evidence.chain import DeviceKind, TrustRoots, VerifiedChain, chain_id, verify_chain
from verifier.evidence.spdm import MeasurementReport, parse_report, verify_report
from verifier.units import Pdi

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def der(pem: bytes) -> list[bytes]:
    return [c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(pem)]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> RealSample:
    return real_sample(tmp_path_factory.mktemp("wheel"))


def verified(report: Path, chain: Path, root: Path) -> tuple[VerifiedChain, MeasurementReport]:
    verified_chain = verify_chain(der(chain.read_bytes()), TrustRoots.parse([root.read_bytes()]))
    return verified_chain, verify_report(bytes.fromhex(report.read_text()), verified_chain, None)


def test_one_h100(sample: RealSample) -> None:
    chain, report = verified(sample.report, sample.chain, sample.root)
    assert (chain.kind, chain.model) == (DeviceKind.GPU, "GH100")
    assert report.driver_version == "550.90.07"
    assert set(report.measurements) == set(range(1, 65))
    assert chain.not_before <= NOW <= chain.not_after
    assert (report.log, report.counters) == ((), None)  # no GPU ranges yet


def test_any_flipped_byte_of_a_real_report_is_refused(sample: RealSample) -> None:
    chain, _ = verified(sample.report, sample.chain, sample.root)
    spdm = bytes.fromhex(sample.report.read_text())
    for position in range(0, len(spdm), 97):
        with pytest.raises(EvidenceError) as caught:
            verify_report(flip(spdm, position), chain, None)
        assert caught.value.reason in {Reason.REPORT_MALFORMED, Reason.REPORT_SIGNATURE_INVALID}


@pytest.mark.parametrize("position", range(5))
def test_real_chain_with_one_certificate_changed_is_refused(sample: RealSample, position: int) -> None:
    certificates, roots = der(sample.chain.read_bytes()), TrustRoots.parse([sample.root.read_bytes()])
    certificates[position] = flip(certificates[position], len(certificates[position]) - 1)
    with pytest.raises(EvidenceError) as caught:
        verify_chain(certificates, roots)
    expected = Reason.CHAIN_UNTRUSTED_ROOT if position == 4 else Reason.CHAIN_SIGNATURE_INVALID
    assert caught.value.reason is expected


def test_real_report_layout_is_that_of_the_protocol(sample: RealSample) -> None:
    parsed = parse_report(bytes.fromhex(sample.report.read_text()))
    assert {3, 6, 12, 14, 15, 16, 17, 18, 19, 20} <= parsed.fields.keys()
    assert len(parsed.fields[20]) == 48


def roots() -> TrustRoots:
    return TrustRoots.parse([(real_data() / "roots" / "verifier_device_root.pem").read_bytes()])


def devices(*names: str) -> list[DeviceReport]:
    """All devices of these files, each verified under the nonce that its file names."""
    found: list[DeviceReport] = []
    for name in names:
        for entry in json.loads((real_data() / name).read_text()):
            chain = verify_chain(der(base64.b64decode(entry["certificate"])), roots())
            report = verify_report(base64.b64decode(entry["evidence"]), chain, bytes.fromhex(entry["nonce"]))
            found.append(DeviceReport(len(found), chain, report))
    return found


def test_one_whole_board() -> None:
    found = devices("hgx_8gpu_evidence.json", "hgx_4switch_evidence.json")
    assert [d.kind for d in found] == [DeviceKind.GPU] * 8 + [DeviceKind.SWITCH] * 4
    assert len({d.pdi for d in found}) == 12
    boards = board.join(found)
    switches = frozenset(d.pdi for d in found[8:])
    assert all(boards.edges[d.pdi] == switches for d in found[:8])
    assert all(len(boards.edges[d.pdi]) == 8 for d in found[8:])
    assert set(boards.group.values()) == {frozenset(d.pdi for d in found)}


def test_versions_are_those_that_the_files_state() -> None:
    entries = json.loads((real_data() / "hgx_8gpu_evidence.json").read_text())
    for device, entry in zip(devices("hgx_8gpu_evidence.json"), entries, strict=True):
        assert device.report.driver_version == entry["driver_version"]
        assert device.report.vbios_version == entry["vbios_version"]
    assert {d.report.vbios_version for d in devices("hgx_4switch_evidence.json")} == {"96.10.73.00.01"}


def test_gpus_of_that_board_under_another_nonce() -> None:
    on_board = {d.pdi: d.chain.device_key_id for d in devices("hgx_8gpu_evidence.json")}
    for device in devices("hopper_evidence.json", "multi_gpu_hopper.json"):
        assert on_board[device.pdi] == device.chain.device_key_id


def test_switch_that_repeats_one_gpu_names_seven() -> None:
    (switch,) = devices("switch_evidence_ls10.json")
    assert (switch.kind, switch.chain.model, len(switch.report.linked)) == (DeviceKind.SWITCH, "LS_10", 7)
    assert switch.report.vbios_version.startswith("96.10.55")


def test_h100_whose_report_names_no_firmware_id() -> None:
    folder = real_data() / "hopper535"
    root = real_data() / "roots" / "verifier_device_root.pem"
    chain, report = verified(folder / "report.txt", folder / "chain.txt", root)
    assert report.driver_version == "535.86.09"
    assert 20 not in parse_report(bytes.fromhex((folder / "report.txt").read_text())).fields
    assert len(chain.fwid) == 48


def test_report_whose_signature_is_wrong() -> None:
    folder = real_data() / "hopper535"
    chain = verify_chain(der((folder / "chain.txt").read_bytes()), roots())
    with pytest.raises(EvidenceError) as caught:
        verify_report(bytes.fromhex((folder / "report_invalid_signature.txt").read_text()), chain, None)
    assert caught.value.reason is Reason.REPORT_SIGNATURE_INVALID


def test_one_device_under_two_firmwares_keeps_its_key() -> None:
    by_pdi: dict[Pdi, set[bytes]] = {}
    names = ("hgx_8gpu_evidence.json", "hopper_evidence.json", "multi_gpu_hopper.json")
    for device in devices(*names):
        by_pdi.setdefault(device.pdi, set()).add(device.chain.device_key_id)
    assert all(len(keys) == 1 for keys in by_pdi.values())


def test_other_root_of_the_vendor_is_no_device_root() -> None:
    data = real_data()
    rim = TrustRoots.parse([(data / "roots" / "verifier_RIM_root.pem").read_bytes()])
    certificates = der((data / "hopperCertChain.txt").read_bytes())
    with pytest.raises(EvidenceError) as caught:
        verify_chain(certificates, rim)
    assert caught.value.reason is Reason.CHAIN_UNTRUSTED_ROOT
    assert len(chain_id(certificates)) == 32
