"""A landmark's record with its operator's signature, as the registry takes it. docs/protocol.md LA8.

What is signed are whole numbers, so position, uncertainty and times are rounded first and the record holds what was
signed, exactly.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from landmark import cose
from landmark.errors import RecordError
from landmark.keys import LandmarkKey

DEFAULT_UNCERTAINTY_KM: Final = 1.0
"""Wide enough for a position that was read off a map."""

_UNITS_PER_DEGREE: Final = 10_000_000
_METERS_PER_KM: Final = 1_000
_MAX_TEXT: Final = 200
_MAX_PORT: Final = 65_535
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_ID: Final = re.compile(r"[a-z0-9-]{1,63}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_ENDPOINT: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})", re.ASCII)


def _check_text(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("printable characters without blanks at the ends")
    return text


def _check_endpoint(text: str) -> str:
    found = _ENDPOINT.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= _MAX_PORT:
        raise ValueError("write host:port or [IPv6 address]:port")
    return text


def _check_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("must be 1 to 63 of a-z, 0-9 and -")
    return text


def _check_country(text: str) -> str:
    if not _COUNTRY.fullmatch(text):
        raise ValueError("is no ISO 3166-1 alpha-2 code, upper case, as SG")
    return text


def _check_moment(moment: datetime) -> datetime:
    if moment.microsecond or moment < _EPOCH:
        raise ValueError("a signed time is in whole seconds since 1970")
    return moment


_WORDS: Final = {
    "finite_number": "is not a finite number",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "string_too_long": "has more than {max_length} characters",
    "string_too_short": "is empty",
    "too_long": "{max_length} at most",
}
"""What pydantic finds wrong, in words for a person; what checks of ours say is told as it is."""

Text = Annotated[str, Field(min_length=1, max_length=_MAX_TEXT), AfterValidator(_check_text)]
Moment = Annotated[datetime, AfterValidator(_check_moment)]


class Record(BaseModel):
    """What an operator says of one landmark.

    `latitude` and `longitude` in degrees, WGS 84; `uncertainty_km`: how far the truth may be from there; `country`: ISO
    3166-1 alpha-2. `valid_from` and `valid_until` are aware, None leaves that end open. `endpoints` are not signed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, AfterValidator(_check_id)]
    operator: Text
    hoster: Text
    latitude: Annotated[Decimal, Field(ge=-90, le=90)]
    longitude: Annotated[Decimal, Field(ge=-180, le=180)]
    uncertainty_km: Annotated[Decimal, Field(ge=0, le=100)]
    survey_method: Text
    virtual_machine: bool
    country: Annotated[str, AfterValidator(_check_country)]
    endpoints: Annotated[list[Annotated[str, AfterValidator(_check_endpoint)]], Field(min_length=1, max_length=4)]
    valid_from: Moment | None = None
    valid_until: Moment | None = None

    @model_validator(mode="after")
    def _check_validity(self) -> Self:
        if self.valid_from is not None and self.valid_until is not None and self.valid_until <= self.valid_from:
            raise ValueError("valid_until must be after valid_from")
        return self


def build_record(content: Mapping[str, object]) -> Record:
    """Check what was given; RecordError names every wrong field."""
    try:
        return Record.model_validate(dict(content))
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False):
            field = ".".join(str(part) for part in problem["loc"]) or "record"
            words = _WORDS.get(problem["type"], "").format(**problem.get("ctx", {}))
            lines.append(f"{field}: {words or problem['msg'].removeprefix('Value error, ')}")
        raise RecordError("\n".join(lines)) from error


def parse_moment(text: str, field: str, *, end: bool) -> datetime:
    """Return the moment of a date or an RFC 3339 time; a date is a day of UTC, and with `end` its last moment counts.

    Raises:
        RecordError: it is neither, or a time without its zone.
    """
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text) + timedelta(days=1 if end else 0)
            return datetime.combine(day, time(), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise RecordError(f"{field}: {text!r}: not a date and no time") from error
    if moment.tzinfo is None:
        raise RecordError(f"{field}: {text!r}: write the zone too, as in 2026-01-01T00:00:00Z")
    return moment.astimezone(UTC)


def sign_record(record: Record, public_key: bytes, operator: LandmarkKey) -> dict[str, object]:
    """Return one object of the file that `trigpoint landmark import` takes, with the operator's key and signature.

    Args:
        record: What the operator says.
        public_key: The landmark's raw Ed25519 key, 32 bytes.
        operator: The operator's key.
    """
    latitude, longitude = (
        _whole(degrees * _UNITS_PER_DEGREE, ROUND_HALF_EVEN) for degrees in (record.latitude, record.longitude)
    )
    # Upwards: a landmark must not be said to be better known than it is.
    meters = _whole(record.uncertainty_km * _METERS_PER_KM, ROUND_CEILING)
    content: dict[int, object] = {
        1: record.id,
        2: public_key,
        3: record.operator,
        4: record.hoster,
        5: latitude,
        6: longitude,
        7: meters,
        8: record.survey_method,
        9: record.virtual_machine,
        10: record.country,
    }
    validity = {11: record.valid_from, 12: record.valid_until}
    content |= {key: _unix_s(moment) for key, moment in validity.items() if moment is not None}
    signature = cose.sign1(cose.encode(content), cose.RECORD_LABEL, operator.key_id, operator.sign)
    return {
        "id": record.id,
        "public_key": public_key.hex(),
        "operator": record.operator,
        "hoster": record.hoster,
        "latitude": latitude / _UNITS_PER_DEGREE,
        "longitude": longitude / _UNITS_PER_DEGREE,
        "uncertainty_km": meters / _METERS_PER_KM,
        "survey_method": record.survey_method,
        "virtual_machine": record.virtual_machine,
        "endpoints": record.endpoints,
        "country": record.country,
        "valid_from": _written(record.valid_from),
        "valid_until": _written(record.valid_until),
        "operator_key": operator.public_key.hex(),
        "operator_signature": signature.hex(),
    }


def record_file(entry: Mapping[str, object]) -> str:
    """Return the text of an import file that holds one record."""
    return json.dumps([entry], indent=2) + "\n"


def _whole(value: Decimal, rounding: str) -> int:
    return int(value.to_integral_value(rounding))


def _unix_s(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(seconds=1)


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
