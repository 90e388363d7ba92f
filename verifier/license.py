"""What the records say about a device, as the core sees it: license, conditions, licensed region.

The shell loads these; nothing here reads a store. Records, revisions and who may change them belong to the server.
"""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from verifier.errors import Reason, UsageError
from verifier.place.answers import Assurance
from verifier.place.regions import Region
from verifier.units import Pdi


@enum.unique
class Presence(enum.IntEnum):
    """Which question counts as presence (docs/protocol.md §11). Values equal `trigpoint.v1.Presence`."""

    SITE = 1
    COUNTRY = 2
    OUTSIDE_PROHIBITED = 3


@enum.unique
class LicenseState(enum.IntEnum):
    """Whether a license is in force (docs/protocol.md RC3). Values equal `trigpoint.v1.LicenseState`.

    A draft licenses nothing: the shell hands no deployment under a draft to the verifier.
    """

    DRAFT = 1
    ACTIVE = 2
    SUSPENDED = 3
    REVOKED = 4


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
        state: Whether it is in force.
        tolerated_domains: f for this license; None: the operator's (docs/protocol.md PL2).
        assurance: The least assurance of ranges that count.
        surprises_per_day: The devices are asked unannounced at least so often; 0: only as the cadence asks.
    """

    number: str
    licensee: str
    valid_from: datetime
    valid_until: datetime
    presence: Presence
    cadence: timedelta
    grace: timedelta
    revision: int
    state: LicenseState
    tolerated_domains: int | None = None
    assurance: Assurance = Assurance.DEVICE_RANGED
    surprises_per_day: int = 1

    def __post_init__(self) -> None:
        """Refuse a record that no appraisal could use."""
        if self.valid_from.tzinfo is None or self.valid_until.tzinfo is None:
            raise UsageError(f"license {self.number}: validity needs a time zone")
        if self.valid_until <= self.valid_from:
            raise UsageError(f"license {self.number}: valid_until is not after valid_from")
        if self.cadence <= timedelta(0) or self.grace < timedelta(0):
            raise UsageError(f"license {self.number}: cadence must be positive and grace must not be negative")
        if self.tolerated_domains is not None and self.tolerated_domains < 0:
            raise UsageError(f"license {self.number}: f must not be negative")
        if self.surprises_per_day < 0:
            raise UsageError(f"license {self.number}: surprises_per_day must not be negative")


@dataclass(frozen=True, slots=True)
class BoardSwap:
    """A recorded change of a device's board (docs/protocol.md AP6): until then it may come up beside these switches."""

    switches: frozenset[Pdi]
    until: datetime


@dataclass(frozen=True, slots=True)
class Deployment:
    """One device that is licensed to one region.

    Attributes:
        pdi: The device.
        license: Under which license.
        region: Where it may be.
        swap: A change of its board that is on record; None when there is none.
    """

    pdi: Pdi
    license: License
    region: Region
    swap: BoardSwap | None = None


@dataclass(frozen=True, slots=True)
class Adoption:
    """A deployment by device key or by board: it names devices that are known once they report (docs/protocol.md RC8).

    Attributes:
        selector: Device key id (32 bytes), or the PDI of a switch of the board (8 bytes).
        license: Under which license.
        region: Where they may be.
        left: How many devices more it allows.
    """

    selector: bytes
    license: License
    region: Region
    left: int


def appraise_validity(held: License, now: datetime) -> tuple[Reason, str] | None:
    """Return why the license does not cover `now`, or None when it does."""
    if held.state is LicenseState.SUSPENDED:
        return Reason.LICENSE_SUSPENDED, f"license {held.number} is suspended"
    if held.state is LicenseState.REVOKED:
        return Reason.LICENSE_REVOKED, f"license {held.number} is revoked"
    if now < held.valid_from:
        return Reason.LICENSE_NOT_YET_VALID, f"license {held.number} is valid from {held.valid_from:%Y-%m-%d %H:%M} UTC"
    if now >= held.valid_until:
        return Reason.LICENSE_EXPIRED, f"license {held.number} was valid until {held.valid_until:%Y-%m-%d %H:%M} UTC"
    return None
