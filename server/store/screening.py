"""Screening lists, and the hits of parties on the one in force (docs/protocol.md RC5). It does not say who is alike.

A party is *screened* while its row in `screened` names its current revision and the list in force. A write of a party,
by whatever way, makes it unscreened without knowing of it, and so does a new list; an unscreened party is treated as
one with an open hit.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from server.escapes import escape
from server.records.names_alike import Likeness, ListedNames
from server.store.errors import RecordConflictError, RecordNotFoundError
from server.store.rows import Values, chunks
from server.store.schema import PARTIES, SCREENED, SCREENING_ENTRIES, SCREENING_HITS, SCREENING_LISTS
from server.store.screening_types import (
    HitCounts,
    HitCursor,
    HitFilter,
    HitKey,
    HitPage,
    HitRecord,
    HitState,
    ListEntry,
    ListVersion,
    NewList,
    PartyNames,
    ScreenedParty,
)
from server.times import micros, moment, optional_moment

_IS_DECIDED = case((SCREENING_HITS.c.state == int(HitState.OPEN), 0), else_=1)
_PARTY: Select[Any] = select(PARTIES.c.party_id, PARTIES.c.revision, PARTIES.c.title, PARTIES.c.aliases)
_DECIDE = update(SCREENING_HITS).where(
    SCREENING_HITS.c.party_id == bindparam("key_party"), SCREENING_HITS.c.entry_id == bindparam("key_entry")
)


def blocked_parties(connection: Connection, party_ids: Iterable[str]) -> tuple[str, ...]:
    """Return those of the parties with which a license must not become ACTIVE (docs/protocol.md RC5), sorted.

    They have a hit that is open or confirmed, or were not screened as they stand against the list in force. Without a
    list there is none.
    """
    listed = list_in_force(connection)
    if listed is None:
        return ()
    blocked: set[str] = set()
    for some in chunks(dict.fromkeys(party_ids)):
        hits = select(SCREENING_HITS.c.party_id).where(
            SCREENING_HITS.c.party_id.in_(some), SCREENING_HITS.c.state != int(HitState.CLEARED)
        )
        screened = _screened(listed.number).where(PARTIES.c.party_id.in_(some))
        blocked.update(connection.scalars(hits), set(some) - set(connection.scalars(screened)))
    return tuple(sorted(blocked))


def list_in_force(connection: Connection) -> ListVersion | None:
    """Return the list in force, or None before the first."""
    query = select(SCREENING_LISTS.c.version, SCREENING_LISTS.c.number).order_by(SCREENING_LISTS.c.number.desc())
    row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else ListVersion(row.version, row.number)


def load_names(connection: Connection) -> list[ListedNames]:
    """Return the names of the list in force."""
    table = SCREENING_ENTRIES
    rows = connection.execute(select(table.c.entry_id, table.c.kind, table.c.title, table.c.alt_names))
    return [ListedNames(row.entry_id, row.kind, (row.title, *json.loads(row.alt_names))) for row in rows]


def load_parties(connection: Connection, after: str, limit: int) -> list[PartyNames]:
    """Return up to `limit` parties behind `after`, in the order of ids."""
    query = _PARTY.where(PARTIES.c.party_id > after).order_by(PARTIES.c.party_id).limit(limit)
    return [_party_of(row) for row in connection.execute(query)]


def load_unscreened(connection: Connection, listed: ListVersion, limit: int) -> list[PartyNames]:
    """Return up to `limit` parties that are not screened as they stand against this list."""
    query = _PARTY.where(PARTIES.c.party_id.not_in(_screened(listed.number))).order_by(PARTIES.c.party_id)
    return [_party_of(row) for row in connection.execute(query.limit(limit))]


def replace_list(
    connection: Connection,
    new: NewList,
    entries: Iterable[ListEntry],
    screened: Sequence[ScreenedParty],
    now: datetime,
) -> HitCounts:
    """Put a list in force in place of the one before, with the parties that were screened against it.

    Parties that are missing in `screened`, or have another revision by now, are not screened then.

    Raises:
        RecordConflictError: A list of that version was another file.
    """
    _check_version(connection, new)
    before = list_in_force(connection)
    number = 1 if before is None else before.number + 1
    connection.execute(delete(SCREENING_LISTS).where(SCREENING_LISTS.c.version == new.version))
    values = {
        "version": new.version,
        "number": number,
        "sha256": new.sha256,
        "entries": new.entry_count,
        "imported_at": micros(now),
        "imported_by": new.by,
    }
    connection.execute(insert(SCREENING_LISTS), values)
    connection.execute(delete(SCREENING_ENTRIES))
    for some in chunks(entries):
        connection.execute(insert(SCREENING_ENTRIES), [_entry_values(entry) for entry in some])
    return keep_hits(connection, ListVersion(new.version, number), screened, now)


def try_list(connection: Connection, new: NewList, screened: Sequence[ScreenedParty]) -> HitCounts:
    """Return what `replace_list` would change; raises what it would."""
    _check_version(connection, new)
    counts = HitCounts()
    for some in chunks(screened):
        before = _hits_of(connection, [each.party.party_id for each in some])
        counts += _counted(before, {key for key, _ in _found(some)}, _open_anew(before, some))
    return counts


def keep_hits(
    connection: Connection, listed: ListVersion, screened: Sequence[ScreenedParty], now: datetime
) -> HitCounts:
    """Make what was found the hits of these parties, and note that they are screened.

    A decision stands while party's name, matched name and entry's name stay; else the hit is open again. Parties that
    have another revision by now are left alone, and all are when another list is in force.
    """
    if list_in_force(connection) != listed:
        return HitCounts()
    counts = HitCounts()
    for some in chunks(screened):
        ids = [each.party.party_id for each in some]
        query = select(PARTIES.c.party_id, PARTIES.c.revision).where(PARTIES.c.party_id.in_(ids))
        stands = {row.party_id: row.revision for row in connection.execute(query)}
        current = [each for each in some if stands.get(each.party.party_id) == each.party.revision]
        counts += _keep(connection, listed, current, now)
    return counts


def list_hits(connection: Connection, chosen: HitFilter, after: HitCursor | None, limit: int) -> HitPage:
    """Return one page of hits, open ones first, then by score."""
    hits = SCREENING_HITS.c
    conditions = [hits.state == int(chosen.state)] if chosen.state is not None else []
    if chosen.party_id is not None:
        conditions.append(hits.party_id == chosen.party_id)
    total = connection.execute(select(func.count()).select_from(SCREENING_HITS).where(*conditions)).scalar_one()
    query = select(SCREENING_HITS).where(*conditions)
    if after is not None:
        behind = tuple_(hits.party_id, hits.entry_id) > tuple_(after.key.party_id, after.key.entry_id)
        lower = or_(hits.score < after.score, and_(hits.score == after.score, behind))
        rank, decided = _IS_DECIDED, int(after.decided)
        query = query.where(or_(rank > decided, and_(rank == decided, lower)))
    query = query.order_by(_IS_DECIDED, hits.score.desc(), hits.party_id, hits.entry_id).limit(limit + 1)
    found = [_hit_of(row) for row in connection.execute(query)]
    listed = list_in_force(connection)
    return HitPage(tuple(found[:limit]), len(found) > limit, total, "" if listed is None else listed.version)


def decide_hits(
    connection: Connection, keys: Sequence[HitKey], state: HitState, by: str, reason: str, now: datetime
) -> tuple[HitRecord, ...]:
    """Decide on hits, all or none, and return them in the order asked.

    Raises:
        RecordNotFoundError: There is no such hit.
    """
    found = _load_hits(connection, keys)
    for key in keys:
        if key not in found:
            raise RecordNotFoundError(hit_name(key))
    decided = {"state": int(state), "decided_by": by, "decided_at": micros(now), "reason": reason}
    connection.execute(
        _DECIDE.values(decided), [{"key_party": key.party_id, "key_entry": key.entry_id} for key in keys]
    )
    found = _load_hits(connection, keys)
    return tuple(found[key] for key in keys)


def hit_name(key: HitKey) -> str:
    """Return the resource name of a hit."""
    return f"screeningHits/{key.party_id}.{escape(key.entry_id)}"


def _keep(connection: Connection, listed: ListVersion, screened: Sequence[ScreenedParty], now: datetime) -> HitCounts:
    ids = [each.party.party_id for each in screened]
    before = _hits_of(connection, ids)
    anew = _open_anew(before, screened)
    sources = _sources(connection, {key.entry_id for key, _ in _found(screened)})
    rows: list[Values] = []
    for key, likeness in _found(screened):
        stood = before.get(key)
        row: Values = {**_OPEN, "found_at": micros(now)}
        if stood is not None and key not in anew:
            row = {name: getattr(stood, name) for name in ("state", "decided_by", "decided_at", "reason", "found_at")}
        rows.append({**row, **_likeness_values(key, likeness), "source": sources[key.entry_id]})
    for table in (SCREENING_HITS, SCREENED):
        connection.execute(delete(table).where(table.c.party_id.in_(ids)))
    if rows:
        connection.execute(insert(SCREENING_HITS), [{**row, "list_version": listed.version} for row in rows])
    if screened:
        marks = [
            {"party_id": each.party.party_id, "revision": each.party.revision, "list_number": listed.number}
            for each in screened
        ]
        connection.execute(insert(SCREENED), marks)
    return _counted(before, {key for key, _ in _found(screened)}, anew)


_OPEN: Values = {"state": int(HitState.OPEN), "decided_by": "", "decided_at": None, "reason": ""}


def _found(screened: Iterable[ScreenedParty]) -> list[tuple[HitKey, Likeness]]:
    return [(HitKey(each.party.party_id, likeness.entry_id), likeness) for each in screened for likeness in each.found]


def _open_anew(before: Mapping[HitKey, Row[Any]], screened: Iterable[ScreenedParty]) -> set[HitKey]:
    """Return the hits that nobody has looked at as they are now."""
    return {
        key
        for key, likeness in _found(screened)
        if key not in before
        or (before[key].party_title, before[key].matched, before[key].entry_title)
        != (likeness.name, likeness.matched, likeness.title)
    }


def _counted(before: Mapping[HitKey, Row[Any]], found: Collection[HitKey], anew: Iterable[HitKey]) -> HitCounts:
    # One that was open, and is so under other names, is no new one.
    new = sum(key not in before or before[key].state != int(HitState.OPEN) for key in anew)
    return HitCounts(new, len(before.keys() - set(found)))


def _hits_of(connection: Connection, party_ids: Sequence[str]) -> dict[HitKey, Row[Any]]:
    query = select(SCREENING_HITS).where(SCREENING_HITS.c.party_id.in_(party_ids))
    return {HitKey(row.party_id, row.entry_id): row for row in connection.execute(query)}


def _load_hits(connection: Connection, keys: Sequence[HitKey]) -> dict[HitKey, HitRecord]:
    found: dict[HitKey, HitRecord] = {}
    for some in chunks(keys, 100):
        pair = tuple_(SCREENING_HITS.c.party_id, SCREENING_HITS.c.entry_id)
        for row in connection.execute(select(SCREENING_HITS).where(pair.in_(some))):
            found[HitKey(row.party_id, row.entry_id)] = _hit_of(row)
    return found


def _sources(connection: Connection, entry_ids: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in chunks(entry_ids):
        query = select(SCREENING_ENTRIES.c.entry_id, SCREENING_ENTRIES.c.source)
        rows = connection.execute(query.where(SCREENING_ENTRIES.c.entry_id.in_(some)))
        found.update((row.entry_id, row.source) for row in rows)
    return found


def _screened(number: int) -> Select[tuple[str]]:
    """Ids of the parties that are screened against the list of this number as they stand."""
    same = (SCREENED.c.party_id == PARTIES.c.party_id, SCREENED.c.revision == PARTIES.c.revision)
    return select(PARTIES.c.party_id).where(*same, SCREENED.c.list_number == number)


def _check_version(connection: Connection, new: NewList) -> None:
    query = select(SCREENING_LISTS.c.sha256).where(SCREENING_LISTS.c.version == new.version)
    stands = connection.execute(query).scalar()
    if stands is not None and stands != new.sha256:
        raise RecordConflictError("version", f"version {new.version} names another file; each has a version of its own")


def _party_of(row: Row[Any]) -> PartyNames:
    return PartyNames(row.party_id, row.revision, (row.title, *json.loads(row.aliases)))


def _entry_values(entry: ListEntry) -> Values:
    return {
        "entry_id": entry.entry_id,
        "source": entry.source,
        "kind": entry.kind,
        "title": entry.title,
        "alt_names": json.dumps(entry.alt_names, ensure_ascii=False),
        "addresses": json.dumps(entry.addresses, ensure_ascii=False),
        "programs": json.dumps(entry.programs, ensure_ascii=False),
        "remarks": entry.remarks,
        "source_url": entry.source_url,
    }


def _likeness_values(key: HitKey, likeness: Likeness) -> Values:
    return {
        "party_id": key.party_id,
        "entry_id": key.entry_id,
        "score": likeness.score,
        "party_title": likeness.name,
        "entry_title": likeness.title,
        "matched": likeness.matched,
    }


def _hit_of(row: Row[Any]) -> HitRecord:
    return HitRecord(
        key=HitKey(row.party_id, row.entry_id),
        party_title=row.party_title,
        entry_title=row.entry_title,
        matched=row.matched,
        source=row.source,
        score=row.score,
        list_version=row.list_version,
        state=HitState(row.state),
        found_at=moment(row.found_at),
        decided_by=row.decided_by,
        decided_at=optional_moment(row.decided_at),
        reason=row.reason,
    )
