"""`trigpoint device result` against a fake server: the token alone, what it says, and whether it is signed."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from trigpoint.v1 import licensing_pb2
from typer.testing import Result

from tests.console.helpers import FakeServices
from tests.fuzz.result_samples import CLAIMS, JWK, KEY, key_sets
from verifier.jws import thumbprint

Trigpoint = Callable[..., Result]
PDI = "4a1f0c22d85e9b01"
KID = thumbprint(JWK["x"], JWK["y"])


def serve(services: FakeServices, claims: dict[str, Any], key: ec.EllipticCurvePrivateKey = KEY) -> str:
    token = jwt.encode(claims, key, "ES256", {"kid": KID})
    services.result = licensing_pb2.GetResultResponse(attestation="attestations/" + "00" * 32, result=token)
    return token


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_bytes(key_sets()[1])
    return path


def facts(result: Result) -> dict[str, str]:
    """The first column to the second; a line that goes on belongs to the one before."""
    found: dict[str, str] = {}
    last = ""
    for line in result.stdout.splitlines():
        name, _, value = line.partition("  ")
        if line.startswith(" "):
            found[last] += line.strip()
        elif value:
            last = name
            found[name] = value.strip()
    return found


def test_the_token_stands_alone(services: FakeServices, trigpoint: Trigpoint) -> None:
    token = serve(services, CLAIMS)
    for asked in (PDI, f"devices/{PDI}", f"0x{PDI.upper()}"):
        result = trigpoint("device", "result", asked)
        assert (result.exit_code, result.stdout, result.stderr) == (0, token + "\n", "")
    assert [request.name for request in services.result_requests] == [f"devices/{PDI}"] * 3
    told = json.loads(trigpoint("device", "result", PDI, "--json").stdout)
    assert told == {"attestation": "attestations/" + "00" * 32, "result": token}


def test_what_it_says(services: FakeServices, trigpoint: Trigpoint) -> None:
    serve(services, CLAIMS)
    result = trigpoint("device", "result", PDI, "--decode")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "…" not in result.stdout
    assert facts(result) == {
        "attestation": "00" * 32,
        "issued": "2030-03-17 17:46:40 UTC",
        "expires": "2030-03-17 18:46:40 UTC",
        "verifier": "trigpoint 1, Example Ltd",
        "key": KID,
        "signature": "not checked; --jwks FILE checks it",
        "status": "warning",
        "vector": "instance-identity -33, executables 3, hardware 2",
        "policy": "tag:trigpoint.dev,2026:appraisal#1",
        "standing": "UNPROVEN",
        "findings": "IDENTITY_CLONED",
        "license": "D1, revision 2",
        "presence": "COUNTRY: proven, PHYSICAL grade",
        "licensed region": "PROVEN",
        "prohibited": "outside of prohibited destinations: PROVEN",
        "assurance": "DEVICE_RANGED, f = 1",
        "data": "borders 1, lists 2",
    }
    assert f"Device {PDI}" in result.stdout


def test_the_rest_of_its_words(services: FakeServices, trigpoint: Trigpoint) -> None:
    """A demonstration, an issuer, a switch beside it, no proof, and what others wrote into it."""
    claims = copy.deepcopy(CLAIMS)
    own = claims["submods"][PDI]["trigpoint.dev"]
    own["place"]["demonstration"] = True
    own["presence"] = {"question": "SITE", "proven": False}
    own["findings"] = {}
    claims["iss"] = "https://verifier.example/\x1b[31m"
    claims["submods"]["5000000000000001"] = {
        "ear_status": "affirming",
        "trigpoint.dev": {"kind": "SWITCH", "findings": {}},
    }
    claims["submods"]["another"] = {"ear_status": "none"}
    del claims["exp"]
    serve(services, claims)
    result = trigpoint("device", "result", PDI, "--decode")
    told = facts(result)
    assert "not for accusation" in told["demonstration"]
    assert (told["presence"], told["findings"], told["expires"]) == ("SITE: not proven", "none", "-")
    assert "\x1b" not in told["issuer"]
    assert result.stderr == "tells of 2 more of its attestation; --json shows all\n"
    whole = trigpoint("device", "result", "attestations/" + "00" * 32, "--decode")
    assert services.result_requests[-1].name == "attestations/" + "00" * 32
    assert [f"Device {label}" in whole.stdout for label in claims["submods"]] == [True] * 3
    assert "witness" in whole.stdout
    assert whole.stderr == ""


def test_the_signature_is_checked(services: FakeServices, trigpoint: Trigpoint, jwks: Path) -> None:
    serve(services, CLAIMS)
    assert facts(trigpoint("device", "result", PDI, "--jwks", str(jwks)))["signature"] == "holds"
    told = json.loads(trigpoint("device", "result", PDI, "--jwks", str(jwks), "--json").stdout)
    assert (told["signature_holds"], told["key"], told["claims"]) == (True, KID, CLAIMS)
    assert json.loads(trigpoint("device", "result", PDI, "--decode", "--json").stdout)["signature_holds"] is None
    serve(services, CLAIMS, ec.generate_private_key(ec.SECP256R1()))
    for more in ((), ("--json",)):
        refused = trigpoint("device", "result", PDI, "--jwks", str(jwks), *more)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "the signature does not hold" in refused.stderr
    assert trigpoint("device", "result", PDI, "--decode").exit_code == 0  # who does not ask is told that nobody checked


def test_what_cannot_be_read(services: FakeServices, trigpoint: Trigpoint, tmp_path: Path) -> None:
    serve(services, {"iat": 1})
    result = trigpoint("device", "result", PDI, "--decode")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "eat_profile" in result.stderr
    serve(services, CLAIMS)
    missing = trigpoint("device", "result", PDI, "--jwks", str(tmp_path / "none"))
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "No such file" in missing.stderr
    (tmp_path / "bad").write_bytes(b"{}")
    assert "member keys" in trigpoint("device", "result", PDI, "--jwks", str(tmp_path / "bad")).stderr


def test_refusals(services: FakeServices, trigpoint: Trigpoint) -> None:
    assert trigpoint("device", "result", "4a1f").exit_code == 2
    assert services.result_requests == []
    services.denial = grpc.StatusCode.NOT_FOUND, f"devices/{PDI}"
    assert trigpoint("device", "result", PDI).exit_code == 1
