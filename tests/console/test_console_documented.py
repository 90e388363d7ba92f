"""Every command in a code block of the pages can be typed as it stands; the day of docs/officers.md can be lived."""

import base64
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.cli import app
from firmware_stubs.ca import DeviceCA
from firmware_stubs.certificates import chain_pem
from tests.console.real_desk import LICENSE, ONE, TWO, real_desk
from tests.verifier.helpers_evidence import NONCE, Host

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/officers.md",
    "docs/import.md",
    "docs/planning.md",
    "docs/landmarks.md",
    "docs/agents.md",
    "docs/journal.md",
    "docs/bundle.md",
)
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> Iterator[list[str]]:
    """Yield the commands of each code block, lines that continue them joined."""
    for block in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        lines = block.replace("\\\n", " ").splitlines()
        yield [line for line in lines if re.match(r"(?:\.venv/bin/)?trigpoint ", line)]


COMMANDS = sorted({line for page in PAGES for block in blocks(page) for line in block})


def test_there_are_some() -> None:
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("line", COMMANDS)
def test_it_can_be_typed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, *arguments = shlex.split(line.partition(" > ")[0], comments=True)
    offline = arguments[0] == "verify" or arguments[:2] == ["deployment", "draft"]
    # A device that is watched for is waited for, so there only the options are read.
    elsewhere = [] if offline else ["--help"] if arguments[:2] == ["device", "watch"] else ["--server", "127.0.0.1:1"]
    result = CliRunner().invoke(app, [*arguments, *elsewhere, *([] if offline else ["--plaintext"])])
    assert "Usage:" not in result.stderr, result.stderr
    # Files are not there, or the server is not.
    assert result.exit_code in ({0} if "--help" in elsewhere else {2, 3}), result.stderr


async def test_the_day_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host.build(tmp_path / "board", DeviceCA.generate())
    (tmp_path / "device_root.pem").write_bytes(chain_pem([host.ca.root.certificate]))
    evidence = [
        {
            "certificate": base64.b64encode(chain_pem(device.chain)).decode(),
            "evidence": base64.b64encode(device.report(NONCE, host.links(device))).decode(),
            "nonce": NONCE.hex(),
        }
        for device in host.devices
    ]
    (tmp_path / "evidence.json").write_text(json.dumps(evidence))
    monkeypatch.chdir(tmp_path)
    day = next(block for block in blocks("docs/officers.md") if block and "party create" in block[0])
    real = {ONE: host.gpus[0].pdi.hex(), TWO: host.gpus[1].pdi.hex(), "12": "1"}
    async with real_desk(tmp_path / "server") as people:
        for line in day:
            _, *arguments = (real.get(word, word) for word in shlex.split(line, comments=True))
            await people.does("bob" if arguments[:2] == ["change", "approve"] else "ann", *arguments)
        shipment = await people.says("bob", "change", "approve", "2")
        assert shipment.code == 0
        held = await people.told("eve", "license", "get", LICENSE)
        # The file says what the commands said: the license was drafted once and activated once.
        assert (held["etag"], held["license"]["state"], held["deployed_count"]) == ("2", "ACTIVE", 2)
        found = (await people.told("eve", "deployment", "list"))["records"]
        assert [entry["deployment"]["shipment"] for entry in found] == ["shipments/77"] * 2
        assert [entry["name"] for entry in (await people.told("eve", "site", "list"))["records"]] == [
            f"licenses/{LICENSE}/sites/singapore-1"
        ]
        assert people.too_wide() == []
