"""Signs attestation results (docs/protocol.md §16): one JWT an attestation, and the JWK set that verifies them."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from jwt.algorithms import ECAlgorithm

from verifier.jws import thumbprint
from verifier.result import result_claims
from verifier.verdict import Verdict
from verifier.verifier import Inputs

ALGORITHM = "ES256"
TOKEN_TYPE = "eat+jwt"  # noqa: S105 - RFC 9782, a media type


class ResultSigner:
    """Signs what verdicts say.

    Args:
        keys: P-256; the first signs, all are published (docs/protocol.md EA5).
        issuer: Of the tokens; empty: they name none.
        developer: Who is responsible for this build.
    """

    def __init__(self, keys: Sequence[EllipticCurvePrivateKey], *, issuer: str, developer: str) -> None:
        published = [_jwk(key) for key in keys]
        self._key = keys[0]
        self._headers = {"kid": published[0]["kid"], "typ": TOKEN_TYPE}
        self._jwks = json.dumps({"keys": published}, separators=(",", ":")).encode()
        self._issuer = issuer
        self._developer = developer
        self._build = f"trigpoint {version('trigpoint')}"

    def sign(self, verdict: Verdict, inputs: Inputs) -> str:
        """Return the result of a verdict, a compact JWT; empty when no device is authentic (docs/protocol.md EA1)."""
        claims = result_claims(verdict, inputs, issuer=self._issuer, developer=self._developer, build=self._build)
        if claims is None:
            return ""
        return jwt.encode(claims, self._key, ALGORITHM, self._headers)

    def jwks(self) -> bytes:
        """Return the JWK set of all keys, JSON."""
        return self._jwks


def _jwk(key: EllipticCurvePrivateKey) -> dict[str, Any]:
    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": thumbprint(public["x"], public["y"]), "use": "sig", "alg": ALGORITHM}
