"""What the repository promises about itself: generated code, lock, links, commands."""

import re
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/**/*.md")] if page.is_file()
)


def test_generated_code_is_what_the_schema_generates() -> None:
    done = subprocess.run([ROOT / "scripts/proto.sh", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_lock_names_no_host_and_hashes_everything() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "index-url" not in lock
    pinned = re.findall(r"^[a-z0-9-]+==", lock, re.MULTILINE)
    assert len(pinned) > 40
    assert len(re.findall(r"--hash=sha256:", lock)) >= len(pinned)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "command",
    [
        "trigpoint",
        "trigpoint-agent",
        "trigpoint-emulator",
        "trigpoint-landmark",
        "trigpoint-server",
        "trigpoint-witness",
    ],
)
def test_commands_load(command: str) -> None:
    (found,) = entry_points(group="console_scripts", name=command)
    assert callable(found.load())


def test_rules_that_code_cites_exist() -> None:
    """A rule number in a comment must stand in docs/protocol.md."""
    page = (ROOT / "docs/protocol.md").read_text()
    rules = set(re.findall(r"\*\*([A-Z]{1,2}\d+)\*\*", page))
    cited = {
        (rule, path.name)
        for room in ("verifier", "server", "landmark", "firmware_stubs", "agent", "witness", "console")
        for path in (ROOT / room).rglob("*.py")
        for line in path.read_text().splitlines()
        if "docs/protocol.md" in line
        for rule in re.findall(r"\b([A-Z]{1,2}\d)\b", line.split("docs/protocol.md", 1)[1])
    }
    assert len(cited) > 50
    assert {(rule, name) for rule, name in cited if rule not in rules and not rule.startswith(("P", "T"))} == set()


def test_every_rule_is_cited_by_code() -> None:
    """Rules that code keeps are named where it keeps them."""
    page = (ROOT / "docs/protocol.md").read_text()
    rules = set(re.findall(r"^\*\*([A-Z]{1,2}\d+)\*\*", page, re.MULTILINE))
    code = "\n".join(
        path.read_text()
        for room in ("verifier", "server", "landmark", "firmware_stubs", "agent", "witness", "console")
        for path in (ROOT / room).rglob("*.py")
    )
    cited = set(re.findall(r"\b([A-Z]{1,2}\d+)\b", code))
    assert sorted(rules - cited) == []
