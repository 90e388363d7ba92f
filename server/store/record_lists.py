"""Lists of records: one kind, filtered, in the order of names, page by page.

Licenses, their sites and parties are few enough to be sorted by name here, since a license's number is spelled in its
name other than in its column. Deployments are not: they are read in the order of the keys, in which names begin with
the digits of a PDI, `board-` and `key-`.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, FromClause, Table, func, or_, select

from server.records.codec import parties_from_json
from server.records.names import license_name, site_name
from server.records.values import RecordKind
from server.store.errors import RecordConflictError
from server.store.record_rows import BY_BOARD, BY_KEY, Key, load_rows, place_of, select_from, stored_of
from server.store.record_types import RecordFilter, RecordPage, StoredRecord
from server.store.schema import DEPLOYMENTS, LICENSES, PARTIES, SELECTORS, SHIPMENTS, SITES, WINDOWS
from server.times import micros

Conditions = list[ColumnElement[bool]]

_BEHIND_BOARDS = b"\xc0"
"""The first PDI whose name `deployments/c0...` stands behind `deployments/board-...`."""


_STREAMED_ROWS = 1_000


class _Segment(NamedTuple):
    """Rows whose names stand together, in the order of one column: names up to `last`."""

    table: Table
    key: Column[Any]
    conditions: Conditions
    last: str = "~"


def list_records(connection: Connection, chosen: RecordFilter, after: str | None, limit: int) -> RecordPage:
    """Return up to `limit` matching records behind the name `after`.

    Raises:
        RecordConflictError: A filter that this kind does not have.
        RecordNameError: `after` is no name of a record.
    """
    if chosen.ends_after is not None and chosen.kind not in {RecordKind.SHIPMENT, RecordKind.WINDOW}:
        raise RecordConflictError("filter", "ends_after chooses among shipments and windows alone")
    if chosen.kind in {RecordKind.PARTY, RecordKind.LICENSE, RecordKind.SITE}:
        return _sorted_page(connection, chosen.kind, sorted(_keys(connection, chosen)), after, limit)
    total = 0
    rows: list[StoredRecord] = []
    first = ""
    for segment in _segments(chosen):
        source, conditions = _from(segment, chosen)
        total += connection.execute(select(func.count()).select_from(source).where(*conditions)).scalar_one()
        query = select_from(segment.table).select_from(source).where(*conditions).order_by(segment.key)
        if after is not None and after > segment.last:
            continue
        if after is not None and after > first:
            query = query.where(segment.key > place_of(after).key[-1])
        first = segment.last
        left = limit + 1 - len(rows)
        rows.extend(stored_of(segment.table, row) for row in connection.execute(query.limit(left)))
    return RecordPage(tuple(rows[:limit]), more=len(rows) > limit, total=total)


def stream_deployments(connection: Connection, chosen: RecordFilter) -> Iterator[StoredRecord]:
    """Yield all deployments that match, in the order of names, reading on as they are asked for."""
    for segment in _segments(chosen):
        source, conditions = _from(segment, chosen)
        query = select_from(segment.table).select_from(source).where(*conditions).order_by(segment.key)
        for row in connection.execute(query.execution_options(yield_per=_STREAMED_ROWS)):
            yield stored_of(segment.table, row)


def deployed_count(connection: Connection, license_number: str) -> int:
    """Return how many devices a license's deployments name, by key and board included (docs/protocol.md RC9).

    Those that were adopted by key or board have deployments of their own.
    """
    own = select(func.count()).select_from(DEPLOYMENTS).where(DEPLOYMENTS.c.license_number == license_number)
    left = func.coalesce(func.sum(SELECTORS.c.devices - SELECTORS.c.adopted), 0)
    waiting = select(left).where(SELECTORS.c.license_number == license_number)
    count: int = connection.execute(own).scalar_one() + connection.execute(waiting).scalar_one()
    return count


def _sorted_page(
    connection: Connection, kind: RecordKind, keys: Sequence[tuple[str, Key]], after: str | None, limit: int
) -> RecordPage:
    start = 0 if after is None else bisect_right(keys, after, key=lambda named: named[0])
    page = keys[start : start + limit]
    table = {RecordKind.PARTY: PARTIES, RecordKind.LICENSE: LICENSES, RecordKind.SITE: SITES}[kind]
    rows = sorted(load_rows(connection, table, [key for _, key in page]), key=lambda stored: stored.name)
    return RecordPage(tuple(rows), more=start + limit < len(keys), total=len(keys))


def _keys(connection: Connection, chosen: RecordFilter) -> Iterator[tuple[str, Key]]:
    """Yield names and keys of the parties, licenses or sites that match."""
    if chosen.kind is RecordKind.SITE:
        source, conditions = _from(_Segment(SITES, SITES.c.site_id, []), chosen)
        query = select(SITES.c.license_number, SITES.c.site_id).select_from(source).where(*conditions)
        for number, site_id in connection.execute(query):
            yield site_name(number, site_id), (number, site_id)
        return
    licenses = _license_conditions(chosen) + _has_site(chosen)
    if chosen.kind is RecordKind.LICENSE:
        for number in connection.scalars(select(LICENSES.c.number).where(*licenses)):
            yield license_name(number), (number,)
        return
    named = None if not licenses else _parties_of(connection, licenses)
    for party_id in connection.scalars(select(PARTIES.c.party_id)):
        if chosen.party_id in {None, party_id} and (named is None or party_id in named):
            yield f"parties/{party_id}", (party_id,)


def _parties_of(connection: Connection, licenses: Conditions) -> set[str]:
    texts = connection.scalars(select(LICENSES.c.parties).where(*licenses))
    return {party_id for text in texts for party_id, _ in parties_from_json(text)}


def _segments(chosen: RecordFilter) -> list[_Segment]:
    pdi, selector = DEPLOYMENTS.c.device_pdi, SELECTORS.c.selector
    match chosen.kind:
        case RecordKind.SHIPMENT:
            return [_Segment(SHIPMENTS, SHIPMENTS.c.shipment_id, [])]
        case RecordKind.WINDOW:
            return [_Segment(WINDOWS, WINDOWS.c.window_id, [])]
        case _:
            return [
                _Segment(DEPLOYMENTS, pdi, [pdi < _BEHIND_BOARDS], "deployments/board"),
                _Segment(SELECTORS, selector, [SELECTORS.c.kind == BY_BOARD], "deployments/board-~"),
                _Segment(DEPLOYMENTS, pdi, [pdi >= _BEHIND_BOARDS], "deployments/key"),
                _Segment(SELECTORS, selector, [SELECTORS.c.kind == BY_KEY]),
            ]


def _from(segment: _Segment, chosen: RecordFilter) -> tuple[FromClause, Conditions]:
    """Return the table, joined with what the filter asks of its license and site, and the conditions."""
    table = segment.table
    source: FromClause = table
    conditions = [*segment.conditions, *_own_conditions(table, chosen)]
    licenses = _license_conditions(chosen, of=table)
    if licenses:
        source = source.join(LICENSES, LICENSES.c.number == table.c.license_number)
        conditions += licenses
    if table is WINDOWS:
        conditions += _window_site(chosen)
    elif chosen.jurisdiction is not None and table is not SITES:
        at = (SITES.c.license_number == table.c.license_number) & (SITES.c.site_id == table.c.site_id)
        source = source.join(SITES, at)
        conditions.append(SITES.c.jurisdiction == chosen.jurisdiction)
    return source, conditions


def _own_conditions(table: Table, chosen: RecordFilter) -> Conditions:
    conditions: Conditions = []
    if chosen.license_number is not None:
        conditions.append(table.c.license_number == chosen.license_number)
    if chosen.site_id is not None and table is not WINDOWS:
        conditions.append(table.c.site_id == chosen.site_id)
    if chosen.jurisdiction is not None and table is SITES:
        conditions.append(SITES.c.jurisdiction == chosen.jurisdiction)
    if chosen.ends_after is not None:
        ends = WINDOWS.c.ends_at if table is WINDOWS else SHIPMENTS.c.activation_by
        conditions.append(ends > micros(chosen.ends_after))
    if chosen.shipment_id is not None:
        conditions.append(_of_shipment(table, chosen.shipment_id))
    return conditions


def _of_shipment(table: Table, shipment_id: str, jurisdiction: str | None = None) -> ColumnElement[bool]:
    if "shipment_id" in table.c:
        return table.c.shipment_id == shipment_id
    same = SHIPMENTS.c.license_number == (LICENSES.c.number if table is LICENSES else table.c.license_number)
    conditions = [SHIPMENTS.c.shipment_id == shipment_id, same]
    if table is SITES:
        conditions.append(SHIPMENTS.c.site_id == SITES.c.site_id)
    if table is WINDOWS:
        conditions.append(WINDOWS.c.site_id.in_(["", SHIPMENTS.c.site_id]))
    if jurisdiction is not None:  # docs/protocol.md RC11: what goes to a site elsewhere is not there
        at = (SITES.c.license_number == SHIPMENTS.c.license_number) & (SITES.c.site_id == SHIPMENTS.c.site_id)
        conditions += [at, SITES.c.jurisdiction == jurisdiction]
    return select(SHIPMENTS.c.shipment_id).where(*conditions).exists()


def _license_conditions(chosen: RecordFilter, of: Table = LICENSES) -> Conditions:
    """Return what is asked of a record's license; what `of` has itself is asked of it."""
    conditions: Conditions = []
    if of is LICENSES and chosen.license_number is not None:
        conditions.append(LICENSES.c.number == chosen.license_number)
    if of is LICENSES and chosen.shipment_id is not None:
        conditions.append(_of_shipment(LICENSES, chosen.shipment_id, chosen.jurisdiction))
    if chosen.licensee is not None:
        conditions.append(LICENSES.c.licensee == chosen.licensee)
    if chosen.state is not None:
        conditions.append(LICENSES.c.state == int(chosen.state))
    if chosen.expires_before is not None:
        conditions.append(LICENSES.c.valid_until < micros(chosen.expires_before))
    if chosen.party_id is not None and chosen.kind is not RecordKind.PARTY:
        conditions.append(names_party(chosen.party_id))
    return conditions


def names_party(party_id: str) -> ColumnElement[bool]:
    """The license of the enclosing query names this party."""
    # An id has neither quotes nor letters of two cases, so the text is that of an id and of nothing else.
    return LICENSES.c.parties.contains(f'["{party_id}",', autoescape=True)


def _has_site(chosen: RecordFilter) -> Conditions:
    """A license has a site that matches (docs/protocol.md RC11)."""
    conditions = _site_conditions(chosen)
    if not conditions:
        return []
    return [select(SITES.c.site_id).where(SITES.c.license_number == LICENSES.c.number, *conditions).exists()]


def _window_site(chosen: RecordFilter) -> Conditions:
    """A window is at a site that matches; one of all sites is at each of them."""
    conditions = _site_conditions(chosen)
    if not conditions:
        return []
    here = or_(WINDOWS.c.site_id == "", WINDOWS.c.site_id == SITES.c.site_id)
    same = SITES.c.license_number == WINDOWS.c.license_number
    return [select(SITES.c.site_id).where(same, here, *conditions).exists()]


def _site_conditions(chosen: RecordFilter) -> Conditions:
    conditions: Conditions = []
    if chosen.site_id is not None:
        conditions.append(SITES.c.site_id == chosen.site_id)
    if chosen.jurisdiction is not None:
        conditions.append(SITES.c.jurisdiction == chosen.jurisdiction)
    return conditions
