"""A service with its own journal's key that lies consistently: what is signed, proven, and still not true."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.offline_bundle.as_json import to_json
from console.offline_bundle.case import OF_THE_PAST, check_findings, read_case
from console.offline_bundle.journal import verify_journal
from console.offline_bundle.ledger import Ledger, State
from console.offline_bundle.reading import read_bundle
from console.offline_bundle.refusal import BundleRefusedError, Part
from console.offline_bundle.tables import KEYS, TABLES
from server.store.schema import METADATA
from tests.bundle_verify.case_bundle_world import BundleWorld, Row
from tests.bundle_verify.checking import checked, refused_parts, trust_of
from tests.bundle_verify.journal_log import Value
from verifier.continuity import DeviceState
from verifier.errors import Reason
from verifier.units import Pdi

Change = Callable[[dict[str, Value]], Mapping[str, Value]]
HUGE = 1 << 62


def lying(folder: Path, table: str, change: Change) -> set[Part]:
    def bend(name: str, columns: dict[str, Value]) -> Mapping[str, Value]:
        return {**columns, **change(columns)} if name == table else columns

    outcome = checked(BundleWorld(folder, bend=bend))
    to_json(outcome)
    return refused_parts(outcome)


def basis(*path: str, value: Any) -> Change:
    """Changes one member of a basis."""

    def change(columns: dict[str, Value]) -> Mapping[str, Value]:
        plain = at = json.loads(str(columns["basis"]))
        for name in path[:-1]:
            at = at[name]
            if at is None:  # of a switch, which has no deployment
                return {}
        at[path[-1]] = value
        return {"basis": json.dumps(plain)}

    return change


LIES: dict[str, tuple[Part, str, Change]] = {
    "a case of another licensee": (Part.CASE, "cases", lambda _: {"licensee": "Innocent Corp"}),
    "a case of another license": (Part.CASE, "cases", lambda _: {"license_number": "X1"}),
    "a story with gaps": (Part.CASE, "case_entries", lambda c: {"entry": int(str(c["entry"])) * 7}),
    "statements that are gone": (Part.CASE, "exhibits", lambda _: {"exhibit": 4}),
    "a verdict of another time": (Part.VERDICTS, "device_verdicts", lambda _: {"received_at": 5}),
    "an attestation without its result": (Part.RESULTS, "attestations", lambda _: {"result": ""}),
    "a challenge that lives for months": (Part.EVIDENCE, "evidence", basis("life_us", value=6 * 10**12)),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_that_is_signed(tmp_path: Path, name: str) -> None:
    part, table, change = LIES[name]
    assert part in lying(tmp_path, table, change)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("evidence", basis("life_us", value=HUGE)),
        ("evidence", basis("setting", "standing_for_us", value=HUGE)),
        ("evidence", basis("setting", "audited_within_us", value=HUGE)),
        ("evidence", basis("setting", "border_margin_km", value=10**400)),
        ("evidence", basis("setting", "operator", value="\ud800")),
        ("device_verdicts", basis("deployment", "license", "number", value="\ud800")),
        ("device_verdicts", basis("deployment", "license", "cadence_us", value=HUGE)),
        ("revisions", lambda c: {"record": str(c["record"]).replace('"D123456"', '"\\ud800"')}),
    ],
    ids=range(8),
)
def test_values_that_no_verifier_takes_are_refused_and_crash_nothing(
    tmp_path: Path, table: str, change: Change
) -> None:
    assert lying(tmp_path, table, change)


class _Late(BundleWorld):
    """Records that were written when the case was, dated back."""

    late = ""

    def _record_rows(self) -> list[Row]:
        return [row for row in super()._record_rows() if row[0] != self.late]

    def _landmark_rows(self) -> list[Row]:
        return [row for row in super()._landmark_rows() if row[0] != self.late]

    def _case_rows(self) -> list[Row]:
        rows = [*super()._record_rows(), *super()._landmark_rows()]
        return [*super()._case_rows(), *(row for row in rows if row[0] == self.late)]


@pytest.mark.parametrize(("table", "part"), [("revisions", Part.RECORDS), ("landmark_revisions", Part.LANDMARKS)])
def test_records_that_were_written_behind_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, part: Part
) -> None:
    monkeypatch.setattr(_Late, "late", table)
    assert refused_parts(checked(_Late(tmp_path))) == {part}


@pytest.mark.parametrize("table", sorted(KEYS.keys() - {"cases", "landmark_distrust"}))
def test_one_row_under_two_tags(honest: BundleWorld, table: str) -> None:
    key = trust_of(honest).journal
    bundle = read_bundle(honest.bundle(), key)
    item = next(each for each in bundle.items if each.row is not None and each.row.table == table)
    twice = replace(bundle, items=(*bundle.items, replace(item, tag=bytes(16))))
    with pytest.raises(BundleRefusedError, match="under two tags"):
        verify_journal(twice, key, ())


def test_keys_are_of_the_store() -> None:
    assert KEYS.keys() == TABLES.keys()
    for table, columns in KEYS.items():
        assert set(columns) <= {column.name for column in METADATA.tables[table].primary_key}
        assert table == "device_verdicts" or len(columns) == len(METADATA.tables[table].primary_key)


@pytest.mark.parametrize("reason", sorted(OF_THE_PAST))
def test_a_past_that_nothing_here_left_is_the_services_word(honest: BundleWorld, reason: Reason) -> None:
    """The last accepted state is the service's; a finding that rests on an invented one is not shown."""
    outcome = checked(honest)
    assert outcome.bundle is not None
    first, second = outcome.found
    pdi = second.shown[0].pdi

    def told(last: Mapping[Pdi, DeviceState]) -> list[tuple[State, str]]:
        bent = replace(second, given=replace(second.given, last=last), verdict=_only(second.verdict, reason))
        ledger = Ledger()
        bundle = outcome.bundle
        assert bundle is not None
        case = read_case(bundle, Ledger())
        row = next(each for each in case.findings if each.blob("pdi") == pdi)
        one = replace(row, columns={**row.columns, "reason": int(reason)})
        kept = replace(bundle.rows("findings")[0], columns={**one.columns, "closed_at": None})
        items = tuple(
            replace(each, row=kept) if each.row is not None and each.row.table == "findings" else each
            for each in bundle.items
        )
        check_findings(replace(bundle, items=items), replace(case, findings=(one,)), (first, bent), ledger)
        return [(check.state, check.text) for check in ledger.checks]

    assert [state for state, _ in told(second.given.last)] == [State.SHOWN]
    for last in ({}, {pdi: DeviceState(board=frozenset({Pdi(bytes(8))}))}):
        states = told(last)
        assert State.OPEN in {state for state, _ in states}
        assert "the service's word" in states[-1][1]


def _only(verdict: Any, reason: Reason) -> Any:
    """The same verdict with findings of one reason."""
    devices = [
        replace(device, findings=tuple(replace(found, reason=reason) for found in device.findings))
        for device in verdict.devices
    ]
    return replace(verdict, devices=tuple(devices))
