"""Boards: which devices were joined by NVLink, as both ends sign it (docs/protocol.md §6).

A proven edge needs both ends in one attestation. What a changed board means is appraised elsewhere (continuity.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from verifier.evidence.attestation import DeviceReport
from verifier.evidence.chain import DeviceKind
from verifier.units import Pdi


@dataclass(frozen=True, slots=True)
class Boards:
    """The proven edges of one attestation.

    Attributes:
        edges: Device to the devices at the other end of its proven edges; every reporting device has an entry.
        group: Device to all devices that proven edges join it to, itself included.
        named: Device to the devices that its report names; these have not attested thereby (docs/protocol.md B3).
        switches: The switches that report.
    """

    edges: Mapping[Pdi, frozenset[Pdi]]
    group: Mapping[Pdi, frozenset[Pdi]]
    named: Mapping[Pdi, frozenset[Pdi]]
    switches: frozenset[Pdi]

    def unseated(self, gpu: Pdi) -> bool:
        """Whether a GPU sits in no slot: switches report, none of them names it, and it names no switch at all.

        A GPU that names switches which do not report is on a board that the host does not show; that is unproven, not
        broken.
        """
        return bool(self.switches) and not self.named[gpu] and all(gpu not in self.named[s] for s in self.switches)


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
    switches = frozenset(r.pdi for r in reports if r.kind is DeviceKind.SWITCH)
    return Boards(MappingProxyType(edges), MappingProxyType(group), MappingProxyType(linked), switches)
