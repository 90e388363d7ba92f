"""Builds the world: keys, certificates, records and processes, through the commands that a user has."""

import asyncio
import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

from demo.processes import Child, Processes, run
from demo.world import FREE_SLOT, LICENSEE, PATH_FACTOR, STOLEN_SLOT, LandmarkSpec, ServerSpec, Spot, World
from firmware_stubs.client import BoardClient
from landmark.keys import create_key

_SERVER_TOML = """\
# Made by make demo. The two landmark rules at 0 mark every verdict as a demonstration's: not for accusation.
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
seal_interval_s = 1

[results]
keys = ["pki/result.key"]

[place]
audited_within_h = 0
record_standing_days = 0

[attestation]
interval_s = {interval_s}

[desk]
sweep_interval_s = 1
"""
OFFICER = "ann"
APPROVER = "bob"

_SITE_COLUMNS = ("site_name", "site_latitude", "site_longitude", "site_radius_km")


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU of the demonstration, by where it was when the story began."""

    pdi: str
    server: str
    slot: int

    def __str__(self) -> str:
        return f"{self.server}/gpu-{self.slot}"


@dataclass(slots=True)
class Stage:
    """The running world.

    Attributes:
        folder: Everything it writes is in here.
        processes: Its children.
        world: What is built.
        address: Where the server answers.
        http: Where it tells its metrics, its journal's hashes and its keys.
        devices: GPUs by PDI.
    """

    folder: Path
    processes: Processes
    world: World
    address: str = ""
    http: str = ""
    devices: dict[str, Device] = field(default_factory=dict)
    _boards: dict[str, Child] = field(default_factory=dict)
    _agents: dict[str, Child] = field(default_factory=dict)

    @property
    def officer_files(self) -> tuple[Path, Path, Path]:
        """CA, certificate and key of the officer."""
        pki = self.folder / "pki"
        return pki / "ca.pem", pki / f"{OFFICER}.pem", pki / f"{OFFICER}.key"

    @property
    def console_config(self) -> Path:
        """Settings file for the officer's command."""
        return self.folder / f"{OFFICER}.toml"

    @property
    def approver_config(self) -> Path:
        """Settings file for the approver's command."""
        return self.folder / f"{APPROVER}.toml"

    async def make_vendor_and_keys(self) -> None:
        """Make the emulated vendor, the server's CA and ticket key, and a certificate for each peer."""
        pki = self.folder / "pki"
        await asyncio.gather(
            run("trigpoint-emulator", "init", self.folder / "vendor"), run("trigpoint-server", "init", pki)
        )
        await asyncio.gather(
            run("trigpoint-server", "issue", pki, "officer", OFFICER),
            run("trigpoint-server", "issue", pki, "approver", APPROVER),
            *(
                run("trigpoint-server", "issue", pki, "agent", f"agent-{spec.key.lower()}", "--licensee", LICENSEE)
                for spec in self.world.servers
            ),
        )

    async def start_landmarks(self) -> None:
        """Start the landmarks, and write their records and the emulator's map of the world."""
        ticket_key = (await run("trigpoint-server", "ticket-key", self.folder / "pki")).strip()
        started = await asyncio.gather(*(self._start_landmark(spec, ticket_key) for spec in self.world.landmarks))
        records = [record for record, _ in started]
        places = {
            key_id: {"latitude": spec.spot.latitude, "longitude": spec.spot.longitude}
            for spec, (_, key_id) in zip(self.world.landmarks, started, strict=True)
        }
        (self.folder / "landmarks.json").write_text(json.dumps(records, indent=1))
        (self.folder / "world.json").write_text(json.dumps({"landmarks": places, "path_factor": PATH_FACTOR}, indent=1))

    async def _start_landmark(self, spec: LandmarkSpec, ticket_key: str) -> tuple[dict[str, object], str]:
        key = self.folder / f"landmark-{spec.name}.key"
        public_key = create_key(key).public_key.hex()
        arguments = ("serve", "--listen", "127.0.0.1:0", "--key", key, "--ticket-key", ticket_key)
        child = await self.processes.start(f"landmark-{spec.name}", "trigpoint-landmark", *arguments)
        return _landmark_record(spec, public_key, child.ready["endpoints"]), child.ready["key_id"]

    async def start_server(self) -> None:
        """Start the verifier's server and write a settings file for each person."""
        config = self.folder / "server.toml"
        config.write_text(_SERVER_TOML.format(interval_s=self.world.interval_s))
        child = await self.processes.start("server", "trigpoint-server", "serve", "--config", config)
        self.address, self.http = child.ready["address"], child.ready["http"]
        self._write_settings()

    def _write_settings(self) -> None:
        for name, settings in ((OFFICER, self.console_config), (APPROVER, self.approver_config)):
            lines = (f'server = "{self.address}"', 'ca = "pki/ca.pem"', f'cert = "pki/{name}.pem"')
            settings.write_text("\n".join((*lines, f'key = "pki/{name}.key"', "")))

    async def start_boards(self) -> None:
        """Make the boards and switch them on."""
        await asyncio.gather(*(self._start_board(spec) for spec in self.world.servers))

    async def _start_board(self, spec: ServerSpec) -> None:
        parts = ["--gpus", str(spec.gpus), "--switches", str(spec.switches)]
        if spec.gpus <= FREE_SLOT and spec.switches:
            parts += ["--empty-slots", str(FREE_SLOT)]
        await run("trigpoint-emulator", "make-board", self.folder / "vendor", self._board(spec.key), *parts)
        await self.switch_on(spec.key, spec.spot)
        for device in await BoardClient(self.socket(spec.key)).devices():
            if device.kind == "gpu":
                self.devices[device.pdi.hex()] = Device(device.pdi.hex(), spec.key, device.slot)

    async def import_records(self) -> str:
        """Import landmarks and deployments and put the licenses in force; another person approves each step.

        Returns what the import of deployments said.
        """
        await self.console("landmark", "import", str(self.folder / "landmarks.json"))
        await self.approve_all()
        rows = [_deployment(self.world, spec, pdi) for spec in self.world.servers for pdi in self._pdis_of(spec.key)]
        path = self.folder / "deployments.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        said = await self.console("deployment", "import", str(path), "--json")
        await self.console("license", "activate", "--drafts", "--reason", "the demonstration begins")
        await self.approve_all()
        return said

    async def approve_all(self) -> None:
        """Approve every change that waits, as the approver."""
        listed = json.loads(await self._run_console(self.approver_config, "change", "list", "--json"))
        numbers = [change["name"].removeprefix("changes/") for change in reversed(listed["changes"])]
        assert numbers, "nothing waits for approval"
        await self._run_console(self.approver_config, "change", "approve", *numbers, "--reason", "looked right")

    async def start_agents(self) -> None:
        """Start an agent beside each board."""
        await asyncio.gather(*(self.start_agent(spec.key) for spec in self.world.servers))

    async def start_agent(self, key: str) -> None:
        """Start the agent of one server."""
        pki, name = self.folder / "pki", f"agent-{key.lower()}"
        self._agents[key] = await self.processes.start(
            name,
            "trigpoint-agent",
            "run",
            "--server",
            self.address,
            "--host-id",
            f"server-{key.lower()}",
            "--source",
            "emulator",
            "--socket",
            self.socket(key),
            "--ca",
            pki / "ca.pem",
            "--cert",
            pki / f"{name}.pem",
            "--key",
            pki / f"{name}.key",
        )

    async def switch_on(self, key: str, spot: Spot, *faults: str) -> None:
        """Power a board on at a place, honest unless faults are named."""
        self._boards[key] = await self.processes.start(
            f"board-{key.lower()}",
            "trigpoint-emulator",
            "serve",
            self._board(key),
            "--socket",
            self.socket(key),
            "--place",
            str(spot),
            "--world",
            self.folder / "world.json",
            *(argument for fault in faults for argument in ("--fault", fault)),
        )

    async def move(self, key: str, spot: Spot) -> None:
        """Carry a running board to another place."""
        await run("trigpoint-emulator", "move", "--socket", self.socket(key), "--", str(spot))

    async def switch_off(self, key: str) -> None:
        """Power a board off."""
        await self._boards[key].stop()

    async def stop_agent(self, key: str) -> None:
        """Stop the agent of one server."""
        await self._agents[key].stop()

    async def steal(self, source: str, target: str) -> None:
        """Pull a GPU out of one board and put it into the free slot of another; both are off."""
        await run(
            "trigpoint-emulator",
            "pull",
            self._board(source) / f"gpu-{STOLEN_SLOT}",
            self._board(target) / f"gpu-{FREE_SLOT}",
        )

    async def console(self, *arguments: str) -> str:
        """Run the officers' command, as the officer."""
        return await self._run_console(self.console_config, *arguments)

    async def _run_console(self, settings: Path, *arguments: str) -> str:
        return await run("trigpoint", "--config", settings, *arguments)

    def socket(self, key: str) -> Path:
        """Control socket of a board."""
        return self.folder / f"board-{key.lower()}.sock"

    def _board(self, key: str) -> Path:
        return self.folder / "boards" / key.lower()

    def _pdis_of(self, key: str) -> list[str]:
        return [d.pdi for d in self.devices.values() if d.server == key]


def _landmark_record(spec: LandmarkSpec, public_key: str, endpoints: list[str]) -> dict[str, object]:
    return {
        "name": f"landmarks/{spec.name}",
        "public_key": public_key,
        "operator": spec.operator,
        "hoster": f"{spec.operator} building",
        "latitude": spec.spot.latitude,
        "longitude": spec.spot.longitude,
        "uncertainty_km": 0.1,
        "virtual_machine": False,
        "country": spec.country,
        "survey_method": "invented for the demonstration",
        "endpoints": endpoints,
    }


def _deployment(world: World, spec: ServerSpec, pdi: str) -> dict[str, object]:
    site = (
        (f"{spec.city} hall", spec.spot.latitude, spec.spot.longitude, spec.radius_km) if spec.radius_km else ("",) * 4
    )
    return {
        "device_pdi": pdi,
        "license_number": spec.license_number,
        "licensee": LICENSEE,
        "valid_from": "2026-01-01",
        "valid_until": "2036-01-01",
        "presence": spec.presence,
        **dict(zip(_SITE_COLUMNS, site, strict=True)),
        "country": spec.country,
        "cadence_s": world.cadence_s,
        "grace_s": world.grace_s,
    }
