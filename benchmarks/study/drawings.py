"""Draws the figures as SVG files, without any library: bars by grade, and sessions of the stepwise choice."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.study.scores import Figures
from benchmarks.svg import page, text
from verifier.place.discs import Grade

_WIDTH, _HEIGHT = 860, 360
_LEFT, _TOP, _BOTTOM, _RIGHT = 60, 50, 60, 20
_COLORS = {
    (Grade.PHYSICAL, 0): "#8fb3d9",
    (Grade.PHYSICAL, 1): "#1f5f9f",
    (Grade.FIBRE, 0): "#f0c48f",
    (Grade.FIBRE, 1): "#c26a10",
}
_GRID = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw(folder: Path, figures: Figures, budget: int) -> None:
    """Write detection.svg, sites.svg and sessions.svg.

    Args:
        folder: Exists.
        figures: What was found.
        budget: Most sessions of one challenge.
    """
    detection, sites = {}, {}
    for key, of_grade in figures.grades.items():
        outside = {"not prohibited": of_grade.not_prohibited_proven}
        detection[key] = {f"not in {code}": share for code, share in of_grade.detection.items()} | outside
        inside = {f"in, {km} km": share for km, share in of_grade.site_inside.items()}
        sites[key] = inside | {f"{km} km off": share for km, share in of_grade.site_outside.items()}
    (folder / "detection.svg").write_text(_bars("Share of sound targets shown", detection), encoding="utf-8")
    (folder / "sites.svg").write_text(_bars("Share of sound targets shown, by site", sites), encoding="utf-8")
    (folder / "sessions.svg").write_text(_steps(figures.stepwise, budget), encoding="utf-8")


def _bars(title: str, groups: Mapping[tuple[Grade, int], Mapping[str, float | None]]) -> str:
    names = list(next(iter(groups.values())))
    slot = (_WIDTH - _LEFT - _RIGHT) / len(names)
    bar = slot * 0.8 / len(groups)
    parts = []
    for k, name in enumerate(names):
        left = _LEFT + k * slot
        parts.append(text(left + slot * 0.4, _HEIGHT - _BOTTOM + 18, name, anchor="middle"))
        for j, (key, shares) in enumerate(groups.items()):
            share = shares[name]
            if share is not None:
                top = _y(share)
                parts.append(
                    f'<rect x="{left + j * bar:.1f}" y="{top:.1f}" width="{bar * 0.9:.1f}" '
                    f'height="{_y(0) - top:.1f}" fill="{_COLORS[key]}"/>'
                )
    for j, key in enumerate(groups):
        left = _LEFT + 130 * j
        parts.append(f'<rect x="{left}" y="{_HEIGHT - 24}" width="12" height="12" fill="{_COLORS[key]}"/>')
        parts.append(text(left + 18, _HEIGHT - 14, f"{key[0].name.lower()}, f = {key[1]}"))
    return _page(title, parts)


def _steps(sessions: Sequence[int | None], budget: int) -> str:
    """Return the share of questions settled, by sessions held."""
    settled = sorted(s for s in sessions if s is not None)
    points = [(0.0, 0.0)]
    for k, count in enumerate(settled, start=1):
        points += [(count, points[-1][1]), (count, k / len(sessions))]
    points.append((budget, points[-1][1]))
    scale = (_WIDTH - _LEFT - _RIGHT) / budget
    line = " ".join(f"{_LEFT + x * scale:.1f},{_y(share):.1f}" for x, share in points)
    parts = [f'<polyline points="{line}" fill="none" stroke="{_COLORS[Grade.PHYSICAL, 1]}" stroke-width="2"/>']
    marks = range(0, budget + 1, 8)
    parts += [text(_LEFT + x * scale, _HEIGHT - _BOTTOM + 18, str(x), anchor="middle") for x in marks]
    parts.append(text(_WIDTH / 2, _HEIGHT - 14, "sessions", anchor="middle"))
    return _page("Questions settled stepwise, of those that all landmarks settle", parts)


def _page(title: str, parts: Sequence[str]) -> str:
    grid = []
    for share in _GRID:
        y = _y(share)
        grid.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        grid.append(text(_LEFT - 8, y + 4, f"{share:g}", anchor="end"))
    return page(_WIDTH, _HEIGHT, [*grid, text(_LEFT, 28, title, size=16), *parts])


def _y(share: float) -> float:
    return _TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM)
