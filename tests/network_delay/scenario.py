"""The network under test, and one run on it: what is measured, and what the shuttle says that it did."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.world import LandmarkSpec, ServerSpec, Spot, World
from tests.network_delay.shuttle import Link
from tests.network_delay.stage import NetworkStage, PlacedProcesses

MS = 1_000_000
VERDICTS = 3
VERDICTS_MAX = 8
JITTER_NS = 4 * MS
LOSS = 0.1

# All landmarks stand at one place, as far as anybody is told: what tells them apart is the network alone.
_DALLAS = Spot(32.78, -96.80)
WORLD = World(
    landmarks=(
        LandmarkSpec("beside", "Lone Star Timing", "US", _DALLAS),
        LandmarkSpec("near", "Prairie Exchange", "US", _DALLAS),
        LandmarkSpec("far", "Planalto Metrology", "US", _DALLAS),
        LandmarkSpec("rough", "Rhine Clockworks", "US", _DALLAS),
    ),
    servers=(ServerSpec("A", "Dallas", _DALLAS, 1, "TEST-0001", "site", radius_km=1000, switches=0),),
    cadence_s=2,  # devices are asked no oftener than every half of it (docs/protocol.md K3)
    grace_s=3600,
    interval_s=1,
)
LANDMARKS = tuple(spec.name for spec in WORLD.landmarks)
LINKS = (
    Link("board", "server", 0),
    Link("server", "board", 0),
    Link("board", "beside", 0),
    Link("beside", "board", 0),
    Link("board", "near", 5 * MS),
    Link("near", "board", 5 * MS),
    Link("board", "far", 4 * MS),  # two ways of different length: their sum counts
    Link("far", "board", 11 * MS),
    Link("board", "rough", 10 * MS, jitter_ns=JITTER_NS, loss=LOSS),
    Link("rough", "board", 10 * MS, jitter_ns=JITTER_NS, loss=LOSS),
)


def base_ns(landmark: str) -> int:
    """The least time that a packet to a landmark and its answer are under way."""
    return sum(link.delay_ns for link in LINKS if landmark in {link.source, link.target})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run showed.

    Attributes:
        devices: The GPU after each verdict, as the officers' command shows it.
        carried: What the shuttle carried and lost, by source and target.
    """

    devices: tuple[dict[str, Any], ...]
    carried: dict[tuple[str, str], dict[str, Any]]

    @property
    def round_trips_ns(self) -> tuple[dict[str, int], ...]:
        """For each verdict what each landmark signed, in the order of its discs."""
        return tuple({disc["landmark_id"]: disc["rtt_ns"] for disc in d["last_fix"]["discs"]} for d in self.devices)


async def measure(folder: Path) -> Outcome:
    """Run everything from keys to verdicts, and end it.

    Raises:
        NoNetworkError: Such a network cannot be made here.
    """
    processes = PlacedProcesses(folder, ("board", "server", *LANDMARKS), LINKS)
    stage = NetworkStage(folder, processes, WORLD)
    devices: list[dict[str, Any]] = []
    whole = 0
    try:
        await processes.start_network()
        await stage.make_vendor_and_keys()
        await stage.start_landmarks()
        await asyncio.gather(stage.start_server(), stage.start_boards())
        await stage.import_records()
        await asyncio.gather(stage.start_watch(), stage.start_agents())
        while whole < VERDICTS and len(devices) < VERDICTS_MAX:
            device = await stage.next_verdict()
            devices.append(device)
            # On the rough link a whole session may be lost; the next verdict has another.
            whole += len(device["last_fix"]["discs"]) == len(LANDMARKS)
    finally:
        await processes.stop_all()
    return Outcome(tuple(devices), processes.carried())
