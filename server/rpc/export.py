"""Deployments as the file that ImportDeployments takes back: the columns of rows.py, from one state of the store.

The file is written to disk in a store thread and sent from there, so it costs the memory of some pieces, however long
it is and however slowly it is taken. State, parties and conditions that no column tells are not in it; an import leaves
them as they are.
"""

import asyncio
import csv
import io
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import IO, Protocol

from server.records.values import ByBoard, ByKey, ByPdi, Selector
from server.rpc.record_messages import polygon_text
from server.rpc.rows import COLUMNS, POLYGON_COLUMN
from server.store import Store
from server.store.record_types import RecordFilter
from server.store.types import ImportRow
from verifier.place.regions import AnyOf, Complement, Countries, Group, Polygon, SiteDisc

PIECE_BYTES = 256 << 10
SPOOL_BYTES = 1 << 20
"""Files up to this size never touch the disk."""

Values = dict[str, str | int | float]


class _Writer(Protocol):
    """Writes rows into a file."""

    def add(self, row: ImportRow) -> None:
        """Write one row."""

    def end(self) -> None:
        """Write what stands behind the last row."""


async def export_pieces(
    store: Store, chosen: RecordFilter | None, note: Callable[[int], Awaitable[None]], *, json_array: bool
) -> AsyncIterator[bytes]:
    """Yield the pieces of a file with the chosen deployments; None: with none.

    `note` is told before the first piece how many devices the file names (docs/protocol.md K2).
    """
    named = 0
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
        writer: _Writer = _JsonWriter(file) if json_array else _CsvWriter(file)

        def add(row: ImportRow) -> None:
            nonlocal named
            named += named_devices(row.selector)
            writer.add(row)

        if chosen is not None:
            await store.records.export(chosen, add)
        await asyncio.to_thread(writer.end)
        await note(named)
        file.seek(0)
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


def named_devices(selector: Selector) -> int:
    """Return how many devices a deployment names."""
    return selector.devices if isinstance(selector, ByBoard) else 1


def row_values(row: ImportRow) -> Values:
    """Return what stands in the columns; one without a value is missing. `read_row` reads the same row from it."""
    terms = row.license.terms
    values: Values = {
        **_selector(row),
        "license_number": terms.number,
        "licensee": terms.licensee,
        "valid_from": _time(terms.valid_from),
        "valid_until": _time(terms.valid_until),
        "presence": terms.presence.name.lower(),
        **_place(row),
        "cadence_s": terms.cadence // timedelta(seconds=1),
        "grace_s": terms.grace // timedelta(seconds=1),
    }
    if row.license.eccn:
        values["eccn"] = row.license.eccn
    if row.license.quantity is not None:
        values["license_quantity"] = row.license.quantity
    if row.shipment is not None:
        values["shipment"] = row.shipment.shipment_id
        values["shipped_on"] = _time(row.shipment.shipped_at)
        values["activation_by"] = _time(row.shipment.activation_by)
    return values


def _selector(row: ImportRow) -> Values:
    match row.selector:
        case ByPdi(pdi):
            return {"device_pdi": pdi.hex()}
        case ByKey(key_id):
            return {"device_key_id": key_id.hex()}
        case ByBoard(switch, devices):
            return {"board": switch.hex(), "board_devices": devices}


def _place(row: ImportRow) -> Values:
    match row.region:
        case SiteDisc(_, center, radius_km):
            return {
                "site_name": row.site_title,
                "site_latitude": center.latitude,
                "site_longitude": center.longitude,
                "site_radius_km": radius_km,
            }
        case Polygon() | AnyOf():
            return {"site_name": row.site_title, POLYGON_COLUMN: polygon_text(row.region)}
        case Countries() | Group():
            code = row.region.name if isinstance(row.region, Group) else min(row.region.codes)  # a site names one
            # A row that names a country alone is of the site that is called like it.
            return {"country": code} if row.site_title == code else {"site_name": row.site_title, "country": code}
        case Complement():
            raise AssertionError  # no site is all but a region


def _time(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


class _CsvWriter:
    """RFC 4180, UTF-8."""

    def __init__(self, file: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._rows = csv.DictWriter(self._text, COLUMNS, restval="")
        self._rows.writeheader()

    def add(self, row: ImportRow) -> None:
        self._rows.writerow(row_values(row))

    def end(self) -> None:
        self._text.flush()
        self._text.detach()


class _JsonWriter:
    """One array, an object a line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._joint = b"[\n"

    def add(self, row: ImportRow) -> None:
        values: dict[str, object] = {**row_values(row)}
        drawn = values.get(POLYGON_COLUMN)
        if isinstance(drawn, str):
            values[POLYGON_COLUMN] = json.loads(drawn)
        self._file.write(self._joint + json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode())
        self._joint = b",\n"

    def end(self) -> None:
        self._file.write(b"[]\n" if self._joint.startswith(b"[") else b"\n]\n")
