"""Tickets: what lets a device hold one ranging session with one landmark (docs/protocol.md §7).

Made here, checked by landmarks. COSE by hand: the only form that is allowed is a page long (docs/protocol.md C3).
"""

import hashlib
import os
from datetime import datetime, timedelta

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from nacl.signing import SigningKey

from verifier.evidence.attestation import IssuedChallenge
from verifier.units import LandmarkKeyId

_LABEL_TICKET = b"trigpoint-ticket-v1\0"
_TAG_SIGN1 = 18  # RFC 9052 §2
_ALG_ED25519 = -19  # RFC 9864 §2.2
_OUTLIVES_CHALLENGE = timedelta(seconds=5)
"""A session that began in the challenge's last moment may still end; its evidence comes too late anyway."""


class TicketOffice:
    """Signs tickets with the server's ticket key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        # libsodium signs twice as fast as OpenSSL, and a step of orders for a large host is some hundred tickets.
        self._key = SigningKey(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
        self.public_key = bytes(self._key.verify_key)
        self._protected = _encode({1: _ALG_ED25519, 4: hashlib.sha256(self.public_key).digest()})

    def issue(self, challenge: IssuedChallenge, landmark: LandmarkKeyId) -> bytes:
        """Sign a ticket for one session with this landmark under this challenge."""
        payload = _encode({1: challenge.challenge, 2: landmark, 3: _expires(challenge), 4: os.urandom(16)})
        signature = self._key.sign(
            _encode(["Signature1", self._protected, _LABEL_TICKET, payload])
        ).signature  # RFC 9052 §4.4
        return _encode(cbor2.CBORTag(_TAG_SIGN1, [self._protected, {}, payload, signature]))


def _expires(challenge: IssuedChallenge) -> int:
    end: datetime = challenge.issued_at + challenge.life + _OUTLIVES_CHALLENGE
    return int(end.timestamp())


def _encode(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)  # docs/protocol.md C2
