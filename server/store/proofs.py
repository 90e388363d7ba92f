"""Which rows a resource has, for whoever asks the journal to prove them, and the store's door to that."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, func, select

from server.records.names import RecordNameError
from server.store.doors import Reads
from server.store.journal_types import RowKey
from server.store.record_rows import place_of
from server.store.schema import (
    ATTESTATIONS,
    CASE_ENTRIES,
    CASE_FINDINGS,
    CASES,
    CHANGE_FILES,
    CHANGES,
    DEVICE_VERDICTS,
    DEVICES,
    EVIDENCE,
    EXHIBITS,
    FINDINGS,
    REVISIONS,
)
from server.times import moment

MAX_ROWS = 1_000
"""Of one resource; of a larger one its bundle is for readers."""

_PDI_DIGITS = 16
_CHALLENGE_DIGITS = 64
_NUMBER_DIGITS = 18


class NotProvableError(ValueError):
    """Not a name of anything that rows are proven of; the message says what is."""


class TooManyRowsError(Exception):
    """A resource has more rows than one answer holds."""


@dataclass(frozen=True, slots=True)
class ResourceRows:
    """The rows of one resource.

    Attributes:
        keys: Of its rows, in the order of tables and keys; empty: there is no such resource.
        not_before: None of them was last written before this; None: not known.
        devices: Devices whose places these rows may tell.
    """

    keys: tuple[RowKey, ...]
    not_before: datetime | None
    devices: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one table: which, and the column that says when each was written, or earlier."""

    table: Table
    chosen: ColumnElement[bool]
    since: ColumnElement[int] | None = None


class ProofDoor:
    """Says which rows a resource has. Every call raises only `StoreError`s and what it names.

    Args:
        read: Runs a query.
    """

    def __init__(self, read: Reads) -> None:
        self._read = read

    async def rows_of(self, name: str) -> ResourceRows:
        """Return the rows of a device, case, attestation, change or record.

        Args:
            name: `devices/{pdi}`, `cases/{number}`, `attestations/{challenge}`, `changes/{number}`, a record's name.

        Raises:
            NotProvableError: The name is none of these.
            TooManyRowsError: There are more than `MAX_ROWS`.
        """
        parts = tuple(_parts_of(name))
        return await self._read(lambda connection: _rows(connection, parts))


def _parts_of(name: str) -> Iterator[_Part]:
    collection, _, key = name.partition("/")
    match collection:
        case "devices":
            pdi = _hex(key, _PDI_DIGITS, name)
            yield _Part(DEVICES, DEVICES.c.pdi == pdi, DEVICES.c.last_report_at)
            yield _Part(FINDINGS, FINDINGS.c.pdi == pdi, FINDINGS.c.opened_at)
        case "attestations":
            challenge = _hex(key, _CHALLENGE_DIGITS, name)
            yield _Part(ATTESTATIONS, ATTESTATIONS.c.challenge == challenge, ATTESTATIONS.c.received_at)
            yield _Part(DEVICE_VERDICTS, _of_attestation(challenge))  # written when it arrived
            yield _Part(EVIDENCE, EVIDENCE.c.challenge == challenge)
        case "cases":
            number = _number(key, name)
            yield _Part(CASES, CASES.c.case_id == number, CASES.c.opened_at)
            yield _Part(CASE_ENTRIES, CASE_ENTRIES.c.case_id == number, CASE_ENTRIES.c.at)
            yield _Part(CASE_FINDINGS, CASE_FINDINGS.c.case_id == number, CASE_FINDINGS.c.opened_at)
            yield _Part(EXHIBITS, EXHIBITS.c.subject == name, EXHIBITS.c.at)
        case "changes":
            number = _number(key, name)
            yield _Part(CHANGES, CHANGES.c.change_id == number, CHANGES.c.proposed_at)
            yield _Part(CHANGE_FILES, CHANGE_FILES.c.change_id == number)
        case _:
            yield from _parts_of_record(name)


def _of_attestation(challenge: bytes) -> ColumnElement[bool]:
    """Verdicts stand by device: each device is looked up by the whole key, not all that was ever said of any."""
    at = select(ATTESTATIONS.c.received_at).where(ATTESTATIONS.c.challenge == challenge).scalar_subquery()
    whole_key = (DEVICE_VERDICTS.c.challenge == challenge) & (DEVICE_VERDICTS.c.received_at == at)
    return DEVICE_VERDICTS.c.pdi.in_(select(DEVICES.c.pdi)) & whole_key


def _parts_of_record(name: str) -> Iterator[_Part]:
    try:
        table, key = place_of(name)
    except RecordNameError as error:
        raise NotProvableError(
            f"{name!r}: rows are proven of devices/..., cases/..., attestations/..., changes/... and records"
        ) from error
    chosen = [column == value for column, value in zip(table.primary_key, key, strict=True)]
    yield _Part(table, _all(chosen), table.c.revised_at)
    yield _Part(REVISIONS, REVISIONS.c.name == name, REVISIONS.c.revised_at)


def _all(conditions: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    whole = conditions[0]
    for condition in conditions[1:]:
        whole &= condition
    return whole


def _rows(connection: Connection, parts: tuple[_Part, ...]) -> ResourceRows:
    keys: list[RowKey] = []
    since: list[int | None] = []
    devices: set[bytes] = set()
    for part in parts:
        columns = list(part.table.primary_key)
        found = connection.execute(
            select(*columns).where(part.chosen).order_by(*columns).limit(MAX_ROWS - len(keys) + 1)
        ).all()
        keys.extend(RowKey(part.table.name, tuple(row)) for row in found)
        if len(keys) > MAX_ROWS:
            raise TooManyRowsError(f"more than {MAX_ROWS} rows")
        if found and part.since is not None:
            since.append(connection.scalar(select(func.min(part.since)).where(part.chosen)))
        if "pdi" in part.table.c:
            devices.update(row.pdi for row in found)
    known = [at for at in since if at is not None]
    # A device that never reported has no time of its own, and then nothing is known.
    not_before = moment(min(known)) if known and len(known) == len(since) else None
    return ResourceRows(tuple(sorted(keys, key=lambda key: key.table)), not_before, len(devices))


def _hex(text: str, digits: int, name: str) -> bytes:
    if len(text) != digits or text.strip("0123456789abcdef"):
        raise NotProvableError(f"{name!r} does not end in {digits} lower-case hex digits")
    return bytes.fromhex(text)


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > _NUMBER_DIGITS or text != str(int(text)):
        raise NotProvableError(f"{name!r} does not end in a number")
    return int(text)
