"""`trigpoint deployment draft`: deployment rows from a board's evidence. So an exporter learns its devices' PDIs.

Offline: only rows of authentic evidence are drafted. What the evidence cannot tell is taken from options, or left empty
for the exporter to fill in; docs/import.md gives the columns.
"""

import csv
import enum
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from console.exits import CommandError, ExitCode, reported
from console.offline import (
    Authentic,
    DeviceKind,
    Outcome,
    Refused,
    UnusableInputError,
    check,
    load_evidence,
    load_roots,
)
from console.text import clean, plural

COLUMNS = (
    "license_number",
    "licensee",
    "valid_from",
    "valid_until",
    "presence",
    "site_name",
    "site_latitude",
    "site_longitude",
    "site_radius_km",
    "site_polygon",
    "country",
    "cadence_s",
    "grace_s",
    "eccn",
    "license_quantity",
    "shipment",
    "shipped_on",
    "activation_by",
)
"""What a row holds besides the devices, in the order that docs/import.md gives."""


@enum.unique
class By(enum.StrEnum):
    """How a row names its devices."""

    PDI = "pdi"
    KEY = "key"
    BOARD = "board"


_SELECTOR_COLUMNS = {By.PDI: ("device_pdi",), By.KEY: ("device_key_id",), By.BOARD: ("board", "board_devices")}


def draft(
    files: Annotated[
        list[Path], typer.Argument(metavar="EVIDENCE...", help="JSON lists of evidence, as `verify` takes.")
    ],
    *,
    root: Annotated[list[Path], typer.Option(help="PEM file of a vendor root that you trust. Repeatable.")],
    by: Annotated[By, typer.Option(help="How rows name devices.")] = By.PDI,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="COLUMN=VALUE", help="Fills a column of every row. Repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Else stdout.")] = None,
) -> None:
    """Draft deployment rows from evidence: one for each GPU, or each board. Nothing is sent anywhere."""
    with reported(""):
        values = _values(set_ or [])
        try:
            outcome = check([item for path in files for item in load_evidence(path, None)], load_roots(root), _now())
        except UnusableInputError as error:
            raise CommandError(ExitCode.UNUSABLE, str(error)) from error
        for refused in (result for result in outcome.results if isinstance(result, Refused)):
            typer.echo(f"refused: {clean(refused.source)}: {refused.reason.name}: {clean(refused.detail)}", err=True)
        if outcome.refused_count:
            raise CommandError(
                ExitCode.REFUSED, f"{plural(outcome.refused_count, 'report')} refused; nothing is drafted"
            )
        rows = list(_rows(outcome, by))
        if not rows:
            raise CommandError(ExitCode.REFUSED, "the evidence shows no " + ("board" if by is By.BOARD else "GPU"))
        text = _csv(by, rows, values)
        if output is None:
            typer.echo(text, nl=False)
        else:
            try:
                output.write_text(text, encoding="utf-8", newline="")
            except OSError as error:
                raise CommandError(ExitCode.UNUSABLE, f"{output}: {error.strerror}") from error
        typer.echo(f"{plural(len(rows), 'row')} drafted; empty columns are yours to fill in", err=True)


def _now() -> datetime:
    return datetime.now(UTC)


def _values(given: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for entry in given:
        column, equals, value = entry.partition("=")
        if not equals or column not in COLUMNS:
            raise CommandError(ExitCode.UNUSABLE, f"--set takes COLUMN=VALUE; the columns are {', '.join(COLUMNS)}")
        values[column] = value
    return values


def _rows(outcome: Outcome, by: By) -> Iterator[tuple[str, ...]]:
    """Yield what names the devices of each row; a device that stands in several files, once."""
    if by is By.BOARD:
        boards = {board.switches[0]: len(board.gpus) for board in outcome.boards if board.switches}
        yield from ((switch.hex(), str(count)) for switch, count in sorted(boards.items()))
        return
    gpus = [
        result.device
        for result in outcome.results
        if isinstance(result, Authentic) and result.device.kind is DeviceKind.GPU
    ]
    names = {device.pdi: device.pdi.hex() if by is By.PDI else device.chain.device_key_id.hex() for device in gpus}
    yield from ((names[pdi],) for pdi in sorted(names))


def _csv(by: By, rows: list[tuple[str, ...]], values: dict[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # RFC 4180 §2
    writer.writerow([*_SELECTOR_COLUMNS[by], *COLUMNS])
    for row in rows:
        writer.writerow([*row, *(values.get(column, "") for column in COLUMNS)])
    return text.getvalue()
