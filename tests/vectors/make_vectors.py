"""Writes the vectors: `python -m tests.vectors.make_vectors [FOLDER]`, by default into this folder.

What is there and is no longer made is removed. README.md gives the format.
"""

import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from tests.vectors import claims_vectors, range_vectors, report_vectors

HERE = Path(__file__).resolve().parent
KINDS = ("report", "claims", "range")
CERTIFICATES = "certificates.json"


def make() -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The shared certificates by name, and every vector as its file holds it."""
    shared = {
        f"{name}-{position}": der.hex()
        for name, certificates in (("gpu", report_vectors.GPU_CHAIN), ("switch", report_vectors.SWITCH_CHAIN))
        for position, der in enumerate(certificates)
        if (name, position) not in {("switch", 2), ("switch", 3), ("switch", 4)}  # those of the GPU
    }
    named = {text: f"@{name}" for name, text in shared.items()}
    vectors: list[dict[str, Any]] = []
    for vector in chain(report_vectors.vectors(), claims_vectors.vectors(), range_vectors.vectors()):
        for member in ("roots", "chain"):
            if member in vector:
                vector[member] = [named.get(text, text) for text in vector[member]]
        vectors.append(vector)
    names = [(v["kind"], v["name"]) for v in vectors]
    if len(set(names)) != len(names):
        raise ValueError(f"two vectors have one name: {sorted(n for n in names if names.count(n) > 1)}")
    return shared, vectors


def files() -> Iterator[tuple[str, bytes]]:
    """Path within the folder, and content, of every file."""
    shared, vectors = make()
    yield CERTIFICATES, _text(shared)
    for vector in vectors:
        yield f"{vector['kind']}/{vector['name']}.json", _text(vector)


def write(folder: Path) -> int:
    """Write all files, remove vectors that are no longer made, and return how many vectors there are."""
    made = dict(files())
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for old in (folder / kind).glob("*.json"):
            if f"{kind}/{old.name}" not in made:
                old.unlink()
    for path, content in made.items():
        (folder / path).write_bytes(content)
    return len(made) - 1


def _text(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    sys.stdout.write(f"{write(target)} vectors in {target}\n")
