"""What the records say about a device, as the core sees it: license, conditions, licensed region.

The shell loads these; nothing here reads a store. Records, revisions and who may change them belong to the server.
"""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from verifier.errors import Reason, UsageError
from verifier.place.regions import Region
from verifier.units import Pdi


@enum.unique
class Presence(enum.IntEnum):
    """Which question counts as presence (docs/protocol.md §11). Values equal `trigpoint.v1.Presence`."""

    SITE = 1
    COUNTRY = 2
    OUTSIDE_PROHIBITED = 3


@dataclass(frozen=True, slots=True)
class License:
    """An export license and the conditions that are appraised.

    Attributes:
        number: The authority's number.
        licensee: Who holds it.
        valid_from: First instant of validity, aware.
        valid_until: First instant after validity, aware.
        presence: The question whose PROVEN counts as presence.
        cadence: Presence must be proven this often.
        grace: And may be late by this much.
        revision: Revision of the record in force.
    """

    number: str
    licensee: str
    valid_from: datetime
    valid_until: datetime
    presence: Presence
    cadence: timedelta
    grace: timedelta
    revision: int

    def __post_init__(self) -> None:
        """Refuse a record that no appraisal could use."""
        if self.valid_from.tzinfo is None or self.valid_until.tzinfo is None:
            raise UsageError(f"license {self.number}: validity needs a time zone")
        if self.valid_until <= self.valid_from:
            raise UsageError(f"license {self.number}: valid_until is not after valid_from")
        if self.cadence <= timedelta(0) or self.grace < timedelta(0):
            raise UsageError(f"license {self.number}: cadence must be positive and grace must not be negative")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One device that is licensed to one region."""

    pdi: Pdi
    license: License
    region: Region


def appraise_validity(held: License, now: datetime) -> tuple[Reason, str] | None:
    """Return why the license does not cover `now`, or None when it does."""
    if now < held.valid_from:
        return Reason.LICENSE_NOT_YET_VALID, f"license {held.number} is valid from {held.valid_from:%Y-%m-%d %H:%M} UTC"
    if now >= held.valid_until:
        return Reason.LICENSE_EXPIRED, f"license {held.number} was valid until {held.valid_until:%Y-%m-%d %H:%M} UTC"
    return None
