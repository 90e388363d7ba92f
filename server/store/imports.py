"""Imports of deployments, and of the licenses, sites and shipments that their rows name.

All or none, counted, and unchanged when the same file comes again. Rows are taken chunk by chunk, so an import of any
size needs the memory of one chunk. Each row is checked before it comes here (server/rpc/imports.py); here only
contradictions between rows, and between rows and what stands, are.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from server.records.codec import record_to_json, swap_from_json
from server.records.names import deployment_name, license_name, record_name, site_name
from server.records.summary import MAX_LINES, summary_line, summary_of
from server.records.values import ByPdi, DeploymentRecord, LicenseRecord, Record, RecordKind, Site
from server.store import effects
from server.store.counters import read_counter, take_numbers
from server.store.errors import RecordConflictError, StaleRevisionError
from server.store.import_parts import Parts, Revision
from server.store.record_checks import device_count
from server.store.record_rows import load_records, write_rows
from server.store.revisions import Authorship, append_revisions, append_texts, last_revisions
from server.store.rows import Values, chunks
from server.store.schema import DEPLOYMENTS, REVISIONS
from server.store.types import ImportCounts, ImportOutcome, ImportRow
from server.times import micros
from verifier.license import Deployment, License, LicenseState
from verifier.units import Pdi

ROWS = 2_000
"""Rows that are compared and written at once."""

_NO_DEVICE = ByPdi(Pdi(bytes(8)))
_UPDATE_DEPLOYMENT = update(DEPLOYMENTS).where(DEPLOYMENTS.c.device_pdi == bindparam("key"))


def import_deployments(
    connection: Connection,
    rows: Iterable[ImportRow | Deployment],
    by: str,
    reason: str,
    now: datetime,
    *,
    change_id: int | None,
    write: bool,
    state: LicenseState = LicenseState.DRAFT,
    alone: bool = False,
    basis: int | None = None,
) -> ImportOutcome:
    """Import, or with `write` unset only count, in the caller's transaction.

    A license that is new gets a party of its licensee's name. A deployment counts as updated when it changes, or its
    license or site does.

    Args:
        connection: The transaction.
        rows: Read once; in the order of PDIs they are fastest. A `Deployment` is a row that names no more.
        by: Who imports.
        reason: Why.
        now: When.
        change_id: The change that this applies (docs/protocol.md RC4).
        write: Write it.
        state: Of licenses that are new.
        alone: One person imports: as soon as a license in force is touched, nothing more is written, and the caller
            undoes the rest.
        basis: Number of the records that the import is based on; None: whatever stands.

    Raises:
        RecordConflictError: A device comes twice, or rows contradict each other or what stands.
        HitsOpenError: An active license would get a licensee with a screening hit (docs/protocol.md RC5).
        StaleRevisionError: A record that the rows name was revised after `basis` (docs/protocol.md RC2).
    """
    number = take_numbers(connection, "records", 1)[0] if write else read_counter(connection, "records") + 1
    run = _Import(connection, Authorship(number, by, reason, now, change_id), state, write=write, alone=alone)
    for some in chunks(rows, ROWS):
        run.take([row if isinstance(row, ImportRow) else _row_of(row) for row in some], basis)
    return run.outcome()


def _row_of(deployment: Deployment) -> ImportRow:
    return ImportRow(ByPdi(deployment.pdi), LicenseRecord(deployment.license), "", deployment.region)


class _Import:
    """One import: its numbers, its counts, and what it does with one chunk of rows."""

    def __init__(
        self, connection: Connection, author: Authorship, state: LicenseState, *, write: bool, alone: bool
    ) -> None:
        self._connection = connection
        self._author = author
        self._state = state
        self._write = write
        self._alone = alone
        self._made: dict[str, Record] = {}
        self._created = 0
        self._updated = 0
        self._unchanged = 0
        self._touches_force = False
        self._licensees: set[str] = set()
        self._lines: list[str] = []
        self._moves: Counter[str] = Counter()
        self._more_lines = 0

    def outcome(self) -> ImportOutcome:
        """Return what it came to."""
        counts = ImportCounts(self._created, self._updated, self._unchanged)
        told = f"deployments: {counts.created:,} new, {counts.updated:,} changed, {counts.unchanged:,} unchanged"
        more = (f"and {self._more_lines:,} more",) if self._more_lines else ()
        licensees = tuple(sorted(self._licensees))
        # Who approves must see what becomes of devices that are deployed (docs/protocol.md RC4).
        moves = (f"{count:,} changed {line}" for line, count in self._moves.most_common())
        summary = summary_of([told, *summary_of(list(moves), MAX_LINES // 2), *self._lines, *more])
        return ImportOutcome(counts, self._touches_force, licensees, summary, self._author.number - 1)

    def take(self, rows: Sequence[ImportRow], basis: int | None) -> None:
        """Import one chunk: first what deployments name."""
        parts = Parts(self._connection, rows, self._state, self._made)
        if basis is not None:
            self._check_basis({*parts.names, *(deployment_name(row.selector) for row in rows)}, basis)
        held = parts.terms()
        for number in parts.touched:
            self._touch(held[number], in_force=parts.in_force(number))
        for before, after in parts.changes:
            name = record_name(after)
            self._made[name] = after
            self._tell(summary_line(name, None if before is None else before.record, after))
        if self._write:
            self._write_parts(parts.changes)
        self._take_devices([row for row in rows if isinstance(row.selector, ByPdi)], parts)
        self._take_selectors([row for row in rows if not isinstance(row.selector, ByPdi)], parts)

    def _check_basis(self, names: Collection[str], basis: int) -> None:
        """Refuse when one of these was revised, by another write than this, after the import was proposed."""
        query = select(REVISIONS.c.name, REVISIONS.c.revision).where(
            REVISIONS.c.record_number > basis, REVISIONS.c.record_number < self._author.number
        )
        for some in chunks(names):
            row = self._connection.execute(query.where(REVISIONS.c.name.in_(some)).limit(1)).one_or_none()
            if row is not None:
                raise StaleRevisionError(row.name, row.revision, f"{row.name} was revised since the file was proposed")

    def _touch(self, held: License, *, in_force: bool) -> None:
        self._licensees.add(held.licensee)
        self._touches_force |= in_force  # docs/protocol.md RC4
        if in_force and self._alone:
            self._write = False

    def _tell(self, line: str) -> None:
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self._more_lines += 1

    def _write_parts(self, changes: Sequence[Revision]) -> None:
        """Write licenses, parties, sites and shipments, and let devices follow them."""
        last = last_revisions(self._connection, [record_name(after) for _, after in changes])
        rows = [(before, after, last.get(record_name(after), 0) + 1) for before, after in changes]
        for new in (True, False):
            some = [(after, self._columns(revision)) for before, after, revision in rows if (before is None) is new]
            write_rows(self._connection, some, new=new)
        append_revisions(self._connection, [(record_name(after), at, after) for _, after, at in rows], self._author)
        for before, after in changes:
            if before is None:
                continue
            if isinstance(after, LicenseRecord) and isinstance(before.record, LicenseRecord):
                effects.license_changed(self._connection, before.record, after, self._author.now)
            elif isinstance(after, Site):
                effects.site_changed(self._connection, after.license_number, after.site_id)

    def _columns(self, revision: int) -> Values:
        now, number = micros(self._author.now), self._author.number
        return {"revision": revision, "revised_at": now, "record_number": number}

    def _take_devices(self, rows: Sequence[ImportRow], parts: Parts) -> None:
        """Take deployments by PDI, by far the most of all."""
        pdis = [row.selector.pdi for row in rows if isinstance(row.selector, ByPdi)]
        stored = self._load_devices(pdis)
        held = parts.terms()
        others = {row.license_number for row in stored.values()} - held.keys()
        held.update(effects.load_licenses(self._connection, others))
        seen: set[Pdi] = set()
        changed: list[tuple[DeploymentRecord | None, DeploymentRecord]] = []
        for pdi, row in zip(pdis, rows, strict=True):
            stands = stored.get(pdi)
            if pdi in seen or (stands is not None and stands.record_number == self._author.number):
                raise RecordConflictError("device_pdi", f"device {pdi.hex()} comes twice")
            seen.add(pdi)
            before = None if stands is None else _record_of(stands)
            after = parts.deployment(row, before)
            if self._count(before, after, held, parts):
                changed.append((before, after))
        if self._write and changed:
            self._write_devices(changed, stored)
            effects.deploy_imported(self._connection, changed, held, self._author.now)

    def _load_devices(self, pdis: Sequence[Pdi]) -> dict[bytes, Row[Any]]:
        # One query for the chunk: SQLite takes 32,766 parameters in one statement.
        query = select(DEPLOYMENTS).where(DEPLOYMENTS.c.device_pdi.in_(pdis))
        return {row.device_pdi: row for row in self._connection.execute(query)} if pdis else {}

    def _count(
        self,
        before: DeploymentRecord | None,
        after: DeploymentRecord,
        held: Mapping[str, License],
        parts: Parts,
    ) -> bool:
        """Count a deployment, and return whether it is to be written itself."""
        if before == after:
            of_it = (license_name(after.license_number), site_name(after.license_number, after.site_id))
            if any(name in self._made for name in of_it):
                self._updated += 1
            else:
                self._unchanged += 1
            return False
        if before is None:
            self._created += 1
        else:
            self._updated += 1
            self._moves[summary_line("deployments", before, after)] += 1
            was = held[before.license_number]
            self._touch(was, in_force=was.state is not LicenseState.DRAFT)
        self._touch(held[after.license_number], in_force=parts.in_force(after.license_number))
        return True

    def _write_devices(
        self, changed: Sequence[tuple[DeploymentRecord | None, DeploymentRecord]], stored: Mapping[bytes, Row[Any]]
    ) -> None:
        now = micros(self._author.now)
        names = {deployment_name(after.selector): (before, after) for before, after in changed}
        ended = last_revisions(self._connection, [name for name, (before, _) in names.items() if before is None])
        new: list[Values] = []
        moved: list[Values] = []
        texts: list[tuple[int, str, int, str | None]] = []
        spelled: dict[DeploymentRecord, str] = {}
        for name, (before, after) in names.items():
            pdi = after.selector.pdi if isinstance(after.selector, ByPdi) else b""
            row = stored.get(pdi)
            revision = (ended.get(name, 0) if row is None else row.revision) + 1
            place = {"license_number": after.license_number, "site_id": after.site_id}
            values = {**place, "shipment_id": after.shipment_id or None, **self._columns(revision)}
            if before is None or row is None:
                new.append({"device_pdi": pdi, "licensed_at": now, "swap": None, **values})
            else:
                stays = (before.license_number, before.site_id) == (after.license_number, after.site_id)
                moved.append({"key": pdi, "licensed_at": row.licensed_at if stays else now, **values})
            # The text does not name the device, and most devices of a chunk are at one of a few sites.
            same = replace(after, selector=_NO_DEVICE)
            text = spelled.get(same)
            if text is None:
                text = spelled[same] = record_to_json(after)
            texts.append((int(RecordKind.DEPLOYMENT), name, revision, text))
        for statement, values_of in ((insert(DEPLOYMENTS), new), (_UPDATE_DEPLOYMENT, moved)):
            if values_of:
                self._connection.execute(statement, values_of)
        append_texts(self._connection, texts, self._author)

    def _take_selectors(self, rows: Sequence[ImportRow], parts: Parts) -> None:
        """Take deployments by key or board. They touch no device: one that reports gets a deployment of its own."""
        stored = load_records(self._connection, [deployment_name(row.selector) for row in rows])
        others = {each.record.license_number for each in stored.values() if isinstance(each.record, DeploymentRecord)}
        held = parts.terms()
        held.update(effects.load_licenses(self._connection, others - held.keys()))
        changed: dict[str, Revision] = {}
        for row in rows:
            name = deployment_name(row.selector)
            if name in self._made or name in changed:
                raise RecordConflictError("selector", f"{name} comes twice")
            stands = stored.get(name)
            before = None if stands is None or not isinstance(stands.record, DeploymentRecord) else stands.record
            after = parts.deployment(row, before)
            if stands is not None and device_count(after) < stands.adopted:  # docs/protocol.md RC8
                raise RecordConflictError("board_devices", f"{name}: {stands.adopted} devices have reported by it")
            if self._count(before, after, held, parts):
                changed[name] = (stands, after)
        self._made.update((name, after) for name, (_, after) in changed.items())
        if self._write:
            self._write_parts(list(changed.values()))


def _record_of(row: Row[Any]) -> DeploymentRecord:
    swap = None if row.swap is None else swap_from_json(row.swap)
    selector = ByPdi(Pdi(row.device_pdi))
    return DeploymentRecord(selector, row.license_number, row.site_id, row.shipment_id or "", swap)
