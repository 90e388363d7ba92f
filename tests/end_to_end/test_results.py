"""A result goes from the server to whoever relies on it, and says what the verdict beside it says."""

import asyncio
import urllib.request
from pathlib import Path

import pytest
from trigpoint.v1 import attestation_pb2, device_pb2, place_pb2, reason_pb2

from demo.stage import Stage
from demo.world import SHENZHEN
from firmware_stubs.client import BoardClient
from tests.end_to_end.attester import Attester, found, is_honest
from tests.relying_party import admits, write_program
from verifier.jws import KeySet, verify_jws
from verifier.result import Tier
from verifier.result_reading import Appraisal, DeviceResult, Result, read_result

pytestmark = pytest.mark.asyncio(loop_scope="session")


def published(url: str) -> bytes:
    """The key set, as anybody gets it."""
    with urllib.request.urlopen(f"{url}/.well-known/jwks.json", timeout=20) as answer:
        assert answer.headers["Content-Type"] == "application/jwk-set+json"
        data: bytes = answer.read()
        return data


async def verified(stage: Stage, verdict: attestation_pb2.Verdict) -> Result:
    """The verdict's result, its signature checked with the keys that the server publishes."""
    keys = KeySet.parse(await asyncio.to_thread(published, f"http://{stage.http}"))
    return read_result(verify_jws(verdict.result, keys))


def own(appraisal: Appraisal) -> DeviceResult:
    assert appraisal.device is not None
    return appraisal.device


def says_the_same(result: Result, verdict: attestation_pb2.Verdict) -> None:
    """Hold a result against the message beside it, field by field."""
    assert result.nonce == verdict.challenge
    assert list(result.submods) == [device.pdi.hex() for device in verdict.devices]
    for device in verdict.devices:
        told = own(result.submods[device.pdi.hex()])
        assert int(told.kind) == device.kind
        assert int(told.standing or 0) == device.standing
        assert {int(reason): int(severity) for reason, severity in told.findings.items()} == {
            finding.reason: finding.severity for finding in device.findings
        }
        assert (told.place is not None) is device.HasField("fix")
        if told.place is not None:
            fix = device.fix
            assert int(told.place.in_licensed_region) == fix.in_licensed_region
            assert int(told.place.outside_prohibited) == fix.outside_prohibited
            assert told.place.tolerated_domains == fix.tolerated_domains
            assert (told.place.borders, told.place.lists) == (fix.borders_version, fix.prohibited_version)
            assert told.place.demonstration is fix.demonstration


async def test_honest(stage: Stage, agent: Attester, tmp_path: Path) -> None:
    verdict = await agent.verdict_on_new_challenge()
    assert is_honest(verdict)
    result = await verified(stage, verdict)
    says_the_same(result, verdict)
    assert {appraisal.status for appraisal in result.submods.values()} == {Tier.AFFIRMING}
    for device in verdict.devices:
        held = own(result.submods[device.pdi.hex()]).license
        if device.kind == device_pb2.DEVICE_KIND_SWITCH:
            assert held is None
        else:
            assert held is not None
            assert (held.number, held.proven) == ("TEST-0001", True)
    # What the desk reads is what the agent was sent.
    assert (
        await stage.console("device", "result", f"attestations/{verdict.challenge.hex()}")
    ).strip() == verdict.result
    # The page's relying party believes the signature and refuses a demonstration, which this world is.
    program, pdi = write_program(tmp_path), verdict.devices[0].pdi.hex()
    assert await admits(program, f"http://{stage.http}", verdict.result, pdi) == (
        1,
        "refused: a demonstration proves nothing",
    )


async def test_moved(stage: Stage, agent: Attester, board: BoardClient) -> None:
    await board.faults(f"moved:{SHENZHEN}")
    verdict = await agent.verdict_on_new_challenge()
    outside = reason_pb2.Reason.Name(reason_pb2.REASON_OUTSIDE_LICENSED_REGION).removeprefix("REASON_")
    assert all(outside in names for names in found(verdict).values())
    result = await verified(stage, verdict)
    says_the_same(result, verdict)
    for device in verdict.devices:
        appraisal = result.submods[device.pdi.hex()]
        if device.kind == device_pb2.DEVICE_KIND_SWITCH:
            assert appraisal.status is Tier.AFFIRMING
        else:
            assert appraisal.status is Tier.CONTRAINDICATED
            assert device.fix.in_licensed_region == place_pb2.PLACE_ANSWER_REFUTED
            # It answered from Dallas a moment before: a sign that its key has two holders.
            assert appraisal.vector["instance-identity"] == -33
