"""What belongs to the bundle of a case (docs/protocol.md CB3)."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Table

from server.store.journal_types import ProvenRow, RowKey
from server.store.schema import METADATA
from verifier.journal.items import Value


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one bundle holds. What is more is counted, and the newest comes first.

    Attributes:
        findings: Findings of the case; so many entries of its story too.
        device_findings: Other findings of its devices.
        attestations: With all that belongs to them.
        evidence_bytes: Of their raw evidence.
        exhibit_bytes: Of files that somebody added.
        landmark_ranges: Ranges between landmarks.
        windows: Maintenance windows.
    """

    findings: int = 1_000
    device_findings: int = 2_000
    attestations: int = 256
    evidence_bytes: int = 64 << 20
    exhibit_bytes: int = 64 << 20
    landmark_ranges: int = 4_000
    windows: int = 200


@dataclass(frozen=True, slots=True)
class BundleRow:
    """One row.

    Attributes:
        key: Which.
        withheld: Why its contents are not shown (docs/protocol.md CB5); empty: they are.
        hidden: Columns whose long values are not given, though the row is shown.
    """

    key: RowKey
    withheld: str = ""
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that belongs to the case and is not in the bundle.

    Attributes:
        what: In the plural.
        count: How many.
        why: In words.
    """

    what: str
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class Material:
    """A file that verdicts were made with."""

    sha256: bytes
    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class CaseRows:
    """All that belongs to a case.

    Attributes:
        rows: Each once.
        left_out: What is more than the bounds allow, or gone.
        checkpoints: Hashes of the checkpoints that challenges of shown attestations name.
        materials: Files that shown verdicts were made with, drawn regions of sites among them.
        devices: How many devices are shown.
    """

    rows: tuple[BundleRow, ...]
    left_out: tuple[LeftOut, ...]
    checkpoints: frozenset[bytes]
    materials: tuple[Material, ...]
    devices: int


class Gathered:
    """Rows as they are found: each once, and shown when it is shown anywhere."""

    def __init__(self) -> None:
        self._rows: dict[RowKey, BundleRow] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    @property
    def rows(self) -> Mapping[RowKey, BundleRow]:
        """What was found."""
        return self._rows

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What was not taken."""
        return tuple(LeftOut(what, count, why) for (what, why), count in self._left_out.items())

    def add(self, table: Table, *key: Value, withheld: str = "", hidden: frozenset[str] = frozenset()) -> None:
        """Take a row by its primary key."""
        row = RowKey(table.name, key)
        known = self._rows.get(row)
        if known is None or (known.withheld and not withheld):
            self._rows[row] = BundleRow(row, withheld, hidden)

    def leave_out(self, what: str, count: int, why: str) -> None:
        """Count what is not taken."""
        if count > 0:
            self._left_out[what, why] = self._left_out.get((what, why), 0) + count


def row_key(row: ProvenRow) -> RowKey:
    """Return which row this is."""
    return RowKey(row.table, tuple(row.columns[column.name] for column in METADATA.tables[row.table].primary_key))
