"""The story: an honest start, three crimes, and what the server flags.

It holds only if the flags are exactly those expected.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from trigpoint.v1 import device_pb2, licensing_pb2, licensing_pb2_grpc, place_pb2, reason_pb2

from demo.processes import DemoError
from demo.stage import APPROVER, OFFICER, Stage
from demo.world import FREE_SLOT, SHENZHEN, STOLEN_SLOT

WAIT_S = 180
TARGET_S = 60

Flag = tuple[str, str]
"""A device's PDI and a reason."""


@dataclass(slots=True)
class Fleet:
    """The devices as the server last told them."""

    devices: dict[str, device_pb2.Device] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def flags(self) -> dict[Flag, str]:
        """Every open finding, with why."""
        return {
            (pdi, reason_pb2.Reason.Name(finding.reason).removeprefix("REASON_")): finding.detail
            for pdi, device in self.devices.items()
            for finding in device.findings
        }

    def all_compliant(self) -> bool:
        """Whether every device is."""
        return all(d.standing == device_pb2.STANDING_COMPLIANT for d in self.devices.values())


@dataclass(slots=True)
class Story:
    """Tells the story on a stage.

    Attributes:
        stage: The world.
        say: Prints one line.
        fleet: What the server tells.
        started: Monotonic seconds at the beginning.
    """

    stage: Stage
    say: Callable[[str], None]
    fleet: Fleet = field(default_factory=Fleet)
    started: float = field(default_factory=time.monotonic)

    async def set_up(self) -> None:
        """Start everything but the agents, and import the records."""
        world = self.stage.world
        self._tell(f"Making keys and starting {len(world.landmarks)} landmarks and {len(world.servers)} servers ...")
        await self.stage.make_vendor_and_keys()
        await self.stage.start_landmarks()
        operators = len({spec.operator for spec in self.stage.world.landmarks})
        self._tell(f"{len(self.stage.world.landmarks)} landmarks of {operators} operators listen.")
        await self.stage.start_server()
        self._tell(f"The server answers on {self.stage.address}.")
        await self.stage.start_boards()
        await self.stage.import_records()
        where = ", ".join(
            f"{s.key} ({s.gpus} GPU{'s' if s.gpus > 1 else ''}, {s.city})" for s in self.stage.world.servers
        )
        self._tell(f"Servers {where} are on.")
        self._tell(
            f"Officer {OFFICER} imported {len(world.landmarks)} landmarks and {len(self.stage.devices)} deployments "
            f"and activated {len({s.license_number for s in world.servers})} licenses; approver {APPROVER} approved."
        )
        await self.stage.start_agents()

    async def play(self) -> bool:
        """Wait for an honest fleet, commit the crimes, wait for the flags.

        Returns whether the flags are exactly those expected.
        """
        await self._until(self.fleet.all_compliant, WAIT_S)
        self._tell(f"All {len(self.fleet.devices)} GPUs are COMPLIANT: identity, board, firmware and place are proven.")
        self._tell_unprovable_site()

        await self.stage.move("B", SHENZHEN)
        self._tell("Crime 1: server B is carried from Brasilia to Shenzhen.")
        for key in ("A", "C"):
            await self.stage.stop_agent(key)
            await self.stage.switch_off(key)
        await self.stage.steal("A", "C")
        await self.stage.switch_on("C", self.stage.world.server("C").spot)
        await self.stage.start_agent("C")
        self._tell(f"Crime 2: GPU {STOLEN_SLOT} of server A now sits in slot {FREE_SLOT} of server C.")
        self._tell("Crime 3: server A stays dark.")

        expected = self.expected()
        held = await self._until(lambda: self.fleet.flags().keys() == expected, WAIT_S - self.elapsed_s(), must=False)
        self.report(expected)
        return held

    def _tell_unprovable_site(self) -> None:
        """Tell of the device whose license asks for less than its site, since its site cannot be proven."""
        for device in self.stage.devices.values():
            fix = self.fleet.devices[device.pdi].last_fix
            if self.stage.world.server(device.server).presence != "outside_prohibited":
                continue
            answers = [
                f"{what} {place_pb2.PlaceAnswer.Name(answer).removeprefix('PLACE_ANSWER_')}"
                for what, answer in (
                    ("its site is", fix.in_licensed_region),
                    ("that it is outside prohibited destinations is", fix.outside_prohibited),
                )
            ]
            self._tell(f"{device}: {', '.join(answers)}, and that is what its license asks for.")
            self.say(f"    why: {fix.explanation}")

    def expected(self) -> set[Flag]:
        """Exactly what must be flagged at the end."""
        flags: set[Flag] = set()
        for device in self.stage.devices.values():
            if device.server == "B":
                flags.add((device.pdi, "OUTSIDE_LICENSED_REGION"))
            elif device.server == "A" and device.slot == STOLEN_SLOT:
                flags |= {(device.pdi, "BOARD_CHANGED"), (device.pdi, "OUTSIDE_LICENSED_REGION")}
            elif device.server == "A":
                flags.add((device.pdi, "SILENT"))
        return flags

    def report(self, expected: set[Flag]) -> None:
        """Print every flag on a line of its own, each with why, and what differs from the expected ones."""
        flags = self.fleet.flags()
        self.say("")
        for (pdi, reason), why in sorted(
            flags.items(), key=lambda item: (str(self.stage.devices[item[0][0]]), item[0])
        ):
            self.say(f"{pdi} {reason} ({self.stage.devices[pdi]})")
            self.say(f"    why: {why}")
        self.say("")
        missing, unexpected = expected - flags.keys(), flags.keys() - expected
        for what, odd in (("MISSING", missing), ("NOT EXPECTED", unexpected)):
            for pdi, reason in sorted(odd):
                self.say(f"{what}: {pdi} {reason} ({self.stage.devices[pdi]})")
        verdict = "exactly as expected" if not missing and not unexpected else "NOT as expected"
        self.say(
            f"{len(flags)} flags on {len({pdi for pdi, _ in flags})} of {len(self.stage.devices)} GPUs, {verdict}, "
            f"after {self.elapsed_s():.0f} s (target {TARGET_S} s)."
        )

    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow the server's devices as an officer, until the block ends."""
        ca, cert, key = self.stage.officer_files
        credentials = grpc.ssl_channel_credentials(ca.read_bytes(), key.read_bytes(), cert.read_bytes())
        async with grpc.aio.secure_channel(self.stage.address, credentials) as channel:
            stub = licensing_pb2_grpc.LicensingServiceStub(channel)
            task = asyncio.create_task(self._follow(stub))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, stub: "licensing_pb2_grpc.LicensingServiceAsyncStub") -> None:
        async for response in stub.WatchDevices(licensing_pb2.WatchDevicesRequest(filter='kind = "GPU"')):
            for device in response.devices:
                self.fleet.devices[device.name.removeprefix("devices/")] = device
            self.fleet.changed.set()

    async def _until(self, holds: Callable[[], bool], within_s: float, *, must: bool = True) -> bool:
        deadline = time.monotonic() + within_s
        while len(self.fleet.devices) < len(self.stage.devices) or not holds():
            left = deadline - time.monotonic()
            if left <= 0:
                if must:
                    raise DemoError(
                        f"the fleet did not become compliant within {within_s:.0f} s: {_summary(self.fleet.flags())}"
                    )
                return False
            self.fleet.changed.clear()
            try:
                await asyncio.wait_for(self.fleet.changed.wait(), left)
            except TimeoutError:
                continue
        return True

    def _tell(self, line: str) -> None:
        self.say(f"[{self.elapsed_s():5.1f} s] {line}")


def _summary(flags: Mapping[Flag, str]) -> str:
    return "; ".join(f"{pdi} {reason}: {why}" for (pdi, reason), why in sorted(flags.items())) or "no device reported"
