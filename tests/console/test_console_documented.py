"""Every command in a code block of the pages can be typed as it stands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.cli import app

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/officers.md", "docs/import.md", "docs/planning.md", "docs/landmarks.md", "docs/agents.md")
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands() -> Iterator[str]:
    """Yield each line that begins with the command, joined with those that continue it."""
    for page in PAGES:
        for block in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"(?:\.venv/bin/)?trigpoint ", line):
                    yield line


COMMANDS = sorted(set(commands()))


def test_there_are_some() -> None:
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("line", COMMANDS)
def test_it_can_be_typed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, *arguments = shlex.split(line.partition(" > ")[0], comments=True)
    offline = arguments[0] == "verify" or arguments[:2] == ["deployment", "draft"]
    # A device that is watched for is waited for, so there only the options are read.
    elsewhere = [] if offline else ["--help"] if arguments[:2] == ["device", "watch"] else ["--server", "127.0.0.1:1"]
    result = CliRunner().invoke(app, [*arguments, *elsewhere, *([] if offline else ["--plaintext"])])
    assert "Usage:" not in result.stderr, result.stderr
    # Files are not there, or the server is not.
    assert result.exit_code in ({0} if "--help" in elsewhere else {2, 3}), result.stderr
