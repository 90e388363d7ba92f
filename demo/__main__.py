"""`make demo`: the story, told once without a terminal; with one, a live table, and the world stays up until Ctrl-C.

Exit code 0 only if what was flagged is exactly what should be.
"""

import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.live import Live

from demo.processes import DemoError, Processes
from demo.stage import Stage
from demo.story import Story
from demo.table import fleet_table
from demo.world import DEMO


async def _run(folder: Path) -> int:
    processes = Processes(folder)
    story = Story(Stage(folder, processes, DEMO), say=lambda line: print(line, flush=True))
    console = Console()
    try:
        await story.set_up()
        async with story.watching():
            if not console.is_terminal:
                return 0 if await story.play() else 1
            with Live(console=console, refresh_per_second=4, get_renderable=lambda: fleet_table(story)):
                story.say = console.print
                held = await story.play()
            console.print("The world stays up until Ctrl-C. In another terminal:", highlight=False)
            console.print(f".venv/bin/trigpoint --config {story.stage.console_config} device list", soft_wrap=True)
            await asyncio.Event().wait()
            return 0 if held else 1
    finally:
        await processes.stop_all()


async def _until_told(folder: Path) -> int:
    task = asyncio.create_task(_run(folder))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 130
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def main() -> None:
    """Run the demonstration in a folder of its own, which is removed unless something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="trigpoint-demo-"))
    code = asyncio.run(_until_told(folder))
    if code in {0, 130}:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"The logs are in {folder}.", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
