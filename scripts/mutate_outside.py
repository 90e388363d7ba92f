"""The mutants that mutmut does not make: in constants of modules and classes, and in decorated functions.

mutmut changes functions alone, since it chooses among their mutants while the program runs. Here the file is rewritten
for each mutant, and the tests start afresh.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import ndiff
from fnmatch import fnmatch
from pathlib import Path
from queue import SimpleQueue
from shutil import copytree, rmtree

import libcst as cst
from libcst.metadata import MetadataWrapper
from mutmut.configuration import config
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode
from mutmut.utils.file_utils import walk_mutatable_files

WORK = Path("outside")
LONGEST_S = 600
"""The tests take half a minute; a mutant that takes this long never ends."""


@dataclass(frozen=True, slots=True)
class Outside:
    """One mutant: the file, its new text, and a name as mutmut's are."""

    path: Path
    code: str
    name: str
    change: str


class OutsideVisitor(MutationVisitor):
    """Collects mutations in decorated functions too."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.decorators:
            return False
        return super()._skip_node_and_children(node)


def made_by_mutmut(function: cst.CSTNode | None) -> bool:
    """Whether mutmut makes the mutants of this function or statement."""
    if not isinstance(function, cst.FunctionDef):
        return False
    names = [d.decorator.value for d in function.decorators if isinstance(d.decorator, cst.Name)]
    return not function.decorators or names in (["classmethod"], ["staticmethod"])


def mutants() -> Iterator[Outside]:
    """Make all mutants."""
    for path in sorted(walk_mutatable_files()):
        text = path.read_text()
        visitor = OutsideVisitor(mutation_operators, IgnoredCode(set(), set(), set()))
        module = MetadataWrapper(cst.parse_module(text)).visit(visitor)
        place = ".".join(path.with_suffix("").parts)
        kept = (m for m in visitor.mutations if not made_by_mutmut(m.contained_by_top_level_function))
        for number, mutation in enumerate(kept, start=1):
            code = module.deep_replace(mutation.original_node, mutation.mutated_node).code
            changed = [line for line in ndiff(text.splitlines(), code.splitlines()) if line[:2] in {"- ", "+ "}]
            old, new = (" ".join(line[2:].strip() for line in changed if line.startswith(sign)) for sign in "-+")
            yield Outside(path, code, f"{place}.outside_{number}", f"{place.removeprefix('verifier.')}: {old} -> {new}")


def run(patterns: Sequence[str], jobs: int) -> tuple[int, list[str]]:
    """Test the mutants whose names match; return how many there are and what the survivors change."""
    rooms: SimpleQueue[Path] = SimpleQueue()
    for number in range(jobs):
        room = WORK / str(number)
        rmtree(room, ignore_errors=True)
        for folder in ("verifier", "tests", "firmware_stubs", "geodata", "proto"):
            copytree(folder, room / folder)
        (room / "pyproject.toml").write_bytes(Path("pyproject.toml").read_bytes())
        rooms.put(room.absolute())
    chosen = [m for m in mutants() if not patterns or any(fnmatch(m.name, p) for p in patterns)]
    for path in dict.fromkeys(m.path.parent / "__init__.py" for m in chosen):
        room = rooms.get()
        if not _survives(Outside(path, path.read_text(), "", ""), room):
            raise SystemExit(f"the tests of {path.parent} fail without any mutant")
        rooms.put(room)

    def survives(mutant: Outside) -> bool:
        room = rooms.get()
        try:
            return _survives(mutant, room)
        finally:
            (room / mutant.path).write_bytes(mutant.path.read_bytes())
            rooms.put(room)

    with ThreadPoolExecutor(jobs) as pool:
        ends = list(pool.map(survives, chosen))
    return len(chosen), [m.change for m, alive in zip(chosen, ends, strict=True) if alive]


def _survives(mutant: Outside, room: Path) -> bool:
    (room / mutant.path).write_text(mutant.code)
    # The tests of the mutant's own room find it soonest.
    own = sorted(
        f"tests/verifier/{p.name}" for p in Path("tests/verifier").glob(f"test_{mutant.path.parent.name}_*.py")
    )
    # Here the code is plain, so the test that reads it can run too: it compares numbers with the schema's.
    options = [o for o in config().pytest_add_cli_args if not o.endswith("_purity.py")]
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", *options]
    for tests in (own, [*config().pytest_add_cli_args_test_selection, *(f"--ignore={t}" for t in own)]):
        try:
            done = subprocess.run(  # noqa: S603  # its own interpreter
                [*command, *tests],
                cwd=room,
                env=os.environ | {"PYTHONPATH": f"{room}:{room / 'proto' / 'gen'}"},
                capture_output=True,
                check=False,
                timeout=LONGEST_S,
            )
        except subprocess.TimeoutExpired:
            return False
        if done.returncode:
            return False
    return True
