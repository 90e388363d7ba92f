"""Landmarks that wait for a second person (docs/protocol.md RC4), and the revisions that say who they were."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from server.store.counters import read_counter
from server.store.errors import StaleRevisionError
from server.store.landmark_codec import landmark_from_json, landmark_to_json
from server.store.landmarks import import_landmarks, load_landmarks
from server.store.record_types import LANDMARK, ChangeRecord
from server.store.revisions import Authorship, append_texts
from server.store.types import LandmarkRecord


def landmarks_payload(connection: Connection, records: Sequence[LandmarkRecord]) -> str:
    """Return the payload of landmarks that wait, each with the revision that it is based on."""
    standing = _revisions(connection)
    landmarks = [
        {"basis": standing.get(record.landmark.landmark_id, 0), "record": json.loads(landmark_to_json(record))}
        for record in records
    ]
    return json.dumps({"landmarks": landmarks}, separators=(",", ":"), ensure_ascii=False)


def apply_landmarks(connection: Connection, change: ChangeRecord, payload: Mapping[str, Any], now: datetime) -> None:
    """Import the landmarks of a change in the caller's transaction.

    Args:
        connection: Of the transaction.
        change: Which is approved.
        payload: What `landmarks_payload` wrote.
        now: When.

    Raises:
        StaleRevisionError: A landmark has another revision than when it was proposed.
        RecordConflictError: Keys would belong to several landmarks or operators.
    """
    before = _revisions(connection)
    records: list[LandmarkRecord] = []
    for each in payload["landmarks"]:
        record = landmark_from_json(json.dumps(each["record"]))
        landmark_id = record.landmark.landmark_id
        if before.get(landmark_id, 0) != each["basis"]:  # docs/protocol.md RC2
            raise StaleRevisionError(f"landmarks/{landmark_id}", before.get(landmark_id, 0))
        records.append(record)
    import_landmarks(connection, records, now, write=True)
    # The import has taken this number.
    number = read_counter(connection, "records")
    author = Authorship(number, change.proposed_by, change.reason, now, change.change_id)
    given = {str(record.landmark.landmark_id): record for record in records}
    written = [
        (LANDMARK, f"landmarks/{landmark_id}", revision, landmark_to_json(given[landmark_id]))
        for landmark_id, revision in sorted(_revisions(connection).items())
        if landmark_id in given and before.get(landmark_id) != revision
    ]
    append_texts(connection, written, author)


def _revisions(connection: Connection) -> dict[str, int]:
    return {str(r.landmark.landmark_id): r.landmark.revision for r in load_landmarks(connection)}
