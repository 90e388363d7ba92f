"""The demonstration's stage on a delayed network: its processes, each in the namespace of its host.

Hosts are `board` (the emulated board with the agent beside it), `server` (with the officer's command) and each
landmark. The shuttle alone joins them, agent and server too: there it adds no delay and loses nothing, since what is
under test is ranging. The emulator is given a world without landmarks, so that it adds no time of its own.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from demo.processes import Child, Processes, run
from demo.stage import _SERVER_TOML, APPROVER, OFFICER, Stage, _landmark_record
from demo.world import LICENSEE, LandmarkSpec, World
from landmark.keys import create_key
from tests.network_delay.shuttle import Link

BIN = Path(sys.executable).parent
SHUTTLE = Path(__file__).with_name("shuttle.py")
SEED = 20_260
WAIT_S = 60


class NoNetworkError(Exception):
    """Such a network cannot be made on this machine; the message says why."""


class PlacedProcesses(Processes):
    """Children that run in the namespace of their host.

    Args:
        folder: Logs are written here.
        hosts: Names, in the order of their addresses.
        links: What joins them.
    """

    def __init__(self, folder: Path, hosts: Sequence[str], links: Sequence[Link]) -> None:
        super().__init__(folder)
        # RFC 5737: addresses for examples, which are nobody's.
        self.addresses = {name: f"192.0.2.{number}" for number, name in enumerate(hosts, start=1)}
        self._links = links
        self._log = folder / "shuttle.log"
        self._namespaces: dict[str, str] = {}

    async def start_network(self) -> None:
        """Start the shuttle; it ends after everything that uses it.

        Raises:
            NoNetworkError: It cannot be made here.
        """
        if shutil.which("nsenter") is None:
            raise NoNetworkError("the command nsenter (util-linux) is missing")
        settings = {"seed": SEED, "hosts": self.addresses, "links": [asdict(link) for link in self._links]}
        shuttle = await super().start("shuttle", "python", SHUTTLE, json.dumps(settings))
        if not shuttle.ready["ready"]:
            raise NoNetworkError(shuttle.ready["not_here"])
        self._namespaces = shuttle.ready["namespaces"]

    def inside(self, host: str, *arguments: str | Path) -> tuple[str | Path, ...]:
        """Return what runs one of our commands in a host's namespace. `Processes` takes absolute paths as they are."""
        return (shutil.which("nsenter") or "", f"--net={self._namespaces[host]}", BIN / arguments[0], *arguments[1:])

    async def start(self, name: str, *arguments: str | Path) -> Child:
        """Start a child of the host that its name tells: `landmark-NAME`, `board-KEY`, `agent-KEY` or `server`."""
        kind, _, rest = name.partition("-")
        host = {"landmark": rest, "agent": "board"}.get(kind, kind)
        return await super().start(name, *self.inside(host, *arguments))

    def carried(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What the shuttle said at its end, by source and target. Only after `stop_all`."""
        last_line = self._log.read_text().splitlines()[-1]
        return {(link["source"], link["target"]): link for link in json.loads(last_line)["links"]}


class NetworkStage(Stage):
    """A stage whose hosts have addresses of their own."""

    def __init__(self, folder: Path, processes: PlacedProcesses, world: World) -> None:
        super().__init__(folder, processes, world)
        self._placed = processes
        self._seen: set[str | None] = {None}
        self._told: list[dict[str, Any]] = []
        self._watch: Child | None = None

    async def make_vendor_and_keys(self) -> None:
        """As the demonstration does, with the server's address in its certificate."""
        pki, host = self.folder / "pki", self._placed.addresses["server"]
        await asyncio.gather(
            run("trigpoint-emulator", "init", self.folder / "vendor"),
            run("trigpoint-server", "init", pki, "--host", host),
        )
        agents = [f"agent-{spec.key.lower()}" for spec in self.world.servers]
        await asyncio.gather(
            run("trigpoint-server", "issue", pki, "officer", OFFICER),
            run("trigpoint-server", "issue", pki, "approver", APPROVER),
            *(run("trigpoint-server", "issue", pki, "agent", name, "--licensee", LICENSEE) for name in agents),
        )

    async def start_landmarks(self) -> None:
        """Start the landmarks, and tell the emulator of none: it delays nothing then."""
        await super().start_landmarks()
        (self.folder / "world.json").write_text(json.dumps({"landmarks": {}, "path_factor": 0}))

    async def _start_landmark(self, spec: LandmarkSpec, ticket_key: str) -> tuple[dict[str, object], str]:
        key = self.folder / f"landmark-{spec.name}.key"
        public_key = create_key(key).public_key.hex()
        listen = f"{self._placed.addresses[spec.name]}:0"
        arguments = ("serve", "--listen", listen, "--key", key, "--ticket-key", ticket_key)
        child = await self.processes.start(f"landmark-{spec.name}", "trigpoint-landmark", *arguments)
        return _landmark_record(spec, public_key, child.ready["endpoints"]), child.ready["key_id"]

    async def start_server(self) -> None:
        """Start the server on its host's address; HTTP stays on loopback, where nobody asks for it."""
        everywhere = _SERVER_TOML.format(interval_s=self.world.interval_s)
        config = self.folder / "server.toml"
        config.write_text(everywhere.replace("127.0.0.1:0", f"{self._placed.addresses['server']}:0", 1))
        child = await self.processes.start("server", "trigpoint-server", "serve", "--config", config)
        self.address = child.ready["address"]
        self._write_settings()

    async def _run_console(self, settings: Path, *arguments: str) -> str:
        """Run the officers' command beside the server."""
        return await run(*self._placed.inside("server", "trigpoint", "--config", settings, *arguments))

    async def start_watch(self) -> None:
        """Have an officer watch the devices, beside the server; the first answer is how they stand now."""
        arguments = ("trigpoint", "--config", self.console_config, "device", "watch", "--json")
        self._watch = await self.processes.start("server-watch", *arguments)
        self._told += self._watch.ready["devices"]

    async def next_verdict(self) -> dict[str, Any]:
        """Wait until the server has written another verdict; return the device as the officers' command shows it.

        Raises:
            TimeoutError: None came within WAIT_S.
        """
        assert self._watch is not None
        stdout = self._watch._process.stdout
        assert stdout is not None
        while True:
            for device in self._told:
                if device["last_attestation"] not in self._seen:
                    self._seen.add(device["last_attestation"])
                    return device
            self._told = json.loads(await asyncio.wait_for(stdout.readline(), WAIT_S))["devices"]
