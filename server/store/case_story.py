"""The sentences of a case's story (docs/protocol.md CS5), for people. No I/O."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from server.store.case_types import CaseEvent, CaseFinding, Scope, TermsSeen
from server.times import MICROSECOND, moment
from verifier.license import License, LicenseState, Presence
from verifier.units import Pdi

NAMED = 3
"""Devices that an entry names; the rest is counted, and listed by ListCaseDevices."""

DETAIL = 300
"""Characters of a finding's detail in an entry."""

_PRESENCE = {
    Presence.SITE: "being at the site",
    Presence.COUNTRY: "being in the licensed country",
    Presence.OUTSIDE_PROHIBITED: "being outside all prohibited destinations",
}


def at(micros: int) -> str:
    """Return a time as stories tell it."""
    return f"{moment(micros):%Y-%m-%d %H:%M} UTC"


def span(length: timedelta) -> str:
    """Return a length of time in words."""
    seconds = int(length.total_seconds())
    parts = [(seconds // 86_400, "d"), (seconds // 3_600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


def devices(count: int) -> str:
    """Return a count of devices."""
    return "1 device" if count == 1 else f"{count:,} devices"


def conditions(held: License) -> str:
    """Return a license's conditions in words."""
    state = "" if held.state is LicenseState.ACTIVE else f"It is {held.state.name.lower()}. "
    return (
        f"{state}It is valid from {held.valid_from:%Y-%m-%d} to before {held.valid_until:%Y-%m-%d}; presence means "
        f"{_PRESENCE[held.presence]}, to be proven every {span(held.cadence)} with a grace of {span(held.grace)}."
    )


def licensed(scope: Scope, terms: TermsSeen | None, began_at: int) -> str:
    """Tell what was licensed when it began."""
    if scope.event is CaseEvent.LANDMARKS_DOWN:
        return "The licenses stand as recorded; what is missing are landmarks near enough to prove presence."
    if scope.event is CaseEvent.UNKNOWN_DEVICES:
        return f"No deployment in force allows {scope.licensee or 'who reports them'} to run these devices."
    if terms is None:
        return f"No license on record names these devices; {scope.licensee or 'an unknown licensee'} reports them."
    sites = "; ".join(region if title in region else f"{title} ({region})" for title, region in terms.sites)
    more = f", and at {terms.more_sites} more sites" if terms.more_sites else ""
    late = "" if terms.revised_at <= began_at else f", written {at(terms.revised_at)} and so after this began"
    where = f" allows these devices at {sites}{more}" if sites else " stands"
    return f"License {terms.number} of {terms.licensee}, revision {terms.revision}{late},{where}. {terms.conditions}"


def proven(count: int, never: int, last: tuple[Pdi, int, str] | None) -> str:
    """Tell what was proven last before it began.

    Args:
        count: Devices that it began with.
        never: Those whose presence was never proven.
        last: The device whose presence was proven last, when, and what the fix showed.
    """
    if last is None:
        whose = "its" if count == 1 else "their"
        return f"{devices(count).capitalize()}: {whose} presence has never been proven under a license on record."
    pdi, proven_at, shown = last
    what = f": {_clip(shown)}" if shown else "."
    not_once = f" {devices(never)} of {count:,} never proved it." if never else ""
    return f"Presence was last proven at {at(proven_at)}, by {pdi.hex()}{what}{not_once}"


def broke(found: Sequence[CaseFinding]) -> str:
    """Tell what was found: how many devices, why, a few of them by name."""
    counts = Counter(each.reason.name for each in found)
    reasons = ", ".join(name if len(counts) == 1 else f"{name} ({count:,})" for name, count in sorted(counts.items()))
    named = sorted(found, key=lambda each: (-each.severity, each.opened_at, each.pdi))[:NAMED]
    # A detail that several share is told once.
    told: dict[str, list[str]] = {}
    for each in named:
        told.setdefault(_clip(each.detail), []).append(each.pdi.hex())
    details = "; ".join(f"{', '.join(pdis)}: {detail}" for detail, pdis in told.items())
    rest = len({each.pdi for each in found} - {each.pdi for each in named})
    more = f"; and {devices(rest)} more" if rest else ""
    return f"{devices(len({each.pdi for each in found}))}: {reasons}. {details}{more}."


def ended(count: int, reasons: Sequence[str], left: int) -> str:
    """Tell that findings of so many devices ended, and on how many devices some are still open."""
    what = f"{', '.join(sorted(set(reasons)))} ended on {devices(count)}"
    return f"{what}; {devices(left)} still open." if left else f"{what}: all has ended."


def stood() -> str:
    """Tell that warnings became a case by standing."""
    return "A warning has stood for 10 minutes: this is a case."


def flapping() -> str:
    """Tell that warnings became a case by coming back."""
    return "It came back within a day: this is a case."


def returned(quiet_us: int) -> str:
    """Tell that it returned after a quiet time."""
    return f"It returned after {span(quiet_us * MICROSECOND)} of quiet."


def reopened(resolved_at: int, resolution: str) -> str:
    """Tell that it returned after it was resolved."""
    return f"It returned within 30 days: reopened. It had been resolved at {at(resolved_at)}: {_clip(resolution)}"


def earlier(number: int, resolved_at: int, resolution: str) -> str:
    """Tell of the case before about the same."""
    return f"An earlier case about the same is cases/{number}, resolved at {at(resolved_at)}: {_clip(resolution)}"


def agents(agent: str) -> str:
    """Tell that a site's case became the agent's."""
    return f"Devices of another site behind agent {agent} fell silent too: this case is the agent's from now on."


def quiet() -> str:
    """Tell that a rule resolved it."""
    return "Quiet for a day and never more than a warning: resolved by rule."


def ending(days: int, ends: str) -> str:
    """Tell that a license ends."""
    return f"It ends in {'1 day' if days == 1 else f'{days} days'}, at {ends}."


def no_longer_ending() -> str:
    """Tell that a license no longer ends soon."""
    return "The license no longer ends then, or has ended: resolved by rule."


def stated(number: int, on_behalf_of: str, statement: str, file: str) -> str:
    """Tell what the accused say (docs/protocol.md K4); `file` says what comes with it."""
    return f"Exhibit {number}, {on_behalf_of} says: {_clip(statement)}" + (f" File: {file}." if file else "")


def answered(number: int, on_behalf_of: str, answer: str) -> str:
    """Tell what they were answered."""
    return f"Exhibit {number} of {on_behalf_of} was answered: {_clip(answer)}"


def _clip(text: str) -> str:
    flat = " ".join(text.split())
    if len(flat) <= DETAIL:
        return flat
    return f"{flat[: DETAIL - 2].rsplit(' ', 1)[0]} …"
