"""Writes down who is shown where devices are, before they are (docs/protocol.md K2)."""

from datetime import datetime

from server.rpc.access import current_peer
from server.store.reads import ReadDoor


async def note_read(door: ReadDoor, call: str, subject: str, devices: int, now: datetime) -> None:
    """Write down that the caller is shown where devices are; raises `StoreUnavailableError`, and then shows nothing.

    Args:
        door: Where it is kept.
        call: The RPC, as `GetDevice`.
        subject: A resource name, or the filter of a list.
        devices: How many are shown.
        now: The time.
    """
    peer = current_peer()
    await door.note(peer.path, peer.jurisdiction, call, subject, devices, now)
