"""Firmware against reference values: match, mismatch and no reference are three things."""

import dataclasses
import json
from typing import Any

import pytest

from firmware_stubs.firmware import GPU_CURRENT, GPU_OLDER, SWITCH_CURRENT
from firmware_stubs.report import block_digests
from tests.verifier.helpers_evidence import GPU_PDI, flip, make_chain, references_document
from verifier.errors import UsageError
from verifier.evidence.chain import DeviceKind
from verifier.evidence.measurements import FirmwareState, Outcome, ReferenceValues, compare
from verifier.evidence.spdm import MeasurementReport

CHAIN = make_chain().verified()
REFERENCES = ReferenceValues.parse([json.dumps(references_document()).encode()])
HONEST = block_digests(GPU_CURRENT, GPU_PDI)


def state(
    digests: dict[int, bytes], fwid: bytes = GPU_CURRENT.fwid, kind: DeviceKind = DeviceKind.GPU
) -> FirmwareState:
    chain = dataclasses.replace(CHAIN, fwid=fwid, kind=kind)
    return compare(chain, MeasurementReport(bytes(32), digests, "", "", frozenset(), (), None), REFERENCES)


def test_known_firmware() -> None:
    assert state(HONEST) == FirmwareState(Outcome.MATCH, GPU_CURRENT.name, can_range=True, differing=())
    older = state(block_digests(GPU_OLDER, GPU_PDI), GPU_OLDER.fwid)
    assert older == FirmwareState(Outcome.MATCH, GPU_OLDER.name, can_range=False, differing=())
    switch = state(block_digests(SWITCH_CURRENT, GPU_PDI), SWITCH_CURRENT.fwid, DeviceKind.SWITCH)
    assert switch.outcome is Outcome.MATCH


def test_every_allowed_digest_matches() -> None:
    variants = GPU_CURRENT.measurements[23]
    assert len(variants) == 2
    for digest in variants:
        assert state({**HONEST, 23: digest}).outcome is Outcome.MATCH


def test_rv1_unknown_firmware_is_not_tampering() -> None:
    missing = FirmwareState(Outcome.REFERENCE_MISSING, "", can_range=False, differing=())
    assert state(HONEST, bytes(48)) == missing
    assert state(HONEST, kind=DeviceKind.SWITCH) == missing  # the entry is chosen by kind too


def test_rv2_digest_that_is_not_allowed() -> None:
    changed = state({**HONEST, 2: flip(HONEST[2], 0), 40: flip(HONEST[40], 47)})
    assert changed == FirmwareState(Outcome.MISMATCH, GPU_CURRENT.name, can_range=False, differing=(2, 40))


def test_rv2_block_without_entry_and_entry_without_block() -> None:
    assert state({**HONEST, 65: bytes(48)}).differing == (65,)
    assert state({i: d for i, d in HONEST.items() if i != 64}).differing == (64,)
    assert len(state({}).differing) == 64


def test_documents_add_up() -> None:
    split = [references_document(without=name) for name in (GPU_CURRENT.name, GPU_OLDER.name)]
    both = ReferenceValues.parse(json.dumps(document).encode() for document in split)
    assert both.find(DeviceKind.GPU, GPU_OLDER.fwid) == REFERENCES.find(DeviceKind.GPU, GPU_OLDER.fwid)
    assert both.find(DeviceKind.GPU, GPU_CURRENT.fwid) == REFERENCES.find(DeviceKind.GPU, GPU_CURRENT.fwid)
    assert ReferenceValues.parse([]).find(DeviceKind.GPU, GPU_CURRENT.fwid) is None


def entry(**bent: object) -> dict[str, Any]:
    honest = {"name": "x", "kind": "gpu", "fwid": "00" * 48, "ranging": True, "measurements": {"1": ["11" * 48]}}
    return {**honest, **bent}


def document(firmware: object, schema: str = "trigpoint-reference-values/1") -> bytes:
    return json.dumps({"schema": schema, "vendor": "v", "firmware": firmware}).encode()


def test_small_document() -> None:
    found = ReferenceValues.parse([document([entry()])]).find(DeviceKind.GPU, bytes(48))
    assert found is not None
    assert (found.name, found.ranges, found.measurements) == ("x", True, {1: frozenset({b"\x11" * 48})})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="no schema"),
        pytest.param(b'{"schema": "trigpoint-reference-values/1"}', id="no firmware"),
        pytest.param(document([entry()], schema="trigpoint-reference-values/2"), id="another schema"),
        pytest.param(document(7), id="firmware is no list"),
        pytest.param(document(["x"]), id="an entry is no object"),
        pytest.param(document([{k: v for k, v in entry().items() if k != "name"}]), id="no name"),
        pytest.param(document([entry(kind="cpu")]), id="another kind"),
        pytest.param(document([entry(fwid="00" * 47)]), id="short FWID"),
        pytest.param(document([entry(fwid="zz" * 48)]), id="FWID is no hex"),
        pytest.param(document([entry(fwid=7)]), id="FWID is a number"),
        pytest.param(document([entry(ranging="true")]), id="ranging is text"),
        pytest.param(document([entry(ranging=1)]), id="ranging is a number"),
        pytest.param(document([entry(measurements={"x": []})]), id="index is no number"),
        pytest.param(document([entry(measurements={"1": ["11" * 32]})]), id="SHA-256"),
        pytest.param(document([entry(measurements={"1": None})]), id="no digests"),
    ],
)
def test_document_of_another_form(data: bytes) -> None:
    with pytest.raises(UsageError):
        ReferenceValues.parse([data])


def test_a_document_that_nests_without_end_is_refused() -> None:
    with pytest.raises(UsageError):
        ReferenceValues.parse([b"[" * 200_000])
