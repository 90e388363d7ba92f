"""Which rows belong to the bundle of a case (docs/protocol.md CB3), and which of them a reader is shown (CB5).

All is read in one transaction; the journal proves the rows afterwards.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import product

from sqlalchemy import Connection, func, select

from server.store.bundle_evidence import (
    Attested,
    Span,
    add_attestation,
    attestations_of,
    facts_of,
    landmark_key_id,
    regions_of,
)
from server.store.bundle_records import (
    OF_OTHERS,
    Place,
    add_changes,
    add_records,
    add_windows,
    number_at,
    records_at,
)
from server.store.bundle_types import Bounds, CaseRows, Gathered, Material
from server.store.case_work import visible_case
from server.store.rows import chunks
from server.store.schema import (
    CASE_ENTRIES,
    CASE_FINDINGS,
    CASES,
    CHAINS,
    DEVICE_VERDICTS,
    EXHIBITS,
    FINDINGS,
    LANDMARK_DISTRUST,
    LANDMARK_RANGES,
    LANDMARK_REVISIONS,
    MATERIALS,
    REVISIONS,
)
from verifier.units import Pdi

_OVER = "only the newest are shown"
_NONE = bytes(32)
_LOOKED_BACK_US = 90 * 24 * 3_600 * 1_000_000
"""Maintenance windows that were over so long before the first finding of the case are not of it."""


def case_rows(
    connection: Connection, number: int, jurisdiction: str | None, bounds: Bounds | None = None
) -> CaseRows | None:
    """Return what belongs to a case; None when there is none that the reader may see.

    Args:
        connection: In one transaction.
        number: Of the case.
        jurisdiction: The reader's; None: all is shown (docs/protocol.md CB5).
        bounds: How much is taken.
    """
    if visible_case(connection, number, jurisdiction) is None:
        return None
    gatherer = _Gatherer(connection, jurisdiction, bounds or Bounds())
    # 1. What the desk knows: the case, its story, what was said to it, its findings.
    gatherer.add_case(number)
    spans = gatherer.add_findings(number)
    gatherer.add_other_findings({span.pdi for span in spans}, {(s.pdi, s.reason, s.opened_at) for s in spans})
    # 2. What devices showed, and the records that it was held against.
    for attested in gatherer.attestations(spans):
        gatherer.add_attested(attested)
    gatherer.add_records_at_opening(spans)
    # 3. Landmarks, and who approved what.
    gatherer.add_landmarks()
    gatherer.end()
    gathered = gatherer.gathered
    return CaseRows(
        rows=tuple(gathered.rows.values()),
        left_out=gathered.left_out,
        checkpoints=frozenset(gatherer.checkpoints) - {_NONE},
        materials=_materials(connection, gatherer.materials),
        devices=len(gatherer.shown_devices()),
    )


class _Gatherer:
    """One case on its way into a bundle."""

    def __init__(self, connection: Connection, jurisdiction: str | None, bounds: Bounds) -> None:
        self.gathered = Gathered()
        self.checkpoints: set[bytes] = set()
        self.materials: set[bytes] = set()
        self._connection = connection
        self._jurisdiction = jurisdiction
        self._bounds = bounds
        self._changes: dict[int, bool] = {}
        self._landmarks: dict[str, dict[int, bool]] = defaultdict(dict)
        self._pairs: dict[tuple[str, str], bool] = {}
        self._registry: list[tuple[str, int, int, bytes]] | None = None

    def add_case(self, number: int) -> None:
        """Take the case, its story and its exhibits."""
        self.gathered.add(CASES, number)
        newest = select(CASE_ENTRIES.c.entry).where(CASE_ENTRIES.c.case_id == number)
        entries = self._connection.scalars(newest.order_by(CASE_ENTRIES.c.entry.desc())).all()
        for entry in sorted(entries[: self._bounds.findings]):
            self.gathered.add(CASE_ENTRIES, number, entry)
        self.gathered.leave_out("entries of the story", len(entries) - self._bounds.findings, _OVER)
        subject, room = f"cases/{number}", self._bounds.exhibit_bytes
        columns = (EXHIBITS.c.exhibit, func.coalesce(func.length(EXHIBITS.c.data), 0))
        query = select(*columns).where(EXHIBITS.c.subject == subject).order_by(EXHIBITS.c.exhibit)
        for exhibit, size in self._connection.execute(query):
            room -= size
            hidden = frozenset({"data"}) if room < 0 else frozenset[str]()
            self.gathered.add(EXHIBITS, subject, exhibit, hidden=hidden)

    def add_findings(self, number: int) -> list[Span]:
        """Take the findings of the case, and return them, the newest first."""
        columns = (CASE_FINDINGS.c.pdi, CASE_FINDINGS.c.reason, CASE_FINDINGS.c.opened_at, CASE_FINDINGS.c.ended_at)
        of_case = CASE_FINDINGS.c.case_id == number
        query = select(*columns).where(of_case).order_by(CASE_FINDINGS.c.opened_at.desc(), *columns[:2])
        rows = self._connection.execute(query.limit(self._bounds.findings)).all()
        total = self._connection.execute(select(func.count()).where(of_case)).scalar_one()
        self.gathered.leave_out("findings of the case", total - len(rows), _OVER)
        spans = [Span(Pdi(row.pdi), row.reason, row.opened_at, row.ended_at) for row in rows]
        for span in spans:
            # Whoever sees the case sees its findings: they are of its one site (docs/protocol.md CS1, RC11).
            self.gathered.add(CASE_FINDINGS, span.pdi, span.reason, span.opened_at)
            self.gathered.add(FINDINGS, span.pdi, span.reason, span.opened_at)
        return spans

    def add_other_findings(self, pdis: Collection[Pdi], known: Collection[tuple[Pdi, int, int]]) -> None:
        """Take the devices' findings that are of other cases or of none, the newest first."""
        key = (FINDINGS.c.pdi, FINDINGS.c.reason, FINDINGS.c.opened_at)
        others: list[tuple[Pdi, int, int]] = []
        for some in chunks(sorted(pdis)):
            rows = self._connection.execute(select(*key).where(FINDINGS.c.pdi.in_(some)))
            others += [each for pdi, reason, at in rows if (each := (Pdi(pdi), reason, at)) not in known]
        others.sort(key=lambda each: (-each[2], each))
        for pdi, reason, opened_at in others[: self._bounds.device_findings]:
            theirs = self._jurisdiction is None or self._was_theirs(pdi, opened_at)
            self.gathered.add(FINDINGS, pdi, reason, opened_at, withheld="" if theirs else OF_OTHERS)
        self.gathered.leave_out("other findings of its devices", len(others) - self._bounds.device_findings, _OVER)

    def attestations(self, spans: Sequence[Span]) -> list[Attested]:
        """Return the attestations of these findings."""
        return attestations_of(self._connection, spans, self.gathered, self._bounds)

    def add_attested(self, attested: Attested) -> None:
        """Take an attestation, its chains, what its verdicts were made with, and the records of its devices."""
        number, materials = facts_of(attested.basis)
        if number is None:
            number = number_at(self._connection, attested.issued_at)
        records = records_at(self._connection, attested.verdicts, number)
        theirs = None
        if self._jurisdiction is not None:
            theirs = frozenset(pdi for pdi, each in records.items() if each.jurisdiction == self._jurisdiction)
        shown = add_attestation(self.gathered, attested, theirs, OF_OTHERS)
        for chain in sorted(attested.chains):
            self.gathered.add(CHAINS, chain, withheld="" if shown else OF_OTHERS)
        self._merge(add_records(self.gathered, records, self._jurisdiction))
        if shown:
            self.checkpoints.add(attested.checkpoint)
            self.materials |= materials
            self.materials.update(*(regions_of(attested.verdicts[pdi]) for pdi in shown))
        ranged = self._landmarks_at(attested.landmarks, attested.issued_at)
        for landmark, revision in ranged.items():
            revisions = self._landmarks[landmark]
            revisions[revision] = bool(shown) or revisions.get(revision, False)
        for pair in product(ranged, ranged):
            self._pairs[pair] = bool(shown) or self._pairs.get(pair, False)

    def add_records_at_opening(self, spans: Iterable[Span]) -> None:
        """Take the records that findings were opened under: some have no attestation (docs/protocol.md W2)."""
        by_time: dict[int, set[Pdi]] = defaultdict(set)
        for span in spans:
            by_time[span.opened_at].add(span.pdi)
        places: dict[Place, bool] = {}
        for opened_at, pdis in by_time.items():
            found = records_at(self._connection, sorted(pdis), number_at(self._connection, opened_at))
            self._merge(add_records(self.gathered, found, self._jurisdiction))
            for each in found.values():
                if each.place is not None:
                    theirs = self._jurisdiction in {None, each.jurisdiction}
                    places[each.place] = theirs or places.get(each.place, False)
        # Windows stop the clocks of what is missed (docs/protocol.md W1), of presence for months at most.
        since = min(by_time, default=0) - _LOOKED_BACK_US
        self._merge(add_windows(self._connection, self.gathered, places, since, self._bounds.windows))

    def add_landmarks(self) -> None:
        """Take the revisions of landmarks, their distrust, and their ranges with each other."""
        for landmark, revisions in sorted(self._landmarks.items()):
            for revision, shown in revisions.items():
                withheld = "" if shown else OF_OTHERS
                self.gathered.add(LANDMARK_REVISIONS, landmark, revision, withheld=withheld)
                name = f"landmarks/{landmark}"
                of_revision = (REVISIONS.c.name == name, REVISIONS.c.revision == revision)
                for change_id in self._connection.scalars(select(REVISIONS.c.change_id).where(*of_revision)).all():
                    self.gathered.add(REVISIONS, name, revision, withheld=withheld)
                    if change_id is not None:
                        self._merge({change_id: shown})
            seen = any(revisions.values())
            since = select(LANDMARK_DISTRUST.c.since).where(LANDMARK_DISTRUST.c.landmark_id == landmark)
            for begun in self._connection.scalars(since).all():
                self.gathered.add(LANDMARK_DISTRUST, landmark, begun, withheld="" if seen else OF_OTHERS)
        self._add_ranges()

    def end(self) -> None:
        """Take the changes that made what is taken; count what is not given."""
        add_changes(self._connection, self.gathered, self._changes, self._jurisdiction)

    def shown_devices(self) -> set[object]:
        """Return the devices of which something is shown."""
        tables = {table.name for table in (FINDINGS, DEVICE_VERDICTS)}
        rows = self.gathered.rows.values()
        return {row.key.key[0] for row in rows if row.key.table in tables and not row.withheld}

    def _was_theirs(self, pdi: Pdi, at_us: int) -> bool:
        found = records_at(self._connection, [pdi], number_at(self._connection, at_us))
        return found[pdi].jurisdiction == self._jurisdiction

    def _merge(self, changes: dict[int, bool]) -> None:
        for change_id, shown in changes.items():
            self._changes[change_id] = shown or self._changes.get(change_id, False)

    def _landmarks_at(self, key_ids: Collection[bytes], at_us: int) -> dict[str, int]:
        """Return the landmarks with these keys, each with the revision that stood."""
        if self._registry is None:
            names = ("landmark_id", "revision", "revised_at", "public_key")
            query = select(*(LANDMARK_REVISIONS.c[name] for name in names)).order_by(LANDMARK_REVISIONS.c.revision)
            rows = self._connection.execute(query)
            self._registry = [(row[0], row[1], row[2], landmark_key_id(row[3])) for row in rows]
        return {name: number for name, number, since, key in self._registry if key in key_ids and since <= at_us}

    def _add_ranges(self) -> None:
        columns = (LANDMARK_RANGES.c.of_id, LANDMARK_RANGES.c.by_id, LANDMARK_RANGES.c.latest_at)
        found: list[tuple[int, str, str]] = []
        for some in chunks(sorted(self._landmarks)):
            rows = self._connection.execute(select(*columns).where(LANDMARK_RANGES.c.of_id.in_(some)))
            found += [(-latest_at, of, by) for of, by, latest_at in rows if (of, by) in self._pairs]
        for _, of, by in sorted(found)[: self._bounds.landmark_ranges]:
            self.gathered.add(LANDMARK_RANGES, of, by, withheld="" if self._pairs[of, by] else OF_OTHERS)
        self.gathered.leave_out("ranges between landmarks", len(found) - self._bounds.landmark_ranges, _OVER)


def _materials(connection: Connection, hashes: Collection[bytes]) -> tuple[Material, ...]:
    found: list[Material] = []
    for some in chunks(sorted(hashes)):
        query = select(MATERIALS.c.sha256, MATERIALS.c.kind, MATERIALS.c.data).where(MATERIALS.c.sha256.in_(some))
        found += [Material(sha256, kind, data) for sha256, kind, data in connection.execute(query)]
    return tuple(found)
