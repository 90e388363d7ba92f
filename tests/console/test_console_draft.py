"""`trigpoint deployment draft`: rows from a board's evidence, offline."""

import base64
import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from console import draft
from console.cli import app
from firmware_stubs.ca import DeviceCA
from firmware_stubs.certificates import chain_pem
from firmware_stubs.device import Device
from server.rpc import rows
from tests.verifier.helpers_evidence import NONCE, Host, flip

Draft = Callable[..., Result]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host.build(tmp_path_factory.mktemp("host"), DeviceCA.generate(), gpus=3, switches=2)


@pytest.fixture
def run(host: Host, tmp_path: Path) -> Draft:
    root = tmp_path / "root.pem"
    root.write_bytes(chain_pem([host.ca.root.certificate]))

    def draft_from(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, ["deployment", "draft", *map(str, arguments), "--root", str(root)])

    return draft_from


def evidence(host: Host, path: Path, *devices: Device, bend: Callable[[bytes], bytes] = lambda report: report) -> Path:
    """What devices say over one nonce, as a vendor's tool writes it."""
    entries = [
        {
            "certificate": base64.b64encode(chain_pem(device.chain)).decode(),
            "evidence": base64.b64encode(bend(device.report(NONCE, host.links(device)))).decode(),
            "nonce": NONCE.hex(),
        }
        for device in devices
    ]
    path.write_text(json.dumps(entries))
    return path


def drafted(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.stderr
    return list(csv.DictReader(result.stdout.splitlines()))


def test_a_row_for_each_gpu(host: Host, run: Draft, tmp_path: Path) -> None:
    file = evidence(host, tmp_path / "board.json", *host.devices)
    result = run(file, "--set", "license_number=D-1", "--set", "site_name=Hall = 1", "--set", "eccn=4A090")
    found = drafted(result)
    assert [row["device_pdi"] for row in found] == sorted(gpu.pdi.hex() for gpu in host.gpus)
    assert {(row["license_number"], row["site_name"], row["eccn"], row["cadence_s"]) for row in found} == {
        ("D-1", "Hall = 1", "4A090", "")
    }
    assert result.stderr == "3 rows drafted; empty columns are yours to fill in\n"


def test_a_device_that_stands_in_two_files_is_one(host: Host, run: Draft, tmp_path: Path) -> None:
    first = evidence(host, tmp_path / "1.json", *host.gpus[:2])
    second = evidence(host, tmp_path / "2.json", *host.gpus[1:])
    assert len(drafted(run(first, second))) == 3


def test_rows_by_device_key(host: Host, run: Draft, tmp_path: Path) -> None:
    by_pdi = drafted(run(evidence(host, tmp_path / "b.json", *host.gpus)))
    by_key = drafted(run(tmp_path / "b.json", "--by", "key"))
    keys = {row["device_key_id"] for row in by_key}
    assert (len(by_pdi), len(keys)) == (3, 3)
    assert {len(key) for key in keys} == {64}
    assert "device_pdi" not in by_key[0]


def test_one_row_for_a_board(host: Host, run: Draft, tmp_path: Path) -> None:
    (row,) = drafted(run(evidence(host, tmp_path / "board.json", *host.devices), "--by", "board"))
    assert row["board"] in {switch.pdi.hex() for switch in host.switches}
    assert row["board_devices"] == "3"
    nothing = run(evidence(host, tmp_path / "gpus.json", *host.gpus), "--by", "board")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert "shows no board" in nothing.stderr


def test_nothing_is_drafted_from_evidence_that_is_refused(host: Host, run: Draft, tmp_path: Path) -> None:
    good = evidence(host, tmp_path / "good.json", *host.gpus)
    bad = evidence(host, tmp_path / "bad.json", host.gpus[0], bend=lambda report: flip(report, len(report) - 1))
    output = tmp_path / "rows.csv"
    result = run(good, bad, "-o", output)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"refused: {bad}, entry 0: " in result.stderr
    assert "1 report refused; nothing is drafted" in result.stderr
    assert not output.exists()


def test_it_writes_the_file_that_it_is_told_to(host: Host, run: Draft, tmp_path: Path) -> None:
    output = tmp_path / "rows.csv"
    result = run(evidence(host, tmp_path / "board.json", *host.devices), "-o", output)
    assert (result.exit_code, result.stdout) == (0, "")
    assert output.read_bytes().count(b"\r\n") == 4
    unwritable = run(tmp_path / "board.json", "-o", tmp_path / "absent" / "rows.csv")
    assert unwritable.exit_code == 2


@pytest.mark.parametrize("given", ["license_number", "device_pdi=1", "colour=red"])
def test_a_column_that_is_none_is_refused(host: Host, run: Draft, tmp_path: Path, given: str) -> None:
    result = run(evidence(host, tmp_path / "board.json", *host.devices), "--set", given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("trigpoint: --set takes COLUMN=VALUE; the columns are license_number, ")


def test_no_file(run: Draft, tmp_path: Path) -> None:
    result = run(tmp_path / "absent.json")
    assert (result.exit_code, result.stdout) == (2, "")


def test_the_columns_are_those_of_the_import() -> None:
    selectors = {"device_pdi", "device_key_id", "board", "board_devices"}
    assert {*draft.COLUMNS, *selectors} == set(rows.COLUMNS)
