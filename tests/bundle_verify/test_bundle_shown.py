"""`trigpoint verify BUNDLE` over an honest bundle: what it prints, says aloud, leaves open, and its exit codes."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Double, Integer, LargeBinary

from console.offline_bundle import records
from console.offline_bundle.as_json import to_json
from console.offline_bundle.ledger import State
from console.offline_bundle.refusal import Part
from console.offline_bundle.tables import TABLES, Type
from server.escapes import escape
from server.store.schema import METADATA
from tests.bundle_verify.case_bundle_world import LICENSE, BundleWorld, Row, us
from tests.bundle_verify.checking import checked, refused_parts, run, run_json, texts, written
from tests.bundle_verify.journal_log import Draft, Signer, Value, b64, digest, withhold
from tests.verifier.helpers_evidence import NOW
from verifier.license import BoardSwap, Presence
from verifier.place.regions import Polygon
from verifier.units import Pdi


@pytest.fixture
def bundle(honest: BundleWorld, tmp_path: Path) -> Path:
    return written(tmp_path / "case-7.bundle", honest.bundle())


def test_everything_holds(honest: BundleWorld, bundle: Path) -> None:
    code, told = run_json(bundle, *honest.trust)
    assert (code, told["outcome"]) == (0, "shown")
    assert told["checkpoint"]["size"] == len(honest.log.leaves)
    assert [each["name"] for each in told["checkpoint"]["cosigned"]] == ["w1.example", "w2.example"]
    assert told["bundle"]["case"] == "cases/7"
    states = {check["state"] for check in told["checks"] if check["part"] != "landmarks"}
    assert states == {"shown"}
    assert {check["part"] for check in told["checks"]} == {part.value for part in Part}
    first, second = told["attestations"]
    assert [device["standing"] for device in first["devices"]] == ["COMPLIANT", "COMPLIANT", None]
    assert [device["standing"] for device in second["devices"]] == ["VIOLATION", "VIOLATION", None]
    reasons = {finding["reason"] for finding in second["devices"][0]["findings"]}
    assert reasons == {"OUTSIDE_LICENSED_REGION", "IN_PROHIBITED_DESTINATION", "IMPOSSIBLE_TRAVEL"}
    place = second["devices"][0]["place"]
    assert (place["least_violations"], place["licensed_depths"]["in_region"], place["tolerated_domains"]) == (0, 3, 1)
    assert [entry["text"] for entry in told["case"]["story"]][1] == "Ann looks at it."


def test_for_people(honest: BundleWorld, bundle: Path) -> None:
    result = run(bundle, *honest.trust)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    for text in (
        "Case bundle of cases/7, journal trigpoint.example/journal",
        "exported      2026-11-24 10:01:00 UTC by officer/ann",
        "cosigned by w1.example at 2026-11-24 10:00:30 UTC",
        "UNANSWERED: 1 of 1 statements of the accused wait for an answer.",
        "We moved nothing.",
        "in its licensed region: refuted",
        "within 75.8 km of abroad-0 (hoster of abroad-0): 0.500 ms",
        "approved by",
        "What this bundle does not show",
        "That it is complete.",
        "SHOWN: every point that can be recomputed holds",
    ):
        assert text in result.stdout
    assert "UNWITNESSED" not in result.stdout
    assert "DEMONSTRATION" not in result.stdout


def test_what_others_wrote_cannot_steer_a_terminal(tmp_path: Path) -> None:
    def bend(table: str, columns: dict[str, Value]) -> dict[str, Value]:
        return columns | {"text": "red \x1b[31m and\tmore"} if table == "case_entries" else columns

    world = BundleWorld(tmp_path, bend=bend)
    result = run(written(tmp_path / "b", world.bundle()), *world.trust)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


def test_without_witnesses_it_says_so(honest: BundleWorld, bundle: Path) -> None:
    result = run(bundle, "--journal-key", honest.journal.vkey, "--root-fingerprint", honest.fingerprint)
    assert result.exit_code == 0
    assert "UNWITNESSED" in result.stdout
    assert "Signatures of w1.example, w2.example" in result.stdout


def test_a_witness_that_did_not_sign_is_named(honest: BundleWorld, bundle: Path) -> None:
    other = Signer("w3.example", cosigns=True)
    _, told = run_json(bundle, *honest.trust, "--witness", other.vkey)
    assert told["checkpoint"]["not_cosigned"] == ["w3.example"]
    assert any("w3.example" in text for text in told["aloud"])


def test_no_witness_that_was_named_signed(honest: BundleWorld, bundle: Path) -> None:
    keys = ["--journal-key", honest.journal.vkey, "--root-fingerprint", honest.fingerprint]
    code, told = run_json(bundle, *keys, "--witness", Signer("w1.example", cosigns=True).vkey)
    assert code == 1
    assert [check["part"] for check in told["checks"] if check["state"] == "refused"] == ["witnesses"]


def test_a_demonstration_says_so(tmp_path: Path) -> None:
    world = BundleWorld(tmp_path, policy={"audited_within": None})
    result = run(written(tmp_path / "b", world.bundle()), *world.trust)
    assert result.exit_code == 0
    assert "DEMONSTRATION" in result.stdout


def test_root_by_its_certificate(honest: BundleWorld, bundle: Path, tmp_path: Path) -> None:
    root = written(tmp_path / "root.pem", honest.host.ca.root.certificate.public_bytes(Encoding.PEM))
    assert run(bundle, "--journal-key", honest.journal.vkey, "--root", root).exit_code == 0


def test_fingerprint_as_other_tools_print_it(honest: BundleWorld, bundle: Path) -> None:
    text = bytes.fromhex(honest.fingerprint).hex(":").upper()
    assert run(bundle, "--journal-key", honest.journal.vkey, "--root-fingerprint", text).exit_code == 0


def test_another_root(honest: BundleWorld, bundle: Path) -> None:
    code, told = run_json(bundle, "--journal-key", honest.journal.vkey, "--root-fingerprint", "00" * 32)
    assert code == 1
    assert {c["part"] for c in told["checks"] if c["state"] == "refused"} == {"evidence"}
    assert told["attestations"] == []


def test_key_set_of_the_reader(honest: BundleWorld, bundle: Path, tmp_path: Path) -> None:
    jwks = written(tmp_path / "jwks.json", honest.signer.jwks())
    code, told = run_json(bundle, *honest.trust, "--jwks", jwks)
    assert code == 0
    assert not any("--jwks" in text for text in told["aloud"])
    other = written(tmp_path / "other.json", b'{"keys":[]}')
    code, told = run_json(bundle, *honest.trust, "--jwks", other)
    assert code == 1
    assert {c["part"] for c in told["checks"] if c["state"] == "refused"} == {"results"}


def unusable(*arguments: object) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr


def test_unusable_input(honest: BundleWorld, bundle: Path, tmp_path: Path) -> None:
    key, root = ("--journal-key", honest.journal.vkey), ("--root-fingerprint", honest.fingerprint)
    witness = honest.witnesses[0].vkey
    assert "--journal-key" in unusable(bundle, *root)
    assert "--root-fingerprint" in unusable(bundle, *key)
    assert "alone" in unusable(bundle, bundle, *honest.trust)
    assert "alone" in unusable(bundle, *honest.trust, "--nonce", "00" * 32)
    assert "no SHA-256" in unusable(bundle, *key, "--root-fingerprint", "00")
    assert "vkey" in unusable(bundle, "--journal-key", "key", *root)
    assert "a witness's" in unusable(bundle, "--journal-key", witness, *root)
    assert "cosigns" in unusable(bundle, *key, *root, "--witness", honest.journal.vkey)
    assert "missing.json" in unusable(bundle, *honest.trust, "--jwks", tmp_path / "missing.json")
    assert "no file is a case bundle" in unusable(written(tmp_path / "e.json", b"[]"), *key)
    assert "No such file" in unusable(tmp_path / "missing", "--root", tmp_path / "root.pem")


def withhold_device(made: Draft, pdi: bytes) -> int:
    """What a reader of another jurisdiction is not shown of a device."""
    count = 0
    for table in ("device_verdicts", "case_findings", "findings"):
        for item in made.items(table):
            if item["row"]["columns"]["pdi"] == {"b64": b64(pdi)}:
                withhold(made, item)
                count += 1
    for item in made.items("revisions"):
        if item["row"]["columns"]["name"] == f"deployments/{pdi.hex()}":
            withhold(made, item)
            count += 1
    return count


def test_redacted(honest: BundleWorld) -> None:
    made = honest.draft()
    made.body["exported"]["jurisdiction"] = "XA"
    count = withhold_device(made, honest.host.gpus[1].pdi)
    outcome = checked(honest, made.written())
    assert refused_parts(outcome) == set()
    assert f"WITHHELD: {count} rows. a device of another jurisdiction" in outcome.aloud
    assert any(text.startswith("REDACTED for a reader of XA") for text in outcome.aloud)
    assert "is not in the bundle to compare" in texts(outcome, State.OPEN, Part.VERDICTS)
    assert "1 of 2 devices that it touches are here" in texts(outcome, State.OPEN, Part.CASE)
    assert "says the same of the 2 devices that are shown" in texts(outcome, State.SHOWN, Part.RESULTS)


def test_evidence_that_is_gone(honest: BundleWorld) -> None:
    made = honest.draft()
    gone = made.items("evidence")
    for item in gone:
        withhold(made, item, "removed")
    outcome = checked(honest, made.written())
    assert refused_parts(outcome) == set()
    assert texts(outcome, State.OPEN, Part.EVIDENCE).count("the service's word alone") == len(gone) == 2
    assert any(text.startswith("Any evidence of a device") for text in outcome.not_shown)
    assert "no attestation that arrived then can be recomputed" in texts(outcome, State.OPEN, Part.CASE)


@pytest.mark.parametrize(
    ("table", "part", "text"),
    [
        ("changes", Part.RECORDS, "change 1, by which"),
        ("revisions", Part.RECORDS, "no revision of licenses/D123456 is in the bundle"),
        ("landmark_revisions", Part.LANDMARKS, "its record, revision 1, is not in the bundle"),
        ("landmark_ranges", Part.LANDMARKS, "and for 12 of 12 times that they had: the service's word"),
        ("findings", Part.CASE, "its own row is not in the bundle"),
        ("case_entries", Part.CASE, "0 of 2 entries of its story are here"),
        ("device_verdicts", Part.VERDICTS, "is not in the bundle to compare"),
        ("chains", Part.VERDICTS, "the chains of 3 of its reports are not in the bundle"),
    ],
)
def test_what_is_withheld_is_left_open(honest: BundleWorld, table: str, part: Part, text: str) -> None:
    made = honest.draft()
    for item in made.items(table):
        withhold(made, item)
    outcome = checked(honest, made.written())
    assert refused_parts(outcome) == set()
    assert text in texts(outcome, State.OPEN, part)
    assert json.dumps(to_json(outcome))


def test_a_chain_that_is_withheld_leaves_open_what_rests_on_it(honest: BundleWorld, tmp_path: Path) -> None:
    """Without the switch nothing joins the board: the GPU that did not range has no place of its own."""
    made = honest.draft()
    switch = honest.host.switches[0]
    chain_id = b64(digest(b"".join(switch.chain_der())))
    (item,) = [each for each in made.items("chains") if each["row"]["columns"]["chain_id"]["b64"] == chain_id]
    withhold(made, item)
    outcome = checked(honest, made.written())
    assert refused_parts(outcome) == set()
    told = texts(outcome, State.OPEN, Part.VERDICTS)
    assert "the chains of 1 of its reports are not in the bundle" in told
    assert "it may rest on a chain that is not in the bundle" in told
    assert "it may rest on a chain" in texts(outcome, State.OPEN, Part.CASE)
    printed = run(written(tmp_path / "b", made.written()), *honest.trust).stdout
    assert "The chains of 1 report are not in the bundle." in printed
    assert "CHAIN_MISSING" not in printed
    assert "are not in the bundle to compare" in texts(outcome, State.OPEN, Part.RESULTS)


def test_long_value_that_is_left_out(honest: BundleWorld) -> None:
    made = honest.draft()
    (item,) = made.items("exhibits")
    del made.body["values"][item["row"]["columns"]["data"]["sha256"]]
    assert refused_parts(checked(honest, made.written())) == {Part.BODY}
    made.body["left_out"] = [{"what": "values", "count": 1, "why": "files of exhibits over the bound"}]
    outcome = checked(honest, made.written())
    assert refused_parts(outcome) == set()
    assert "LEFT OUT: 1 values. files of exhibits over the bound" in outcome.aloud


def test_finding_of_the_watch_is_the_services_word(tmp_path: Path) -> None:
    key: dict[str, Value] = {"pdi": bytes(8), "reason": 121, "opened_at": us(NOW) + 1}
    more: list[Row] = [
        ("case_findings", {**key, "ended_at": None, "case_id": 7}),
        ("findings", {**key, "closed_at": None, "severity": 3, "detail": "silent", "number": 99}),
    ]

    def bend(table: str, columns: dict[str, Value]) -> dict[str, Value]:
        return columns | {"devices": 3} if table == "cases" else columns

    outcome = checked(BundleWorld(tmp_path, more=more, bend=bend))
    assert refused_parts(outcome) == set()
    assert "SILENT" in texts(outcome, State.OPEN, Part.CASE)
    assert "the service alone can know" in texts(outcome, State.OPEN, Part.CASE)


def test_challenge_without_a_checkpoint_is_left_open(tmp_path: Path) -> None:
    outcome = checked(BundleWorld(tmp_path, named=bytes(32)))
    assert refused_parts(outcome) == set()
    assert "names no checkpoint" in texts(outcome, State.OPEN, Part.CHALLENGES)


def test_license_that_one_person_wrote_is_said(tmp_path: Path) -> None:
    def bend(table: str, columns: dict[str, Value]) -> dict[str, Value]:
        return columns | {"change_id": None} if table == "revisions" else columns

    outcome = checked(BundleWorld(tmp_path, bend=bend))
    assert refused_parts(outcome) == set()
    assert "officer/ann alone did" in texts(outcome, State.OPEN, Part.RECORDS)


ZIGZAG = tuple((9.0 + k / 1_000, 9.0 + (k % 2) / 10) for k in range(200))
SWAP = BoardSwap(frozenset({Pdi(b"otherbrd")}), NOW + timedelta(days=1))


@pytest.mark.parametrize(
    "world",
    [
        {"by": "key"},
        {"by": "board"},
        {"swap": SWAP},
        {"region": Polygon("Yard", ((*ZIGZAG, (9.2, 12.0), (9.0, 12.0)),))},
        {"records": None},
        {"terms": {"number": LICENSE, "tolerated_domains": 0, "presence": Presence.OUTSIDE_PROHIBITED}},
    ],
    ids=["by key", "by board", "swap", "long region", "as they stood", "f of the license"],
)
def test_records_of_every_kind(tmp_path: Path, world: dict[str, Any]) -> None:
    outcome = checked(BundleWorld(tmp_path, **world))
    assert outcome.refused == ()
    assert texts(outcome, State.SHOWN, Part.RECORDS).count("approved by approver/bob") == 4


def test_deployment_that_came_into_force_since(tmp_path: Path) -> None:
    """RC6: a device that had none in force when it was asked is appraised under the first since."""

    def bend(table: str, columns: dict[str, Value]) -> dict[str, Value]:
        late = table == "revisions" and str(columns["name"]).startswith("deployments/")
        return columns | {"record_number": 4} if late else columns

    outcome = checked(BundleWorld(tmp_path, bend=bend))
    assert outcome.refused == ()


_TYPES = {Integer: "INTEGER", BigInteger: "INTEGER", Boolean: "INTEGER", Double: "NUMBER", LargeBinary: "BYTES"}


def test_tables_are_those_of_the_store() -> None:
    for table, columns in TABLES.items():
        for name, kind in columns.items():
            column = METADATA.tables[table].columns[name]
            plain = _TYPES.get(type(column.type), "TEXT")
            assert kind is Type[f"{plain}_OR_NULL" if column.nullable else plain], (table, name)


@given(st.text(max_size=40))
def test_numbers_of_licenses_are_spelled_as_the_server_does(text: str) -> None:
    try:
        expected = escape(text)
    except UnicodeEncodeError:
        return
    assert records.escaped(text) == expected


def test_json_is_json(honest: BundleWorld, bundle: Path) -> None:
    assert json.loads(run("--json", bundle, *honest.trust).stdout)["outcome"] == "shown"
