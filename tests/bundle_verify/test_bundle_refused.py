"""Bundles with one lie each: what is refused, and where. Also every kind of flipped byte."""

import base64
import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest

from console.offline_bundle import reading
from console.offline_bundle.as_json import to_json
from console.offline_bundle.check import check_bundle
from console.offline_bundle.reading import read_bundle
from console.offline_bundle.refusal import BundleRefusedError, Part
from console.offline_bundle.tables import TABLES
from tests.bundle_verify.case_bundle_world import CASE, LICENSE, BundleWorld, Row, result_key, us
from tests.bundle_verify.checking import checked, refused_parts, run, trust_of, written
from tests.bundle_verify.journal_log import Draft, Signer, Value, b64, digest, prune, withhold
from tests.verifier.helpers_evidence import NOW

FLIPS = 500
BENT = 500


def header_of(data: bytes) -> tuple[bytes, bytes]:
    """The five lines of a file, and its body."""
    text, _, rest = data.partition(b"\n\n")
    return text + b"\n", rest.partition(b"\n\n")[2]


def test_every_flipped_byte_is_refused(honest: BundleWorld, tmp_path: Path) -> None:
    data, trust, rng = honest.bundle(), trust_of(honest), random.Random(7)
    for _ in range(FLIPS):
        at, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        bent = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
        assert check_bundle(bent, trust).refused, at
    for at in range(500):  # the header and the first bytes of the body, each
        bent = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert check_bundle(bent, trust).refused, at
    first = bytes([data[0] ^ 1]) + data[1:]  # not even known as a bundle
    assert run(written(tmp_path / "b", first), *honest.trust).exit_code == 2
    last = data[:-1] + bytes([data[-1] ^ 1])
    assert run(written(tmp_path / "b", last), *honest.trust).exit_code == 1


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:200]])
def test_cut_or_longer(honest: BundleWorld, change: Callable[[bytes], bytes]) -> None:
    assert checked(honest, change(honest.bundle())).refused


def test_body_flipped_and_the_checksum_repaired(honest: BundleWorld) -> None:
    """Whoever has no key can repair the header's text and keep its signature, or sign with a key of the same name."""
    data, rng = honest.bundle(), random.Random(8)
    _, body = header_of(data)
    signature = data.partition(b"\n\n")[2].partition(b"\n\n")[0] + b"\n"
    impostor = Signer(honest.journal.name)
    made = honest.draft()
    for _ in range(FLIPS):
        at = rng.randrange(len(body))
        bent = body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :]
        signed = made.written(body=bent, signer=impostor)
        repaired = header_of(signed)[0] + b"\n" + signature + b"\n" + bent
        for each in (signed, repaired):
            outcome = check_bundle(each, trust_of(honest))
            assert refused_parts(outcome) == {Part.HEADER}


def test_signed_by_another_journal(honest: BundleWorld) -> None:
    other = Signer("other.example/journal")
    made = Draft(other, CASE, honest.draft().body)
    assert refused_parts(checked(honest, made.written())) == {Part.HEADER}


# Whoever has the journal's key for headers, and not the journal: what stands in proofs cannot be changed.

UNPROVEN = {"exported"}
"""Members that nothing but the header's signature covers."""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, key))
    else:
        yield path


def bent_value(value: Any, rng: random.Random) -> Any:
    if isinstance(value, str) and value:
        k = rng.randrange(len(value))
        return value[:k] + rng.choice([c for c in "0123456789abcdefXYZ" if c != value[k]]) + value[k + 1 :]
    if isinstance(value, int | float):
        return value + 1
    return "x" if value == "" else 1


def test_every_bent_value_is_refused_though_the_header_is_signed(honest: BundleWorld) -> None:
    made, trust, rng = honest.draft(), trust_of(honest), random.Random(9)
    at: Any
    paths = list(leaves(made.body))
    proven = [path for path in paths if path[0] not in UNPROVEN and path[-3:-2] != ("keys",)]
    for path in rng.sample(proven, min(BENT, len(proven))):
        at, last = made.body, path[-1]
        for key in path[:-1]:
            at = at[key]
        value = at[last]
        at[last] = bent_value(value, rng)
        outcome = check_bundle(made.written(), trust)
        # A cosignature in another name is one of a stranger: then the witness is told not to have signed.
        unsigned = outcome.journaled is not None and outcome.journaled.not_cosigned
        assert outcome.refused or (path == ("journal", "checkpoint") and unsigned), path
        to_json(outcome)
        at[last] = value
    assert not check_bundle(made.written(), trust).refused


def refuses(world: BundleWorld, made: Draft) -> set[Part]:
    outcome = checked(world, made.written())
    to_json(outcome)
    return refused_parts(outcome)


Bent = Callable[[dict[str, Any], BundleWorld], object]


def _fork(body: dict[str, Any], world: BundleWorld) -> None:
    """An earlier checkpoint of the same journal that the newest does not extend."""
    text = f"{world.journal.name}\n2\n{b64(bytes(32))}\n"
    body["journal"]["earlier"][0]["note"] = world.journal.note(text)


def _signed_by_another(body: dict[str, Any], world: BundleWorld) -> None:
    body["journal"]["checkpoint"] = Signer(world.journal.name).note(world.log.checkpoint())


def _bad_cosignature(body: dict[str, Any], world: BundleWorld) -> None:
    """The first witness signed another checkpoint, the second this one."""
    text = world.log.checkpoint()
    lines = world.witnesses[0].line(world.log.checkpoint(1), 5) + world.witnesses[1].line(text, 5)
    body["journal"]["checkpoint"] = world.journal.note(text) + lines


def _twice(body: dict[str, Any], _: BundleWorld) -> None:
    body["items"].append(body["items"][0])


def _older_version(body: dict[str, Any], _: BundleWorld) -> None:
    body["items"][1]["tag"] = body["items"][0]["tag"]


def _gone(body: dict[str, Any], _: BundleWorld) -> None:
    item = body["items"][0]
    del item["salt"], item["row"]
    item |= {"commitment": b64(bytes(32)), "withheld": "because"}


def _no_reason(body: dict[str, Any], _: BundleWorld) -> None:
    item = body["items"][0]
    del item["salt"], item["row"]
    item |= {"commitment": b64(bytes(32)), "withheld": ""}


FORMS: dict[str, tuple[Part, Bent]] = {
    "more members": (Part.BODY, lambda body, _: body.update(more=1)),
    "a member less": (Part.BODY, lambda body, _: body.pop("left_out")),
    "more members of the journal": (Part.BODY, lambda body, _: body["journal"].update(more=1)),
    "more members of an item": (Part.BODY, lambda body, _: body["items"][0].update(commitment=b64(bytes(32)))),
    "another type": (Part.BODY, lambda body, _: body.update(items={})),
    "an item that is none": (Part.BODY, lambda body, _: body["items"].append(3)),
    "a number that is negative": (Part.BODY, lambda body, _: body["items"][0].update(item=-1)),
    "a number that is true": (Part.BODY, lambda body, _: body["items"][0].update(item=True)),
    "a long path": (Part.BODY, lambda body, _: body["items"][0].update(path=[b64(bytes(32))] * 65)),
    "a path of numbers": (Part.BODY, lambda body, _: body["items"][0].update(path=[1])),
    "a short tag": (Part.BODY, lambda body, _: body["items"][0].update(tag=b64(bytes(15)))),
    "an item twice": (Part.BODY, _twice),
    "an entry that no item names": (Part.BODY, lambda body, _: body["items"].clear()),
    "an entry less": (Part.BODY, lambda body, _: body["journal"]["entries"].pop()),
    "an entry twice": (
        Part.BODY,
        lambda body, _: body["journal"]["entries"].append(body["journal"]["entries"][0]),
    ),
    "a value that no row names": (
        Part.BODY,
        lambda body, _: body["values"].update({digest(b"x").hex(): b64(b"x")}),
    ),
    "a value under another hash": (Part.BODY, lambda body, _: body["values"].update({"00" * 32: b64(b"x")})),
    "a value under no hash": (Part.BODY, lambda body, _: body["values"].update({"AB": b64(b"x")})),
    "a material of another kind": (
        Part.BODY,
        lambda body, _: body["materials"].update({digest(b"x").hex(): {"kind": "map", "data": b64(b"x")}}),
    ),
    "a material under another hash": (
        Part.BODY,
        lambda body, _: body["materials"].update({digest(b"x").hex(): {"kind": "root", "data": b64(b"y")}}),
    ),
    "withheld without a reason": (Part.BODY, _no_reason),
    "a checkpoint by another key": (Part.CHECKPOINT, _signed_by_another),
    "a cosignature that does not hold": (Part.WITNESSES, _bad_cosignature),
    "a checkpoint that is none": (Part.CHECKPOINT, lambda body, _: body["journal"].update(checkpoint="x")),
    "half a character": (Part.CHECKPOINT, lambda body, _: body["journal"].update(checkpoint="\ud800")),
    "a journal that forked": (Part.CHECKPOINT, _fork),
    "a row of two versions": (Part.PROOFS, _older_version),
    "a row that is gone": (Part.PROOFS, _gone),
    "an entry of no items": (Part.PROOFS, lambda body, _: body["journal"]["entries"][0].update(count=0)),
    "an item beyond its entry": (Part.PROOFS, lambda body, _: body["items"][0].update(item=4_000)),
    "another time of an entry": (Part.PROOFS, lambda body, _: body["journal"]["entries"][0].update(at=1)),
    "a result that is signed by no key": (Part.RESULTS, lambda body, _: body.update(results={"keys": []})),
    "no key set": (Part.RESULTS, lambda body, _: body.update(results={})),
    "a file less that verdicts were made with": (
        Part.EVIDENCE,
        lambda body, _: body["materials"].pop(next(iter(body["materials"]))),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_form_and_proofs(honest: BundleWorld, name: str) -> None:
    part, bend = FORMS[name]
    made = honest.draft()
    bend(made.body, honest)
    assert refuses(honest, made) == {part}


OF_TYPES = {"1": "INTEGER", "1.5": "NUMBER", '"x"': "TEXT", '{"b64": "AA=="}': "BYTES", "null": "NULL"}
OF_NO_TYPE = ("true", "[]", "{}", '{"b64": 1}', '{"b64": "A"}', '{"sha256": "x", "size": 1}', "1e999", str(1 << 63))


def test_row_columns_of_another_type(honest: BundleWorld) -> None:
    """Every column that is read: left out, and of some other types; the proofs are not looked at before."""
    made, key, rng = honest.draft(), trust_of(honest).journal, random.Random(10)
    entries = {entry["index"]: entry for entry in made.body["journal"]["entries"]}
    read = {item["row"]["table"]: item for item in made.body["items"] if item["row"]["table"] in TABLES}
    assert len(read) == len(TABLES) - 1  # nothing is distrusted
    for table, item in read.items():
        columns = item["row"]["columns"]
        journal = {**made.body["journal"], "entries": [entries[item["entry"]]]}
        body = {**made.body, "journal": journal, "materials": {}}
        bent = Draft(made.signer, made.case, body)
        for name, kind in TABLES[table].items():
            rows = [{each: columns[each] for each in columns if each != name}]
            for text, is_of in (*OF_TYPES.items(), *((text, "-") for text in OF_NO_TYPE)):
                if kind.name.removesuffix("_OR_NULL") != is_of and (text != "null" or "NULL" not in kind.name):
                    rows.append({**columns, name: json.loads(text)})
            for row in (rows[0], *rng.sample(rows[1:], 3)):
                body["items"] = [{**item, "row": {"table": table, "columns": row}}]
                prune(bent)
                with pytest.raises(BundleRefusedError):
                    read_bundle(bent.written(), key)


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        gzip.compress(b"{}", mtime=5),
        b"no gzip",
        packed(b"{}") + packed(b"{}"),
        packed(b"{}") + b"\0",
        packed(b"{}")[:-1],
        packed(b"[]"),
        packed(b"\xff"),
        packed(b"[" * 100_000),
        packed(b'{"a":' * 100_000),
        packed(b'{"items":1,"items":2}'),
        packed(b'{"items":NaN}'),
        packed(b'{"items":' + b"9" * 5_000 + b"}"),
        packed(b"[" + b"1," * 9_000_000 + b"1]"),
    ],
    ids=range(14),
)
def test_bodies_that_are_none(honest: BundleWorld, body: bytes) -> None:
    outcome = checked(honest, honest.draft().written(body=body))
    assert refused_parts(outcome) == {Part.BODY}


def test_a_body_that_unpacks_to_too_much(honest: BundleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of zeros is a kilobyte of gzip; what is unpacked never passes the bound by more than a byte."""
    monkeypatch.setattr(reading, "MAX_BODY_BYTES", 100_000)
    bomb = packed(bytes(1_000_000))
    assert len(bomb) < 2_000
    assert refused_parts(checked(honest, honest.draft().written(body=bomb))) == {Part.BODY}
    monkeypatch.setattr(reading, "MAX_BODY_BYTES", 1_000)
    assert refused_parts(checked(honest, honest.bundle())) == {Part.HEADER}


def _header(honest: BundleWorld, **lines: object) -> bytes:
    made = honest.draft()
    _, body = header_of(made.written())
    values: dict[str, object] = {
        "format": "trigpoint-case-bundle/1",
        "origin": honest.journal.name,
        "case": "cases/7",
        "size": len(body),
        "sha256": b64(digest(body)),
        **lines,
    }
    return made.written(header="".join(f"{line}\n" for line in values.values()), body=body)


@pytest.mark.parametrize(
    "lines",
    [
        {"format": "trigpoint-case-bundle/2"},
        {"origin": "other.example/journal"},
        {"case": "cases/07"},
        {"case": "cases/"},
        {"case": "sites/7"},
        {"case": "cases/" + "9" * 4_000},
        {"size": "+7"},
        {"size": "x"},
        {"size": 1 << 40},
        {"sha256": "AA=="},
        {"sha256": "="},
        {"more": "line"},
    ],
)
def test_headers_that_are_none(honest: BundleWorld, lines: Mapping[str, object]) -> None:
    assert refused_parts(checked(honest, _header(honest, **lines))) == {Part.HEADER}


def test_header_of_another_case(honest: BundleWorld) -> None:
    assert refused_parts(checked(honest, _header(honest, case="cases/8"))) == {Part.CASE}


def test_header_of_another_size(honest: BundleWorld) -> None:
    assert refused_parts(checked(honest, _header(honest, size=5))) == {Part.BODY}


def test_two_signatures(honest: BundleWorld) -> None:
    text, body = header_of(honest.bundle())
    other = Signer("other")
    note = honest.journal.note(text.decode()) + other.line(text.decode())
    assert refused_parts(checked(honest, note.encode() + b"\n" + body)) == {Part.HEADER}
    assert refused_parts(checked(honest, other.note(text.decode()).encode() + b"\n" + body)) == {Part.HEADER}


# The service itself lies: what it journaled does not follow from the evidence, or from its records.


Change = Callable[[dict[str, Value]], Mapping[str, Value]]


def lying(folder: Path, table: str, change: Change) -> set[Part]:
    """What is refused when every row of a table is bent before it is journaled."""

    tables = {"findings", "case_findings"} if table == "*findings" else {table}

    def bend(name: str, columns: dict[str, Value]) -> Mapping[str, Value]:
        return {**columns, **change(columns)} if name in tables else columns

    outcome = checked(BundleWorld(folder, bend=bend))
    to_json(outcome)
    return refused_parts(outcome)


def edited(column: str, old: str, new: str) -> Change:
    def change(columns: dict[str, Value]) -> Mapping[str, Value]:
        text = columns[column]
        return {column: text.replace(old, new)} if isinstance(text, str) else {}

    return change


def _other_site(columns: dict[str, Value]) -> Mapping[str, Value]:
    return {"record": str(columns["record"]).replace('"XA"]', '"XB"]')} if "/sites/" in str(columns["name"]) else {}


def _other_deployment(columns: dict[str, Value]) -> Mapping[str, Value]:
    is_one = str(columns["name"]).startswith("deployments/")
    return {"record": str(columns["record"]).replace(LICENSE, "D999999")} if is_one else {}


def _bit(column: str) -> Change:
    def change(columns: dict[str, Value]) -> Mapping[str, Value]:
        data = columns[column]
        assert isinstance(data, bytes)
        return {column: data[:-1] + bytes([data[-1] ^ 1])}

    return change


LIES: dict[str, tuple[set[Part], str, Change]] = {
    "another standing": ({Part.VERDICTS}, "device_verdicts", lambda _: {"standing": 5}),
    "presence": ({Part.VERDICTS}, "device_verdicts", lambda c: {"presence_proven": 1 - int(str(c["presence_proven"]))}),
    "no findings": ({Part.VERDICTS}, "device_verdicts", lambda _: {"findings": "[]"}),
    "findings that are no JSON": ({Part.VERDICTS}, "device_verdicts", lambda _: {"findings": "["}),
    "a smaller disc": ({Part.VERDICTS}, "device_verdicts", edited("fix", '"radius_km":75', '"radius_km":74')),
    "another answer": ({Part.VERDICTS}, "device_verdicts", edited("fix", '"REFUTED"', '"UNPROVEN"')),
    "another depth": ({Part.VERDICTS}, "device_verdicts", edited("fix", '"in_region":3', '"in_region":4')),
    "no fix": ({Part.VERDICTS}, "device_verdicts", lambda _: {"fix": None}),
    "a dropped range": ({Part.VERDICTS}, "device_verdicts", lambda _: {"void_ranges": '[["00","RANGE_VOID",""]]'}),
    "another chain": ({Part.VERDICTS}, "device_verdicts", _bit("chain_id")),
    "a rejection": ({Part.VERDICTS}, "attestations", lambda _: {"rejection": 3}),
    "a refused report": ({Part.VERDICTS}, "attestations", lambda _: {"report_rejections": '[[0,"NONCE_MISMATCH",""]]'}),
    "another host": ({Part.EVIDENCE}, "attestations", lambda _: {"host_id": "host-2"}),
    "another licensee": ({Part.EVIDENCE}, "attestations", lambda _: {"licensee": "Other Cloud"}),
    "an earlier arrival": ({Part.EVIDENCE}, "attestations", lambda c: {"issued_at": int(str(c["issued_at"])) - 1}),
    "hash of other claims": ({Part.EVIDENCE}, "attestations", _bit("claims_sha256")),
    "hash of other reports": ({Part.EVIDENCE}, "attestations", _bit("reports_sha256")),
    "other claims": ({Part.EVIDENCE}, "evidence", _bit("claims")),
    "a challenge of no life": ({Part.VERDICTS}, "evidence", edited("basis", '"life_us":60000000', '"life_us":-1')),
    "another preimage": ({Part.CHALLENGES}, "attestations", _bit("preimage")),
    "a short preimage": ({Part.CHALLENGES}, "attestations", lambda _: {"preimage": bytes(9)}),
    "another result": ({Part.RESULTS}, "attestations", lambda c: {"result": str(c["result"])[:-8] + "AAAAAAAA"}),
    "no chains": ({Part.EVIDENCE}, "chains", lambda _: {"certificates": b""}),
    "a chain cut off": ({Part.EVIDENCE}, "chains", lambda _: {"certificates": b"\0\0\0\5x"}),
    "another license": ({Part.RECORDS}, "revisions", edited("record", '"cadence_us":86400000000', '"cadence_us":1')),
    "a license that is suspended": ({Part.RECORDS}, "revisions", edited("record", '"ACTIVE"', '"SUSPENDED"')),
    "validity": ({Part.RECORDS}, "revisions", edited("record", '"valid_from":1', '"valid_from":2')),
    "another region": ({Part.RECORDS}, "revisions", _other_site),
    "a deployment under another license": ({Part.RECORDS}, "revisions", _other_deployment),
    "a record that is no JSON": ({Part.RECORDS}, "revisions", lambda _: {"record": "{"}),
    "a record that is no object": ({Part.RECORDS}, "revisions", lambda _: {"record": "[]"}),
    "one person": ({Part.RECORDS}, "changes", lambda _: {"decided_by": "approver/DE/ANN"}),
    "nobody": ({Part.RECORDS}, "changes", lambda _: {"decided_by": ""}),
    "a change that waits": ({Part.RECORDS}, "changes", lambda _: {"state": 1}),
    "somebody else's change": ({Part.RECORDS}, "changes", lambda _: {"proposed_by": "officer/eva"}),
    "younger records": ({Part.RECORDS}, "revisions", lambda _: {"record_number": 4, "revised_at": us(NOW) + 1}),
    "a moved landmark": ({Part.LANDMARKS}, "landmark_revisions", lambda _: {"latitude": 11.0}),
    "another operator's signature": ({Part.LANDMARKS}, "landmark_revisions", _bit("operator_signature")),
    "a record that nobody signed": ({Part.LANDMARKS}, "landmark_revisions", lambda _: {"operator_signature": b""}),
    "another survey": ({Part.LANDMARKS}, "landmark_revisions", lambda _: {"survey_method": "guess"}),
    "a flag of two": ({Part.LANDMARKS}, "landmark_revisions", lambda _: {"virtual_machine": 2}),
    "a receipt": ({Part.LANDMARKS}, "landmark_ranges", _bit("receipt")),
    "a statement": ({Part.LANDMARKS}, "landmark_ranges", _bit("statement")),
    "another time": ({Part.LANDMARKS}, "landmark_ranges", lambda _: {"least_rtt_ns": 1}),
    "a finding that ended": ({Part.CASE}, "findings", lambda _: {"closed_at": 5}),
    "a finding that no verdict shows": (
        {Part.CASE},
        "*findings",
        lambda c: {"reason": 106} if c["reason"] == 101 else {},
    ),
    "more devices": ({Part.CASE}, "cases", lambda _: {"devices": 3}),
    "fewer devices": ({Part.CASE}, "cases", lambda _: {"devices": 1}),
    "a longer story": ({Part.CASE}, "cases", lambda _: {"entries": 3}),
    "another case": ({Part.CASE}, "cases", lambda _: {"case_id": 8}),
    "entries of another case": ({Part.CASE}, "case_entries", lambda _: {"case_id": 8}),
    "exhibits of another case": ({Part.CASE}, "exhibits", lambda _: {"subject": "cases/8"}),
    "a time that no calendar has": ({Part.BODY}, "attestations", lambda _: {"received_at": 1 << 62}),
}


@pytest.mark.parametrize("name", LIES)
def test_a_service_that_lies(tmp_path: Path, name: str) -> None:
    parts, table, change = LIES[name]
    refused = lying(tmp_path, table, change)
    assert parts <= refused
    assert refused <= parts | {Part.CASE, Part.RESULTS, Part.VERDICTS}


def resigned(change: Callable[[dict[str, Any]], object]) -> Change:
    """A result that says something else, signed by the service's own key."""

    def bend(columns: dict[str, Value]) -> Mapping[str, Value]:
        token = str(columns["result"])
        claims = jwt.decode(token, options={"verify_signature": False})
        change(claims)
        headers = {"kid": jwt.get_unverified_header(token)["kid"]}
        return {"result": jwt.encode(claims, result_key(), "ES256", headers)}

    return bend


@pytest.mark.parametrize(
    "change",
    [
        lambda claims: claims.update(iat=claims["iat"] + 1),
        lambda claims: claims.update(exp=claims["exp"] + 1),
        lambda claims: claims["submods"].popitem(),
        lambda claims: claims["submods"].update(x=1),
        lambda claims: next(iter(claims["submods"].values())).update(ear_status="warning"),
    ],
)
def test_a_result_that_says_other_things(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    assert lying(tmp_path, "attestations", resigned(change)) == {Part.RESULTS}


def test_a_result_that_says_other_things_to_a_reader_of_a_part(tmp_path: Path) -> None:
    def bend(table: str, columns: dict[str, Value]) -> Mapping[str, Value]:
        change = resigned(lambda claims: claims.update(iat=claims["iat"] + 1))
        return {**columns, **change(columns)} if table == "attestations" else columns

    world = BundleWorld(tmp_path, bend=bend)
    made = world.draft()
    withhold(made, made.items("device_verdicts")[0])
    assert refuses(world, made) == {Part.RESULTS}


def test_challenge_that_names_no_known_checkpoint(tmp_path: Path) -> None:
    assert refused_parts(checked(BundleWorld(tmp_path, named=bytes(31) + b"\1"))) == {Part.CHALLENGES}


def test_challenge_that_names_a_later_checkpoint(tmp_path: Path) -> None:
    """Evidence cannot name what was not there; a service that could would let old evidence pass as new."""
    world = BundleWorld(tmp_path)
    late = digest(world.log.checkpoint().encode())
    again = BundleWorld(tmp_path / "again", named=late)
    again.checkpoints.append(len(again.log.leaves))
    made = again.draft()
    # The same journal up to the same size has the same checkpoint only when nothing differs; so it is named by hand.
    assert refuses(again, made) == {Part.CHALLENGES}


def test_distrust_that_was_passed_over(tmp_path: Path) -> None:
    row: Row = (
        "landmark_distrust",
        {
            "landmark_id": "abroad-0",
            "since": us(NOW) - 1_000_000_000_000,
            "ended_at": None,
            "rule": 2,
            "explanation": "too fast",
            "contradictions": "[]",
            "settled": 1,
        },
    )
    assert refused_parts(checked(BundleWorld(tmp_path, more=[row]))) == {Part.LANDMARKS}


def test_newer_revision_that_stood_already(honest: BundleWorld, tmp_path: Path) -> None:
    record = {"state": "REVOKED"}
    more = [honest.revision(2, f"licenses/{LICENSE}", record, revision=2, number=3)]
    assert refused_parts(checked(BundleWorld(tmp_path, more=more))) == {Part.RECORDS}


def test_device_that_has_a_deployment_and_is_called_unknown(tmp_path: Path) -> None:
    assert Part.RECORDS in refused_parts(checked(BundleWorld(tmp_path, undeployed=True)))


def test_body_of_another_bundle_under_this_header(honest: BundleWorld, tmp_path: Path) -> None:
    other = BundleWorld(tmp_path)
    text, _ = header_of(honest.bundle())
    _, body = header_of(other.bundle())
    note = honest.journal.note(text.decode())
    assert refused_parts(checked(honest, note.encode() + b"\n" + body)) == {Part.BODY}
    made = Draft(honest.journal, CASE, json.loads(gzip.decompress(body)))
    assert refused_parts(checked(honest, made.written())) == {Part.CHECKPOINT}
    assert base64.b64encode(digest(body)) not in text
