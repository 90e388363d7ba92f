"""Challenges: drawn, open, spent (docs/protocol.md §2). A book belongs to one stream and dies with it.

Whether a challenge was answered in time is checked by the verifier; that a challenge is spent once on other streams and
nodes, by the store's commit.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from server.store.journal_types import SignedCheckpoint
from verifier.evidence.attestation import IssuedChallenge, derive_challenge
from verifier.units import Challenge

NO_CHECKPOINT = bytes(32)
"""Before the first checkpoint (docs/protocol.md §2)."""

Newest = Callable[[], SignedCheckpoint | None]
"""Returns the journal's newest checkpoint."""


@dataclass(frozen=True, slots=True)
class DrawnChallenge:
    """A challenge with the preimage that is kept beside the evidence: `random[32] ‖ checkpoint[32]`."""

    issued: IssuedChallenge
    preimage: bytes


def draw_challenge(host_id: str, now: datetime, checkpoint_hash: bytes) -> DrawnChallenge:
    """Draw a challenge for one host, which names the journal's newest checkpoint or `NO_CHECKPOINT`."""
    random = os.urandom(32)  # docs/protocol.md CH1
    return DrawnChallenge(
        IssuedChallenge(derive_challenge(random, checkpoint_hash), host_id, now), random + checkpoint_hash
    )


def hash_of(newest: SignedCheckpoint | None) -> bytes:
    """Return what a challenge names a checkpoint by."""
    return NO_CHECKPOINT if newest is None else newest.hash


class ChallengeBook:
    """The open challenges of one stream: at most one a host (docs/protocol.md A2)."""

    def __init__(self) -> None:
        self._open: dict[str, DrawnChallenge] = {}

    def issue(self, host_id: str, now: datetime, checkpoint_hash: bytes) -> DrawnChallenge:
        """Draw the host's next challenge; the one before can no longer be answered."""
        drawn = draw_challenge(host_id, now, checkpoint_hash)
        self._open[host_id] = drawn
        return drawn

    def find(self, host_id: str, challenge: Challenge) -> DrawnChallenge | None:
        """Return the open challenge if it is this one; it stays open."""
        drawn = self._open.get(host_id)
        return drawn if drawn is not None and drawn.issued.challenge == challenge else None

    def is_open(self, host_id: str) -> bool:
        """Whether the host has a challenge to answer."""
        return host_id in self._open

    def spend(self, host_id: str, challenge: Challenge) -> DrawnChallenge | None:
        """Return the open challenge if it is this one, and close it for good (docs/protocol.md CH2)."""
        drawn = self.find(host_id, challenge)
        if drawn is not None:
            del self._open[host_id]
        return drawn

    def drop(self, host_id: str) -> bool:
        """Close the host's challenge unanswered; returns whether one was open."""
        return self._open.pop(host_id, None) is not None
