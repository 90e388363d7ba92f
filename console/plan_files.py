"""Files of sites and of candidates: CSV, or GeoJSON points (RFC 7946). Every problem is told with its row and value.

Rows are counted from 1, the CSV header aside; the features of a collection likewise.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from trigpoint.v1 import landmark_pb2, place_pb2

from console.exits import CommandError, ExitCode
from console.problems import like, said
from console.text import clean, plural

MAX_FILE_BYTES = 16 << 20
"""10,000 rows are 1 MB."""

MAX_ROWS = 10_000
MAX_LISTED = 100
_MAX_VALUE = 60
_NO_COUNTRY = "is no ISO 3166-1 alpha-2 code, upper case; a plan takes no groups"

Row = Mapping[str, object]
Read = TypeVar("Read")


def _number(value: object) -> object:
    # Python counts True as 1.
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class _Point(BaseModel):
    """What both files have."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    name: Name
    latitude: Annotated[Real, Field(ge=-90, le=90)]
    longitude: Annotated[Real, Field(ge=-180, le=180)]


class SiteRow(_Point):
    """One site."""

    presence: Literal["site", "country", "outside_prohibited"]
    radius_km: Annotated[Real, Field(gt=0, le=1000)] | None = None
    country: Annotated[str, like("[A-Z]{2}", _NO_COUNTRY)] | None = None

    def problems(self) -> list[tuple[str, object, str]]:
        """Return columns that the presence needs and has not, or has and does not take."""
        found: list[tuple[str, object, str]] = []
        for column, presence in (("radius_km", "site"), ("country", "country")):
            value = getattr(self, column)
            if self.presence == presence and value is None:
                found.append((column, None, f"is missing; presence {presence} needs it"))
            elif self.presence != presence and value is not None:
                found.append((column, value, f"stands with presence {presence} alone"))
        return found

    def message(self) -> landmark_pb2.PlanSite:
        """Return the site as the server takes it."""
        return landmark_pb2.PlanSite(
            name=self.name,
            presence=place_pb2.Presence.Value(f"PRESENCE_{self.presence.upper()}"),
            latitude=self.latitude,
            longitude=self.longitude,
            radius_km=self.radius_km or 0.0,
            country=self.country or "",
        )


class CandidateRow(_Point):
    """One candidate."""

    operator: Annotated[str, Field(max_length=200)] = ""

    def message(self) -> landmark_pb2.PlanCandidate:
        """Return the candidate as the server takes it."""
        return landmark_pb2.PlanCandidate(
            name=self.name, operator=self.operator, latitude=self.latitude, longitude=self.longitude
        )


def read_sites(path: Path) -> list[landmark_pb2.PlanSite]:
    """Read a file of sites; raises `CommandError`, UNUSABLE, with all that is wrong."""
    return [row.message() for row in _read(path, SiteRow, lambda row: row.problems())]


def read_candidates(path: Path) -> list[landmark_pb2.PlanCandidate]:
    """Read a file of candidates; raises `CommandError`, UNUSABLE, with all that is wrong."""
    first: dict[str, int] = {}
    number = 0

    def repeated(row: CandidateRow) -> list[tuple[str, object, str]]:
        nonlocal number
        number += 1
        earlier = first.setdefault(row.name, number)
        return [] if earlier == number else [("name", row.name, "stands in the file twice")]

    return [row.message() for row in _read(path, CandidateRow, repeated)]


P = TypeVar("P", bound=_Point)


def _read(path: Path, model: type[P], check: Callable[[P], Sequence[tuple[str, object, str]]]) -> list[P]:
    rows = _rows(path, model)
    read: list[P] = []
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        given = {name: value for name, value in row.items() if value is not None}
        try:
            point = model.model_validate(given)
        except ValidationError as error:
            for item in error.errors():
                column = ".".join(map(str, item["loc"]))
                # A missing column's input is the whole row.
                value = None if item["type"] == "missing" else item["input"]
                problems.append(_problem(number, column, value, said(item["type"], item["msg"], item.get("ctx", {}))))
            continue
        problems += [_problem(number, *found) for found in check(point)]
        read.append(point)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:MAX_LISTED])
        more = f", the first {MAX_LISTED} shown" if len(problems) > MAX_LISTED else ""
        raise CommandError(ExitCode.UNUSABLE, f"{path}: {plural(len(problems), 'problem')}{more}\n{shown}")
    return read


def _problem(number: int, column: str, value: object, text: str) -> str:
    shown = ""
    if value is not None:
        shown = value if isinstance(value, str) else json.dumps(value)
        shown = f" {clean(shown if len(shown) <= _MAX_VALUE else shown[:_MAX_VALUE] + '...')!r}"
    return f"row {number}: {clean(column)}{shown}: {text}"


def _rows(path: Path, model: type[_Point]) -> list[Row]:
    """Return the file's rows as they stand; raises `CommandError` when it is no such file, or empty, or too long."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CommandError(ExitCode.UNUSABLE, f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{path}: not UTF-8") from error
    rows = _features(path, text, model) if text.lstrip().startswith(("{", "[")) else _csv_rows(path, text, model)
    if not rows:
        raise CommandError(ExitCode.UNUSABLE, f"{path}: no rows")
    if len(rows) > MAX_ROWS:
        raise CommandError(ExitCode.UNUSABLE, f"{path}: {len(rows):,} rows; {MAX_ROWS:,} at most")
    return rows


def _csv_rows(path: Path, text: str, model: type[_Point]) -> list[Row]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        columns = list(model.model_fields)
        missing = [name for name, field in model.model_fields.items() if field.is_required() and name not in header]
        unknown = [name for name in header if name not in columns]
        if missing or unknown or len(set(header)) != len(header):
            wrong = ", ".join([f"no {name}" for name in missing] + [f"unknown {clean(name)!r}" for name in unknown])
            text = f"{path}: the header has {wrong or 'a column twice'}; columns are {', '.join(columns)}"
            raise CommandError(ExitCode.UNUSABLE, text)
        rows: list[Row] = []
        for values in reader:
            if not any(value.strip() for value in values):
                continue  # a blank line, as spreadsheets leave them
            if len(values) != len(header):
                text = f"{path}: row {len(rows) + 1} has {len(values)} values, the header {len(header)}"
                raise CommandError(ExitCode.UNUSABLE, text)
            rows.append({name: value for name, value in zip(header, values, strict=True) if value.strip()})
    except csv.Error as error:
        raise CommandError(ExitCode.UNUSABLE, f"{path}: line {reader.line_num}: {error}") from error
    return rows


def _features(path: Path, text: str, model: type[_Point]) -> list[Row]:
    """Read a FeatureCollection of points. Properties that are not ours are a map's own business."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(ExitCode.UNUSABLE, f"{path}: not JSON: {error}") from error
    match content:
        case {"type": "FeatureCollection", "features": [*features]}:
            return [_feature(path, number, feature, model) for number, feature in enumerate(features, start=1)]
    raise CommandError(ExitCode.UNUSABLE, f"{path}: not a GeoJSON FeatureCollection")


def _feature(path: Path, number: int, feature: Any, model: type[_Point]) -> Row:
    match feature:
        case {"type": "Feature", "geometry": {"type": "Point", "coordinates": [longitude, latitude, *_]}, **rest}:
            properties = rest.get("properties")
        case _:
            raise CommandError(ExitCode.UNUSABLE, f"{path}: row {number} is not a GeoJSON Feature with a Point")
    own = set(model.model_fields)
    kept = {name: value for name, value in properties.items() if name in own} if isinstance(properties, dict) else {}
    return {**kept, "latitude": latitude, "longitude": longitude}
