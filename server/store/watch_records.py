"""What the records alone show: licenses that are not in order, and more devices than a license allows.

docs/protocol.md W2, W5, RC9. Devices that report get the findings of their license from verdicts, in the same words.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, func, or_, select

from server.store.queries import is_open
from server.store.rows import IN_FORCE, license_columns, license_of
from server.store.schema import DEPLOYMENTS, DEVICES, FINDINGS, LICENSES, SELECTORS
from server.store.watch_types import EndingLicense, Turn
from server.times import micros, moment
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import LicenseState, appraise_validity
from verifier.units import Pdi

ENDS_SOON = timedelta(days=30)
"""A license that ends within it is told (docs/protocol.md W5)."""

OF_LICENSE = (Reason.LICENSE_EXPIRED, Reason.LICENSE_SUSPENDED, Reason.LICENSE_REVOKED)
"""Opened for devices that do not report too (docs/protocol.md W2)."""

_MAY_BE_GPU = or_(DEVICES.c.kind.is_(None), DEVICES.c.kind == int(DeviceKind.GPU))


class Validity(NamedTuple):
    """Why a license does not cover the time now."""

    reason: Reason
    detail: str


def load_invalid(connection: Connection, now: datetime) -> dict[str, Validity]:
    """Return the licenses that are over, suspended or revoked."""
    out_of_order = or_(LICENSES.c.state != int(LicenseState.ACTIVE), LICENSES.c.valid_until <= micros(now))
    found: dict[str, Validity] = {}
    for row in connection.execute(select(*license_columns()).where(IN_FORCE, out_of_order)):
        why = appraise_validity(license_of(row), now)
        if why is not None and why[0] in OF_LICENSE:
            found[row.terms_number] = Validity(*why)
    return found


def invalid_turns(connection: Connection, invalid: Mapping[str, Validity]) -> Iterator[Turn]:
    """Yield what is to be opened under these licenses."""
    for number, why in invalid.items():
        query = (
            select(DEVICES.c.pdi)
            .select_from(DEPLOYMENTS.join(DEVICES, DEVICES.c.pdi == DEPLOYMENTS.c.device_pdi))
            .where(DEPLOYMENTS.c.license_number == number, _MAY_BE_GPU, ~is_open(why.reason))
        )
        for pdi in connection.scalars(query):
            yield Turn(Pdi(pdi), why.reason, why.detail)


def valid_turns(connection: Connection, invalid: Mapping[str, Validity]) -> Iterator[Turn]:
    """Yield what is to be closed, since the license is in order again or out of it for another reason."""
    deployed = FINDINGS.join(DEPLOYMENTS, DEPLOYMENTS.c.device_pdi == FINDINGS.c.pdi)
    for reason in OF_LICENSE:
        stands = (FINDINGS.c.reason == int(reason), FINDINGS.c.closed_at.is_(None))
        numbers = select(DEPLOYMENTS.c.license_number).select_from(deployed).where(*stands).distinct()
        for number in connection.scalars(numbers).all():
            why = invalid.get(number)
            if why is None or why.reason is not reason:
                query = select(FINDINGS.c.pdi).select_from(deployed)
                for pdi in connection.scalars(query.where(*stands, DEPLOYMENTS.c.license_number == number)):
                    yield Turn(Pdi(pdi), reason, "", opens=False)


def quantity_turns(connection: Connection) -> Iterator[Turn]:
    """Yield where QUANTITY_EXCEEDED is to be opened or closed (docs/protocol.md RC9)."""
    many = dict(_many(connection))
    stands = (FINDINGS.c.reason == int(Reason.QUANTITY_EXCEEDED), FINDINGS.c.closed_at.is_(None))
    told = set(connection.scalars(select(FINDINGS.c.pdi).where(*stands)))
    for pdi, detail in many.items():
        if pdi not in told:
            yield Turn(Pdi(pdi), Reason.QUANTITY_EXCEEDED, detail)
    for pdi in sorted(told - many.keys()):
        yield Turn(Pdi(pdi), Reason.QUANTITY_EXCEEDED, "", opens=False)


def _many(connection: Connection) -> Iterator[tuple[bytes, str]]:
    """Yield the devices that are too many, with what is said of them."""
    limited = select(LICENSES.c.number, LICENSES.c.quantity).where(IN_FORCE, LICENSES.c.quantity.is_not(None))
    for row in connection.execute(limited).all():
        of_license = DEPLOYMENTS.c.license_number == row.number
        count = connection.execute(select(func.count()).select_from(DEPLOYMENTS).where(of_license)).scalar_one()
        left = SELECTORS.c.devices - SELECTORS.c.adopted
        waiting = connection.execute(
            select(SELECTORS.c.revised_at, left.label("left")).where(SELECTORS.c.license_number == row.number, left > 0)
        ).all()
        excess = count + sum(each.left for each in waiting) - row.quantity
        if excess <= 0:
            continue
        detail = f"license {row.number} allows {row.quantity:,} devices; as many were deployed under it before this one"
        # From the last one back: those that wait for a key or a board use up a place as of when they were recorded.
        later = sorted(waiting, key=lambda each: -each.revised_at)
        came = select(DEPLOYMENTS.c.device_pdi, DEPLOYMENTS.c.licensed_at).where(of_license)
        order = came.order_by(DEPLOYMENTS.c.licensed_at.desc(), DEPLOYMENTS.c.device_pdi.desc()).limit(excess)
        for pdi, licensed_at in connection.execute(order).all():
            while later and later[0].revised_at > licensed_at:
                excess -= later.pop(0).left
            if excess <= 0:
                break
            excess -= 1
            yield pdi, detail


def load_ending(connection: Connection, now: datetime) -> tuple[EndingLicense, ...]:
    """Return the licenses in force that end soon, the first to end first."""
    query = select(LICENSES.c.number, LICENSES.c.licensee, LICENSES.c.valid_until).where(
        LICENSES.c.state.in_([int(LicenseState.ACTIVE), int(LicenseState.SUSPENDED)]),
        LICENSES.c.valid_until > micros(now),
        LICENSES.c.valid_until <= micros(now + ENDS_SOON),
    )
    rows = connection.execute(query.order_by(LICENSES.c.valid_until, LICENSES.c.number))
    return tuple(EndingLicense(row.number, row.licensee, moment(row.valid_until)) for row in rows)
