"""Fixes that were made with landmarks that are distrusted by now (docs/protocol.md LA6): read, and appraised again.

What a fix shows without them is worked out in verifier/place/fix.py. The verdict that is kept beside the evidence stays
as it was given; this changes what stands.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from server.store.counters import take_numbers
from server.store.fixes import fix_from_json, fix_to_json
from server.store.framing import micros, moment, pack_place, unpack_place
from server.store.queries import open_findings
from server.store.regions import region_from_json
from server.store.rows import Values, license_of, visible
from server.store.schema import DEPLOYMENTS, DEVICE_VERDICTS, DEVICES, FINDINGS, LICENSES
from server.store.types import LocatedDevice, OpenFinding, Reappraisal
from verifier.appraise import standing_of
from verifier.continuity import seen_place
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.place.fix import Fix
from verifier.units import Challenge, Pdi

OF_PLACE = frozenset({Reason.OUTSIDE_LICENSED_REGION, Reason.IN_PROHIBITED_DESTINATION, Reason.LOCATION_UNPROVEN})
"""Findings that follow from the fix alone."""

_LOCATED = (
    select(DEVICES.c.pdi, DEVICES.c.last_attestation, DEVICES.c.last_fix, DEPLOYMENTS, LICENSES)
    .select_from(DEVICES.join(DEPLOYMENTS, DEPLOYMENTS.c.device_pdi == DEVICES.c.pdi).join(LICENSES))
    .where(DEVICES.c.kind == int(DeviceKind.GPU), DEVICES.c.last_fix.is_not(None))
    .order_by(DEVICES.c.pdi)
)
_UPDATE_DEVICE = update(DEVICES).where(DEVICES.c.pdi == bindparam("key"))
_UPDATE_OPEN_FINDING = update(FINDINGS).where(
    FINDINGS.c.pdi == bindparam("key"), FINDINGS.c.reason == bindparam("key_reason"), FINDINGS.c.closed_at.is_(None)
)


def load_located(connection: Connection, after: Pdi | None, limit: int) -> list[LocatedDevice]:
    """Return up to `limit` deployed GPUs that have a fix, behind `after`, in the order of PDIs."""
    query = _LOCATED.limit(limit)
    if after is not None:
        query = query.where(DEVICES.c.pdi > after)
    return [_located(row) for row in connection.execute(query)]


def _located(row: Row[Any]) -> LocatedDevice:
    return LocatedDevice(
        Pdi(row.pdi),
        Challenge(row.last_attestation),
        fix_from_json(row.last_fix),
        license_of(row).presence,
        region_from_json(row.region),
    )


def reappraise(connection: Connection, given: Sequence[Reappraisal], now: datetime) -> tuple[Pdi, ...]:
    """Write fixes, findings of place and standings, and return the devices that were changed.

    A device whose last attestation or fix is no longer the one that was read is left alone: a newer verdict, or another
    process, has dealt with it.
    """
    changed: list[Pdi] = []
    for again in sorted(given, key=lambda each: each.device.pdi):
        pdi = again.device.pdi
        row = connection.execute(select(DEVICES).where(DEVICES.c.pdi == pdi)).one()
        if row.last_fix is None or row.last_attestation != again.device.last_attestation:
            continue
        if fix_from_json(row.last_fix) != again.device.fix:
            continue
        terms = connection.execute(_LOCATED.where(DEVICES.c.pdi == pdi)).one_or_none()
        if terms is None or _located(terms) != again.device:
            continue  # its license or deployment was changed since it was read
        standing = _rewrite_findings(connection, again, now)
        shown = standing_of((found.finding for found in visible(standing)), deployed=True)
        values: Values = {
            "key": pdi,
            "last_fix": None if again.fix is None else fix_to_json(again.fix),
            "last_proof_at": _last_proof(connection, again, row),
            "place": _place(again.fix, row),
            "standing": int(shown),
            "change_number": take_numbers(connection, "changes", 1)[0],
        }
        connection.execute(_UPDATE_DEVICE, values)
        changed.append(pdi)
    return tuple(changed)


def _rewrite_findings(connection: Connection, again: Reappraisal, now: datetime) -> list[OpenFinding]:
    """Make the findings of place those that follow from the new fix; return all that stands open then."""
    pdi = again.device.pdi
    before = open_findings(connection, [pdi]).get(pdi, [])
    standing = {found.finding.reason: found for found in before}
    new = {found.reason: found for found in again.findings}
    for reason in OF_PLACE & standing.keys() - new.keys():
        end = max(micros(now), micros(standing.pop(reason).opened_at))
        connection.execute(_UPDATE_OPEN_FINDING, {"key": pdi, "key_reason": int(reason), "closed_at": end})
    for reason, found in new.items():
        values: Values = {"severity": int(found.severity), "detail": found.detail}
        stands = standing.get(reason)
        if stands is not None:
            connection.execute(_UPDATE_OPEN_FINDING, {"key": pdi, "key_reason": int(reason), **values})
        else:
            row = {"pdi": pdi, "reason": int(reason), "opened_at": micros(now), "closed_at": None, **values}
            connection.execute(insert(FINDINGS), row)
        standing[reason] = OpenFinding(found, now if stands is None else stands.opened_at)
    return list(standing.values())


def _place(fix: Fix | None, row: Row[Any]) -> bytes | None:
    """Return what the device's place is taken to be from now on, for the rule on impossible travel."""
    stands: bytes | None = row.place
    if stands is None or (seen := unpack_place(stands)).received_at != moment(row.last_report_at):
        return stands  # an earlier fix's
    left = seen_place(fix, seen.issued_at, seen.received_at)
    return None if left is None else pack_place(left)


def _last_proof(connection: Connection, again: Reappraisal, row: Row[Any]) -> int | None:
    """Return when presence was last proven: by this fix, or else by a report before it."""
    last_report_at: int = row.last_report_at
    last_proof_at: int | None = row.last_proof_at
    if again.proven:
        return max(last_report_at, last_proof_at or last_report_at)
    if last_proof_at is None or last_proof_at < last_report_at:
        return last_proof_at
    proofs = select(func.max(DEVICE_VERDICTS.c.received_at)).where(
        DEVICE_VERDICTS.c.pdi == again.device.pdi,
        DEVICE_VERDICTS.c.presence_proven,
        DEVICE_VERDICTS.c.challenge != again.device.last_attestation,
    )
    before: int | None = connection.execute(proofs).scalar()
    return before
