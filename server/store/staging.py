"""A scratch database in which the rows of one import file meet: any two can be compared, and memory stays flat.

It is SQLite's unnamed temporary database: on disk once it grows, private, and gone when it is closed.
"""

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Self

from server.store.errors import StoreUnavailableError
from server.store.framing import MICROSECOND, micros, moment
from server.store.regions import region_from_json, region_to_json
from verifier.license import Deployment, License, Presence
from verifier.units import Pdi

_SCHEMA = """
CREATE TABLE licenses (
  number TEXT PRIMARY KEY, line INTEGER, licensee TEXT, valid_from INTEGER, valid_until INTEGER, presence INTEGER,
  cadence_us INTEGER, grace_us INTEGER
) WITHOUT ROWID;
CREATE TABLE deployments (
  pdi BLOB PRIMARY KEY, line INTEGER, license TEXT, region TEXT
) WITHOUT ROWID;
"""

ROWS = 1_000
"""Rows that are fetched at once."""

LICENSES_HELD = 10_000
"""Licenses that are held as objects while rows are yielded; more are made again when they come again."""

_CONDITIONS = ("licensee", "valid_from", "valid_until", "presence", "cadence", "grace")
"""What the rows of one license must agree in, in the order of the table's columns."""


@dataclass(frozen=True, slots=True)
class Clash:
    """A row contradicts an earlier one.

    Attributes:
        condition: `pdi` for a device that comes twice, else the attribute of the license in which they differ.
        other_line: Number of the earlier row.
    """

    condition: str
    other_line: int


class Staging:
    """Collects rows, then yields them in the order of PDIs.

    It may be closed while another thread still uses it, as happens when a caller goes away in the middle of an import;
    that thread's next step fails.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(_SCHEMA)
        # Nothing is ever kept, so one transaction that is never finished does.
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._database.close()

    def add(self, line: int, row: Deployment) -> tuple[Clash, ...]:
        """Keep a row, unless it contradicts an earlier one; return in what it does.

        Raises:
            StoreUnavailableError: The scratch database failed; most likely the disk is full.
        """
        try:
            with self._lock:
                return self._add(line, row)
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the scratch database failed: {error}") from error

    def _add(self, line: int, row: Deployment) -> tuple[Clash, ...]:
        held = row.license
        conditions = (
            held.licensee,
            micros(held.valid_from),
            micros(held.valid_until),
            int(held.presence),
            held.cadence // MICROSECOND,
            held.grace // MICROSECOND,
        )
        clashes: list[Clash] = []
        before = self._database.execute("SELECT line FROM deployments WHERE pdi = ?", (row.pdi,)).fetchone()
        if before is not None:
            clashes.append(Clash("pdi", before[0]))
        first = self._database.execute("SELECT * FROM licenses WHERE number = ?", (held.number,)).fetchone()
        if first is None:
            self._database.execute("INSERT INTO licenses VALUES (?,?,?,?,?,?,?,?)", (held.number, line, *conditions))
        else:
            differing = zip(_CONDITIONS, first[2:], conditions, strict=True)
            clashes.extend(Clash(name, first[1]) for name, one, other in differing if one != other)
        if not clashes:
            values = (row.pdi, line, held.number, region_to_json(row.region))
            self._database.execute("INSERT INTO deployments VALUES (?,?,?,?)", values)
        return tuple(clashes)

    def deployments(self) -> Iterator[Deployment]:
        """Yield what was kept, in the order of PDIs; raises `StoreUnavailableError`."""
        query = (
            "SELECT pdi, region, number, licensee, valid_from, valid_until, presence,"
            " cadence_us, grace_us FROM deployments JOIN licenses ON number = license ORDER BY pdi"
        )
        # Rows of one license share its object.
        read_license = lru_cache(LICENSES_HELD)(_license)
        read_region = lru_cache(LICENSES_HELD)(region_from_json)
        for pdi, region, *conditions in self._rows(query):
            yield Deployment(Pdi(pdi), read_license(*conditions), read_region(region))

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            with self._lock:
                cursor = self._database.execute(query)
            while True:
                with self._lock:
                    rows = cursor.fetchmany(ROWS)
                if not rows:
                    return
                yield from rows
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the scratch database failed: {error}") from error


def _license(
    number: str, licensee: str, valid_from: int, valid_until: int, presence: int, cadence_us: int, grace_us: int
) -> License:
    cadence: timedelta = cadence_us * MICROSECOND
    return License(
        number=number,
        licensee=licensee,
        valid_from=moment(valid_from),
        valid_until=moment(valid_until),
        presence=Presence(presence),
        cadence=cadence,
        grace=grace_us * MICROSECOND,
        revision=0,
    )
