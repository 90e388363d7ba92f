"""Signing of attestation results: one key signs, all are published, and a rotation breaks no result (EA1, EA5)."""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry

from firmware_stubs.ca import DeviceCA
from server.http import HttpServer
from server.intake.results import ResultSigner
from tests.relying_party import admits, write_program
from tests.verifier.helpers_evidence import CHALLENGE, NEAR_NS, PROHIBITED, Host, borders, hold_session
from tests.verifier.helpers_evidence import references_document as references
from verifier.appraise import finding
from verifier.errors import Reason
from verifier.evidence.measurements import ReferenceValues
from verifier.jws import JwsError, KeySet, thumbprint, verify_jws
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas
from verifier.result import result_claims
from verifier.result_reading import read_result
from verifier.verdict import Verdict
from verifier.verifier import Inputs, Verifier

OLD, NEW = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def signer(*keys: ec.EllipticCurvePrivateKey, issuer: str = "") -> ResultSigner:
    return ResultSigner(keys, issuer=issuer, developer="Example Ltd")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Verdict, Inputs]:
    """An honest host, under a policy whose verdicts are no demonstration's once the landmarks are said to count."""
    host = Host.build(tmp_path_factory.mktemp("host"), DeviceCA.generate())
    policy = PlacePolicy(
        atlas=Atlas.parse(borders(), "squares"), prohibited=PROHIBITED, prohibited_version="test", audited_within=None
    )
    attestation, chains = host.attest(ranged={0: [hold_session(p, CHALLENGE, NEAR_NS) for p in host.home]})
    inputs = host.inputs(chains)
    verifier = Verifier(host.roots, ReferenceValues.parse([json.dumps(references()).encode()]), policy)
    return verifier.verify(attestation, inputs), inputs


def key_names(jwks: bytes) -> list[str]:
    return [key["kid"] for key in json.loads(jwks)["keys"]]


def test_a_token_as_the_page_has_it(judged: tuple[Verdict, Inputs]) -> None:
    """docs/protocol.md EA1: a compact JWT, ES256, `kid` the thumbprint of the key."""
    made = signer(OLD, issuer="https://verifier.example")
    token = made.sign(*judged)
    header = jwt.get_unverified_header(token)
    (jwk,) = json.loads(made.jwks())["keys"]
    assert header == {"alg": "ES256", "kid": thumbprint(jwk["x"], jwk["y"]), "typ": "eat+jwt"}
    assert jwk.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("EC", "P-256", "sig", "ES256")
    claims = jwt.decode(token, OLD.public_key(), ["ES256"], options={"verify_exp": False, "verify_iat": False})
    build = claims["ear_verifier_id"]["build"]
    assert re.fullmatch(r"trigpoint \d+\.\d+\.\d+\S*", build)
    assert claims == result_claims(*judged, issuer="https://verifier.example", developer="Example Ltd", build=build)
    assert read_result(verify_jws(token, KeySet.parse(made.jwks()))).nonce == CHALLENGE


def test_no_authentic_device_no_token(judged: tuple[Verdict, Inputs]) -> None:
    verdict, inputs = judged
    assert signer(OLD).sign(replace(verdict, devices=()), inputs) == ""


def test_nothing_private_is_published() -> None:
    made = json.loads(signer(OLD, NEW).jwks())
    assert all("d" not in key for key in made["keys"])


def test_a_rotation_as_the_operator_does_it(judged: tuple[Verdict, Inputs]) -> None:
    """docs/protocol.md EA5: the new key is known before it signs, the old one until its last result has expired."""
    before, announced, rotated, after = signer(OLD), signer(OLD, NEW), signer(NEW, OLD), signer(NEW)
    old, new = (key_names(made.jwks())[0] for made in (before, after))
    assert old != new
    assert key_names(announced.jwks()) == [old, new]
    assert key_names(rotated.jwks()) == [new, old]
    stages = (before, announced, rotated, after)
    tokens = [made.sign(*judged) for made in stages]
    assert [jwt.get_unverified_header(token)["kid"] for token in tokens] == [old, old, new, new]
    # A reader who fetched the keys a stage ago, or fetches them a stage later, verifies every token.
    for signed, reading in itertools.product(range(4), range(4)):
        if abs(signed - reading) <= 1:
            verify_jws(tokens[signed], KeySet.parse(stages[reading].jwks()))
    with pytest.raises(JwsError, match="no key of the set"):
        verify_jws(tokens[0], KeySet.parse(after.jwks()))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The relying party of docs/results.md."""
    return write_program(tmp_path_factory.mktemp("relying"))


@asynccontextmanager
async def published(jwks: bytes) -> AsyncIterator[str]:
    """The server's HTTP port."""
    server = HttpServer(CollectorRegistry(), lambda: True, jwks=jwks)
    port = await server.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


def fresh(
    judged: tuple[Verdict, Inputs], *, demonstration: bool = False, ago: timedelta = timedelta(), **changes: Any
) -> tuple[Verdict, Inputs]:
    """The verdict as of now or a while ago, its first device changed."""
    verdict, inputs = judged
    now = datetime.now(UTC) - ago
    first = replace(verdict.devices[0], **changes)
    assert first.fix is not None
    first = replace(first, fix=first.fix._replace(demonstration=demonstration))
    held = {
        pdi: replace(each, license=replace(each.license, valid_until=now + timedelta(days=9)))
        for pdi, each in inputs.deployments.items()
    }
    moved = replace(verdict, received_at=now, devices=(first, *verdict.devices[1:]))
    return moved, replace(inputs, now=now, deployments=held)


async def test_the_page_s_relying_party(program: Path, judged: tuple[Verdict, Inputs]) -> None:
    made, other = signer(OLD, NEW), signer(NEW)
    gpu, switch = (judged[0].devices[index].pdi.hex() for index in (0, 2))
    good = made.sign(*fresh(judged))
    moved = finding(Reason.OUTSIDE_LICENSED_REGION, "it is elsewhere")
    async with published(made.jwks()) as url:
        told = await asyncio.gather(
            admits(program, url, good, gpu),
            admits(program, url, made.sign(*fresh(judged, ago=timedelta(hours=25))), gpu),
            admits(program, url, made.sign(*fresh(judged, findings=(moved,))), gpu),
            admits(program, url, made.sign(*fresh(judged, demonstration=True)), gpu),
            admits(program, url, made.sign(*fresh(judged, presence_proven=False)), gpu),
            admits(program, url, good, switch),
            admits(program, url, good, "00" * 8),
            admits(program, url, good[:-8] + "AAAAAAAA", gpu),
            admits(program, url, ResultSigner([NEW], issuer="", developer="d").sign(*fresh(judged)), gpu),
        )
    async with published(other.jwks()) as url:
        unknown_key = await admits(program, url, good, gpu)
    assert told[0] == (0, f"{gpu} is admitted")
    assert [code for code, _ in told[1:]] == [1, 1, 1, 1, 1, 1, 1, 0]
    assert [said.split(":")[0] for _, said in told[1:5]] == ["refused"] * 4
    assert [said.removeprefix("refused: ") for _, said in told[1:6]] == [
        "Signature has expired",
        "the status is contraindicated",
        "a demonstration proves nothing",
        "its presence is not proven",
        "its presence is not proven",
    ]
    assert unknown_key[0] == 1
