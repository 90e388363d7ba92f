"""The study's figures as tables for people and as one JSON object for programs."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.study.scores import Figures, GradeFigures

_DIGITS = 4


def as_json(figures: Figures, location_us: float | None) -> str:
    """Return one line. Grades are `physical` and `fibre`, inside them `f0` and `f1`; what is not known is null."""
    grades: dict[str, dict[str, Any]] = {}
    for (grade, tolerated), of_grade in figures.grades.items():
        grades.setdefault(grade.name.lower(), {})[f"f{tolerated}"] = {
            "targets": of_grade.targets,
            "targets_in_d": of_grade.targets_in_d,
            "false_accusations": of_grade.false_accusations,
            "accusations_of_known_bad": of_grade.accusations_of_known_bad,
            "wrongly_not_prohibited": of_grade.wrongly_not_prohibited,
            "detection": _rounded(of_grade.detection),
            "not_prohibited_proven": _round(of_grade.not_prohibited_proven),
            "site_inside": _rounded(of_grade.site_inside),
            "site_outside": _rounded(of_grade.site_outside),
        }
    return json.dumps(
        grades
        | {
            "audit_precision": _round(figures.audit_precision),
            "audit_recall": _round(figures.audit_recall),
            "good_dropped": figures.good_dropped,
            "adaptive_share": _round(figures.adaptive_share),
            "adaptive_sessions": figures.adaptive_sessions,
            "displaced_false_accusations": figures.displaced_false_accusations,
            "fast_path_share": _round(figures.fast_path_share),
            "location_us": None if location_us is None else round(location_us, 2),
        }
    )


def show(console: Console, figures: Figures, location_us: float | None) -> None:
    """Print the tables."""
    by_grade = Table(title="Leave-one-out, by grade and f")
    by_grade.add_column("figure")
    for grade, tolerated in figures.grades:
        by_grade.add_column(f"{grade.name.lower()} f={tolerated}", justify="right")
    columns = [_rows(of_grade) for of_grade in figures.grades.values()]
    for name in columns[0]:
        by_grade.add_row(name, *(_text(column[name]) for column in columns))
    console.print(by_grade)

    whole = Table(title="Of the whole set")
    whole.add_column("figure")
    whole.add_column("value", justify="right")
    whole.add_row("audit: share of the distrusted that are bad", _text(figures.audit_precision))
    whole.add_row("audit: share of the bad that are distrusted", _text(figures.audit_recall))
    whole.add_row("sound landmarks distrusted", _text(figures.good_dropped))
    whole.add_row("settled stepwise, of what all landmarks settle", _text(figures.adaptive_share))
    whole.add_row("sessions for that, median", _text(figures.adaptive_sessions))
    whole.add_row("false accusations with landmarks displaced", _text(figures.displaced_false_accusations))
    whole.add_row("questions that single discs answer", _text(figures.fast_path_share))
    whole.add_row("location part of a verdict, µs", _text(None if location_us is None else round(location_us, 1)))
    console.print(whole)


def _rows(of_grade: GradeFigures) -> dict[str, float | None]:
    return {
        "targets": of_grade.targets,
        "of them in D": of_grade.targets_in_d,
        "false accusations": of_grade.false_accusations,
        "accusations of known bad": of_grade.accusations_of_known_bad,
        "wrongly not prohibited": of_grade.wrongly_not_prohibited,
        **{f"shown not to be in {code}": share for code, share in of_grade.detection.items()},
        "not prohibited, proven": of_grade.not_prohibited_proven,
        **{f"site of {km} km, proven": share for km, share in of_grade.site_inside.items()},
        **{f"site {km} km away, refuted": share for km, share in of_grade.site_outside.items()},
    }


def _round(share: float | None) -> float | None:
    return None if share is None else round(share, _DIGITS)


def _rounded(shares: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: _round(share) for name, share in shares.items()}


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
