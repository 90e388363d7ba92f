"""What both ends of a session compute, each for itself. docs/protocol.md R1 to R3."""

import hashlib
import hmac
from typing import Final

CHALLENGE_BYTES: Final = 32
KEY_ID_BYTES: Final = 32
SECRET_BYTES: Final = 32
MAX_ROUNDS: Final = 64  # docs/protocol.md R3
MIN_ACCEPTED_ROUNDS: Final = 8  # docs/protocol.md R5

_SESSION_LABEL: Final = b"trigpoint-session-v1\0"
_COMMIT_LABEL: Final = b"trigpoint-commit-v1\0"
_ROUND_LABEL: Final = b"trigpoint-round-v1\0"


def session_id_of(challenge: bytes, landmark_key_id: bytes, landmark_nonce: bytes) -> bytes:
    """Return the session's id, 32 bytes, from three values of 32 bytes. docs/protocol.md R1."""
    return hashlib.sha256(_SESSION_LABEL + challenge + landmark_key_id + landmark_nonce).digest()


def commitment_to(session_id: bytes, secret: bytes) -> bytes:
    """Return C, 32 bytes, for a secret of 32 bytes. docs/protocol.md R2."""
    return hashlib.sha256(_COMMIT_LABEL + session_id + secret).digest()


def answer_to(session_id: bytes, secret: bytes, index: int, challenge: bytes) -> bytes:
    """Return `a_i`, 16 bytes, for `c_i`, 16 bytes. docs/protocol.md R3."""
    return hmac.digest(secret, _ROUND_LABEL + session_id + index.to_bytes(2, "big") + challenge, "sha256")[:16]
