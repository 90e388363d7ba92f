"""Boards: which devices were joined by NVLink, as both ends sign it (docs/protocol.md §6).

A proven edge needs both ends in one attestation. What a changed board means is appraised elsewhere (continuity.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from verifier.evidence.attestation import DeviceReport
from verifier.units import Pdi


@dataclass(frozen=True, slots=True)
class Boards:
    """The proven edges of one attestation.

    Attributes:
        edges: Device to the devices at the other end of its proven edges; every reporting device has an entry.
        group: Device to all devices that proven edges join it to, itself included.
    """

    edges: Mapping[Pdi, frozenset[Pdi]]
    group: Mapping[Pdi, frozenset[Pdi]]

    def switches_of(self, gpu: Pdi) -> frozenset[Pdi]:
        """Switches that a GPU has a proven edge to."""
        return self.edges[gpu]


def join(reports: Sequence[DeviceReport]) -> Boards:
    """Return the edges that both ends name, and the boards that they make."""
    linked = {r.pdi: r.report.linked for r in reports}
    kinds = {r.pdi: r.kind for r in reports}
    edges: dict[Pdi, frozenset[Pdi]] = {
        # docs/protocol.md B1: both ends name each other, and one is a GPU and the other a switch.
        pdi: frozenset(
            other for other in named if other in linked and pdi in linked[other] and kinds[other] is not kinds[pdi]
        )
        for pdi, named in linked.items()
    }
    group: dict[Pdi, frozenset[Pdi]] = {}
    for pdi in edges:
        if pdi in group:
            continue
        members, todo = {pdi}, [pdi]
        while todo:
            new = edges[todo.pop()] - members
            members |= new
            todo.extend(new)
        group.update(dict.fromkeys(members, frozenset(members)))
    return Boards(MappingProxyType(edges), MappingProxyType(group))
