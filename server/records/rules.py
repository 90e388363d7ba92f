"""What records may become, and who must agree (docs/protocol.md §14). Pure; what stands is an argument."""

from collections.abc import Callable, Iterator

from server.records.values import DeploymentRecord, LicenseRecord, MaintenanceWindow, Party, Record, Shipment, Site
from verifier.license import LicenseState, Presence
from verifier.place.regions import Countries, Group, Region

_NEXT = {
    None: {LicenseState.DRAFT},
    LicenseState.DRAFT: {LicenseState.DRAFT, LicenseState.ACTIVE, LicenseState.REVOKED},
    LicenseState.ACTIVE: {LicenseState.ACTIVE, LicenseState.SUSPENDED, LicenseState.REVOKED},
    LicenseState.SUSPENDED: {LicenseState.SUSPENDED, LicenseState.ACTIVE, LicenseState.REVOKED},
    LicenseState.REVOKED: {LicenseState.REVOKED},
}


class RuleError(ValueError):
    """A record may not become this.

    Attributes:
        field: Which field says so, as `license.state`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def check_transition(before: LicenseState | None, after: LicenseState | None) -> None:
    """Refuse a state that a license cannot come to; None: it is not on record.

    A license that was in force cannot end: the end of a duty is REVOKED, and stays on record.

    Raises:
        RuleError: docs/protocol.md RC3.
    """
    if after is None:
        if before not in {None, LicenseState.DRAFT}:
            raise RuleError("license.state", "only a draft can end; a license that was in force is revoked")
    elif after not in _NEXT[before]:
        was = "a new license starts as DRAFT and" if before is None else f"a license that is {before.name}"
        raise RuleError("license.state", f"{was} cannot become {after.name}")


def check_region(presence: Presence, region: Region) -> None:
    """Refuse a site at which a license's presence cannot be asked for: a row of an import file could not say it.

    Raises:
        RuleError: `site` needs a disc or a drawing, `country` a country or a group.
    """
    by_name = isinstance(region, Countries | Group)
    if presence is Presence.SITE and by_name:
        raise RuleError("site.country", f"presence is site, so {region} cannot be one; draw it, or ask for country")
    if presence is Presence.COUNTRY and not by_name:
        raise RuleError("site.region", f"presence is country, so {region} cannot be a site; name the country or group")


def needs_two_people(before: Record | None, after: Record | None, in_force: Callable[[str], bool]) -> bool:
    """Whether one officer may not write this alone (docs/protocol.md RC4).

    Args:
        before: As it stands; None: it does not.
        after: As it shall be; None: it ends.
        in_force: Whether the license of this number, as it stands, is no draft.
    """
    for record in (before, after):
        match record:
            case None | Party():
                continue
            case LicenseRecord(terms) if terms.state is not LicenseState.DRAFT:
                return True
            case LicenseRecord():
                continue
            case Site() | DeploymentRecord() | Shipment() | MaintenanceWindow():
                if in_force(record.license_number):
                    return True
    return False


def licenses_of(before: Record | None, after: Record | None) -> Iterator[str]:
    """Yield the numbers of the licenses that a write concerns."""
    for record in (before, after):
        match record:
            case LicenseRecord(terms):
                yield terms.number
            case Site() | DeploymentRecord() | Shipment() | MaintenanceWindow():
                yield record.license_number
