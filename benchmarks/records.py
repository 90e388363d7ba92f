"""`python -m benchmarks.records`: how long an import of a million deployments, a sweep over them and an audit take.

Devices, licenses and reports are made up from a seed. Reports are written into the store as commits leave them, since a
million attestations would take hours. The audit is of a journal of its own, with an entry for each device. A table,
then one JSON object alone on the last line; progress on stderr.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import Connection, Engine, Update, bindparam, insert, select, update

from benchmarks.journal import time_audit
from server.store import Store, sqlite
from server.store.findings import write_findings
from server.store.rows import Values
from server.store.schema import DEVICES, LANDMARK_UPTIME, SERVICE_INTERVALS, SITES
from server.store.watch_types import Able, AbleLandmark, AbleSite, SiteKey
from server.times import micros
from verifier.appraise import SEVERITY
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import Deployment, License, LicenseState, Presence
from verifier.place.geodesy import Position
from verifier.place.regions import SiteDisc
from verifier.units import Domain, LandmarkId, Pdi
from verifier.verdict import Standing

NOW = datetime(2026, 7, 1, tzinfo=UTC)
SWEEP_EVERY = timedelta(seconds=10)
HOUR = timedelta(hours=1)
CADENCES = (HOUR, 24 * HOUR, 7 * 24 * HOUR)
"""Mixed, since an old report is fine under one license and a silence under another."""

LICENSES = 300
SITES_EACH = 10
DUE_SHARE = 0.001
"""Of the devices that fall silent, and of those whose presence becomes overdue, between two sweeps."""

ROUNDS = 5
FIX = "x" * 1_500
"""As long as a fix of eight landmarks."""

_ROWS = 20_000
_WIDTH = 100
_REPORT = update(DEVICES).where(DEVICES.c.pdi == bindparam("key"))


@dataclass
class Figures:
    """What was measured, seconds."""

    import_s: float = 0.0
    again_s: float = 0.0
    first_s: float = 0.0
    fine_s: list[float] = field(default_factory=list)
    due_s: list[float] = field(default_factory=list)
    told: int = 0
    audit_s: float = 0.0
    seal_us: float = 0.0


class Bench:
    """One run.

    Args:
        store: Empty.
        engine: Writes into it what commits would.
        devices: How many.
        seed: Of everything that is made up.
        progress: Shown while it runs.
    """

    def __init__(self, store: Store, engine: Engine, devices: int, seed: int, progress: Progress) -> None:
        self._store = store
        self._engine = engine
        self._rng = random.Random(seed)  # noqa: S311 - a run must be repeatable
        self._progress = progress
        self._devices = devices
        self._pdis = [Pdi(pdi) for pdi in sorted({self._rng.randbytes(8) for _ in range(devices)})]
        self._licenses = [_license(number) for number in range(LICENSES)]
        self._spots = [self._rng.randrange(LICENSES * SITES_EACH) for _ in self._pdis]
        self._late = iter(self._rng.sample(range(devices), min(devices, 1 + int(devices * DUE_SHARE * 3 * ROUNDS))))
        self._now = NOW
        self.figures = Figures()

    async def run(self) -> Figures:
        """Import, import again, let all report, sweep."""
        self.figures.import_s = await self._import("import")
        self.figures.again_s = await self._import("the same file again")
        self._let_all_report()
        with _timed(lambda seconds: setattr(self.figures, "first_s", seconds)):
            await self._sweep(self._able())
        able = self._able()
        task = self._progress.add_task("sweeps", total=2 * ROUNDS)
        for turn in range(2 * ROUNDS):
            due = turn % 2 == 1
            if due:
                self._let_some_be_late()
            self._now += SWEEP_EVERY
            self._write(self._be_up)
            with _timed((self.figures.due_s if due else self.figures.fine_s).append):
                told = await self._sweep(able)
            self.figures.told += told
            self._progress.advance(task)
        return self.figures

    async def _import(self, name: str) -> float:
        task = self._progress.add_task(name, total=self._devices)
        taken: list[float] = []
        with _timed(taken.append):
            await self._store.import_deployments(
                self._rows(task), NOW - 30 * 24 * HOUR, by="bench", reason="bench", state=LicenseState.ACTIVE
            )
        self._progress.update(task, completed=self._devices)
        return taken[-1]

    def _rows(self, task: int) -> Iterator[Deployment]:
        for index, (pdi, spot) in enumerate(zip(self._pdis, self._spots, strict=True)):
            number, site = divmod(spot, SITES_EACH)
            place = Position(-60 + 120 * number / LICENSES, -170 + 34 * site)
            yield Deployment(pdi, self._licenses[number], SiteDisc(f"site {number}-{site}", place, 50.0))
            if index % _ROWS == 0:
                self._progress.update(task, completed=index)  # type: ignore[arg-type]

    def _let_all_report(self) -> None:
        """Every device has reported within half of its cadence; a few of them could not prove their place."""
        self._write(self._be_up)
        task = self._progress.add_task("reports", total=self._devices)
        for first in range(0, self._devices, _ROWS):
            rows = [self._report(index) for index in range(first, min(first + _ROWS, self._devices))]
            self._write(partial(_execute, _REPORT, rows))
            self._progress.advance(task, len(rows))

    def _report(self, index: int) -> Values:
        cadence = self._licenses[self._spots[index] // SITES_EACH].cadence
        at = micros(NOW - cadence * self._rng.random() / 2)
        return {
            "key": self._pdis[index],
            "kind": int(DeviceKind.GPU),
            "standing": int(Standing.COMPLIANT),
            "activated_at": micros(NOW - 29 * 24 * HOUR),
            "last_report_at": at,
            "last_proof_at": at,
            "last_fix": FIX,
        }

    def _let_some_be_late(self) -> None:
        """Let so many fall silent with the next sweep, and so many be overdue."""
        count = max(1, int(self._devices * DUE_SHARE))
        silent, unproven = list(islice(self._late, count)), list(islice(self._late, count))
        reports = [
            {"key": self._pdis[index], column: self._just_late(index)}
            for column, some in (("last_report_at", silent), ("last_proof_at", unproven))
            for index in some
        ]
        found = [
            {
                "pdi": self._pdis[index],
                "reason": int(Reason.LOCATION_UNPROVEN),
                "opened_at": micros(self._now),
                "closed_at": None,
                "severity": int(SEVERITY[Reason.LOCATION_UNPROVEN]),
                "detail": "",
            }
            for index in unproven
        ]

        def write(connection: Connection) -> None:
            for row in reports:
                connection.execute(_REPORT, row)
            write_findings(connection, opened=found)

        self._write(write)

    def _just_late(self, index: int) -> int:
        held = self._licenses[self._spots[index] // SITES_EACH]
        return micros(self._now - held.cadence - held.grace + SWEEP_EVERY / 2)

    def _be_up(self, connection: Connection) -> None:
        """The service and all landmarks were up till now."""
        until = {"alive_until": micros(self._now)}
        for table, column in ((SERVICE_INTERVALS, "node"), (LANDMARK_UPTIME, "landmark_id")):
            if not connection.execute(update(table).values(until)).rowcount:
                began = {"started_at": micros(NOW - 40 * 24 * HOUR), **until}
                connection.execute(insert(table), [{column: name, **began} for name in "abc"])

    def _able(self) -> Able:
        domains = {Domain(name): (AbleLandmark(LandmarkId(name), 0),) for name in "abc"}
        query = select(SITES.c.license_number, SITES.c.site_id)
        keys = sqlite.run_in_transaction(self._engine, lambda connection: connection.execute(query).all())
        return dict.fromkeys((SiteKey(*key) for key in keys), AbleSite(2, domains))

    def _write(self, change: Callable[[Connection], object]) -> None:
        sqlite.run_in_transaction(self._engine, change)

    async def _sweep(self, able: Able) -> int:
        return len((await self._store.watch.sweep(self._now, able)).turns)


def _execute(statement: Update, rows: Sequence[Values], connection: Connection) -> None:
    connection.execute(statement, rows)


@contextmanager
def _timed(done: Callable[[float], object]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    done(time.perf_counter() - began)


def _license(number: int) -> License:
    cadence = CADENCES[number % len(CADENCES)]
    return License(
        number=f"D{number:04}",
        licensee=f"Licensee {number % 50}",
        valid_from=NOW - 365 * 24 * HOUR,
        valid_until=NOW + 365 * 24 * HOUR,
        presence=Presence.SITE,
        cadence=cadence,
        grace=cadence / 2,
        revision=0,
        state=LicenseState.ACTIVE,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument("--devices", type=int, default=1_000_000, help="how many; some 3 GB of disk for a million")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the store is made; a temporary folder by default")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        Progress(*_columns(), console=Console(stderr=True)) as progress,
    ):
        figures = asyncio.run(_run(Path(folder) / "bench.db", options.devices, options.seed, progress))
        task = progress.add_task("journal", total=options.devices)
        figures.audit_s, figures.seal_us = time_audit(
            Path(folder), options.devices, options.seed, lambda done: progress.update(task, completed=done)
        )
    _show(figures, options.devices)
    return 0


def _columns() -> Sequence[ProgressColumn]:
    return TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()


async def _run(path: Path, devices: int, seed: int, progress: Progress) -> Figures:
    store = await Store.open(path)
    writing, reading = sqlite.open_engines(path)
    try:
        return await Bench(store, writing, devices, seed, progress).run()
    finally:
        reading.dispose()
        writing.dispose()
        await store.close()


def _show(figures: Figures, devices: int) -> None:
    fine, due = statistics.median(figures.fine_s), max(figures.due_s)
    table = Table(title=f"{devices:,} devices, {LICENSES} licenses, {LICENSES * SITES_EACH:,} sites")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    for what, seconds in (
        ("import of all deployments", figures.import_s),
        ("the same file again", figures.again_s),
        ("sweep after a start: looks at every device", figures.first_s),
        (f"sweep, all fine (median of {ROUNDS})", fine),
        (f"sweep, {DUE_SHARE:.1%} fall silent and {DUE_SHARE:.1%} are overdue (longest of {ROUNDS})", due),
        (f"audit of a journal of {devices:,} entries", figures.audit_s),
    ):
        table.add_row(what, f"{seconds:.3f}")
    console = Console(width=_WIDTH)
    console.print(table)
    console.print(f"{figures.told:,} findings were opened")
    named = {
        "devices": devices,
        "sweep_s_1m": round(due, 3),
        "sweep_fine_s_1m": round(fine, 3),
        "sweep_first_s_1m": round(figures.first_s, 3),
        "import_s_1m": round(figures.import_s, 1),
        "import_again_s_1m": round(figures.again_s, 1),
        "audit_s_1m": round(figures.audit_s, 1),
        "seal_us": round(figures.seal_us, 1),
    }
    sys.stdout.write(json.dumps(named) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
