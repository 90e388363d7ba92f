"""`python -m benchmarks.study FOLDER`: tables, then one JSON object alone on the last line.

Exit code 2 when the folder cannot be studied, with one line that says why.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.study.data import Measurements, StudyError, load
from benchmarks.study.drawings import draw
from benchmarks.study.report import as_json, show
from benchmarks.study.scores import score
from benchmarks.study.speed import location_us
from benchmarks.study.work import WORKERS, Job, examine_all
from benchmarks.study.world import DISPLACEMENTS, displace, make_policy, set_stage
from verifier.limits import MAX_RANGES
from verifier.place.choose import BUDGET

BAD_INPUT = 2
_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and return its exit code."""
    options = _parse(arguments)
    try:
        measurements = load(options.folder)
        if options.figures is not None:
            _make_folder(options.figures)
    except StudyError as error:
        sys.stderr.write(f"study: {error}\n")
        return BAD_INPUT
    _study(measurements, options)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.add_argument("folder", type=Path, help="has landmarks.csv, rtt.csv and perhaps known_bad_ids.txt")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    parser.add_argument("--figures", type=Path, help="write the figures as SVG drawings into this folder")
    parser.add_argument("--workers", type=int, choices=range(1, 65), default=WORKERS, metavar="N", help="processes")
    parser.add_argument(
        "--sessions",
        type=int,
        choices=range(1, MAX_RANGES + 1),
        default=BUDGET,
        metavar="N",
        help=f"budget of the stepwise choice (default {BUDGET}, as the server's)",
    )
    return parser.parse_args(arguments)


def _study(measurements: Measurements, options: argparse.Namespace) -> None:
    atlas = make_policy().atlas
    nodes = measurements.nodes
    _note_unknown_countries(measurements, atlas.country_codes)
    # By country, so that each process measures the way to a border once.
    targets = sorted(set(measurements.of.tolist()), key=lambda k: (nodes[k].country, k))
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as progress:
        auditing = progress.add_task("landmarks audit each other", total=1 + len(DISPLACEMENTS))
        stages = []
        for displaced in ({}, *(displace(nodes, how, options.seed) for how in DISPLACEMENTS)):
            stages.append(set_stage(measurements, displaced, atlas))
            progress.advance(auditing)
        job = Job(measurements, stages[0], tuple(stages[1:]), options.seed, options.sessions)
        asking = progress.add_task("each is left out in turn", total=len(targets))
        outcomes = []
        for outcome in examine_all(job, targets, options.workers):
            outcomes.append(outcome)
            progress.advance(asking)
    figures = score(measurements, stages[0], outcomes, options.seed)
    took_us = location_us(measurements, stages[0], options.seed)
    if options.figures is not None:
        draw(options.figures, figures, options.sessions)
    show(Console(file=sys.stdout, width=_WIDTH, highlight=False), figures, took_us)
    sys.stdout.write(as_json(figures, took_us) + "\n")


def _note_unknown_countries(measurements: Measurements, known: frozenset[str]) -> None:
    unknown = sorted({node.country or "(none)" for node in measurements.nodes if node.country not in known})
    if unknown:
        listed = ", ".join(unknown)
        sys.stderr.write(f"study: the border data do not have {listed}: nobody there is accused of being elsewhere\n")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{folder}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
