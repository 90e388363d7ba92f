"""The relying party of docs/results.md, as it stands on the page, run as a process of its own."""

import asyncio
import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"
MOST_LINES = 24


def write_program(folder: Path) -> Path:
    """Write the page's program into a file."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in source.splitlines() if line.strip()]) <= MOST_LINES
    path = folder / "admit.py"
    path.write_text(source, encoding="utf-8")
    return path


async def admits(program: Path, url: str, token: str, pdi: str) -> tuple[int, str]:
    """Run it with the keys that `url` publishes; returns its exit code and the last thing that it says."""
    arguments = (str(program), f"{url}/.well-known/jwks.json", token, pdi)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode().strip().splitlines()[-1]
