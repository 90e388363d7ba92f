"""Firmware against the vendor's reference values (docs/protocol.md §8).

Three outcomes, kept apart: match, mismatch, no reference.
"""

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from verifier.errors import UsageError
from verifier.evidence.chain import DeviceKind, VerifiedChain
from verifier.evidence.spdm import MeasurementReport

_SCHEMA = "trigpoint-reference-values/1"
_KINDS = {"gpu": DeviceKind.GPU, "switch": DeviceKind.SWITCH}
_DIGEST_BYTES = 48


@enum.unique
class Outcome(enum.Enum):
    """How measurements compare."""

    MATCH = "match"
    MISMATCH = "mismatch"
    REFERENCE_MISSING = "reference missing"


@dataclass(frozen=True, slots=True)
class FirmwareReference:
    """What the vendor says one firmware measures to.

    Attributes:
        name: The vendor's name for it.
        kind: The device kind it runs on.
        fwid: Its id in DICE, 48 bytes.
        ranges: It keeps the ranging rules R2 to R4.
        measurements: Block index to the SHA-384 digests that are allowed there.
    """

    name: str
    kind: DeviceKind
    fwid: bytes
    ranges: bool
    measurements: Mapping[int, frozenset[bytes]]


@dataclass(frozen=True, slots=True)
class FirmwareState:
    """How one device's firmware compares.

    Attributes:
        outcome: One of three.
        name: Name of the reference; empty when there is none.
        can_range: The firmware is known, unchanged and keeps the ranging rules (docs/protocol.md R8, RV3).
        differing: Block indices that differ, sorted.
    """

    outcome: Outcome
    name: str
    can_range: bool
    differing: tuple[int, ...]


class ReferenceValues:
    """The vendors' reference values, by kind and firmware id."""

    def __init__(self, references: Iterable[FirmwareReference]) -> None:
        self._by_id = {(r.kind, r.fwid): r for r in references}

    @classmethod
    def parse(cls, documents: Iterable[bytes]) -> Self:
        """Read JSON documents of docs/protocol.md §8.

        Raises:
            UsageError: A document is not of that form; the message says where.
        """
        references: list[FirmwareReference] = []
        for document in documents:
            try:
                parsed = json.loads(document)
                if parsed["schema"] != _SCHEMA:
                    raise UsageError(f"reference values have the schema {parsed['schema']!r}, not {_SCHEMA!r}")
                references.extend(_parse_reference(entry) for entry in parsed["firmware"])
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
                if isinstance(error, UsageError):
                    raise
                raise UsageError(f"reference values do not parse: {error!r}") from error
        return cls(references)

    def find(self, kind: DeviceKind, fwid: bytes) -> FirmwareReference | None:
        """Return the entry for a firmware id, or None (docs/protocol.md RV1)."""
        return self._by_id.get((kind, fwid))


def compare(chain: VerifiedChain, report: MeasurementReport, references: ReferenceValues) -> FirmwareState:
    """Compare a device's measurements with the reference that its chain's firmware id chooses."""
    reference = references.find(chain.kind, chain.fwid)
    if reference is None:
        return FirmwareState(Outcome.REFERENCE_MISSING, "", can_range=False, differing=())
    # docs/protocol.md RV2: an unexpected block and a missing one differ too.
    indices = report.measurements.keys() | reference.measurements.keys()
    differing = tuple(
        i for i in sorted(indices) if report.measurements.get(i) not in reference.measurements.get(i, frozenset())
    )
    if differing:
        return FirmwareState(Outcome.MISMATCH, reference.name, can_range=False, differing=differing)
    return FirmwareState(Outcome.MATCH, reference.name, can_range=reference.ranges, differing=())


def _parse_reference(entry: Any) -> FirmwareReference:
    measurements = {
        int(index): frozenset(_digest(d) for d in digests) for index, digests in entry["measurements"].items()
    }
    if not isinstance(entry["ranging"], bool):
        raise UsageError(f"firmware {entry['name']!r}: ranging is true or false")
    return FirmwareReference(
        name=str(entry["name"]),
        kind=_KINDS[entry["kind"]],
        fwid=_digest(entry["fwid"]),
        ranges=entry["ranging"],
        measurements=MappingProxyType(measurements),
    )


def _digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != _DIGEST_BYTES:
        raise UsageError(f"{text[:16]}... is not a SHA-384 digest in hex")
    return digest
