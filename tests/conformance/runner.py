"""Asks a verifier's command line about the report vectors and compares its answers.

The command is given evidence as `trigpoint verify --json` takes it: a JSON list of `{certificate, evidence, nonce}`, a
root in PEM. It must answer with JSON on stdout and with exit code 0 when every report is authentic, 1 when one is
refused. Nothing here imports a verifier.
"""

import base64
import json
import shlex
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.conformance.vectors import AUTHENTIC

TIMEOUT_S = 100
_Answer = tuple[int, list[str]]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a vector expects and what the command answered."""

    name: str
    expect: str
    answer: str

    @property
    def agrees(self) -> bool:
        """Whether they are the same."""
        return self.answer == self.expect


def check(vectors: Sequence[dict[str, Any]], command: str, *, one_by_one: bool = False) -> list[Checked]:
    """Return one result a vector, in their order.

    Args:
        vectors: Of kind `report`.
        command: Command line; files and options are put behind it.
        one_by_one: Ask about each vector in a run of its own. Otherwise those that share roots and whose answer should
            be of one sort are asked in one run, and asked again one by one when that run is not as it should be.
    """
    found: dict[str, Checked] = {}
    for batch in _batches(vectors):
        answers = None if one_by_one else _ask(batch, command)
        if answers is None or not _as_expected(batch, answers):
            for vector in batch:
                found[vector["name"]] = _alone(vector, command)
        else:
            for vector in batch:
                found[vector["name"]] = Checked(vector["name"], vector["expect"], vector["expect"])
    return [found[v["name"]] for v in vectors]


def table(results: Sequence[Checked]) -> str:
    """Return the results for a person, those that differ last, where they are seen."""
    width = max(len(r.name) for r in results)
    lines = [f"{r.name:{width}}  ok       {r.expect}" for r in results if r.agrees]
    lines += [f"{r.name:{width}}  DIFFERS  expected {r.expect}, answered {r.answer}" for r in results if not r.agrees]
    agreed = sum(r.agrees for r in results)
    return "\n".join([*lines, "", f"{agreed} of {len(results)} vectors agree"])


def _batches(vectors: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    def sort(vector: dict[str, Any]) -> tuple[list[str], bool]:
        return vector["roots"], vector["expect"] == AUTHENTIC

    for _, batch in groupby(sorted(vectors, key=sort), key=sort):
        yield list(batch)


def _as_expected(batch: Sequence[dict[str, Any]], answer: _Answer) -> bool:
    code, told = answer
    return told == [v["expect"] for v in batch] and code == _exit_code(told)


def _exit_code(told: Sequence[str]) -> int:
    return 0 if all(t == AUTHENTIC for t in told) else 1


def _alone(vector: dict[str, Any], command: str) -> Checked:
    answer = _ask([vector], command)
    if answer is None:
        told = "no answer in JSON"
    else:
        code, (told,) = answer
        if code != _exit_code([told]):
            told = f"{told} with exit code {code}"
    return Checked(vector["name"], vector["expect"], told)


def _ask(batch: Sequence[dict[str, Any]], command: str) -> _Answer | None:
    """Exit code and one answer a vector; None when the command gives no such answer."""
    with tempfile.TemporaryDirectory(prefix="trigpoint-conformance-") as name:
        folder = Path(name)
        evidence = folder / "evidence.json"
        evidence.write_text(json.dumps([_entry(v) for v in batch]), encoding="ascii")
        roots: list[str] = []
        for number, root in enumerate(batch[0]["roots"]):
            path = folder / f"root-{number}.pem"
            path.write_text(_pem([root]), encoding="ascii")
            roots += ["--root", str(path)]
        done = subprocess.run(
            [*shlex.split(command), str(evidence), *roots, "--json"],
            capture_output=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    try:
        reports = json.loads(done.stdout)["reports"]
        told = [AUTHENTIC if r["authentic"] is True else str(r["reason"]) for r in reports]
    except (ValueError, KeyError, TypeError):
        return None
    return (done.returncode, told) if len(told) == len(batch) else None


def _entry(vector: dict[str, Any]) -> dict[str, str]:
    return {
        "certificate": base64.b64encode(_pem(vector["chain"]).encode()).decode(),
        "evidence": base64.b64encode(bytes.fromhex(vector["report"])).decode(),
        "nonce": vector["nonce"],
    }


def _pem(certificates: Sequence[str]) -> str:
    bodies = (base64.b64encode(bytes.fromhex(der)).decode() for der in certificates)
    return "".join(
        f"-----BEGIN CERTIFICATE-----\n{chr(10).join(textwrap.wrap(body, 64))}\n-----END CERTIFICATE-----\n"
        for body in bodies
    )
