"""The command `trigpoint-emulator` as a process: it makes, serves, ends, and leaves nothing behind."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from firmware_stubs.client import BoardClient
from firmware_stubs.errors import BadRequestError
from firmware_stubs.faults import Fault
from firmware_stubs.geography import World
from tests.firmware.conftest import MakeBoard

COMMAND = [sys.executable, "-m", "firmware_stubs.main"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


@contextmanager
def served(board: Path, world: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any], int]]:
    """The process, its ready line, and a pidfd of its responder."""
    command = [*COMMAND, "serve", str(board), "--socket", str(board.parent / "s.sock"), "--world", str(world)]
    with subprocess.Popen(
        [*command, "--place", "-33.8,151.2", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
            assert len(children) == 1
            responder = os.pidfd_open(int(children[0]))
            try:
                yield process, ready, responder
            finally:
                os.close(responder)
        finally:
            process.kill()


def wait_for_end(pidfd: int) -> None:
    """Return once that process is gone; the test's own time limit bounds it."""

    async def wait() -> None:
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(pidfd, gone.set)
        await gone.wait()
        loop.remove_reader(pidfd)

    asyncio.run(wait())


def test_init_and_make_board(tmp_path: Path) -> None:
    assert run("init", tmp_path / "ca").returncode == 0
    made = run("make-board", tmp_path / "ca", tmp_path / "c", "--gpus", 2, "--switches", 1, "--empty-slots", "0,2")
    assert made.returncode == 0
    told = json.loads(made.stdout)
    assert told["board"] == "c"
    assert [(entry["slot"], entry["kind"]) for entry in told["devices"]] == [
        ("gpu-1", "gpu"),
        ("gpu-3", "gpu"),
        ("switch-0", "switch"),
    ]
    assert all(len(bytes.fromhex(entry["pdi"])) == 8 for entry in told["devices"])
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["gpu-1", "gpu-3", "switch-0"]
    assert run("pull", tmp_path / "c" / "gpu-1", tmp_path / "c" / "gpu-7").returncode == 0
    again = run("init", tmp_path / "ca")
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1


def test_unusable_input_is_one_line_and_status_2(new_board: MakeBoard, tmp_path: Path, world_file: Path) -> None:
    board = new_board()
    good = ["serve", board, "--socket", tmp_path / "s", "--place", "1,2", "--world", world_file]
    for wrong in (
        [*good[:-1], tmp_path / "none.json"],
        [*good[:5], "1;2", *good[6:]],
        ["serve", tmp_path / "no-board", *good[2:]],
        [*good, "--fault", "no_such_lie"],
        ["move", "--socket", tmp_path / "s", "1,2"],
    ):
        result = run(*wrong)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("trigpoint-emulator: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"landmarks": []}', "needs a table landmarks: key id → latitude, longitude"),
        ('{"landmarks": {"zz": {"latitude": 1, "longitude": 2}}}', "needs a table landmarks"),
        ("[", "is not JSON"),
        ('{"landmarks": {}, "path_factor": "far"}', "path_factor 'far'"),
    ],
)
def test_a_bad_world_file_says_what_it_needs(tmp_path: Path, content: str, said: str) -> None:
    world = tmp_path / "world.json"
    world.write_text(content, encoding="utf-8")
    with pytest.raises(BadRequestError, match=re.escape(said)):
        World.load(world)


def test_the_page_and_the_help_name_every_fault() -> None:
    page = (Path(__file__).parents[2] / "docs/emulator.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z_]+)", page, re.MULTILINE) == list(Fault)
    shown = re.sub(r"[^a-z_]", " ", run("serve", "--help").stdout).split()
    assert set(Fault) <= set(shown)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_cleanly_when_told(new_board: MakeBoard, world_file: Path, number: int) -> None:
    with served(new_board(gpus=2), world_file) as (process, ready, responder):
        assert ready["ready"] is True
        assert ready["devices"] == 2
        assert run("move", "--socket", ready["socket"], "-12.5,-77").returncode == 0
        assert len(asyncio.run(BoardClient(ready["socket"]).devices())) == 2
        process.send_signal(number)
        assert process.wait() == 0
        wait_for_end(responder)
        assert not Path(ready["socket"]).exists()


def test_killed_board_leaves_no_child(new_board: MakeBoard, world_file: Path) -> None:
    board = new_board()
    with served(board, world_file) as (process, ready, responder):
        process.kill()
        process.wait()
        wait_for_end(responder)
    with served(board, world_file) as (_, again, _):  # the socket that was left is replaced
        assert again["socket"] == ready["socket"]


def test_board_ends_when_its_responder_dies(new_board: MakeBoard, world_file: Path) -> None:
    with served(new_board(), world_file) as (process, _, responder):
        signal.pidfd_send_signal(responder, signal.SIGKILL)
        assert process.wait() == 1


def test_client_imports_stay_light() -> None:
    script = "import sys, firmware_stubs.client; print('cryptography' in sys.modules, 'typer' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"
