"""Good attestation results, tokens and key sets for the fuzz doors, with one key that is always the same."""

import json
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from verifier.jws import thumbprint

KEY: Final = ec.derive_private_key(0x5EED, ec.SECP256R1())
JWK: Final[dict[str, Any]] = ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
CLAIMS: Final[dict[str, Any]] = {
    "eat_profile": "tag:ietf.org,2026:rats/ear#03",
    "iat": 1_900_000_000,
    "exp": 1_900_003_600,
    "ear_verifier_id": {"developer": "Example Ltd", "build": "trigpoint 1"},
    "eat_nonce": "A" * 43,
    "submods": {
        "4a1f0c22d85e9b01": {
            "ear_status": "warning",
            "ear_trustworthiness_vector": {"instance-identity": -33, "executables": 3, "hardware": 2},
            "ear_appraisal_policy_ids": ["tag:trigpoint.dev,2026:appraisal#1"],
            "trigpoint.dev": {
                "kind": "GPU",
                "standing": "UNPROVEN",
                "findings": {"IDENTITY_CLONED": "WARNING"},
                "license": {"number": "D1", "revision": 2},
                "presence": {"question": "COUNTRY", "proven": True, "grade": "PHYSICAL"},
                "place": {
                    "in_licensed_region": "PROVEN",
                    "outside_prohibited": "PROVEN",
                    "tolerated_domains": 1,
                    "assurance": "DEVICE_RANGED",
                    "demonstration": False,
                    "borders": "1",
                    "lists": "2",
                },
            },
        }
    },
}


def results() -> list[bytes]:
    """One claims-set in both spellings."""
    text = json.dumps(CLAIMS)
    earlier = text
    for name in ("verifier_id", "status", "trustworthiness_vector", "appraisal_policy_ids"):
        earlier = earlier.replace(f'"ear_{name}"', f'"ear.{name.replace("_", "-")}"')
    return [text.encode(), earlier.encode()]


def tokens() -> list[bytes]:
    """Signed: the claims, and nothing."""
    headers = {"kid": thumbprint(JWK["x"], JWK["y"])}
    return [jwt.encode(claims, KEY, "ES256", headers).encode() for claims in (CLAIMS, {})]


def key_sets() -> list[bytes]:
    """One key, and one among others."""
    return [json.dumps({"keys": keys}).encode() for keys in ([JWK], [{"kty": "OKP"}, JWK])]
