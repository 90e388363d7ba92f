"""The live table: one row a server, one letter a GPU, and the flags that stand."""

from collections import Counter

from rich.table import Table
from rich.text import Text
from trigpoint.v1 import device_pb2

from demo.story import Story
from demo.world import LICENSEE

_STYLES = {
    device_pb2.STANDING_COMPLIANT: "green",
    device_pb2.STANDING_UNPROVEN: "yellow",
    device_pb2.STANDING_SILENT: "bold magenta",
    device_pb2.STANDING_VIOLATION: "bold red",
    device_pb2.STANDING_UNLICENSED: "bold red",
}
_SQUARE = "■"


def fleet_table(story: Story) -> Table:
    """Return the table as the fleet stands; 80 columns hold it."""
    table = Table(title=f"{LICENSEE}, {story.elapsed_s():.0f} s", expand=False)
    for column in ("server", "licensed to", "GPUs", "standing and flags"):
        table.add_column(column, no_wrap=column != "licensed to")
    flags = story.fleet.flags()
    for spec in story.stage.world.servers:
        members = sorted((d for d in story.stage.devices.values() if d.server == spec.key), key=lambda d: d.slot)
        squares, standings = Text(), Counter[str]()
        for member in members:
            device = story.fleet.devices.get(member.pdi)
            standing = device.standing if device else device_pb2.STANDING_UNPROVEN
            squares.append(_SQUARE, style=_STYLES.get(standing, "white"))
            standings[device_pb2.Standing.Name(standing).removeprefix("STANDING_")] += 1
        pdis = {m.pdi for m in members}
        reasons = Counter(reason for pdi, reason in flags if pdi in pdis)
        lines = [f"{count} {name}" for name, count in standings.items()]
        lines += [f"  {count} {name}" for name, count in sorted(reasons.items())]
        where = spec.country or f"{spec.radius_km:,.0f} km around {spec.city}"
        if spec.presence == "outside_prohibited":
            where = f"{where}; to prove: outside prohibited destinations"
        table.add_row(spec.key, where, squares, "\n".join(lines))
    return table
