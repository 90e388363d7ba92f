"""Rows to values and back, for devices and what licenses them. One place that knows which column holds what."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Row

from server.store.schema import LICENSES
from server.store.types import DeviceRecord, OpenFinding
from server.times import MICROSECOND, micros, moment, optional_moment
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import License, LicenseState, Presence
from verifier.place.answers import Assurance
from verifier.place.region_json import region_from_json
from verifier.units import Challenge, DeviceKeyId, Pdi
from verifier.verdict import Finding, Severity, Standing
from verifier.verdict_json import fix_from_json

CHUNK = 500
"""Keys in one query. SQLite takes 32,766 parameters in one statement; longer lists bring nothing."""

Item = TypeVar("Item")
Values = dict[str, Any]
"""Column values of one row, as SQLAlchemy takes them."""


def chunks(items: Iterable[Item], size: int = CHUNK) -> Iterator[list[Item]]:
    """Cut any iterable into lists of at most `size`; it is read only as far as asked."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


IN_FORCE: ColumnElement[bool] = LICENSES.c.state != int(LicenseState.DRAFT)
"""A draft licenses nothing; whatever became of it later is a duty (docs/protocol.md RC3)."""

TERMS = (
    "licensee",
    "valid_from",
    "valid_until",
    "presence",
    "cadence_us",
    "grace_us",
    "state",
    "tolerated_domains",
    "assurance",
    "surprises_per_day",
)
"""Columns of `licenses` that hold what the verifier reads, the number and the revision apart."""


def license_columns() -> list[ColumnElement[Any] | Column[Any]]:
    """What a query selects for `license_of`. Labeled, since other tables of a join have a revision too."""
    return [
        LICENSES.c.number.label("terms_number"),
        LICENSES.c.revision.label("terms_revision"),
        *(LICENSES.c[name] for name in TERMS),
    ]


def terms_values(held: License) -> Values:
    """Return the columns that a license's terms set, in the order of TERMS."""
    return {
        "licensee": held.licensee,
        "valid_from": micros(held.valid_from),
        "valid_until": micros(held.valid_until),
        "presence": int(held.presence),
        "cadence_us": held.cadence // MICROSECOND,
        "grace_us": held.grace // MICROSECOND,
        "state": int(held.state),
        "tolerated_domains": held.tolerated_domains,
        "assurance": int(held.assurance),
        "surprises_per_day": held.surprises_per_day,
    }


def license_of(row: Row[Any]) -> License:
    """Read a license from a row that holds `license_columns`."""
    return License(
        number=row.terms_number,
        licensee=row.licensee,
        valid_from=moment(row.valid_from),
        valid_until=moment(row.valid_until),
        presence=Presence(row.presence),
        cadence=row.cadence_us * MICROSECOND,
        grace=row.grace_us * MICROSECOND,
        revision=row.terms_revision,
        state=LicenseState(row.state),
        tolerated_domains=row.tolerated_domains,
        assurance=Assurance(row.assurance),
        surprises_per_day=row.surprises_per_day,
    )


def finding_of(row: Row[Any]) -> OpenFinding:
    """Read an open finding."""
    return OpenFinding(Finding(Reason(row.reason), Severity(row.severity), row.detail), moment(row.opened_at))


SUPPRESSING = frozenset({Reason.OUTSIDE_LICENSED_REGION, Reason.IN_PROHIBITED_DESTINATION, Reason.SILENT})
SUPPRESSED = frozenset({Reason.LOCATION_UNPROVEN, Reason.PRESENCE_OVERDUE})
"""While one of the first is open, the second follow from it and are not told besides (docs/protocol.md AP7)."""


def visible(findings: Iterable[OpenFinding]) -> tuple[OpenFinding, ...]:
    """Return what a reader sees of a device's open findings, worst first."""
    standing = list(findings)
    if any(stands.finding.reason in SUPPRESSING for stands in standing):
        standing = [stands for stands in standing if stands.finding.reason not in SUPPRESSED]
    return tuple(sorted(standing, key=lambda stands: (-stands.finding.severity, stands.finding.reason)))


def device_of(row: Row[Any], findings: Sequence[OpenFinding]) -> DeviceRecord:
    """Read a device from a row of the query in queries.py, which joins its deployment in force."""
    deployed = row.license_number is not None
    return DeviceRecord(
        pdi=Pdi(row.pdi),
        kind=None if row.kind is None else DeviceKind(row.kind),
        device_key_id=None if row.device_key_id is None else DeviceKeyId(row.device_key_id),
        model=row.model,
        firmware=row.firmware,
        host_id=row.host_id,
        standing=None if row.standing is None else Standing(row.standing),
        license_number=row.license_number if deployed else "",
        licensee=row.licensee if deployed else "",
        site_id=row.site_id if deployed else "",
        site_title=row.site_title if deployed else "",
        jurisdiction=row.jurisdiction if deployed else "",
        region=region_from_json(row.region) if deployed else None,
        last_report_at=optional_moment(row.last_report_at),
        last_proof_at=optional_moment(row.last_proof_at),
        last_fix=None if row.last_fix is None else fix_from_json(row.last_fix),
        last_attestation=None if row.last_attestation is None else Challenge(row.last_attestation),
        findings=visible(findings),
        change_number=row.change_number,
    )
