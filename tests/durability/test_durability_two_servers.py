"""Two servers on one SQLite file, under load at once."""

import asyncio
import hashlib
from pathlib import Path

import pytest
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc, reason_pb2

from tests.durability import ledger, load
from tests.durability.load import Account
from tests.durability.servers import Nursery, ServerProcess, make_materials, write_config
from tests.two_people import approve_all

pytestmark = pytest.mark.asyncio(loop_scope="session")

ANSWERS = 120
"""Of each server, before the import and again after it."""

LANDMARK_KEY = bytes(range(32))


async def test_two_servers_share_one_file(tmp_path: Path, nursery: Nursery) -> None:
    store = tmp_path / "trigpoint.db"
    hosts = load.make_hosts(make_materials(tmp_path), tmp_path / "hosts", 16)
    halves = hosts[:8], hosts[8:]
    # Both make the file at the same moment.
    servers = await asyncio.gather(
        *(nursery.start(write_config(tmp_path, store, node)) for node in ("node-1", "node-2"))
    )
    assert all(server.address for server in servers), [server.log for server in servers]
    accounts = Account(), Account()
    reached = [asyncio.Event(), asyncio.Event()]
    for account, event in zip(accounts, reached, strict=True):
        account.at(ANSWERS, event.set)
    loads = asyncio.gather(*(load.run_load(s, h, 2, a) for s, h, a in zip(servers, halves, accounts, strict=True)))
    await asyncio.gather(*(event.wait() for event in reached))

    await load.import_deployments(servers[0], hosts, cadence_s=3600, grace_s=0)
    sent_before = set(accounts[1].sent)
    for account, server in zip(accounts, servers, strict=True):
        account.at(ANSWERS, server.terminate)
    for ends in await loads:
        assert set(ends) <= {"UNAVAILABLE", load.CUT}
    assert [await nursery.ended(server) for server in servers] == [0, 0]

    for server in servers:
        assert not server.events("store fault")
        assert not [event for event in server.log if event["level"] == "error"]
    both = Account(accounts[0].sent | accounts[1].sent, accounts[0].answered | accounts[1].answered)
    ledger.check_store(store, both)
    later = [verdict for challenge, verdict in accounts[1].answered.items() if challenge not in sent_before]
    assert later
    assert reason_pb2.REASON_UNKNOWN_DEVICE in _reasons(accounts[1], sent_before)
    assert reason_pb2.REASON_UNKNOWN_DEVICE not in _reasons(accounts[1], set(accounts[1].sent) - sent_before)


async def test_a_landmark_imported_at_one_server_is_used_by_the_other(tmp_path: Path, nursery: Nursery) -> None:
    store = tmp_path / "trigpoint.db"
    hosts = load.make_hosts(make_materials(tmp_path), tmp_path / "hosts", 1, gpus=1)
    first = await nursery.start(write_config(tmp_path, store, "node-1"))
    second = await nursery.start(write_config(tmp_path, store, "node-2"))
    await load.import_deployments(first, hosts, cadence_s=3600, grace_s=0)
    assert await load.ordered_landmarks(second, hosts[0]) == set()
    await _import_landmark(first)
    assert await load.ordered_landmarks(second, hosts[0]) == {hashlib.sha256(LANDMARK_KEY).digest()}
    for server in (first, second):
        server.terminate()
        assert await nursery.ended(server) == 0


def _reasons(account: Account, challenges: set[bytes]) -> set[int]:
    verdicts = (account.answered[challenge] for challenge in challenges if challenge in account.answered)
    return {finding.reason for verdict in verdicts for device in verdict.devices for finding in device.findings}


async def _import_landmark(server: ServerProcess) -> None:
    landmark = landmark_pb2.Landmark(
        name="landmarks/sg-1",
        public_key=LANDMARK_KEY,
        operator="operator",
        hoster="hoster",
        latitude=1.35,
        longitude=103.82,
        uncertainty_km=0.1,
        survey_method="map",
        endpoints=["127.0.0.1:9"],
        country="SG",
    )
    async with server.channel() as channel:
        stub = landmark_pb2_grpc.LandmarkServiceStub(channel)
        response = await stub.ImportLandmarks(landmark_pb2.ImportLandmarksRequest(landmarks=[landmark]))
        await approve_all(channel)
    assert response.created_count == 1
