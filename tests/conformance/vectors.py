"""Reads the conformance vectors; tests/vectors/README.md gives their format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

AUTHENTIC = "AUTHENTIC"


class UnusableVectorError(Exception):
    """A folder that holds no vectors, or a file that is none."""


def load(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return all vectors of a kind, in the order of their names, with the shared certificates put in.

    Raises:
        UnusableVectorError: There are none, or a file is none.
    """
    try:
        shared = json.loads((folder / "certificates.json").read_bytes())
        vectors = [_resolved(json.loads(path.read_bytes()), shared) for path in sorted((folder / kind).glob("*.json"))]
    except (OSError, ValueError, KeyError) as error:
        raise UnusableVectorError(f"{folder}: {error}") from error
    if not vectors:
        raise UnusableVectorError(f"{folder / kind}: no vectors")
    return vectors


def _resolved(vector: dict[str, Any], shared: Mapping[str, str]) -> dict[str, Any]:
    for member in ("roots", "chain"):
        if member in vector:
            vector[member] = [shared[text[1:]] if text.startswith("@") else text for text in vector[member]]
    return vector
