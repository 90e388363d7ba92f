"""Which switch each NVLink of a GPU ends at, and what both ends therefore report.

Spec: docs/protocol.md §4, TLV 22 and 26. Every GPU is linked to every switch; the spread over 18 links is that of a
real eight-GPU board.
"""

from collections.abc import Mapping, Sequence

GPU_SLOTS = 8
SWITCH_SLOTS = 4
SWITCH_LINKS = 64

_EMPTY_SLOT = b"\xff" * 8
_UNUSED_LINK = 0xFF
_FIRST_LINK = 20
# Switch at the other end of each GPU link: five, four, five and four links to the four switches.
_SPREAD = (0, 0, 1, 1, 0, 0, 2, 2, 1, 1, 0, 2, 3, 3, 2, 2, 3, 3)


def gpu_links(switch_pdis: Sequence[bytes]) -> bytes | None:
    """TLV 22 of a GPU: 18 times 8 bytes, PDIs byte-reversed. None on a board without switches: the TLV is absent."""
    if not switch_pdis:
        return None
    return b"".join(switch_pdis[end % len(switch_pdis)][::-1] for end in _SPREAD)


def switch_links(position: int, switch_count: int, gpu_pdis: Mapping[int, bytes]) -> bytes:
    """TLV 26 of the switch at `position`: 8 slots of 8 bytes, then 64 bytes link → slot. `gpu_pdis` is slot → PDI."""
    slots = b"".join(gpu_pdis.get(slot, _EMPTY_SLOT) for slot in range(GPU_SLOTS))
    links_per_gpu = sum(end % switch_count == position for end in _SPREAD)
    # A switch has 64 links: on a full board with one or two switches not all of a GPU's links reach it.
    links_per_gpu = min(links_per_gpu, SWITCH_LINKS // max(1, len(gpu_pdis)))
    used = [slot for slot in sorted(gpu_pdis) for _ in range(links_per_gpu)]
    wired = [_UNUSED_LINK] * min(_FIRST_LINK, SWITCH_LINKS - len(used)) + used
    return slots + bytes(wired + [_UNUSED_LINK] * (SWITCH_LINKS - len(wired)))


def with_slot(listed: bytes, slot: int, pdi: bytes | None) -> bytes:
    """TLV 26 with another PDI in one slot; None empties it."""
    at = slot * len(_EMPTY_SLOT)
    return listed[:at] + (pdi or _EMPTY_SLOT) + listed[at + len(_EMPTY_SLOT) :]


def with_repeated_pdi(listed: bytes) -> bytes:
    """TLV 26 whose first PDI stands in the last slot too."""
    pdis = [listed[at : at + 8] for at in range(0, GPU_SLOTS * 8, 8)]
    first = next((pdi for pdi in pdis if pdi != _EMPTY_SLOT), None)
    return with_slot(listed, GPU_SLOTS - 1, first)
