"""Reads an attestation result, and checks its signature where the reader has the keys (docs/protocol.md §16)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifier.errors import UsageError
from verifier.jws import KeySet, read_object, unverified_parts, verify_jws
from verifier.limits import MAX_JWKS_BYTES
from verifier.result_reading import Appraisal, DeviceResult, LicenseResult, PlaceResult, Result, parse_result

__all__ = ["Appraisal", "DeviceResult", "LicenseResult", "PlaceResult", "Token", "UnusableResultError", "read_token"]


class UnusableResultError(Exception):
    """The keys or the token cannot be read, or the keys did not sign it; the message says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """A result as its token says it.

    Attributes:
        key: Which key it names.
        signed: Its signature was checked and holds; False: no keys were given.
        claims: The claims-set.
        result: The same, read.
    """

    key: str
    signed: bool
    claims: dict[str, Any]
    result: Result


def read_token(token: str, jwks: Path | None) -> Token:
    """Read a token; `jwks` is a file with the server's key set, None to read without a check.

    Raises:
        UnusableResultError: It cannot be read, or is not signed by one of these keys.
    """
    try:
        header, payload = unverified_parts(token)
        if jwks is not None:
            payload = verify_jws(token, KeySet.parse(_read(jwks)))
        claims = read_object(payload)
        return Token(header["kid"], jwks is not None, claims, parse_result(claims))
    except UsageError as error:
        raise UnusableResultError(str(error)) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_JWKS_BYTES + 1)
    except OSError as error:
        raise UnusableResultError(f"{path}: {error.strerror}") from error
