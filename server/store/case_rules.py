"""The rules of cases, without I/O (docs/protocol.md CS1 to CS4): what is one event, when it is told, who may end it.

Whose event a finding is. One table, `_EVENTS`, says which reasons tell of the same thing and how far their scope
reaches. Two events are decided by more than the reason:

* *The agent's* (CS2). A device that falls silent is its agent's event when devices of two sites or more that one agent
  reported last fell silent within the debounce, and nothing was heard of that agent since they should have reported:
  since the first of them fell silent, less its license's grace. While the agent's case stands, further devices that
  fall silent behind it join it on the same condition. A site's case becomes the agent's when it holds that agent's
  devices alone, is not older than the debounce, and nobody has taken it yet; else it stays, and only what comes later
  goes to the agent's. Nothing ever moves back.
* *The landmarks'* (CS2). `LOCATION_UNPROVEN` at a site whose able domains are too few, when the finding opens or when
  its debounce ends.

When it is told (CS3). A violation at once. Warnings wait as a row that nobody sees until one has stood for the
debounce, or until one opens within a day after all of its scope had ended: it came back. Devices that become odd while
others of the scope still are, are one occurrence however many they are, so that a hiccup in a large hall stays one.
The same holds for reopening what was resolved (CS4): a warning reopens a case when it would have opened one.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from server.store.case_types import (
    CaseAction,
    CaseEvent,
    CaseFinding,
    CaseState,
    Scope,
)
from server.store.watch_types import EndingLicense, SiteKey
from server.times import MICROSECOND
from verifier.errors import Reason

DEBOUNCE_US = timedelta(minutes=10) // MICROSECOND
"""A warning opens a case when it has stood for so long (docs/protocol.md CS3)."""

RETURN_US = timedelta(days=1) // MICROSECOND
"""What opens so soon after all had ended came back (docs/protocol.md CS3); warnings that are quiet so long are over."""

REOPEN_US = timedelta(days=30) // MICROSECOND
"""What opens so soon after its case was resolved reopens it (docs/protocol.md CS4)."""

_SITE = ("licensee", "license_number", "site_id")
_LICENSE = ("licensee", "license_number")
_REPORTER = ("reporter",)

_EVENTS: Mapping[Reason, tuple[CaseEvent, tuple[str, ...]]] = MappingProxyType(
    {
        Reason.OUTSIDE_LICENSED_REGION: (CaseEvent.ELSEWHERE, _SITE),
        Reason.IN_PROHIBITED_DESTINATION: (CaseEvent.ELSEWHERE, _SITE),
        Reason.SILENT: (CaseEvent.SILENT_SITE, _SITE),
        Reason.LOCATION_UNPROVEN: (CaseEvent.PRESENCE, _SITE),
        Reason.PRESENCE_OVERDUE: (CaseEvent.PRESENCE, _SITE),
        Reason.NEVER_ACTIVATED: (CaseEvent.NEVER_ACTIVATED, _SITE),
        Reason.FIRMWARE_MISMATCH: (CaseEvent.FIRMWARE, _SITE),
        Reason.REFERENCE_MISSING: (CaseEvent.FIRMWARE, _SITE),
        Reason.UNKNOWN_DEVICE: (CaseEvent.UNKNOWN_DEVICES, _REPORTER),
        Reason.FOREIGN_REPORT: (CaseEvent.UNKNOWN_DEVICES, _REPORTER),
        Reason.IDENTITY_CLONED: (CaseEvent.IDENTITY, _LICENSE),
        Reason.COUNTER_ROLLBACK: (CaseEvent.IDENTITY, _LICENSE),
        Reason.IMPOSSIBLE_TRAVEL: (CaseEvent.IDENTITY, _LICENSE),
        Reason.BOARD_BROKEN: (CaseEvent.IDENTITY, _LICENSE),
        Reason.BOARD_CHANGED: (CaseEvent.IDENTITY, _LICENSE),
        Reason.LICENSE_EXPIRED: (CaseEvent.LICENSE, _SITE),
        Reason.LICENSE_NOT_YET_VALID: (CaseEvent.LICENSE, _SITE),
        Reason.LICENSE_SUSPENDED: (CaseEvent.LICENSE, _SITE),
        Reason.LICENSE_REVOKED: (CaseEvent.LICENSE, _SITE),
        Reason.QUANTITY_EXCEEDED: (CaseEvent.LICENSE, _SITE),
    }
)
"""docs/protocol.md CS1."""

HEADLINES: Mapping[CaseEvent, str] = MappingProxyType(
    {
        CaseEvent.ELSEWHERE: "Elsewhere than licensed",
        CaseEvent.SILENT_SITE: "Devices fell silent",
        CaseEvent.AGENT_DOWN: "All devices behind an agent fell silent",
        CaseEvent.PRESENCE: "Presence is not proven",
        CaseEvent.LANDMARKS_DOWN: "Landmarks are down that would prove presence",
        CaseEvent.NEVER_ACTIVATED: "Shipped and never in service",
        CaseEvent.UNKNOWN_DEVICES: "Devices that are not licensed to who reports them",
        CaseEvent.IDENTITY: "Identity or continuity of devices is in doubt",
        CaseEvent.FIRMWARE: "Firmware differs or is not known",
        CaseEvent.LICENSE: "The license does not cover its devices",
        CaseEvent.LICENSE_ENDING: "The license ends soon",
    }
)


def scope_of(found: CaseFinding, *, agent_down: bool = False, landmarks_down: bool = False) -> Scope:
    """Return whose event a finding is.

    Args:
        found: With its context.
        agent_down: It is silent, and its agent is down.
        landmarks_down: Too few domains could prove presence at its site.
    """
    if agent_down and found.reason is Reason.SILENT:
        return _scope(CaseEvent.AGENT_DOWN, licensee=found.licensee, further=found.agent)
    if landmarks_down and found.reason is Reason.LOCATION_UNPROVEN:
        # The one event that is no licensee's (docs/protocol.md CS1).
        return LANDMARKS
    event, reach = _EVENTS[found.reason]
    if reach == _REPORTER:
        return _scope(event, licensee=found.reporter or found.licensee)
    licensee = found.licensee or found.reporter  # a switch has no deployment; who reports it is known
    if reach == _LICENSE:
        return _scope(event, licensee=licensee, license_number=found.license_number)
    return _scope(
        event,
        licensee=licensee,
        license_number=found.license_number,
        site_id=found.site_id,
        site_title=found.site_title,
        jurisdiction=found.jurisdiction,
    )


def scope_of_ending(ending: EndingLicense) -> Scope:
    """Return the scope of a license that ends: once for each license and end (docs/protocol.md W5)."""
    ends = f"{ending.valid_until:%Y-%m-%d %H:%M} UTC"
    scope = _scope(CaseEvent.LICENSE_ENDING, licensee=ending.licensee, license_number=ending.number, further=ends)
    return Scope(
        scope.event,
        scope.key,
        f"License {ending.number} ends on {ending.valid_until:%Y-%m-%d}: {ending.licensee}",
        scope.licensee,
        scope.license_number,
    )


def _scope(
    event: CaseEvent,
    *,
    licensee: str = "",
    license_number: str = "",
    site_id: str = "",
    site_title: str = "",
    jurisdiction: str = "",
    further: str = "",
) -> Scope:
    parts = [licensee, site_title or site_id, f"license {license_number}" if license_number else ""]
    if event is CaseEvent.AGENT_DOWN:
        parts = [licensee, f"agent {further}"]
    about = ", ".join(part for part in parts if part)
    return Scope(
        event=event,
        # JSON, so that no text can run into the next.
        key=json.dumps([event.name, licensee, license_number, site_id, further], ensure_ascii=False),
        title=f"{HEADLINES[event]}: {about}" if about else HEADLINES[event],
        licensee=licensee,
        license_number=license_number,
        site_id=site_id,
        jurisdiction=jurisdiction,
    )


LANDMARKS = _scope(CaseEvent.LANDMARKS_DOWN)


@dataclass(frozen=True, slots=True)
class AgentDevice:
    """A deployed device that an agent reported last. Times are microseconds.

    Attributes:
        site: Where it is deployed.
        last_report_at: None: never.
        grace_us: Of its license.
        silent_since: When its SILENT opened; None: it is not silent.
    """

    site: SiteKey
    last_report_at: int | None
    grace_us: int
    silent_since: int | None


def is_agent_down(devices: Iterable[AgentDevice], now_us: int, *, told: bool) -> bool:
    """Whether the devices of one agent that fell silent lately are the agent's event (docs/protocol.md CS2).

    Args:
        devices: All that the agent reported last, of one licensee.
        now_us: The time.
        told: A case of this agent stands already, so that one site is enough.
    """
    known = list(devices)
    lately = [
        (each, each.silent_since)
        for each in known
        if each.silent_since is not None and each.silent_since >= now_us - DEBOUNCE_US
    ]
    if not lately or (not told and len({each.site for each, _ in lately}) < 2):
        return False
    due_at = min(silent_since - each.grace_us for each, silent_since in lately)
    return all(each.last_report_at is None or each.last_report_at <= due_at for each in known)


def came_back(quiet_since: int | None, opened_at: int) -> bool:
    """Whether what opens is a return of what had ended within a day before (docs/protocol.md CS3)."""
    return quiet_since is not None and quiet_since <= opened_at <= quiet_since + RETURN_US


def flapped(found: Iterable[CaseFinding]) -> bool:
    """Whether among findings of one scope one opened after another had ended."""
    known = list(found)
    ends = [each.ended_at for each in known if each.ended_at is not None]
    return bool(ends) and any(each.opened_at > min(ends) for each in known)


_UNRESOLVED = (CaseState.OPEN, CaseState.ACKNOWLEDGED, CaseState.INVESTIGATING)
_TRANSITIONS: Mapping[tuple[CaseAction, CaseState], CaseState] = MappingProxyType(
    {
        **{(CaseAction.NOTE, state): state for state in CaseState},
        **{(CaseAction.ASSIGN, state): state for state in _UNRESOLVED},
        (CaseAction.ACKNOWLEDGE, CaseState.OPEN): CaseState.ACKNOWLEDGED,
        (CaseAction.INVESTIGATE, CaseState.OPEN): CaseState.INVESTIGATING,
        (CaseAction.INVESTIGATE, CaseState.ACKNOWLEDGED): CaseState.INVESTIGATING,
        **{(CaseAction.RESOLVE, state): CaseState.RESOLVED for state in _UNRESOLVED},
        (CaseAction.REOPEN, CaseState.RESOLVED): CaseState.OPEN,
    }
)


def state_after(action: CaseAction, state: CaseState) -> CaseState | None:
    """Return how a case stands after what a person does to it (CS4); None: that cannot be done as it stands."""
    return _TRANSITIONS.get((action, state))
