"""Opens the journal's part of a server and looks back (docs/protocol.md J8)."""

import contextlib
from collections.abc import Callable
from datetime import datetime

from server.config import Config
from server.desk.anchor import Anchor
from server.desk.past_check import check_past
from server.desk.sealer import Sealer
from server.desk.witnesses import WitnessClient, open_http
from server.materials import Materials
from server.rpc.health import Health
from server.store.journal_past import Past
from server.store.store import Store
from server.telemetry import Telemetry
from verifier.journal.notes import NoteKey


def journal_key_of(config: Config, materials: Materials) -> NoteKey:
    """Return the public key of this server's journal."""
    return NoteKey.of(config.journal.origin, materials.journal_key)


async def open_journal(
    stack: contextlib.AsyncExitStack,
    config: Config,
    materials: Materials,
    store: Store,
    health: Health,
    telemetry: Telemetry,
    clock: Callable[[], datetime],
) -> tuple[Past, Sealer]:
    """Hold the store against all that was ever signed of it; nothing is written yet.

    What it opens ends with `stack`.

    Raises:
        RolledBackError: The store is older than what was signed, or another one.
        StoreError: The store failed.
    """
    section = config.journal
    past = Past(store.journal, journal_key_of(config, materials), telemetry, health.past_lost)
    anchor = Anchor(section.anchor)
    witnesses: list[WitnessClient] = []
    if section.witnesses:
        http = open_http(section.ca)
        stack.push_async_callback(http.aclose)
        witnesses += (
            WitnessClient(witness.url, key, http, section.witness_timeout_s)
            for witness, key in zip(section.witnesses, materials.witnesses, strict=True)
        )
    await check_past(store.journal, past, materials.journal_key, anchor, witnesses)
    sealer = Sealer(
        store.journal,
        materials.journal_key,
        past,
        anchor,
        witnesses,
        interval_s=section.seal_interval_s,
        telemetry=telemetry,
        clock=clock,
    )
    stack.push_async_callback(sealer.close)
    return past, sealer
