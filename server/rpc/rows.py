"""One row of a deployment file: its columns, what each may hold, and what they may hold together.

docs/import.md tells it to people.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from server.problems import said
from server.records.names import ID
from server.records.values import ByBoard, ByKey, ByPdi, LicenseRecord, Selector
from server.rpc.destinations import Destinations
from server.store.types import ImportRow, ImportShipment
from verifier.errors import UsageError
from verifier.license import License, LicenseState, Presence
from verifier.place.geodesy import Position
from verifier.place.regions import AnyOf, Countries, Group, Polygon, Region, SiteDisc, polygon_of
from verifier.units import CountryCode, DeviceKeyId, Pdi

MAX_CADENCE_S = 366 * 86_400
MAX_SITE_RADIUS_KM = 1_000.0
"""A site of a larger radius is a country's worth of land; a license that means that names the country."""

MAX_BOARD_DEVICES = 64
MAX_QUANTITY = 10**9

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_GROUP = re.compile(r"[A-Z]:\d{1,2}")
"""Country groups of the EAR, Supplement No. 1 to Part 740."""

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")
"""RFC 3339 §5.6; finer than a microsecond is refused, since it would not be kept."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with one column of a row. `column` is empty when it concerns the row."""

    column: str
    message: str


def _text(value: object) -> object:
    # A number where text belongs (a license number, in JSON) may have lost zeros or digits on its way.
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic collects ValueErrors
    return value.strip()


def _number(value: object) -> object:
    # Python counts True as 1.
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - as above
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not hold control characters")
    return value


def _pdi(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{16}", value):
        raise ValueError("must be the PDI as 16 hex digits")
    return value.lower()


def _key_id(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError("must be the device key id as 64 hex digits")
    return value.lower()


def _record_id(value: str) -> str:
    if not ID.fullmatch(value):
        raise ValueError("must be 1 to 63 of a-z, 0-9 and -, without - at the ends")
    return value


def _polygon(value: object) -> object:
    try:
        return polygon_of("", json.loads(value) if isinstance(value, str) else value)
    except RecursionError as error:
        raise ValueError("is nested too deep") from error
    except json.JSONDecodeError as error:
        raise ValueError("must be a GeoJSON Polygon or MultiPolygon") from error
    except UsageError as error:
        raise ValueError(str(error)) from error


def _when(value: str) -> str:
    try:
        if _DATE.fullmatch(value):
            date.fromisoformat(value)
            return value
        if _TIME.fullmatch(value):
            datetime.fromisoformat(value.upper())
            return value
    except ValueError:
        pass
    raise ValueError("must be an RFC 3339 date (2026-07-01) or time with its zone (2026-07-01T00:00:00Z)")


HexPdi = Annotated[str, BeforeValidator(_text), AfterValidator(_pdi)]
Text = Annotated[str, Field(min_length=1, max_length=128), BeforeValidator(_text), AfterValidator(_printable)]
When = Annotated[str, BeforeValidator(_text), AfterValidator(_when)]
Whole = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


class DeploymentRow(BaseModel):
    """The columns, each checked by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    device_pdi: HexPdi | None = None
    license_number: Text
    licensee: Text
    valid_from: When
    valid_until: When
    presence: Annotated[Literal["site", "country", "outside_prohibited"], BeforeValidator(_text)]
    site_name: Text | None = None
    site_latitude: Annotated[Real, Field(ge=-90, le=90)] | None = None
    site_longitude: Annotated[Real, Field(ge=-180, le=180)] | None = None
    site_radius_km: Annotated[Real, Field(gt=0, le=MAX_SITE_RADIUS_KM)] | None = None
    site_polygon: Annotated[Polygon | AnyOf, BeforeValidator(_polygon)] | None = None
    country: Annotated[str, BeforeValidator(_text)] | None = None
    cadence_s: Annotated[Whole, Field(ge=1, le=MAX_CADENCE_S)]
    grace_s: Annotated[Whole, Field(ge=0, le=MAX_CADENCE_S)]
    eccn: Annotated[str, Field(min_length=1, max_length=32), BeforeValidator(_text), AfterValidator(_printable)] = ""
    license_quantity: Annotated[Whole, Field(ge=1, le=MAX_QUANTITY)] | None = None
    shipment: Annotated[str, BeforeValidator(_text), AfterValidator(_record_id)] | None = None
    shipped_on: When | None = None
    activation_by: When | None = None
    device_key_id: Annotated[str, BeforeValidator(_text), AfterValidator(_key_id)] | None = None
    board: HexPdi | None = None
    board_devices: Annotated[Whole, Field(ge=1, le=MAX_BOARD_DEVICES)] | None = None


COLUMNS: tuple[str, ...] = tuple(DeploymentRow.model_fields)
REQUIRED = tuple(name for name, field in DeploymentRow.model_fields.items() if field.is_required())
POLYGON_COLUMN = "site_polygon"
"""The only one whose value may be an object, in JSON."""

SELECTOR_COLUMNS = ("device_pdi", "device_key_id", "board")
"""A row names its devices by exactly one of them (docs/protocol.md RC8)."""

SITE_COLUMNS = ("site_name", "site_latitude", "site_longitude", "site_radius_km", POLYGON_COLUMN)
_DISC_COLUMNS = SITE_COLUMNS[:4]
_POLYGON_COLUMNS = ("site_name", POLYGON_COLUMN)
SHIPMENT_COLUMNS = ("shipment", "shipped_on", "activation_by")

COLUMN_OF = {
    "licensee": "licensee",
    "valid_from": "valid_from",
    "valid_until": "valid_until",
    "presence": "presence",
    "cadence": "cadence_s",
    "grace": "grace_s",
    "eccn": "eccn",
    "quantity": "license_quantity",
    "shipment": "shipment",
    "shipped_at": "shipped_on",
    "activation_by": "activation_by",
}
"""Column that holds an attribute of the record."""


@dataclass(frozen=True, slots=True)
class RowRules:
    """What rows are checked against.

    Attributes:
        countries: Codes of countries whose borders are known, and names of country groups.
        destinations: What regions say by themselves.
    """

    countries: frozenset[str]
    destinations: Destinations


def read_row(values: Mapping[str, object], rules: RowRules) -> ImportRow | list[RowProblem]:
    """Check one row; return what it says, or all that is wrong with it. `values`: None is no value."""
    try:
        row = DeploymentRow.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        return [_problem(item["loc"], item["type"], item["msg"], item.get("ctx", {})) for item in error.errors()]
    start, end = _start(row.valid_from), _end(row.valid_until)
    problems = [*_selector_problems(row), *_region_problems(row, rules.countries), *_shipment_problems(row)]
    if start is None or end is None:
        problems.append(RowProblem("valid_until" if end is None else "valid_from", "is beyond the years 1 to 9999"))
    elif end <= start:
        problems.append(RowProblem("valid_until", "must be after valid_from"))
    if problems or start is None or end is None:
        return problems
    terms = License(
        number=row.license_number,
        licensee=row.licensee,
        valid_from=start,
        valid_until=end,
        presence=Presence[row.presence.upper()],
        cadence=timedelta(seconds=row.cadence_s),
        grace=timedelta(seconds=row.grace_s),
        revision=0,
        state=LicenseState.DRAFT,  # what state a license is in is no file's to say
    )
    region = _region(row)
    return ImportRow(
        selector=_selector(row),
        license=LicenseRecord(terms, eccn=row.eccn, quantity=row.license_quantity),
        site_title=row.site_name or "",
        region=region,
        jurisdiction=rules.destinations.jurisdiction(region),
        shipment=_shipment(row),
    )


def _problem(location: tuple[int | str, ...], kind: str, message: str, context: Mapping[str, object]) -> RowProblem:
    column = str(location[0]) if location else ""
    if kind == "extra_forbidden":
        return RowProblem(column, f"unknown column; the columns are {', '.join(COLUMNS)}")
    if kind == "missing":
        return RowProblem(column, "has no value")
    return RowProblem(column, said(kind, message, context))


def _selector_problems(row: DeploymentRow) -> list[RowProblem]:
    given = [name for name in SELECTOR_COLUMNS if getattr(row, name) is not None]
    problems: list[RowProblem] = []
    if not given:
        problems.append(RowProblem("device_pdi", "has no value, nor has device_key_id or board; a row names one"))
    problems.extend(RowProblem(name, f"stands beside {given[0]}; a row names one") for name in given[1:])
    if row.board is not None and row.board_devices is None:
        problems.append(RowProblem("board_devices", "has no value; a row of a board says how many devices sit on it"))
    if row.board is None and row.board_devices is not None:
        problems.append(RowProblem("board_devices", "stands with board alone"))
    return problems


def _selector(row: DeploymentRow) -> Selector:
    if row.device_pdi is not None:
        return ByPdi(Pdi(bytes.fromhex(row.device_pdi)))
    if row.device_key_id is not None:
        return ByKey(DeviceKeyId(bytes.fromhex(row.device_key_id)))
    assert row.board is not None
    assert row.board_devices is not None
    return ByBoard(Pdi(bytes.fromhex(row.board)), row.board_devices)


def _shipment_problems(row: DeploymentRow) -> list[RowProblem]:
    given = [name for name in SHIPMENT_COLUMNS if getattr(row, name) is not None]
    if not given:
        return []
    missing = [name for name in SHIPMENT_COLUMNS if name not in given]
    if missing:
        text = f"has no value; a shipment needs {', '.join(SHIPMENT_COLUMNS)}"
        return [RowProblem(name, text) for name in missing]
    shipment = _shipment(row)
    if shipment is None:
        return [RowProblem("activation_by", "is, or shipped_on is, beyond the years 1 to 9999")]
    if shipment.activation_by <= shipment.shipped_at:
        return [RowProblem("activation_by", "must be after shipped_on")]
    return []


def _shipment(row: DeploymentRow) -> ImportShipment | None:
    if row.shipment is None or row.shipped_on is None or row.activation_by is None:
        return None
    start, end = _start(row.shipped_on), _end(row.activation_by)
    return None if start is None or end is None else ImportShipment(row.shipment, start, end)


def _region_problems(row: DeploymentRow, countries: Collection[str]) -> list[RowProblem]:
    problems: list[RowProblem] = []
    given = [name for name in SITE_COLUMNS if getattr(row, name) is not None]
    if row.country is not None and given == ["site_name"]:
        given = []  # what the site is called, which is all of a country
    if given and row.country is not None:
        problems.append(RowProblem("country", f"stands beside {given[0]}; a row names a site or a country, not both"))
    elif given:
        problems.extend(_site_problems(row, given))
    elif row.country is None:
        problems.append(RowProblem("", "names neither a site nor a country"))
    if row.country is not None and row.country not in countries:
        message = (
            "is no country group of the list in force"
            if _GROUP.fullmatch(row.country)
            else "is no code of a country whose borders are known (ISO 3166-1 alpha-2, upper case) nor a country group"
        )
        problems.append(RowProblem("country", message))
    if row.presence == "site" and not given and row.country is not None:
        problems.append(RowProblem("presence", "is site, but the row names no site"))
    if row.presence == "country" and given and row.country is None:
        problems.append(RowProblem("presence", "is country, but the row names no country"))
    return problems


def _site_problems(row: DeploymentRow, given: Collection[str]) -> list[RowProblem]:
    drawn = row.site_polygon is not None
    what = "a drawn site needs its name" if drawn else "a site needs its name, latitude, longitude and radius"
    needed: Sequence[str] = _POLYGON_COLUMNS if drawn else _DISC_COLUMNS
    problems = [RowProblem(name, f"has no value; {what}") for name in needed if name not in given]
    problems.extend(
        RowProblem(name, "stands beside site_polygon; a site is a disc or drawn, not both")
        for name in given
        if name not in needed
    )
    return problems


def _region(row: DeploymentRow) -> Region:
    if row.country is not None:
        if _GROUP.fullmatch(row.country):
            return Group(row.country)
        return Countries(frozenset({CountryCode(row.country)}))
    assert row.site_name is not None
    if row.site_polygon is not None:
        return _named(row.site_polygon, row.site_name)
    assert row.site_latitude is not None
    assert row.site_longitude is not None
    assert row.site_radius_km is not None
    return SiteDisc(row.site_name, Position(row.site_latitude, row.site_longitude), row.site_radius_km)


def _named(drawn: Polygon | AnyOf, name: str) -> Polygon | AnyOf:
    if isinstance(drawn, Polygon):
        return Polygon(name, drawn.rings)
    return AnyOf(tuple(Polygon(name, part.rings) for part in drawn.members if isinstance(part, Polygon)))


def _start(text: str) -> datetime | None:
    """The first instant of a date, or the time itself."""
    if _DATE.fullmatch(text):
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        return None


def _end(text: str) -> datetime | None:
    """The first instant after a date, since a license that is valid until a day is valid on it; or the time itself."""
    start = _start(text)
    if start is None or not _DATE.fullmatch(text):
        return start
    try:
        return start + timedelta(days=1)
    except OverflowError:
        return None
