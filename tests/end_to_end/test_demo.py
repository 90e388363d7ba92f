"""The demonstration is a promise of the README: it must hold, and leave nothing behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]


def _demo(tmp_path: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )


def _processes_in(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    lines = []
    for entry in Path("/proc").iterdir():
        try:
            lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except (OSError, ValueError):
            continue
    return [line for line in lines if str(folder) in line]


def test_the_story_holds_exactly(tmp_path: Path) -> None:
    with _demo(tmp_path) as process:
        out, _ = process.communicate()
    assert process.returncode == 0, out
    flags = re.findall(r"^([0-9a-f]{16}) ([A-Z_]+) \(([ABC])/gpu-(\d)\)$", out, re.MULTILINE)
    assert len(flags) == 17
    by_device: dict[tuple[str, int], list[str]] = {}
    for _, reason, server, slot in flags:
        by_device.setdefault((server, int(slot)), []).append(reason)
    expected = {("B", slot): ["OUTSIDE_LICENSED_REGION"] for slot in range(8)}
    expected |= {("A", slot): ["SILENT"] for slot in range(8) if slot != 3}
    expected["A", 3] = ["BOARD_CHANGED", "OUTSIDE_LICENSED_REGION"]
    assert by_device == expected
    assert out.count("    why: ") == 18
    # A device whose site cannot be proven is proven out of prohibited destinations, and both are said.
    told = re.search(r"D/gpu-0: its site is (\w+), that it is outside prohibited .* is (\w+), and.*\n(.*)", out)
    assert told is not None, out
    assert told.group(1) in {"UNPROVEN", "INDICATED"}
    assert told.group(2) == "PROVEN"
    assert "neither proves nor excludes the licensed region, site Singapore hall (50 km" in told.group(3)
    assert re.search(r"nearest prohibited destination is [\d,]+ and [\d,]+ km away", told.group(3))
    assert _processes_in(tmp_path) == []


def test_interrupting_it_leaves_nothing_running(tmp_path: Path) -> None:
    with _demo(tmp_path) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        while line and "landmarks of" not in line:
            line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    assert _processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
