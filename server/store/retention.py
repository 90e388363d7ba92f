"""Raw evidence that need not be kept any more (docs/protocol.md K1), and the store's door to its removal.

A run goes through old evidence in the order of arrival, a bounded part in one transaction, so that verdicts wait for no
more than that. Who asked and why is a row of its own, which grows with each part, in the part's own transaction.
"""

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, tuple_, update

from server.store.doors import Reads, Writes
from server.store.rows import chunks
from server.store.schema import (
    ATTESTATIONS,
    CASE_FINDINGS,
    CASES,
    DEVICE_VERDICTS,
    DEVICES,
    EVIDENCE,
    REMOVALS,
)
from server.times import micros
from verifier.errors import EvidenceError
from verifier.evidence.claims import parse_claims
from verifier.units import Challenge, Pdi

PART = 100
"""Attestations in one transaction: with eight devices each about 0.1 s, for which verdicts wait."""

Cursor = tuple[int, bytes]
"""Arrival and challenge of the last attestation that was looked at."""

_START: Cursor = (-(1 << 63), b"")


@enum.unique
class KeepReason(enum.IntEnum):
    """Why old evidence is kept, in the order in which reasons count. Values equal `trigpoint.v1.KeepReason`."""

    TRANSITION = 1
    OPEN_CASE = 2
    LAST_PROOF = 3
    NEWEST = 4


@dataclass(frozen=True, slots=True)
class RetentionOutcome:
    """What a run removed, or would.

    Attributes:
        removed: Attestations whose evidence is removed.
        removed_bytes: Of claims, reports and what is common to their basis.
        kept: Older attestations whose evidence is kept, by the first reason that holds.
    """

    removed: int
    removed_bytes: int
    kept: Mapping[KeepReason, int]


@dataclass(slots=True)
class _Run:
    """A run in the making. `proofs`: of each device the last attestation in which its presence was proven."""

    before: int
    cursor: Cursor = _START
    is_over: bool = False
    number: int | None = None
    removed: int = 0
    removed_bytes: int = 0
    kept: dict[KeepReason, int] = field(default_factory=lambda: dict.fromkeys(KeepReason, 0))
    proofs: dict[bytes, bytes | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one part of a run found.

    Attributes:
        cursor: The last that was looked at.
        is_last: Nothing old follows.
        removable: Challenges of what is kept for nothing.
        removable_bytes: Of them.
        kept: By reason.
    """

    cursor: Cursor
    is_last: bool
    removable: Sequence[Challenge]
    removable_bytes: int
    kept: Mapping[KeepReason, int]


class RetentionDoor:
    """Removes raw evidence. Every call raises only `StoreError`s.

    Args:
        read: Runs a query.
        write: Runs a change.
    """

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write

    async def remove(self, before: datetime, now: datetime, *, by: str, reason: str, dry_run: bool) -> RetentionOutcome:
        """Remove the raw evidence that arrived earlier and stands for nothing (docs/protocol.md K1).

        What is removed by an earlier part of a run stays removed when a later one fails.

        Args:
            before: Evidence that arrived at this time or later is kept.
            now: The time.
            by: Who asked for it.
            reason: Why.
            dry_run: Change nothing and say what would be.
        """
        run = _Run(micros(before))
        while not run.is_over:
            if dry_run:
                part, number = await self._read(lambda connection: (_look(connection, run), None))
            else:
                part, number = await self._write(
                    lambda connection: _remove(connection, run, micros(now), by, reason), changes_devices=False
                )
            # Only now: a transaction that is tried again must begin where the first try did.
            run.cursor, run.is_over, run.number = part.cursor, part.is_last, number
            run.removed += len(part.removable)
            run.removed_bytes += part.removable_bytes
            for why, count in part.kept.items():
                run.kept[why] += count
        return RetentionOutcome(run.removed, run.removed_bytes, run.kept)


def _remove(connection: Connection, run: _Run, now_us: int, by: str, reason: str) -> tuple[_Part, int | None]:
    part = _look(connection, run)
    if not part.removable:
        return part, run.number
    for some in chunks(part.removable):
        connection.execute(delete(EVIDENCE).where(EVIDENCE.c.challenge.in_(some)))
    number = run.number
    if number is None:
        number = connection.execute(select(func.coalesce(func.max(REMOVALS.c.number), 0) + 1)).scalar_one()
        row = {"number": number, "at": now_us, "by": by, "reason": reason, "older_than": run.before}
        connection.execute(insert(REMOVALS), {**row, "attestations": 0, "bytes": 0})
    counts = {"attestations": run.removed + len(part.removable), "bytes": run.removed_bytes + part.removable_bytes}
    connection.execute(update(REMOVALS).where(REMOVALS.c.number == number).values(counts))
    return part, number


def _look(connection: Connection, run: _Run) -> _Part:
    """Look at the next part of what is old, and say what each of it stands for."""
    size = func.length(EVIDENCE.c.reports) + func.length(EVIDENCE.c.basis)
    query = (
        select(
            ATTESTATIONS.c.challenge,
            ATTESTATIONS.c.received_at,
            ATTESTATIONS.c.transition,
            EVIDENCE.c.claims,
            size.label("size"),
        )
        .select_from(ATTESTATIONS.join(EVIDENCE))
        .where(
            ATTESTATIONS.c.received_at < run.before,
            ATTESTATIONS.c.received_at >= run.cursor[0],
            tuple_(ATTESTATIONS.c.received_at, ATTESTATIONS.c.challenge) > run.cursor,
        )
        .order_by(ATTESTATIONS.c.received_at, ATTESTATIONS.c.challenge)
        .limit(PART)
    )
    rows: list[Any] = list(connection.execute(query))
    reasons = _reasons(connection, run, rows)
    removable = [row for row in rows if row.challenge not in reasons]
    kept = list(reasons.values())
    return _Part(
        cursor=(rows[-1].received_at, rows[-1].challenge) if rows else run.cursor,
        is_last=len(rows) < PART,
        removable=[Challenge(row.challenge) for row in removable],
        removable_bytes=sum(len(row.claims) + row.size for row in removable),
        kept={why: kept.count(why) for why in set(kept)},
    )


def _reasons(connection: Connection, run: _Run, rows: Sequence[Any]) -> dict[bytes, KeepReason]:
    """Return why each of these is kept, by challenge; what is kept for nothing is missing."""
    reasons: dict[bytes, KeepReason] = {}
    stated: dict[bytes, tuple[Pdi, ...]] = {}
    for row in rows:
        if row.transition:
            reasons[row.challenge] = KeepReason.TRANSITION
        else:
            stated[row.challenge] = _devices(row.claims)
    pdis = {pdi for devices in stated.values() for pdi in devices}
    in_case = _in_open_case(connection, pdis)
    latest: dict[bytes, Any] = {}
    columns = (DEVICES.c.pdi, DEVICES.c.last_attestation, DEVICES.c.last_proof_at)
    for some in chunks(pdis):
        latest.update((row.pdi, row) for row in connection.execute(select(*columns).where(DEVICES.c.pdi.in_(some))))
    for row in rows:
        devices = [latest[pdi] for pdi in stated.get(row.challenge, ()) if pdi in latest]
        if any(device.pdi in in_case for device in devices):
            reasons[row.challenge] = KeepReason.OPEN_CASE
        # Presence counts as proven last by the records that stand, and by the verdict alone.
        elif any(device.last_proof_at == row.received_at for device in devices) or any(
            _last_proof(connection, run, device.pdi) == row.challenge for device in devices
        ):
            reasons[row.challenge] = KeepReason.LAST_PROOF
        elif any(device.last_attestation == row.challenge for device in devices):
            reasons[row.challenge] = KeepReason.NEWEST
    return reasons


def _devices(claims: bytes) -> tuple[Pdi, ...]:
    """Return the devices that the claims name: verdicts are found by device, and none is about another one."""
    try:
        return parse_claims(claims).devices
    except EvidenceError:
        return ()


def _in_open_case(connection: Connection, pdis: Collection[Pdi]) -> set[bytes]:
    """Return those of these devices that are in a case that is not resolved, or in what may become one."""
    found: set[bytes] = set()
    in_case = select(CASE_FINDINGS.c.pdi).join(CASES, CASES.c.case_id == CASE_FINDINGS.c.case_id)
    for some in chunks(pdis):
        found.update(connection.scalars(in_case.where(CASE_FINDINGS.c.pdi.in_(some), CASES.c.resolved_at.is_(None))))
    return found


def _last_proof(connection: Connection, run: _Run, pdi: bytes) -> bytes | None:
    """Return the last attestation whose verdict says that a device's presence is proven. One look a run is enough.

    One that has come since makes an earlier one be kept once more, and no other be removed.
    """
    if pdi not in run.proofs:
        query = (
            select(DEVICE_VERDICTS.c.challenge)
            .where(and_(DEVICE_VERDICTS.c.pdi == pdi, DEVICE_VERDICTS.c.presence_proven))
            .order_by(DEVICE_VERDICTS.c.received_at.desc())
            .limit(1)
        )
        run.proofs[pdi] = connection.execute(query).scalar_one_or_none()
    return run.proofs[pdi]
