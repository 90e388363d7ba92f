"""Imports of deployments and licenses: all or none, counted, and unchanged when the same file comes again.

Rows are taken chunk by chunk, so an import of any size needs the memory of one chunk. What this import has written
already is told from what stood before by its record number. Each row is checked before it comes here
(server/rpc/imports.py); here only contradictions between rows are.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from server.store.counters import read_counter, take_numbers
from server.store.errors import RecordConflictError
from server.store.framing import micros
from server.store.queries import open_findings
from server.store.regions import region_to_json
from server.store.rows import LICENSE_COLUMNS, Values, chunks, license_values
from server.store.schema import DEPLOYMENTS, DEVICES, FINDINGS, LICENSES
from server.store.types import ImportCounts, OpenFinding
from verifier.appraise import standing_of
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import Deployment, License
from verifier.units import Pdi
from verifier.verdict import Standing

ROWS = 2_000
"""Rows that are compared and written at once."""

_UPDATE_LICENSE = update(LICENSES).where(LICENSES.c.number == bindparam("key"))
_UPDATE_DEPLOYMENT = update(DEPLOYMENTS).where(DEPLOYMENTS.c.device_pdi == bindparam("key"))
_UPDATE_CHANGE = update(DEVICES).where(DEVICES.c.pdi == bindparam("key"))
_CLOSE_UNKNOWN = update(FINDINGS).where(
    FINDINGS.c.pdi == bindparam("key"),
    FINDINGS.c.reason == int(Reason.UNKNOWN_DEVICE),
    FINDINGS.c.closed_at.is_(None),
)


def records_number(connection: Connection) -> int:
    """Return the number of the last import, of any kind of record; 0 before the first."""
    return read_counter(connection, "records")


def import_deployments(
    connection: Connection, rows: Iterable[Deployment], now: datetime, *, write: bool
) -> ImportCounts:
    """Import, or with `write` unset only count, in the caller's transaction.

    A deployment counts as updated when its own columns or its license's conditions change.

    Raises:
        RecordConflictError: A device comes twice, or rows of one license contradict each other.
    """
    number = take_numbers(connection, "records", 1)[0] if write else read_counter(connection, "records") + 1
    run = _Import(connection, number, micros(now), write=write)
    for some in chunks(rows, ROWS):
        run.take(some)
    return ImportCounts(run.created, run.updated, run.unchanged)


class _Import:
    """One import: its numbers, its counts, and what it does with one chunk of rows."""

    def __init__(self, connection: Connection, number: int, now: int, *, write: bool) -> None:
        self._connection = connection
        self._number = number
        self._now = now
        self._write = write
        self.created = 0
        self.updated = 0
        self.unchanged = 0

    def take(self, rows: Sequence[Deployment]) -> None:
        """Import one chunk: licenses first, since deployments name them."""
        revised = self._take_licenses(_licenses_of(rows))
        self._take_deployments(rows, revised)

    def _take_licenses(self, given: Mapping[str, License]) -> set[str]:
        """Write new and changed licenses; return the numbers of those that this import made or changed."""
        columns = [LICENSES.c[name] for name in LICENSE_COLUMNS]
        own = (LICENSES.c.number, LICENSES.c.revision, LICENSES.c.record_number, LICENSES.c.tightened_at)
        query = select(*own, *columns)
        selected = self._connection.execute(query.where(LICENSES.c.number.in_(list(given))))
        stored: dict[str, Row[Any]] = {row.number: row for row in selected}
        revised: set[str] = set()
        new: list[Values] = []
        changed: list[Values] = []
        for number, held in given.items():
            values = license_values(held)
            row = stored.get(number)
            kept = {**values, "revised_at": self._now, "record_number": self._number}
            if row is None:
                new.append({"number": number, "revision": 1, "tightened_at": self._now, **kept})
            elif tuple(values.values()) != tuple(row)[-len(values) :]:
                if row.record_number == self._number:
                    raise RecordConflictError("license_number", f"rows of license {number} contradict each other")
                tighter = values["cadence_us"] + values["grace_us"] < row.cadence_us + row.grace_us
                tightened_at = self._now if tighter else row.tightened_at
                changed.append({"key": number, "revision": row.revision + 1, "tightened_at": tightened_at, **kept})
                if self._write and row.licensee != held.licensee:
                    self._touch_license(number)
            elif row.record_number != self._number:
                continue
            revised.add(number)
        if self._write:
            self._execute(insert(LICENSES), new)
            self._execute(_UPDATE_LICENSE, changed)
        return revised

    def _take_deployments(self, rows: Sequence[Deployment], revised: Collection[str]) -> None:
        columns = [DEPLOYMENTS.c[name] for name in ("license_number", "region")]
        query = select(DEPLOYMENTS.c.device_pdi, DEPLOYMENTS.c.record_number, DEPLOYMENTS.c.licensed_at, *columns)
        selected = self._connection.execute(query.where(DEPLOYMENTS.c.device_pdi.in_([row.pdi for row in rows])))
        stored: dict[bytes, Row[Any]] = {row.device_pdi: row for row in selected}
        seen: set[Pdi] = set()
        new: list[Values] = []
        changed: list[Values] = []
        for row in rows:
            before = stored.get(row.pdi)
            if row.pdi in seen or (before is not None and before.record_number == self._number):
                raise RecordConflictError("device_pdi", f"device {row.pdi.hex()} comes twice")
            seen.add(row.pdi)
            values = {"license_number": row.license.number, "region": region_to_json(row.region)}
            kept = {**values, "revised_at": self._now, "record_number": self._number}
            if before is None:
                new.append({"device_pdi": row.pdi, "licensed_at": self._now, **kept})
            elif row.license.number in revised or tuple(values.values()) != tuple(before)[-len(values) :]:
                stays = row.license.number == before.license_number
                changed.append({"key": row.pdi, "licensed_at": before.licensed_at if stays else self._now, **kept})
            else:
                self.unchanged += 1
        self.created += len(new)
        self.updated += len(changed)
        if self._write:
            self._execute(insert(DEPLOYMENTS), new)
            self._execute(_UPDATE_DEPLOYMENT, changed)
            self._deploy([row["device_pdi"] for row in new])
            self._touch([row["key"] for row in changed])

    def _touch_license(self, number: str) -> None:
        """Give every device of a license a new change number: what its record shows has changed."""
        last = b""
        while True:
            query = (
                select(DEPLOYMENTS.c.device_pdi)
                .where(DEPLOYMENTS.c.license_number == number, DEPLOYMENTS.c.device_pdi > last)
                .order_by(DEPLOYMENTS.c.device_pdi)
                .limit(1_000)
            )
            pdis = self._connection.scalars(query).all()
            if not pdis:
                return
            self._touch(pdis)
            last = pdis[-1]

    def _touch(self, pdis: Sequence[bytes]) -> None:
        """Give devices that are deployed already a new change number."""
        if pdis:
            numbered = zip(pdis, take_numbers(self._connection, "changes", len(pdis)), strict=True)
            self._execute(_UPDATE_CHANGE, [{"key": pdi, "change_number": change} for pdi, change in numbered])

    def _deploy(self, pdis: Sequence[bytes]) -> None:
        """Give newly deployed devices a standing, a change number, and a row.

        Nothing was appraised under their license yet, so they stand UNPROVEN at best (docs/protocol.md AP4). What they
        showed before stays open, but that they are unknown.
        """
        if not pdis:
            return
        kinds: dict[bytes, int | None] = {}
        for some in chunks(pdis):
            query = select(DEVICES.c.pdi, DEVICES.c.kind).where(DEVICES.c.pdi.in_(some))
            kinds.update((row.pdi, row.kind) for row in self._connection.execute(query))
        findings = open_findings(self._connection, kinds)
        new: list[Values] = []
        seen: list[Values] = []
        closed: list[Values] = []
        for pdi, change in zip(pdis, take_numbers(self._connection, "changes", len(pdis)), strict=True):
            if pdi not in kinds:
                new.append({"pdi": pdi, "standing": int(Standing.UNPROVEN), "change_number": change})
                continue
            standing = None if kinds[pdi] == int(DeviceKind.SWITCH) else int(_standing_before_appraisal(findings[pdi]))
            seen.append({"key": pdi, "standing": standing, "change_number": change})
            closed.extend(
                {"key": pdi, "closed_at": max(self._now, micros(found.opened_at))}
                for found in findings[pdi]
                if found.finding.reason is Reason.UNKNOWN_DEVICE
            )
        self._execute(insert(DEVICES), new)
        self._execute(_UPDATE_CHANGE, seen)
        self._execute(_CLOSE_UNKNOWN, closed)

    def _execute(self, statement: Any, rows: Sequence[Values]) -> None:
        if rows:
            self._connection.execute(statement, rows)


def _standing_before_appraisal(findings: Iterable[OpenFinding]) -> Standing:
    """Return the standing of a GPU from what it showed before it was deployed."""
    rest = [found.finding for found in findings if found.finding.reason is not Reason.UNKNOWN_DEVICE]
    standing = standing_of(rest, deployed=True)
    return Standing.UNPROVEN if standing is Standing.COMPLIANT else standing


def _licenses_of(rows: Iterable[Deployment]) -> dict[str, License]:
    licenses: dict[str, License] = {}
    for row in rows:
        other = licenses.setdefault(row.license.number, row.license)
        if other is not row.license and license_values(other) != license_values(row.license):
            raise RecordConflictError("license_number", f"rows of license {row.license.number} contradict each other")
    return licenses
