"""What goes through the door of records, as plain values. Times are aware."""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Final, Literal, NamedTuple

from server.records.values import Record, RecordKind
from server.store.types import LandmarkRecord
from verifier.license import LicenseState

LANDMARK: Final = 7
"""The kind of a landmark's revision, beside those of `RecordKind`: landmarks are written by their own calls."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it stands or stood.

    Attributes:
        name: Its resource name.
        record: What it says. A license's terms carry the revision.
        revision: Counted from 1.
        revised_at: When this revision was written.
        adopted: Of a deployment by key or board: how many devices have got a deployment of their own by it. As of an
            earlier time it is not known, and 0.
    """

    name: str
    record: Record
    revision: int
    revised_at: datetime
    adopted: int = 0


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records: every field that is set must match.

    What a kind does not have itself is asked of the license, site or shipment that it belongs to; a party belongs to
    the licenses that name it.

    Attributes:
        kind: Of this kind.
        license_number: Of this license.
        licensee: Of licenses of this licensee.
        site_id: At a site with this id.
        party_id: Of licenses that name this party.
        shipment_id: Of this shipment.
        state: Of licenses in this state.
        jurisdiction: At sites of this jurisdiction; licenses that have one, and their parties (docs/protocol.md RC11).
        expires_before: Of licenses that end before.
        ends_after: Windows and shipments alone: that end after.
    """

    kind: RecordKind
    license_number: str | None = None
    licensee: str | None = None
    site_id: str | None = None
    party_id: str | None = None
    shipment_id: str | None = None
    state: LicenseState | None = None
    jurisdiction: str | None = None
    expires_before: datetime | None = None
    ends_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecordPage:
    """One page, in the order of names.

    Attributes:
        records: The page.
        more: Records follow after the last one of this page.
        total: Records that match, on all pages.
    """

    records: tuple[StoredRecord, ...]
    more: bool
    total: int


class RevisionCursor(NamedTuple):
    """Where a revision stands in the order of all: by the number of the write, then by name."""

    number: int
    name: str
    revision: int


@dataclass(frozen=True, slots=True)
class RevisionFilter:
    """Which revisions: every field that is set must match.

    Attributes:
        name: Of this record.
        after: Written at or after.
        before: Written before.
        kind: A `RecordKind`, or LANDMARK.
        by: Written or proposed by this person.
    """

    name: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    kind: RecordKind | Literal[7] | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """One change of one record.

    Attributes:
        name: Its resource name.
        kind: A `RecordKind`, or LANDMARK.
        revision: Counted from 1.
        revised_at: When.
        by: Who wrote it, or proposed it.
        approved_by: Who approved it; empty when one person was enough.
        reason: Why.
        before: As it stood before; None for the first, and when it had ended.
        after: As it stands from then on; None when it ended.
        change_id: The change that it was made by; None when one person was enough.
        cursor: Its place among all revisions.
    """

    name: str
    kind: RecordKind | Literal[7]
    revision: int
    revised_at: datetime
    by: str
    approved_by: str
    reason: str
    before: Record | LandmarkRecord | None
    after: Record | LandmarkRecord | None
    change_id: int | None
    cursor: RevisionCursor


@dataclass(frozen=True, slots=True)
class RevisionPage:
    """One page, newest first.

    Attributes:
        revisions: The page.
        more: Older ones follow.
    """

    revisions: tuple[RevisionRecord, ...]
    more: bool


@enum.unique
class ChangeState(enum.IntEnum):
    """How a change stands. Values equal `trigpoint.v1.ChangeState`."""

    OPEN = 1
    APPLIED = 2
    REJECTED = 3
    WITHDRAWN = 4
    STALE = 5


@enum.unique
class ChangeKind(enum.IntEnum):
    """What a change writes, or orders."""

    RECORDS = 1
    DEPLOYMENT_FILE = 2
    LANDMARKS = 3
    CHALLENGES = 4


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """What waits for a second person, or did (docs/protocol.md RC4).

    Attributes:
        change_id: Counted from 1.
        kind: What it writes.
        state: How it stands.
        summary: What it does, a line a record.
        proposed_by: By whom.
        proposed_at: When.
        reason: Why.
        decided_by: By whom; empty while it is open.
        decided_at: When; None while it is open.
        decision_reason: Why, or what stood against it.
        licensees: Whom it concerns, sorted.
    """

    change_id: int
    kind: ChangeKind
    state: ChangeState
    summary: tuple[str, ...]
    proposed_by: str
    proposed_at: datetime
    reason: str
    decided_by: str
    decided_at: datetime | None
    decision_reason: str
    licensees: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"changes/{self.change_id}"


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes: every field that is set must match.

    Attributes:
        state: How they stand.
        by: Who proposed them.
        licensee: Whom they concern.
        kind: What they write.
    """

    state: ChangeState | None = None
    by: str | None = None
    licensee: str | None = None
    kind: ChangeKind | None = None


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One page, newest first.

    Attributes:
        changes: The page.
        more: Older ones follow.
    """

    changes: tuple[ChangeRecord, ...]
    more: bool


class ChangeFile(NamedTuple):
    """An import file that waits: at its start, on disk once it is large, and gone when it is closed."""

    file: IO[bytes]
    file_format: str


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """What a write did, or would do.

    Attributes:
        records: As they stand now, in the order of the writes, without those that ended; with `two_people` and a mere
            check: as they would.
        change: What waits for a second person now; None when it was written at once, and for a mere check.
        two_people: It takes a second person (docs/protocol.md RC4).
    """

    records: tuple[StoredRecord, ...]
    change: ChangeRecord | None
    two_people: bool
