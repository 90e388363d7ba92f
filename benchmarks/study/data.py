"""Reads a folder of measured round trips: landmarks.csv, rtt.csv and, for scoring only, known_bad_ids.txt."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from verifier.errors import UsageError
from verifier.place.geodesy import Position
from verifier.units import CountryCode

LANDMARKS_FILE = "landmarks.csv"
RTT_FILE = "rtt.csv"
KNOWN_BAD_FILE = "known_bad_ids.txt"

_LONGEST_MS = 60_000.0
"""A landmark waits seconds; a minute is a mistake of units."""


class StudyError(Exception):
    """The folder cannot be studied; the text is one line for the person who gave it."""


@dataclass(frozen=True, slots=True)
class Node:
    """A place with a known position: a landmark for all others, and a target for them.

    Attributes:
        name: Its id.
        country: ISO 3166-1 alpha-2, as stated.
        position: As stated.
    """

    name: str
    country: CountryCode
    position: Position


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured between places. Pairs are sorted, no pair occurs twice and none joins a node to itself.

    Attributes:
        nodes: All places, in the order of the file.
        by: Index of the node that ranged, shape (n,).
        of: Index of the node that answered, shape (n,).
        rtt_ns: Least round trip of the pair, nanoseconds, shape (n,).
        known_bad: Indices of nodes known to be elsewhere than they say; None when nothing is known. For scoring only.
    """

    nodes: tuple[Node, ...]
    by: NDArray[np.int64]
    of: NDArray[np.int64]
    rtt_ns: NDArray[np.int64]
    known_bad: frozenset[int] | None


def load(folder: Path) -> Measurements:
    """Read a folder.

    Raises:
        StudyError: A file is missing, unreadable or wrong; the text names file and line.
    """
    nodes = tuple(_nodes(folder / LANDMARKS_FILE))
    index = {node.name: k for k, node in enumerate(nodes)}
    if len(index) < len(nodes):
        twice = next(node.name for k, node in enumerate(nodes) if index[node.name] != k)
        raise StudyError(f"{folder / LANDMARKS_FILE}: id {twice!r} occurs twice")
    least = _least_round_trips(folder / RTT_FILE, index)
    if not least:
        raise StudyError(f"{folder / RTT_FILE}: there is no round trip between two landmarks in it")
    pairs = sorted(least)
    return Measurements(
        nodes=nodes,
        by=np.array([by for by, _ in pairs], dtype=np.int64),
        of=np.array([of for _, of in pairs], dtype=np.int64),
        rtt_ns=np.array([least[pair] for pair in pairs], dtype=np.int64),
        known_bad=_known_bad(folder / KNOWN_BAD_FILE, index),
    )


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row with its place, such as `rtt.csv line 7`; values without surrounding spaces."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise StudyError(f"{path}: no column {', '.join(missing)}")
            for row in reader:
                yield f"{path} line {reader.line_num}", {name: row[name].strip() for name in columns}
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{path}: not CSV in UTF-8") from error


def _nodes(path: Path) -> Iterator[Node]:
    for where, row in _rows(path, ("id", "country", "lat", "lon")):
        if not row["id"]:
            raise StudyError(f"{where}: no id")
        try:
            position = Position(_number(row["lat"], where), _number(row["lon"], where))
        except UsageError as error:
            raise StudyError(f"{where}: {error}") from error
        yield Node(row["id"], CountryCode(row["country"].upper()), position)


def _least_round_trips(path: Path, index: dict[str, int]) -> dict[tuple[int, int], int]:
    least: dict[tuple[int, int], int] = {}
    for where, row in _rows(path, ("from_id", "to_id", "min_ms", "avg_ms")):
        for name in (row["from_id"], row["to_id"]):
            if name not in index:
                raise StudyError(f"{where}: id {name!r} is not in {LANDMARKS_FILE}")
        pair = index[row["from_id"]], index[row["to_id"]]
        measured = row["min_ms"] or row["avg_ms"]
        if not measured or pair[0] == pair[1]:
            continue
        rtt_ms = _number(measured, where)
        if not 0 <= rtt_ms <= _LONGEST_MS:
            raise StudyError(f"{where}: a round trip of {measured} ms")
        rtt_ns = round(rtt_ms * 1e6)
        least[pair] = min(rtt_ns, least.get(pair, rtt_ns))
    return least


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise StudyError(f"{where}: {text!r} is not a number")
    return number


def _known_bad(path: Path, index: dict[str, int]) -> frozenset[int] | None:
    if not path.exists():
        return None
    try:
        names = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not a text of ids") from error
    if unknown := [name for name in names if name not in index]:
        raise StudyError(f"{path}: id {unknown[0]!r} is not in {LANDMARKS_FILE}")
    return frozenset(index[name] for name in names)
