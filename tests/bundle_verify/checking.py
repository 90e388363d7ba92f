"""Checks a bundle as the command does, and says what came of it."""

import json
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner, Result

from console.offline_bundle.check import Outcome, Trust, check_bundle, load_trust
from console.offline_bundle.ledger import State
from console.offline_bundle.refusal import Part
from console.verify_command import verify
from tests.bundle_verify.case_bundle_world import BundleWorld

APP = typer.Typer()
APP.command()(verify)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(APP, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def run_json(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = run("--json", *arguments)
    assert result.stderr == ""
    return result.exit_code, json.loads(result.stdout)


def trust_of(world: BundleWorld) -> Trust:
    witnesses = [witness.vkey for witness in world.witnesses]
    return load_trust(world.journal.vkey, [world.fingerprint], [], witnesses, None)


def checked(world: BundleWorld, data: bytes | None = None) -> Outcome:
    return check_bundle(world.bundle() if data is None else data, trust_of(world))


def refused_parts(outcome: Outcome) -> set[Part]:
    return {check.part for check in outcome.refused}


def texts(outcome: Outcome, state: State, part: Part) -> str:
    return "\n".join(check.text for check in outcome.checks if (check.state, check.part) == (state, part))


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
