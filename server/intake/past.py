"""Agents remember the largest checkpoint that they were sent; what they show is held against the journal.

docs/protocol.md A8. The last defense: it also catches a store that was rolled back together with its anchor while no
witness was there.
"""

from collections import OrderedDict
from hashlib import sha256
from typing import Never

import structlog

from server.store.journal_past import Past

_REMEMBERED = 4096
"""Notes that held, by hash. Most agents show one of the newest few."""


class PastGuard:
    """What all streams share: the past, and the checkpoints that were found good."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._good: OrderedDict[bytes, None] = OrderedDict()

    async def until_lost(self) -> Never:
        """Wait, and raise `PastLostError` when the past is lost, whoever found out."""
        await self._past.until_lost()

    async def check(self, note: bytes, where: str) -> None:
        """Take the checkpoint that an agent shows; it counts only if we signed it.

        Raises:
            PastLostError: The journal does not extend it, or did not extend one before.
            StoreError: The journal cannot be read.
        """
        self._past.hold()
        digest = sha256(note).digest()
        if not note or digest in self._good:
            return
        checkpoint = self._past.recognize(note)
        if checkpoint is None:
            # Of another journal, or made up: an agent's word, which accuses nobody.
            structlog.get_logger().info("checkpoint not ours", where=where)
            return
        await self._past.check(checkpoint, where)
        self._good[digest] = None
        if len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)
