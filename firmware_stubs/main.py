"""The command `trigpoint-emulator`: makes a vendor's CA and boards, and serves a board.

Standard output carries JSON or nothing; the log goes to standard error.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer

from firmware_stubs.board import Board, make_board, move_device, slots_of
from firmware_stubs.ca import DeviceCA
from firmware_stubs.client import BoardClient, BoardError
from firmware_stubs.control import ControlServer
from firmware_stubs.device import Device
from firmware_stubs.errors import EmulatorError
from firmware_stubs.faults import Fault
from firmware_stubs.firmware import GPU_CURRENT, image_named
from firmware_stubs.geography import Place, World

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Emulated HGX boards."
)

_FAULT_HELP = f"A lie to tell, NAME or NAME:ARGUMENT; may be repeated. Names: {', '.join(Fault)}."
_SocketOption = Annotated[Path, typer.Option("--socket", help="Control socket of the board.")]


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="Directory for the CA.")]) -> None:
    """Make a vendor: device CA, pinned root and reference values."""
    DeviceCA.create(directory)


@app.command("make-board")
def make_board_command(
    ca_directory: Annotated[Path, typer.Argument(help="The vendor, from `init`.")],
    board_directory: Annotated[Path, typer.Argument(help="Directory for the board; its name is the board's.")],
    gpus: Annotated[int, typer.Option(help="How many GPUs, up to 8.")] = 8,
    switches: Annotated[int, typer.Option(help="How many switches, up to 4.")] = 4,
    empty_slots: Annotated[str, typer.Option(help="GPU slots to leave free, such as 3,7.")] = "",
    gpu_firmware: Annotated[str, typer.Option(help="Firmware image of the GPUs.")] = GPU_CURRENT.name,
) -> None:
    """Make devices and put them on a new board. Prints JSON: slot, kind and PDI of each."""
    try:
        empty = [int(slot) for slot in empty_slots.split(",") if slot]
    except ValueError as error:
        raise typer.BadParameter("slots are numbers", param_hint="--empty-slots") from error
    make_board(
        board_directory,
        DeviceCA.load(ca_directory),
        gpus=gpus,
        switches=switches,
        empty_slots=empty,
        gpu_image=image_named(gpu_firmware),
    )
    made = [(slot, Device.load(board_directory / slot)) for slot in slots_of(board_directory)]
    devices = [{"slot": slot, "kind": device.kind.value, "pdi": device.pdi.hex()} for slot, device in made]
    print(json.dumps({"board": board_directory.resolve().name, "devices": devices}))  # noqa: T201 -- for a script


@app.command()
def serve(
    board_directory: Annotated[Path, typer.Argument(help="The board.")],
    socket: _SocketOption,
    place: Annotated[str, typer.Option(help="Where it is: LAT,LON in degrees.")],
    world: Annotated[Path, typer.Option(help="JSON file with the landmarks' places.")],
    fault: Annotated[list[str] | None, typer.Option(help=_FAULT_HELP)] = None,
) -> None:
    """Switch a board on and serve it until SIGTERM or SIGINT. Prints one line of JSON when ready."""
    raise typer.Exit(
        asyncio.run(_serve(board_directory, socket, Place.parse(place), World.load(world), tuple(fault or ())))
    )


@app.command(context_settings={"ignore_unknown_options": True})
def move(place: Annotated[str, typer.Argument(help="LAT,LON in degrees.")], socket: _SocketOption) -> None:
    """Put a board that is being served elsewhere."""
    target = Place.parse(place)
    asyncio.run(BoardClient(socket).move(target.latitude, target.longitude))


@app.command()
def pull(
    source: Annotated[Path, typer.Argument(help="Slot to empty, such as boards/a/gpu-3.")],
    target: Annotated[Path, typer.Argument(help="Free slot, such as boards/c/gpu-7.")],
) -> None:
    """Take a device out of its board and put it into another; both notice when they are next switched on."""
    move_device(source, target)


async def _serve(directory: Path, socket: Path, place: Place, world: World, faults: tuple[str, ...]) -> int:
    """Exit status: 0 when told to stop, 1 when the responder died."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    board = await Board.start(directory, place, world, faults)
    log = structlog.get_logger().bind(board=board.name)
    try:
        async with ControlServer(board, socket):
            ready = {"ready": True, "board": board.name, "socket": str(socket), "devices": len(board.devices())}
            print(json.dumps(ready), flush=True)  # noqa: T201 -- what the command is for
            log.info("board.ready", devices=ready["devices"], faults=faults, responder=board.responder.pid)
            waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(board.responder.ended.wait())]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
    finally:
        await board.close()
    log.info("board.stopped", told=stop.is_set())
    return 0 if stop.is_set() else 1


def main() -> None:
    """Run the command; an error that the user can mend is one line and exit status 2."""
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        app()
    except (EmulatorError, BoardError) as error:
        print(f"trigpoint-emulator: {error}", file=sys.stderr)  # noqa: T201 -- for a person
        sys.exit(2)


if __name__ == "__main__":
    main()
