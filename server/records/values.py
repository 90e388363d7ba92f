"""Records as values. A value that exists can be stored; what records may hold together is rules.py's business."""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from verifier.errors import UsageError
from verifier.license import BoardSwap, License
from verifier.place.regions import Region
from verifier.units import DeviceKeyId, Pdi


@enum.unique
class RecordKind(enum.IntEnum):
    """What is on record. Values equal `trigpoint.v1.RecordKind`."""

    PARTY = 1
    LICENSE = 2
    SITE = 3
    DEPLOYMENT = 4
    SHIPMENT = 5
    WINDOW = 6


@enum.unique
class PartyRole(enum.IntEnum):
    """A party's part in a license. Values equal `trigpoint.v1.PartyRole`."""

    LICENSEE = 1
    CONSIGNEE = 2
    END_USER = 3
    INTERMEDIATE = 4


@dataclass(frozen=True, slots=True)
class Party:
    """A company or person that licenses name, and that is screened.

    Attributes:
        party_id: 1 to 63 of a-z, 0-9 and -.
        title: Its name.
        aliases: Other names.
        addresses: As written.
        country: ISO 3166-1 alpha-2, or empty.
    """

    party_id: str
    title: str
    aliases: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    country: str = ""


@dataclass(frozen=True, slots=True)
class LicenseRecord:
    """A license: what the verifier reads, and what only the desk does.

    Attributes:
        terms: The verifier's part. `terms.revision` is the store's; in what is written it is ignored.
        parties: Who takes part, by party id, each with its part; one party may have several.
        eccn: Export control classification number, free text.
        quantity: How many devices it allows; None: not limited.
    """

    terms: License
    parties: tuple[tuple[str, PartyRole], ...] = ()
    eccn: str = ""
    quantity: int | None = None

    def __post_init__(self) -> None:
        """Refuse a quantity below nothing."""
        if self.quantity is not None and self.quantity < 0:
            raise UsageError(f"license {self.terms.number}: the quantity is negative")


@dataclass(frozen=True, slots=True)
class Site:
    """Where devices under a license may be.

    Attributes:
        license_number: Whose site it is.
        site_id: 1 to 63 of a-z, 0-9 and -; unique in its license.
        title: For people.
        region: Disc, polygon, country or group.
        address: Free text.
        jurisdiction: Country whose officers may see it, ISO 3166-1 alpha-2; empty: those of the home authority alone.
    """

    license_number: str
    site_id: str
    title: str
    region: Region
    address: str = ""
    jurisdiction: str = ""


@dataclass(frozen=True, slots=True)
class ByKey:
    """A deployment that names a device by its key; the device is known by its PDI once it has reported."""

    key_id: DeviceKeyId


@dataclass(frozen=True, slots=True)
class ByBoard:
    """A deployment that names a board by one of its switches, and says how many devices sit on it.

    The first so many that report with a proven edge to it are deployed by it (docs/protocol.md RC8).
    """

    switch: Pdi
    devices: int


@dataclass(frozen=True, slots=True)
class ByPdi:
    """A deployment that names a device by its PDI."""

    pdi: Pdi


Selector = ByPdi | ByKey | ByBoard


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """Devices that a license allows at one of its sites.

    Attributes:
        selector: Which devices.
        license_number: Under which license.
        site_id: At which of its sites.
        shipment_id: The shipment that brings them; empty when none is on record.
        swap: A recorded change of board; only with `ByPdi`.
    """

    selector: Selector
    license_number: str
    site_id: str
    shipment_id: str = ""
    swap: BoardSwap | None = None


@dataclass(frozen=True, slots=True)
class Shipment:
    """Devices under way. Deployments name it.

    Attributes:
        shipment_id: 1 to 63 of a-z, 0-9 and -.
        license_number: Under which license.
        site_id: To which of its sites.
        shipped_at: When they left.
        activation_by: When they must have reported; after it they are NEVER_ACTIVATED.
        reference: Waybill or the like, free text.
    """

    shipment_id: str
    license_number: str
    site_id: str
    shipped_at: datetime
    activation_by: datetime
    reference: str = ""


LONGEST_WINDOW = timedelta(days=14)
"""A window stops the watch; whatever needs longer is a transfer or a return."""


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """Planned time in which a site's devices need neither report nor be proven. Clocks stand still in it.

    Attributes:
        window_id: 1 to 63 of a-z, 0-9 and -.
        license_number: Under which license.
        site_id: At which of its sites; empty: at all of them.
        starts_at: First instant.
        ends_at: First instant after it.
        reason: Why, free text.
    """

    window_id: str
    license_number: str
    site_id: str
    starts_at: datetime
    ends_at: datetime
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse a window that does not end after it starts, or is too long."""
        if not timedelta(0) < self.ends_at - self.starts_at <= LONGEST_WINDOW:
            raise UsageError(f"a maintenance window ends after it starts, at most {LONGEST_WINDOW.days} days")


Record = Party | LicenseRecord | Site | DeploymentRecord | Shipment | MaintenanceWindow


@dataclass(frozen=True, slots=True)
class RecordWrite:
    """One record to write.

    Attributes:
        name: Its resource name (names.py).
        record: As it shall be; None: it ends.
        basis: The revision that this is based on; 0: there must be none; None: whatever stands.
    """

    name: str
    record: Record | None
    basis: int | None
