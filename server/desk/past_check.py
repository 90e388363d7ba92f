"""The look back at start: does the store hold all that this server has ever signed? (docs/protocol.md J8)."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.desk.anchor import Anchor, AnchorError
from server.desk.witnesses import WitnessClient, WitnessError
from server.store.journal_past import Past, PastLostError, Roots
from server.store.journal_types import SignedCheckpoint
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.merkle import EMPTY_ROOT
from verifier.journal.notes import sign

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class RolledBackError(PastLostError):
    """The store is older than what was signed from it, or another one. The server must not serve."""


class KeptRoots(Roots, Protocol):
    """What is asked of the journal; `Store.journal` is one."""

    async def newest(self) -> SignedCheckpoint | None:
        """Return the newest checkpoint that the store keeps."""


async def check_past(
    journal: KeptRoots, past: Past, key: Ed25519PrivateKey, anchor: Anchor, witnesses: Sequence[WitnessClient]
) -> None:
    """Hold the journal against its own checkpoints, the anchor, and what each reachable witness signed.

    Raises:
        RolledBackError: It does not extend one of them.
        StoreError: It cannot be read.
    """
    try:
        kept = await journal.newest()
        ours = past.recognize(kept.note.encode()) if kept else None
        if ours is not None:  # None also after a new origin or key
            await past.check(ours, "the store itself")
        await _check_anchor(past, anchor, has_signed=ours is not None)
        await asyncio.gather(*(_check_witness(past, key, witness) for witness in witnesses))
    except RolledBackError:
        raise
    except PastLostError as error:
        raise RolledBackError(str(error)) from error


async def _check_anchor(past: Past, anchor: Anchor, *, has_signed: bool) -> None:
    try:
        note = await anchor.read()
    except AnchorError as error:
        raise RolledBackError(f"the anchor cannot be read: {error}") from error
    if note is None:
        if has_signed:
            _LOG.warning("anchor missing", path=str(anchor.path))
        return
    checkpoint = past.recognize(note)
    if checkpoint is None:
        raise RolledBackError(
            f"the anchor {anchor.path} holds no checkpoint that journal.key signed for {past.ours.name}. If the "
            "journal is a new one, move the file away; if not, put the right file, key or origin back."
        )
    await past.check(checkpoint, f"the anchor {anchor.path}")


async def _check_witness(past: Past, key: Ed25519PrivateKey, witness: WitnessClient) -> None:
    name, origin = witness.key.name, past.ours.name
    try:
        note = await witness.newest(origin)
        checkpoint = past.recognize(bytes(note)) if note else None
        if checkpoint is not None:
            await past.check(checkpoint, f"the witness {name}")
            return
        # One that keeps to the specification alone tells its size; whether we extend it, its next cosignature shows.
        at = await witness.probe(sign(Checkpoint(origin, 0, EMPTY_ROOT).text, origin, key))
    except WitnessError as error:
        _LOG.warning("witness not asked", witness=name, why=error.why.value, error=str(error))
        return
    size, _ = await past.journal.state()
    if at > size:
        await past.lose(f"the witness {name} says that it cosigned {at} entries, and the journal has {size}")
