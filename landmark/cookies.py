"""The address cookie: state that the device keeps for the landmark. docs/protocol.md D1.

`u64be` nanoseconds of the landmark's monotonic clock, then 16 bytes of keyed BLAKE2b over that time, the tag, the
landmark nonce and the peer. The key is drawn at start and lives in memory alone, so a restart voids every cookie.
"""

import enum
import hmac
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

COOKIE_BYTES: Final = 24
COOKIE_LIFE_NS: Final = 10_000_000_000  # docs/protocol.md D1
COOKIE_KEY_BYTES: Final = 32
_TIME_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a datagram, and at which of our sockets: `endpoint` counts the listen addresses.

    `host` is the address in text as the system writes it, `scope_id` the interface of an IPv6 link-local address.
    """

    endpoint: int
    host: str
    port: int
    scope_id: int = 0


class CookieState(enum.Enum):
    """What a cookie turned out to be."""

    GOOD = enum.auto()
    FORGED = enum.auto()
    EXPIRED = enum.auto()


@dataclass(frozen=True, slots=True)
class CookieJar:
    """Makes and checks cookies under one key of 32 bytes."""

    key: bytes

    def make(self, peer: Peer, tag: bytes, landmark_nonce: bytes, now_ns: int) -> bytes:
        """Return the 24 bytes that only `peer` is sent."""
        when = now_ns.to_bytes(_TIME_BYTES, "big")
        return when + self._seal(peer, tag, landmark_nonce, when)

    def check(self, cookie: bytes, peer: Peer, tag: bytes, landmark_nonce: bytes, now_ns: int) -> CookieState:
        """Say whether `cookie` was made here for exactly these values, and less than 10 s ago."""
        when, seal = cookie[:_TIME_BYTES], cookie[_TIME_BYTES:]
        if not hmac.compare_digest(seal, self._seal(peer, tag, landmark_nonce, when)):
            return CookieState.FORGED
        age_ns = now_ns - int.from_bytes(when, "big")
        return CookieState.GOOD if 0 <= age_ns < COOKIE_LIFE_NS else CookieState.EXPIRED

    def _seal(self, peer: Peer, tag: bytes, landmark_nonce: bytes, when: bytes) -> bytes:
        # All parts but the last have one size.
        where = f"{peer.endpoint} {peer.port} {peer.scope_id} {peer.host}".encode()
        message = when + tag + landmark_nonce + where
        return blake2b(message, digest_size=COOKIE_BYTES - _TIME_BYTES, key=self.key, person=b"tp-cookie").digest()
