"""Fixes that were made with landmarks that are distrusted by now (docs/protocol.md LA6): read, and appraised again.

What a fix shows without them is worked out in verifier/place/fix.py. The verdict that is kept beside the evidence stays
as it was given; this changes what stands.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from server.store.counters import take_numbers
from server.store.findings import write_findings
from server.store.framing import pack_place, unpack_place
from server.store.queries import open_findings
from server.store.rows import IN_FORCE, Values, license_columns, license_of
from server.store.schema import DEPLOYMENTS, DEVICE_VERDICTS, DEVICES, LICENSES, SITES
from server.store.states import standing_now
from server.store.types import LocatedDevice, OpenFinding, Reappraisal
from server.times import micros, moment
from verifier.continuity import seen_place
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.place.fix import Fix
from verifier.place.region_json import region_from_json
from verifier.units import Challenge, Pdi
from verifier.verdict_json import fix_from_json, fix_to_json

OF_PLACE = frozenset({Reason.OUTSIDE_LICENSED_REGION, Reason.IN_PROHIBITED_DESTINATION, Reason.LOCATION_UNPROVEN})
"""Findings that follow from the fix alone."""

_LOCATED = (
    select(DEVICES.c.pdi, DEVICES.c.last_attestation, DEVICES.c.last_fix, DEPLOYMENTS.c.licensed_at, SITES.c.region)
    .add_columns(*license_columns())
    .select_from(DEVICES.join(DEPLOYMENTS, DEPLOYMENTS.c.device_pdi == DEVICES.c.pdi).join(SITES).join(LICENSES))
    .where(DEVICES.c.kind == int(DeviceKind.GPU), DEVICES.c.last_fix.is_not(None), IN_FORCE)
    .order_by(DEVICES.c.pdi)
)
_UPDATE_DEVICE = update(DEVICES).where(DEVICES.c.pdi == bindparam("key"))


def load_located(connection: Connection, after: Pdi | None, limit: int) -> list[LocatedDevice]:
    """Return up to `limit` GPUs that are deployed in force and have a fix, behind `after`, in the order of PDIs."""
    query = _LOCATED.limit(limit)
    if after is not None:
        query = query.where(DEVICES.c.pdi > after)
    return [_located(row) for row in connection.execute(query)]


def _located(row: Row[Any]) -> LocatedDevice:
    held = license_of(row)
    return LocatedDevice(
        Pdi(row.pdi),
        Challenge(row.last_attestation),
        fix_from_json(row.last_fix),
        held.presence,
        held.assurance,
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
        stands = standing_now(row.kind, standing, deployed=True, activated=row.activated_at is not None)
        values: Values = {
            "key": pdi,
            "last_fix": None if again.fix is None else fix_to_json(again.fix),
            "last_proof_at": _last_proof(connection, again, row, terms.licensed_at),
            "place": _place(again.fix, row),
            "standing": None if stands is None else int(stands),
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
    # A proof is one, even one that shows only without the landmark (docs/protocol.md AP7).
    gone = OF_PLACE | ({Reason.PRESENCE_OVERDUE} if again.proven else set())
    opened: list[Values] = []
    closed: list[Values] = []
    told: list[Values] = []
    for reason in sorted(gone & standing.keys() - new.keys()):
        end = max(micros(now), micros(standing.pop(reason).opened_at))
        closed.append({"key": pdi, "key_reason": int(reason), "end": end})
    for reason, found in new.items():
        stands = standing.get(reason)
        if stands is None:
            values: Values = {"severity": int(found.severity), "detail": found.detail}
            opened.append({"pdi": pdi, "reason": int(reason), "opened_at": micros(now), "closed_at": None, **values})
        elif stands.finding.detail != found.detail:
            told.append({"key": pdi, "key_reason": int(reason), "told": found.detail})
        standing[reason] = OpenFinding(found, now if stands is None else stands.opened_at)
    write_findings(connection, opened=opened, closed=closed, told=told)
    return list(standing.values())


def _place(fix: Fix | None, row: Row[Any]) -> bytes | None:
    """Return what the device's place is taken to be from now on, for the rule on impossible travel."""
    stands: bytes | None = row.place
    if stands is None or (seen := unpack_place(stands)).received_at != moment(row.last_report_at):
        return stands  # an earlier fix's
    left = seen_place(fix, seen.issued_at, seen.received_at)
    return None if left is None else pack_place(left)


def _last_proof(connection: Connection, again: Reappraisal, row: Row[Any], licensed_at: int) -> int | None:
    """Return when presence was last proven: by this fix, or else by a report before it under the same deployment."""
    last_report_at: int = row.last_report_at
    last_proof_at: int | None = row.last_proof_at
    if again.proven:
        return max(last_report_at, last_proof_at or last_report_at)
    if last_proof_at is None or last_proof_at < last_report_at:
        return last_proof_at
    proofs = select(func.max(DEVICE_VERDICTS.c.received_at)).where(
        DEVICE_VERDICTS.c.pdi == again.device.pdi,
        DEVICE_VERDICTS.c.presence_proven,
        DEVICE_VERDICTS.c.received_at >= licensed_at,
        DEVICE_VERDICTS.c.challenge != again.device.last_attestation,
    )
    before: int | None = connection.execute(proofs).scalar()
    return before
