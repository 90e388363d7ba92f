"""A case from a lie to a court: a board that was moved, its case, exported, and checked with public keys alone."""

import asyncio
import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from console.offline_bundle.as_json import to_json
from console.offline_bundle.check import Trust, check_bundle, load_trust
from demo.processes import run
from demo.stage import Stage
from demo.world import SHENZHEN
from firmware_stubs.client import BoardClient
from tests.end_to_end.attester import Attester, found

pytestmark = pytest.mark.asyncio(loop_scope="session")

WAIT_S = 30


async def case_of(stage: Stage, event: str) -> str:
    """The number of the first case of this kind, once it stands."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        cases = json.loads(await stage.console("case", "list", "--json"))["cases"]
        for case in cases:
            if case["event"] == event:
                return str(case["name"]).removeprefix("cases/")
        await asyncio.sleep(0.3)
    raise AssertionError(f"no case of {event}")


async def trust_of(stage: Stage) -> Trust:
    vkey = (await run("trigpoint-server", "journal-key", "--config", stage.folder / "server.toml")).split()[-1]
    root = x509.load_pem_x509_certificate((stage.folder / "vendor" / "root.pem").read_bytes())
    return load_trust(vkey, [sha256(root.public_bytes(Encoding.DER)).hexdigest()], [], [], None)


async def exported(stage: Stage, number: str, path: Path) -> bytes:
    await stage.console("case", "export", number, "-o", str(path), "--reason", "asked by a court")
    return await asyncio.to_thread(path.read_bytes)


def points(told: dict[str, Any], state: str) -> list[str]:
    return [f"{check['part']}: {check['text']}" for check in told["checks"] if check["state"] == state]


async def test_a_moved_board_before_a_court(stage: Stage, agent: Attester, board: BoardClient, tmp_path: Path) -> None:
    await board.faults(f"moved:{SHENZHEN}")
    verdict = await agent.verdict_on_new_challenge()
    assert all("OUTSIDE_LICENSED_REGION" in names for names in found(verdict).values())
    number = await case_of(stage, "ELSEWHERE")
    data = await exported(stage, number, tmp_path / "case.bundle")
    trust = await trust_of(stage)
    told = to_json(check_bundle(data, trust))
    assert points(told, "refused") == []
    assert told["outcome"] == "shown"
    # Every finding that a verdict opened was seen again in what the devices and landmarks signed.
    accusing = [finding["reason"] for finding in told["case"]["findings"]]
    assert "OUTSIDE_LICENSED_REGION" in accusing
    assert any("OUTSIDE_LICENSED_REGION" in text and "shows it" in text for text in points(told, "shown"))
    assert any(
        text.startswith("records: ") and "proposed by ann, approved by bob" in text for text in points(told, "shown")
    )
    assert any(text.startswith("results: ") for text in points(told, "shown"))
    # It says what it is: a demonstration, of a journal that nobody witnesses.
    assert any(text.startswith("DEMONSTRATION") for text in told["aloud"])
    assert any(text.startswith("UNWITNESSED") for text in told["aloud"])
    for at in range(0, len(data), max(1, len(data) // 40)):
        bent = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert check_bundle(bent, trust).refused
