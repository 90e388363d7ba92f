"""Every verdict that stands in a store can be made again from its rows alone (docs/protocol.md CB4)."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from server.intake.pipeline import Pipeline
from server.intake.results import ResultSigner
from server.records.values import ByBoard, LicenseRecord
from server.store.framing import unpack
from server.store.types import ImportRow
from server.telemetry import Telemetry
from tests.scenarios.fleet import SITE, MemoryFleet, memory_fleet
from tests.verifier.helpers_basis import REFERENCES, real_files, real_policy
from tests.verifier.helpers_evidence import flip, make_license
from verifier.basis import read_basis
from verifier.errors import Reason
from verifier.evidence.attestation import UnverifiedAttestation, UnverifiedReport
from verifier.evidence.chain import TrustRoots
from verifier.evidence.measurements import ReferenceValues
from verifier.license import LicenseState
from verifier.setting import ROOT, Setting
from verifier.units import ChainId, Challenge, Pdi
from verifier.verdict import Verdict
from verifier.verdict_json import findings_to_json, fix_to_json, void_ranges_to_json
from verifier.verifier import Verifier

HOUR = timedelta(hours=1)


async def _story(fleet: MemoryFleet) -> list[Verdict]:
    """An honest board, one that goes abroad and comes back, one deployed by board, and one that nobody licensed."""
    honest, mover, joined, stranger = (fleet.add_board(name) for name in ("honest", "mover", "joined", "stranger"))
    await fleet.license("D1", [honest, mover], tolerated_domains=1)
    by_board = ByBoard(joined.switches[0], 1)
    row = ImportRow(by_board, LicenseRecord(make_license()), "Hall", SITE)
    await fleet.store.import_deployments([row], fleet.clock.now, by="ann", reason="test", state=LicenseState.ACTIVE)
    verdicts = [await fleet.attest(board) for board in fleet.boards]
    await fleet.pass_by(HOUR)
    mover.abroad = True
    verdicts += [await fleet.attest(board) for board in (honest, mover)]
    await fleet.license("D1", [honest, mover], tolerated_domains=2)  # revised: verdicts after it say so
    mover.abroad = False
    verdicts += [await fleet.attest(mover)]
    verdicts += [await fleet.attest(joined, bend_report=lambda k, spdm: flip(spdm, -1) if k == 0 else spdm)]
    stranger.ranges = False
    verdicts += [await fleet.attest(stranger, bend_claims=lambda claims: claims.update({265: "another profile"}))]
    return verdicts


@pytest.fixture
async def told(tmp_path: Path) -> tuple[Path, list[Verdict]]:
    """A store with a story in it, made by a verifier whose files are kept in it too; and the verdicts as they left."""
    async with memory_fleet(tmp_path) as fleet:
        policy, files = real_policy(audited_within=None, standing_for=timedelta(0)), real_files(fleet.ca)
        roots = TrustRoots.parse([each.data for each in files if each.kind == ROOT])
        fleet.pipeline = Pipeline(
            fleet.store,
            fleet.records,
            Verifier(roots, ReferenceValues.parse([REFERENCES]), policy),
            Setting.of(policy, files),
            ResultSigner([ec.generate_private_key(ec.SECP256R1())], issuer="", developer="Trigpoint"),
            Telemetry(),
            1 << 30,
        )
        await fleet.store.keep_materials(files, fleet.clock.now)
        await fleet.store.keep_materials(files, fleet.clock.now + HOUR)  # kept once
        return fleet.folder / "store.sqlite", await _story(fleet)


async def test_each_verdict_is_made_again_from_rows_alone(told: tuple[Path, list[Verdict]]) -> None:
    path, verdicts = told
    made: dict[Setting, Verifier] = {}
    seen: set[Reason] = set()
    with closing(sqlite3.connect(path)) as store:
        store.row_factory = sqlite3.Row
        files = dict(map(tuple, store.execute("SELECT sha256, data FROM materials")))
        assert all(sha256(data).digest() == digest for digest, data in files.items())
        chains = {key: unpack(packed) for key, packed in store.execute("SELECT * FROM chains")}
        kept = "SELECT * FROM attestations JOIN evidence USING (challenge) ORDER BY received_at"
        rows = store.execute(kept).fetchall()
        for row, left in zip(rows, verdicts, strict=True):
            shown = store.execute("SELECT * FROM device_verdicts WHERE challenge = ?", (row["challenge"],)).fetchall()
            assert sha256(row["claims"]).digest() == row["claims_sha256"]
            assert sha256(row["reports"]).digest() == row["reports_sha256"]
            assert bool(row["result"]) is bool(shown)
            parts = iter(unpack(row["reports"]))
            reports = tuple(UnverifiedReport(spdm, ChainId(key)) for key, spdm in zip(parts, parts, strict=True))
            given = read_basis(row["basis"], {Pdi(each["pdi"]): each["basis"] for each in shown})
            verifier = made.setdefault(given.setting, given.setting.verifier(files))
            refused = {index for index, *_ in json.loads(row["report_rejections"])}
            whole = [report for index, report in enumerate(reports) if shown and index not in refused]
            accepted = {report.chain_id: chains[report.chain_id] for report in whole}
            attestation = UnverifiedAttestation(row["host_id"], Challenge(row["challenge"]), row["claims"], reports)
            again = verifier.verify(attestation, given.inputs(accepted))
            assert again.devices == left.devices
            assert again.rejection == left.rejection
            assert {each.index for each in again.report_rejections} == refused
            by_pdi = {device.pdi: device for device in again.devices}
            assert by_pdi.keys() == {each["pdi"] for each in shown}
            for each in shown:
                device = by_pdi[each["pdi"]]
                seen.update(finding.reason for finding in device.findings)
                assert each["standing"] == device.standing
                assert each["findings"] == findings_to_json(device.findings)
                assert each["fix"] == (None if device.fix is None else fix_to_json(device.fix))
                assert each["void_ranges"] == void_ranges_to_json(device.void_ranges)
    assert len(made) == 1
    assert seen >= {Reason.OUTSIDE_LICENSED_REGION, Reason.IMPOSSIBLE_TRAVEL, Reason.UNKNOWN_DEVICE}
    assert {v.rejection.reason for v in verdicts if v.rejection is not None} == {Reason.CLAIMS_MALFORMED}
    assert any(device.adopted is not None for verdict in verdicts for device in verdict.devices)


async def test_transitions_are_marked(told: tuple[Path, list[Verdict]]) -> None:
    """docs/protocol.md K1: a finding opened or ended, or a standing changed, as with each device's first report."""
    path, _ = told
    with closing(sqlite3.connect(path)) as store:
        marked = store.execute("SELECT host_id, transition FROM attestations ORDER BY received_at").fetchall()
    assert marked == [
        *((name, 1) for name in ("honest", "mover", "joined", "stranger")),
        ("honest", 0),
        ("mover", 1),  # abroad
        ("mover", 1),  # back
        ("joined", 0),
        ("stranger", 0),  # rejected
    ]
