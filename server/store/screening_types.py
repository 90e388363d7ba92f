"""What the store keeps and tells of screening, as values (docs/screening.md)."""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from server.records.names_alike import Likeness


@enum.unique
class HitState(enum.IntEnum):
    """How a hit stands. Values equal `trigpoint.v1.HitState`."""

    OPEN = 1
    CLEARED = 2
    CONFIRMED = 3


@dataclass(frozen=True, slots=True)
class ListEntry:
    """An entry of a screening list.

    Attributes:
        entry_id: Its id on the list.
        source: Which of the lists it is from.
        kind: Individual, Entity, Vessel, Aircraft, or empty.
        title: Its name.
        alt_names: Other names.
        addresses: As written.
        programs: Under which it is listed.
        remarks: As written.
        source_url: Where the list tells of it.
    """

    entry_id: str
    source: str
    kind: str
    title: str
    alt_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    remarks: str = ""
    source_url: str = ""


@dataclass(frozen=True, slots=True)
class ListVersion:
    """A list.

    Attributes:
        version: What people call it.
        number: Counted from 1; the highest is in force.
    """

    version: str
    number: int


@dataclass(frozen=True, slots=True)
class NewList:
    """A list that shall be in force.

    Attributes:
        version: What people call it; names one file for good.
        sha256: Of the file.
        entry_count: How many entries it has.
        by: Who imports it.
    """

    version: str
    sha256: bytes
    entry_count: int
    by: str


@dataclass(frozen=True, slots=True)
class PartyNames:
    """A party as screening sees it.

    Attributes:
        party_id: Its id.
        revision: Which revision these names are of.
        names: Its title, then its aliases.
    """

    party_id: str
    revision: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScreenedParty:
    """A party, and all entries of one list that are called like it."""

    party: PartyNames
    found: tuple[Likeness, ...]


class HitKey(NamedTuple):
    """Which hit."""

    party_id: str
    entry_id: str


@dataclass(frozen=True, slots=True)
class HitRecord:
    """A party that is called much like somebody on the list.

    Attributes:
        key: Party and entry.
        party_title: The party's name that is alike.
        entry_title: The entry's name.
        matched: The entry's name or alias that is alike.
        source: Which list the entry is from.
        score: How alike, 0 to 100.
        list_version: Of the list that it was last found on.
        state: How it stands.
        found_at: When it was found, or came up again.
        decided_by: Who decided; empty while it is open.
        decided_at: When.
        reason: Why.
    """

    key: HitKey
    party_title: str
    entry_title: str
    matched: str
    source: str
    score: float
    list_version: str
    state: HitState
    found_at: datetime
    decided_by: str = ""
    decided_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HitCounts:
    """What a screening changed.

    Attributes:
        new: Hits that are open now and were not: found for the first time, or with other names than were decided on.
        gone: Hits whose entry, or whose likeness, is gone.
    """

    new: int = 0
    gone: int = 0

    def __add__(self, other: "HitCounts") -> "HitCounts":
        """Add up."""
        return HitCounts(self.new + other.new, self.gone + other.gone)


@dataclass(frozen=True, slots=True)
class HitFilter:
    """Which hits; None: all."""

    state: HitState | None = None
    party_id: str | None = None


@dataclass(frozen=True, slots=True)
class HitCursor:
    """Where a page of hits ends: open ones come first, then the higher score."""

    decided: bool
    score: float
    key: HitKey


@dataclass(frozen=True, slots=True)
class HitPage:
    """One page of hits.

    Attributes:
        hits: Open ones first, then by score.
        more: Whether others follow.
        total: How many match in all.
        list_version: Version of the list in force; empty when there is none.
    """

    hits: tuple[HitRecord, ...]
    more: bool
    total: int
    list_version: str

    @property
    def end(self) -> HitCursor:
        """Where the page ends."""
        last = self.hits[-1]
        return HitCursor(last.state is not HitState.OPEN, last.score, last.key)
