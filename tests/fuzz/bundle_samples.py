"""Small case bundles for the fuzz doors, and a header for any body: behind it is what a journal's owner could write."""

import gzip
import json
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.bundle_verify.journal_log import Draft, Log, Signer, Value, draft
from verifier.journal.notes import NoteKey

_SIGNER = Signer("fuzzed.example/journal", Ed25519PrivateKey.from_private_bytes(b"\5" * 32))
KEY = NoteKey.parse(_SIGNER.vkey)
_CASE: dict[str, Value] = {
    "case_id": 1,
    "event": 2,
    "scope": "silent",
    "state": 1,
    "severity": 3,
    "title": "a site fell silent",
    "licensee": "Example Cloud",
    "license_number": "D1",
    "site_id": "hall",
    "jurisdiction": "XA",
    "assignee": "",
    "opened_at": 1_900_000_000_000_000,
    "changed_at": 1_900_000_000_000_000,
    "quiet_since": None,
    "resolved_at": None,
    "resolution": "",
    "revision": 1,
    "devices": 0,
    "devices_open": 0,
    "entries": 1,
    "due_at": None,
}
_ENTRY: dict[str, Value] = {
    "case_id": 1,
    "entry": 1,
    "at": 1_900_000_000_000_000,
    "by": "",
    "kind": 3,
    "text": "x" * 300,
}
_CHAIN: dict[str, Value] = {"chain_id": bytes(32), "certificates": b"\0\0\0\1x"}


@cache
def _draft() -> Draft:
    log = Log(_SIGNER)
    log.write(1_900_000_000_000_000, ("chains", _CHAIN))
    log.write(1_900_000_000_000_001, ("cases", _CASE), ("case_entries", _ENTRY))
    exported = {"at": 1_900_000_000_000_002, "by": "officer/ann", "jurisdiction": "", "reason": "fuzzed"}
    return draft(log, 1, exported=exported, earlier=[1], materials={}, results={"keys": []})


def files() -> list[bytes]:
    """Whole bundles."""
    return [_draft().written()]


def bodies() -> list[bytes]:
    """The JSON of the same."""
    return [json.dumps(_draft().body).encode()]


def file_of(body: bytes) -> bytes:
    """A bundle of any body, under a good header."""
    return _draft().written(body=gzip.compress(body, 1, mtime=0))
