"""Holds the parts of a case in a bundle against each other, and its findings against recomputed verdicts (§15, CB4)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from console.offline_bundle.evidence import Again, name_of
from console.offline_bundle.ledger import Ledger, told
from console.offline_bundle.reading import Bundle
from console.offline_bundle.records import escaped
from console.offline_bundle.refusal import BundleRefusedError, NotHereError, Part
from console.offline_bundle.values import Row
from verifier.continuity import DeviceState
from verifier.errors import Reason, UsageError
from verifier.verdict import DeviceVerdict

BY_THE_WATCH: Final = frozenset(
    {Reason.SILENT, Reason.NEVER_ACTIVATED, Reason.PRESENCE_OVERDUE, Reason.QUANTITY_EXCEEDED}
)
"""What the watch opens (docs/protocol.md AP7): it rests on what did not come, or on counts over all records."""


OF_COUNTERS: Final = frozenset({Reason.COUNTER_ROLLBACK, Reason.IDENTITY_CLONED})
OF_THE_PAST: Final = OF_COUNTERS | {Reason.IMPOSSIBLE_TRAVEL, Reason.BOARD_BROKEN, Reason.BOARD_CHANGED}
"""They compare a report with the last accepted state of its device (docs/protocol.md §13)."""


@dataclass(frozen=True, slots=True)
class Case:
    """A case as its row has it, with the rows that belong to it."""

    row: Row
    story: tuple[Row, ...]
    findings: tuple[Row, ...]
    exhibits: tuple[Row, ...]


def read_case(bundle: Bundle, ledger: Ledger) -> Case:
    """Return the one case of the bundle, whose rows are all of it.

    Raises:
        BundleRefusedError: It is not the case that the header names.
    """
    number, rows = bundle.header.case, bundle.rows("cases")
    if len(rows) != 1 or rows[0].integer("case_id") != number:
        raise BundleRefusedError(Part.CASE, f"the bundle does not hold case {number}, which its header names")
    story = sorted(bundle.rows("case_entries"), key=lambda row: row.integer("entry"))
    findings = bundle.rows("case_findings")
    exhibits = sorted(bundle.rows("exhibits"), key=lambda row: row.integer("exhibit"))
    if any(row.integer("case_id") != number for row in (*story, *findings)) or any(
        row.text("subject") != f"cases/{number}" for row in exhibits
    ):
        raise BundleRefusedError(Part.CASE, "rows of another case are among those of this one")
    case = Case(rows[0], tuple(story), tuple(findings), tuple(exhibits))
    with ledger.point(Part.CASE, "its story"):
        if any(not 1 <= row.integer("entry") <= rows[0].integer("entries") for row in story):
            raise BundleRefusedError(Part.CASE, "an entry has a number that the story does not reach")
        _check_count(
            [row.integer("entry") for row in story], rows[0].integer("entries"), "entries of its story", bundle
        )
        ledger.shown(Part.CASE, f"its story is whole: {len(story)} of {len(story)} entries")
    with ledger.point(Part.CASE, "its statements"):
        # docs/protocol.md K4: they are numbered from 1, and nothing removes one.
        if exhibits:
            _check_count(exhibits, exhibits[-1].integer("exhibit"), "statements", bundle)
    with ledger.point(Part.CASE, "its devices"):
        pdis = {row.blob("pdi") for row in findings}
        if len(pdis) > rows[0].integer("devices"):
            raise BundleRefusedError(Part.CASE, "it has findings of more devices than it touches")
        _check_count(sorted(pdis), rows[0].integer("devices"), "devices that it touches", bundle)
        ledger.shown(Part.CASE, f"its devices are all here: {len(pdis)} of {len(pdis)} that it touches")
    return case


def _check_count(found: Sequence[object], count: int, what: str, bundle: Bundle) -> None:
    if len(found) == count:
        return
    if len(found) > count or bundle.is_whole:
        raise BundleRefusedError(
            Part.CASE, f"{len(found)} of {count} {what} are here, and nothing says where others are"
        )
    raise NotHereError(f"{len(found)} of {count} {what} are here; others are withheld or left out")


def check_findings(bundle: Bundle, case: Case, found: Sequence[Again], ledger: Ledger) -> None:
    """Say of each finding of the case whether a verdict that was recomputed shows it."""
    kept = {_key(row): row for row in bundle.rows("findings")}
    by_time: dict[tuple[bytes, int], Again] = {}
    for again in found:
        for device in again.shown:
            by_time[device.pdi, again.row.integer("received_at")] = again
    for row in case.findings:
        pdi, number, opened_at = _key(row)
        with ledger.point(Part.CASE, f"finding {number} of {pdi.hex()}"):
            reason = _reason(number)
            finding = kept.get(_key(row))
            if finding is None:
                raise NotHereError("its own row is not in the bundle")
            if finding.optional_integer("closed_at") != row.optional_integer("ended_at"):
                raise BundleRefusedError(Part.CASE, "the case says that it ended at another time than its row says")
            _check_finding(pdi, reason, opened_at, by_time, ledger)
            showing = by_time.get((pdi, opened_at))
            if showing is not None and reason not in BY_THE_WATCH:
                _check_scope(bundle, case, showing, pdi)
                _check_past(reason, showing, pdi, found)


def _check_finding(
    pdi: bytes, reason: Reason, opened_at: int, by_time: Mapping[tuple[bytes, int], Again], ledger: Ledger
) -> None:
    name = f"{reason.name} of {pdi.hex()}, opened {told(opened_at)}"
    again = by_time.get((pdi, opened_at))
    if reason in BY_THE_WATCH:
        ledger.open(
            Part.CASE, f"{name}: rests on what did not come, or on counts over all records; the service alone can know"
        )
    elif again is None:
        ledger.open(Part.CASE, f"{name}: no attestation that arrived then can be recomputed from this bundle")
    elif all(device.pdi != pdi or reason not in _reasons(device) for device in again.shown):
        if again.lacking:
            raise NotHereError("it may rest on a chain that is not in the bundle")
        raise BundleRefusedError(Part.CASE, f"{name_of(again.row)}, recomputed, does not show {reason.name}")
    else:
        ledger.shown(Part.CASE, f"{name}: {name_of(again.row)}, recomputed, shows it")


def _check_scope(bundle: Bundle, case: Case, again: Again, pdi: bytes) -> None:
    """Check that the case names the licensee and the license of what it accuses (docs/protocol.md CS1)."""
    device = next(each for each in again.shown if each.pdi == pdi)
    deployed = again.given.deployments.get(device.pdi) or device.adopted
    number, licensee = case.row.text("license_number"), case.row.text("licensee")
    names, numbers = {again.given.reporter_licensee}, {""}
    if deployed is not None:
        names.add(deployed.license.licensee)
        numbers.add(deployed.license.number)
    # The desk opens a case a while after the report, under what is on record by then.
    for row in bundle.rows("revisions"):
        record = _record_of(row)
        if row.text("name") == f"deployments/{pdi.hex()}":
            numbers.add(str(record.get("license")))
        if number and row.text("name") == f"licenses/{escaped(number)}":
            names.add(str(record.get("licensee")))
    if number not in numbers or (licensee and licensee not in names):
        raise BundleRefusedError(Part.CASE, "the case names another licensee or license than the verdict is about")


def _record_of(row: Row) -> Mapping[str, object]:
    try:
        record = json.loads(row.optional_text("record") or "{}")
    except (NotHereError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _check_past(reason: Reason, again: Again, pdi: bytes, found: Iterable[Again]) -> None:
    """Say so when what a device is held against, its own past, is nothing that this bundle shows.

    Raises:
        NotHereError: No attestation that was verified again left that past.
    """
    if reason not in OF_THE_PAST:
        return
    last = next((state for each, state in again.given.last.items() if each == pdi), None)
    for earlier in found:
        if earlier is again or last is None:
            continue
        states = (device.state for device in earlier.shown if device.pdi == pdi)
        if any(_left_by(reason, last, state, earlier.given.now) for state in states):
            return
    raise NotHereError(f"{reason.name} is held against an earlier report that is not here: the service's word")


def _left_by(reason: Reason, last: DeviceState, state: DeviceState, now: datetime) -> bool:
    """Whether what a reason compares with is what an attestation that arrived then left itself."""
    if reason is Reason.IMPOSSIBLE_TRAVEL:
        return last.place is not None and last.place == state.place and last.place.received_at == now
    if reason in OF_COUNTERS:
        return last.highest is not None and last.highest == state.highest and last.highest.received_at == now
    return (last.board, last.unseated) == (state.board, state.unseated)


def _reasons(device: DeviceVerdict) -> set[Reason]:
    return {finding.reason for finding in device.findings}


def _key(row: Row) -> tuple[bytes, int, int]:
    return row.blob("pdi"), row.integer("reason"), row.integer("opened_at")


def _reason(number: int) -> Reason:
    try:
        return Reason(number)
    except ValueError as error:
        raise UsageError(f"reason {number} is not known to this release") from error
