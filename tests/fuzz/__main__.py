"""`python -m tests.fuzz DOOR --runs N`: sends bent inputs through one door of tests/fuzz/doors.py.

It uses atheris where that is installed (it is not among the project's dependencies: `.venv/bin/pip install atheris`, or
`uv pip install atheris`, on Linux with CPython 3.11 to 3.13), which follows coverage; else its own mutator, which does
not. An input that a door does not stand is written to `fuzz-DOOR.bin`, and `--input FILE` sends one file again.
"""

import argparse
import importlib
import importlib.util
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import OVERSIZE_BYTES, mutated

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one door; 0 when it stood every input, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("door", help="a name, or 'list'")
    parser.add_argument("--runs", type=int, default=10_000, help="how many inputs")
    parser.add_argument("--seed", type=int, default=1, help="where the inputs begin")
    parser.add_argument("--input", type=Path, help="send this file once")
    parser.add_argument("--plain", action="store_true", help="use the mutator here even where atheris is installed")
    options = parser.parse_args(arguments)
    atheris = (
        None if options.plain or importlib.util.find_spec("atheris") is None else importlib.import_module("atheris")
    )
    doors = _doors(atheris)
    if options.door == "list":
        sys.stdout.write("\n".join(doors) + "\n")
        return 0
    if options.door not in doors:
        sys.stderr.write(f"tests.fuzz: no door is called {options.door!r}; 'list' names them\n")
        return USAGE_ERROR
    door = doors[options.door]
    if options.input is not None:
        door.fuzz(options.input.read_bytes())
        return 0
    if atheris is not None:
        _follow(atheris, door, options.runs, options.seed)
        return 0
    return _plain(door, options.runs, options.seed)


def _doors(atheris: Any) -> Any:
    if atheris is None:
        return importlib.import_module("tests.fuzz.doors").DOORS
    # Only what is imported in here is followed.
    with atheris.instrument_imports(include=["verifier", "landmark", "firmware_stubs"]):
        return importlib.import_module("tests.fuzz.doors").DOORS


def _follow(atheris: Any, door: Any, runs: int, seed: int) -> None:
    """Let atheris choose the inputs. It ends the process itself, with a non-zero code when the door falls."""
    with tempfile.TemporaryDirectory(prefix="trigpoint-fuzz-") as name:
        for number, sample in enumerate(door.samples()):
            (Path(name) / f"sample-{number}").write_bytes(sample)
        flags = [f"-runs={runs}", f"-seed={seed}", f"-max_len={OVERSIZE_BYTES}", f"-artifact_prefix=fuzz-{door.name}-"]
        atheris.Setup([sys.argv[0], *flags, name], door.fuzz)
        atheris.Fuzz()


def _plain(door: Any, runs: int, seed: int) -> int:
    rng, samples = random.Random(seed), door.samples()
    for number in range(runs):
        data = mutated(samples, rng)
        try:
            door.fuzz(data)
        except BaseException:
            path = Path(f"fuzz-{door.name}.bin")
            path.write_bytes(data)
            sys.stderr.write(f"tests.fuzz: input {number} of seed {seed} broke {door.name}; it is in {path}\n")
            raise
    sys.stdout.write(f"{door.name}: {runs} inputs of seed {seed}, none broke it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
