"""Landmarks that audit each other, with real processes: no session between them is faked, and one of them lies.

Everything runs on one machine, so a landmark that says that it stands far from the others is found out by light.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from demo.processes import Processes, run
from landmark.keys import create_key

pytestmark = pytest.mark.asyncio(loop_scope="session")

HONEST = {"sg-1": (1.30, 103.80), "sg-2": (1.33, 103.85), "sg-3": (1.35, 103.90)}
LIAR = "tokyo-1"
PLACES = {**HONEST, LIAR: (35.68, 139.69)}
WITHIN_S = 60

_SERVER_TOML = """\
[listen]
address = "127.0.0.1:0"
http_address = "127.0.0.1:0"

[tls]
certificate = "pki/server.pem"
key = "pki/server.key"
client_ca = "pki/ca.pem"
trust_domain = "trigpoint.example"

[store]
path = "trigpoint.db"

[trust]
roots = ["vendor/root.pem"]
reference_values = ["vendor/reference-values.json"]

[tickets]
key = "pki/ticket.key"

[journal]
origin = "trigpoint.example/journal"
key = "pki/journal.key"
anchor = "journal.anchor"
seal_interval_s = 0.2

[results]
keys = ["pki/result.key"]

[audit]
interval_h = 0.002
batch = 2
run_interval_s = 0.5
refresh_s = 0.5
"""

_LANDMARK_TOML = """\
listen = ["127.0.0.1:0"]
key_file = "{name}.key"
ticket_keys = ["{ticket_key}"]
position_revision = 1
virtual_machine = false

[audit]
server = "{server}"
ca = "pki/ca.pem"
cert = "pki/{name}.pem"
key = "pki/{name}.key"
"""


@dataclass
class World:
    """Four landmarks and their server, all of them processes."""

    folder: Path
    http: str

    async def officer(self, *arguments: str | Path) -> str:
        """Run the officers' command."""
        return await run("trigpoint", "--config", self.folder / "officer.toml", *arguments)

    async def register(self, file: Path) -> None:
        """Import landmarks as an officer, and approve that as another."""
        change = json.loads(await self.officer("landmark", "import", file, "--json"))["change"]
        number = change["name"].removeprefix("changes/")
        await run("trigpoint", "--config", self.folder / "approver.toml", "change", "approve", number)

    async def audits(self) -> dict[str, dict[str, Any]]:
        """What the newest audit says, by landmark."""
        printed = json.loads(await self.officer("landmark", "audit", "--json"))
        return {entry["name"].removeprefix("landmarks/"): entry for entry in printed["audits"]}


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path: Path) -> AsyncIterator[World]:
    processes = Processes(tmp_path)
    try:
        yield await build(tmp_path, processes)
    finally:
        await processes.stop_all()


async def build(folder: Path, processes: Processes) -> World:
    pki = folder / "pki"
    await asyncio.gather(run("trigpoint-emulator", "init", folder / "vendor"), run("trigpoint-server", "init", pki))
    for role in ("officer", "approver"):
        await run("trigpoint-server", "issue", pki, role, role)
    for name in PLACES:
        await run("trigpoint-server", "issue", pki, "landmark", name)
    ticket_key = (await run("trigpoint-server", "ticket-key", pki)).strip()
    (folder / "server.toml").write_text(_SERVER_TOML)
    server = await processes.start("server", "trigpoint-server", "serve", "--config", folder / "server.toml")
    for role in ("officer", "approver"):
        lines = (f'server = "{server.ready["address"]}"', 'ca = "pki/ca.pem"', f'cert = "pki/{role}.pem"')
        (folder / f"{role}.toml").write_text("\n".join((*lines, f'key = "pki/{role}.key"', "")))
    records = []
    for name, (latitude, longitude) in PLACES.items():
        public_key = create_key(folder / f"{name}.key").public_key.hex()
        config = folder / f"{name}.toml"
        config.write_text(_LANDMARK_TOML.format(name=name, ticket_key=ticket_key, server=server.ready["address"]))
        child = await processes.start(f"landmark-{name}", "trigpoint-landmark", "serve", "--config", config)
        records.append(
            {
                "id": name,
                "public_key": public_key,
                "operator": f"operator of {name}",
                "hoster": f"hoster of {name}",
                "latitude": latitude,
                "longitude": longitude,
                "uncertainty_km": 0.1,
                "country": "JP" if name == LIAR else "SG",
                "endpoints": child.ready["endpoints"],
            }
        )
    (folder / "landmarks.json").write_text(json.dumps(records))
    world = World(folder, server.ready["http"])
    await world.register(folder / "landmarks.json")
    return world


async def test_landmarks_come_to_count_and_the_one_that_lies_is_found(world: World) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            audits = await world.audits()
            others_count = all(audits[name]["counts"] for name in HONEST)
            if others_count and audits[LIAR]["rule"] and audits[LIAR]["ranged_by_domains"] == 3:
                break
            await asyncio.sleep(1)

    liar = audits[LIAR]
    assert liar["rule"] == "LIGHT"
    assert not liar["counts"]
    assert liar["why_not"] == f"{LIAR} is distrusted: {liar['explanation']}"
    assert len(liar["contradictions"]) == 3
    for told in liar["contradictions"]:
        assert LIAR in {told["by_landmark_id"], told["of_landmark_id"]}
        assert told["rtt_ns"] < 20_000_000
        assert 5_200 < told["apart_km"] < 5_500
    for name in HONEST:
        assert audits[name]["rule"] is None
        # The liar witnesses nothing, and two domains are enough.
        assert audits[name]["ranged_by_domains"] == 2
        assert 0 < audits[name]["position_bound_km"] < 3_000

    shown = await world.officer("landmark", "audit")
    assert f"{LIAR}  distrusted for" in shown
    metrics = await run_http(world.http, "/metrics")
    assert 'trigpoint_landmarks{state="counted"} 3.0' in metrics
    assert 'trigpoint_landmarks{state="distrusted"} 1.0' in metrics
    assert 'trigpoint_landmark_ranges_total{result="taken"}' in metrics

    # An officer puts the record right, and the landmark counts again.
    records = json.loads((world.folder / "landmarks.json").read_text())
    corrected = {"latitude": 1.37, "longitude": 103.95, "country": "SG"}
    records = [{**record, **corrected} for record in records if record["id"] == LIAR]
    (world.folder / "corrected.json").write_text(json.dumps(records))
    await world.register(world.folder / "corrected.json")
    async with asyncio.timeout(WITHIN_S):
        while not (await world.audits())[LIAR]["counts"]:  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.5)
    assert (await world.audits())[LIAR]["rule"] is None


async def run_http(address: str, path: str) -> str:
    """Fetch a page over plain HTTP."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()
