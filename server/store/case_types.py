"""What cases are made of, as plain values (docs/protocol.md §15)."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from server.store.errors import StoreError
from server.store.watch_types import SiteKey
from verifier.errors import Reason
from verifier.units import Pdi
from verifier.verdict import Severity


@enum.unique
class CaseEvent(enum.IntEnum):
    """What a case is about. Values equal `trigpoint.v1.CaseEvent`."""

    ELSEWHERE = 1
    SILENT_SITE = 2
    AGENT_DOWN = 3
    PRESENCE = 4
    LANDMARKS_DOWN = 5
    NEVER_ACTIVATED = 6
    UNKNOWN_DEVICES = 7
    IDENTITY = 8
    FIRMWARE = 9
    LICENSE = 10
    LICENSE_ENDING = 11


@enum.unique
class CaseState(enum.IntEnum):
    """How a case stands. Values equal `trigpoint.v1.CaseState`."""

    OPEN = 1
    ACKNOWLEDGED = 2
    INVESTIGATING = 3
    RESOLVED = 4


@enum.unique
class CaseAction(enum.IntEnum):
    """What a person can do to a case. Values equal `trigpoint.v1.CaseAction`."""

    NOTE = 1
    ASSIGN = 2
    ACKNOWLEDGE = 3
    INVESTIGATE = 4
    RESOLVE = 5
    REOPEN = 6


@enum.unique
class CaseEntryKind(enum.IntEnum):
    """What an entry of a story tells. Values equal `trigpoint.v1.CaseEntryKind`."""

    LICENSED = 1
    PROVEN = 2
    BROKE = 3
    JOINED = 4
    ENDED = 5
    RULE = 6
    WORK = 7
    NOTE = 8
    EXHIBIT = 9


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """A case as it stands.

    Attributes:
        number: Its number; it is `cases/{number}`.
        revision: Grows with each change; its etag.
        event: What it is about.
        state: How it stands.
        severity: The worst of its findings, ended ones included.
        title: In one line.
        licensee: Whose devices; empty for landmarks'.
        license_number: Empty when it is about several or none.
        site_id: Empty when it is about several or none.
        jurisdiction: Whose officers may see it; empty: those of the home authority alone.
        assignee: Who works on it.
        opened_at: When it was opened.
        changed_at: When anything about it last changed.
        quiet_since: Since when all its findings have ended; None while one is open, or when it never had any.
        resolved_at: None unless it is resolved.
        resolution: Why it was resolved.
        devices: Devices that it touches.
        devices_open: Devices that have a finding of it open.
    """

    number: int
    revision: int
    event: CaseEvent
    state: CaseState
    severity: Severity
    title: str
    licensee: str
    license_number: str
    site_id: str
    jurisdiction: str
    assignee: str
    opened_at: datetime
    changed_at: datetime
    quiet_since: datetime | None
    resolved_at: datetime | None
    resolution: str
    devices: int
    devices_open: int


@dataclass(frozen=True, slots=True)
class CaseEntry:
    """One entry of a story. `by` is empty for a rule."""

    at: datetime
    by: str
    kind: CaseEntryKind
    text: str


@dataclass(frozen=True, slots=True)
class CaseStory:
    """A case with the newest entries of its story, in the order of time."""

    case: CaseRecord
    entries: tuple[CaseEntry, ...]


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which cases; what is None chooses all, but `state`, which then chooses all that are not resolved.

    `jurisdiction` is the caller's: what it may see (docs/protocol.md RC11).
    """

    state: CaseState | None = None
    event: CaseEvent | None = None
    severity: Severity | None = None
    licensee: str | None = None
    license_number: str | None = None
    site_id: str | None = None
    assignee: str | None = None
    device: Pdi | None = None
    jurisdiction: str | None = None


@dataclass(frozen=True, slots=True)
class CaseCursor:
    """Where a page of cases ended: its last one, by what they are ordered by."""

    severity: Severity
    opened_at: datetime
    number: int


@dataclass(frozen=True, slots=True)
class CasePage:
    """Cases, the gravest first, then the oldest."""

    cases: tuple[CaseRecord, ...]
    more: bool
    total: int


@dataclass(frozen=True, slots=True)
class CaseDevice:
    """A finding of a case. `detail` is as it was told last."""

    pdi: Pdi
    reason: Reason
    opened_at: datetime
    ended_at: datetime | None
    detail: str


@dataclass(frozen=True, slots=True)
class CaseDeviceCursor:
    """Where a page of a case's findings ended."""

    pdi: Pdi
    reason: Reason
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class CaseDevicePage:
    """Findings of a case, in the order of PDIs."""

    devices: tuple[CaseDevice, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class CaseRef:
    """A case to work; `revision` is the one that the caller saw, None: whatever stands."""

    number: int
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class CaseWork:
    """What a person does to cases.

    Attributes:
        action: What.
        text: The note, or why. Needed for a note, a resolution and a reopening.
        assignee: With ASSIGN, who shall work on it; empty: nobody.
        accept_risk: With RESOLVE: findings that are open are an accepted risk.
    """

    action: CaseAction
    text: str = ""
    assignee: str = ""
    accept_risk: bool = False


@dataclass(frozen=True, slots=True)
class CaseNews:
    """What a round did that somebody should hear of.

    Attributes:
        opened: New cases.
        reopened: Cases that returned, after they were resolved or quiet for more than a day.
        resolved: Cases that a rule resolved.
        taken: How many changes of findings were taken in.
    """

    opened: tuple[CaseRecord, ...] = ()
    reopened: tuple[CaseRecord, ...] = ()
    resolved: tuple[CaseRecord, ...] = ()
    taken: int = 0

    @property
    def told(self) -> tuple[CaseRecord, ...]:
        """Cases to page somebody for."""
        return (*self.opened, *self.reopened)

    @classmethod
    def of(cls, rounds: Sequence["CaseNews"]) -> "CaseNews":
        """Join what several transactions did."""
        return cls(
            opened=tuple(case for news in rounds for case in news.opened),
            reopened=tuple(case for news in rounds for case in news.reopened),
            resolved=tuple(case for news in rounds for case in news.resolved),
            taken=sum(news.taken for news in rounds),
        )


@dataclass(frozen=True, slots=True)
class CaseFinding:
    """A finding that is a warning or worse, with what is needed to tell whose event it is.

    Times are microseconds. Texts are empty where the records say nothing.

    Attributes:
        pdi: The device.
        reason: What was found.
        severity: How much it weighs.
        opened_at: When it began.
        ended_at: When it ended; None while it stands.
        detail: Why.
        licensee: Who holds the license that it is deployed under.
        license_number: That license.
        site_id: And site.
        site_title: For people.
        jurisdiction: The site's.
        reporter: Licensee of the agent whose report showed it, or else whose report came last.
        agent: Agent that sent the device's last report.
        last_proof_at: When its presence was last proven.
        case_id: The case that it belongs to; None: not yet.
    """

    pdi: Pdi
    reason: Reason
    severity: Severity
    opened_at: int
    ended_at: int | None
    detail: str
    licensee: str = ""
    license_number: str = ""
    site_id: str = ""
    site_title: str = ""
    jurisdiction: str = ""
    reporter: str = ""
    agent: str = ""
    last_proof_at: int | None = None
    case_id: int | None = None

    @property
    def site(self) -> SiteKey:
        """Where it is deployed."""
        return SiteKey(self.license_number, self.site_id)


class CaseStateError(StoreError):
    """What was asked is not possible as the case stands. Nothing was written.

    Attributes:
        number: Of the case.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"cases/{number}: {message}")
        self.number = number


@dataclass(frozen=True, slots=True)
class Scope:
    """What makes findings one event: those with one `key` are.

    Attributes:
        event: What it is.
        key: Exact and unique.
        title: For people, in one line.
        licensee: Empty for landmarks'.
        license_number: Empty when it is about several or none.
        site_id: Empty when it is about several or none.
        jurisdiction: Of its one site; else empty.
    """

    event: CaseEvent
    key: str
    title: str
    licensee: str = ""
    license_number: str = ""
    site_id: str = ""
    jurisdiction: str = ""


@dataclass(frozen=True, slots=True)
class TermsSeen:
    """A license and sites of it as they stand, for a story.

    Attributes:
        number: The license's.
        licensee: Who holds it.
        revision: Of its record.
        revised_at: When that was written, microseconds.
        conditions: In words.
        sites: Title and region in words, of up to a few sites.
        more_sites: How many others.
    """

    number: str
    licensee: str
    revision: int
    revised_at: int
    conditions: str
    sites: tuple[tuple[str, str], ...] = field(default=())
    more_sites: int = 0
