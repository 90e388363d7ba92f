"""Landmarks' records as JSON text, as changes and revisions keep them. Exact both ways, and one record has one text."""

import json
from typing import Any

from server.store.types import LandmarkRecord
from server.times import EPOCH, optional_micros, optional_moment
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark
from verifier.units import CountryCode, LandmarkId


def landmark_to_json(record: LandmarkRecord) -> str:
    """Write a landmark's record, without its revision and without what audits say."""
    landmark = record.landmark
    plain = {
        "id": landmark.landmark_id,
        "public_key": landmark.public_key.hex(),
        "operator": landmark.operator,
        "hoster": landmark.hoster,
        "latitude": landmark.position.latitude,
        "longitude": landmark.position.longitude,
        "uncertainty_km": landmark.uncertainty_km,
        "virtual_machine": landmark.virtual_machine,
        "country": landmark.country,
        "valid_from": optional_micros(landmark.valid_from),
        "valid_until": optional_micros(landmark.valid_until),
        "survey_method": record.survey_method,
        "endpoints": record.endpoints,
        "operator_key": record.operator_key.hex(),
        "operator_signature": record.operator_signature.hex(),
    }
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)


def landmark_from_json(text: str) -> LandmarkRecord:
    """Read what `landmark_to_json` wrote; the revision is 0 and stands since 1970."""
    plain: dict[str, Any] = json.loads(text)
    signature = bytes.fromhex(plain["operator_signature"])
    landmark = Landmark(
        landmark_id=LandmarkId(plain["id"]),
        public_key=bytes.fromhex(plain["public_key"]),
        operator=plain["operator"],
        hoster=plain["hoster"],
        position=Position(plain["latitude"], plain["longitude"]),
        uncertainty_km=plain["uncertainty_km"],
        virtual_machine=plain["virtual_machine"],
        country=CountryCode(plain["country"]),
        revision=0,
        revised_at=EPOCH,
        valid_from=optional_moment(plain["valid_from"]),
        valid_until=optional_moment(plain["valid_until"]),
        signed=bool(signature),
    )
    key = bytes.fromhex(plain["operator_key"])
    return LandmarkRecord(landmark, plain["survey_method"], tuple(plain["endpoints"]), key, signature)
