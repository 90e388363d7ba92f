"""Landmark records: the current revision of each, and every revision kept."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select

from server.store.counters import take_numbers
from server.store.errors import RecordConflictError
from server.store.rows import Values, chunks
from server.store.schema import LANDMARK_RANGES, LANDMARK_REVISIONS, LANDMARKS
from server.store.types import ImportCounts, LandmarkRecord
from server.times import micros, moment, optional_micros, optional_moment
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, party_name
from verifier.units import CountryCode, LandmarkId

_WHO_AND_WHERE = ("public_key", "operator", "hoster", "latitude", "longitude", "uncertainty_km")
"""Fields whose change makes a landmark another one than was ranged."""


def load_landmarks(connection: Connection) -> list[LandmarkRecord]:
    """Return the current revisions in the order of ids."""
    return [_record_of(row) for row in connection.execute(select(LANDMARKS).order_by(LANDMARKS.c.landmark_id))]


def import_landmarks(
    connection: Connection, given: Iterable[LandmarkRecord], now: datetime, *, write: bool
) -> ImportCounts:
    """Import, or with `write` unset only count, in the caller's transaction.

    Raises:
        RecordConflictError: A key would belong to two landmarks, an operator would have two keys, or an id is given
            twice.
    """
    if write:
        take_numbers(connection, "records", 1)
    standing = {row.landmark_id: _values(_record_of(row)) for row in connection.execute(select(LANDMARKS))}
    revisions = {row.landmark_id: row.revision for row in connection.execute(select(LANDMARKS))}
    rows: list[Values] = []
    others: list[str] = []
    seen: set[str] = set()
    created = unchanged = 0
    for record in given:
        landmark_id = record.landmark.landmark_id
        if landmark_id in seen:
            raise RecordConflictError("name", f"landmark {landmark_id} comes twice")
        seen.add(landmark_id)
        values = _values(record)
        before = standing.get(landmark_id)
        if before == values:
            unchanged += 1
            continue
        created += before is None
        if before is not None and any(before[name] != values[name] for name in _WHO_AND_WHERE):
            others.append(landmark_id)
        standing[landmark_id] = values
        rows.append({**values, "revision": revisions.get(landmark_id, 0) + 1, "revised_at": micros(now)})
    _check_keys(standing.values())
    _check_operator_keys(standing.values())
    if write and rows:
        connection.execute(delete(LANDMARKS).where(LANDMARKS.c.landmark_id.in_([row["landmark_id"] for row in rows])))
        connection.execute(insert(LANDMARKS), rows)
        connection.execute(insert(LANDMARK_REVISIONS), rows)
        for some in chunks(others):
            # What was ranged was another key, another party's or elsewhere: it says nothing of this one (PL3, LA4).
            which = or_(LANDMARK_RANGES.c.of_id.in_(some), LANDMARK_RANGES.c.by_id.in_(some))
            connection.execute(delete(LANDMARK_RANGES).where(which))
    return ImportCounts(created, len(rows) - created, unchanged)


def _check_keys(rows: Iterable[Values]) -> None:
    """A receipt names its landmark by key alone, so a key belongs to one landmark."""
    owners: dict[bytes, str] = {}
    for row in rows:
        owner = owners.setdefault(row["public_key"], row["landmark_id"])
        if owner != row["landmark_id"]:
            raise RecordConflictError(
                "public_key", f"landmarks {owner} and {row['landmark_id']} have the same public key"
            )


def _check_operator_keys(rows: Iterable[Values]) -> None:
    """One operator has one key (docs/protocol.md LA8); a record that is not signed names none."""
    first: dict[str, Values] = {}
    for row in rows:
        if not row["operator_signature"]:
            continue
        other = first.setdefault(party_name(row["operator"]), row)
        if other["operator_key"] != row["operator_key"]:
            raise RecordConflictError(
                "operator_key",
                f"operator {row['operator']} has signed landmarks {other['landmark_id']} and {row['landmark_id']} with "
                "two keys; import all of its signed landmarks at once to change its key",
            )


def _values(record: LandmarkRecord) -> Values:
    landmark = record.landmark
    return {
        "landmark_id": str(landmark.landmark_id),
        "public_key": landmark.public_key,
        "operator": landmark.operator,
        "hoster": landmark.hoster,
        "latitude": landmark.position.latitude,
        "longitude": landmark.position.longitude,
        "uncertainty_km": landmark.uncertainty_km,
        "survey_method": record.survey_method,
        "virtual_machine": landmark.virtual_machine,
        "endpoints": " ".join(record.endpoints),
        "country": str(landmark.country),
        "valid_from": optional_micros(landmark.valid_from),
        "valid_until": optional_micros(landmark.valid_until),
        "operator_key": record.operator_key,
        "operator_signature": record.operator_signature,
    }


def _record_of(row: Row[Any]) -> LandmarkRecord:
    landmark = Landmark(
        landmark_id=LandmarkId(row.landmark_id),
        public_key=row.public_key,
        operator=row.operator,
        hoster=row.hoster,
        position=Position(row.latitude, row.longitude),
        uncertainty_km=row.uncertainty_km,
        virtual_machine=row.virtual_machine,
        country=CountryCode(row.country),
        revision=row.revision,
        revised_at=moment(row.revised_at),
        valid_from=optional_moment(row.valid_from),
        valid_until=optional_moment(row.valid_until),
        signed=bool(row.operator_signature),
    )
    endpoints = tuple(row.endpoints.split())
    return LandmarkRecord(landmark, row.survey_method, endpoints, row.operator_key, row.operator_signature)
