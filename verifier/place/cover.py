"""Choosing few candidates that bring many sites over their threshold: a greedy cover, and what it comes to.

A site needs a number of further failure domains; a candidate gives one to each site that it reaches, and two candidates
of one domain give a site no more than one does. To find the fewest candidates is NP-hard (it holds set cover). What the
chosen ones have given together is a submodular function of the choice. So a greedy choice by progress, when it may go
on until every need is met, takes at most 1 + ln(n) times the fewest, n being the most sites that one candidate reaches
(L. A. Wolsey, An analysis of the greedy algorithm for the submodular set covering problem, Combinatorica 2, 1982); cut
off earlier, it has met at least 1 - 1/e of the needs that any choice of as many can meet (Nemhauser, Wolsey and Fisher,
An analysis of approximations for maximizing submodular set functions I, Mathematical Programming 14, 1978), the last
few choices aside, which go to sites that can still get all they need. Neither bounds how many sites get all; a second
greedy choice looks for those first, and the better of both is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verifier.place.reach import Counts, Flags, Indices, group_by_domain

_ROWS = 4_096
"""Rows that are added up at once."""


@dataclass(frozen=True, slots=True)
class Cover:
    """A choice of candidates.

    Attributes:
        chosen: Columns, in the order of their choice.
        gained: For each, the rows that have all they need with it and those before it.
    """

    chosen: tuple[int, ...]
    gained: tuple[tuple[int, ...], ...]

    @property
    def complete(self) -> int:
        """How many rows have all they need."""
        return sum(map(len, self.gained))


def choose(reaches: Flags, domains: Indices, needs: Counts, most: int) -> Cover:
    """Choose candidates.

    Args:
        reaches: Which candidate gives each site a domain that it lacks, shape (sites, candidates).
        domains: Failure domain of each candidate.
        needs: How many more domains each site needs; 0: none, it gains nothing.
        most: Choose no more candidates than this.
    """
    joined, _ = group_by_domain(reaches, domains)
    # A site that all candidates together do not help over its threshold is worth none of them.
    rows = np.flatnonzero((needs > 0) & (joined.sum(axis=1) >= needs))
    within, needed = reaches[rows], needs[rows]
    best = Cover((), ())
    for complete_first in (False, True):
        picks = _prune(_greedy(within.copy(), domains, needed, most, complete_first=complete_first), needed)
        cover = _replay(within, domains, needed, picks)
        if (cover.complete, -len(cover.chosen)) > (best.complete, -len(best.chosen)):
            best = cover
    return Cover(best.chosen, tuple(tuple(rows[list(gained)].tolist()) for gained in best.gained))


def _greedy(
    reaches: Flags, domains: Indices, needs: Counts, most: int, *, complete_first: bool
) -> list[tuple[int, Indices]]:
    """Return chosen columns, each with the rows that it gives a domain. `reaches` is used up."""
    left = needs.copy()
    open_, nearly = np.zeros(len(left), dtype=np.bool_), np.zeros(len(left), dtype=np.bool_)
    progress, completes = np.zeros(len(domains), dtype=np.int64), np.zeros(len(domains), dtype=np.int64)
    picks: list[tuple[int, Indices]] = []
    while len(picks) < most and len(domains):
        # What still needs more than the candidates that may follow will not be completed.
        now_open, now_nearly = (left > 0) & (left <= most - len(picks)), left == 1
        progress += _count(reaches, now_open & ~open_) - _count(reaches, open_ & ~now_open)
        completes += _count(reaches, now_nearly & ~nearly) - _count(reaches, nearly & ~now_nearly)
        open_, nearly = now_open, now_nearly
        first, second = (completes, progress) if complete_first else (progress, completes)
        column = int(np.argmax(first * (len(left) + 1) + second))
        if not progress[column]:
            break
        helped = np.flatnonzero(reaches[:, column])
        # Others of its domain give these rows nothing more, and neither does it.
        kin = np.flatnonzero(domains == domains[column])
        taken = reaches[np.ix_(helped, kin)]
        progress[kin] -= taken[open_[helped]].sum(axis=0)
        completes[kin] -= taken[nearly[helped]].sum(axis=0)
        reaches[np.ix_(helped, kin)] = False
        left[helped] -= 1
        picks.append((column, helped))
    return picks


def _count(reaches: Flags, rows: Flags) -> Counts:
    """How many of these rows each column reaches."""
    total = np.zeros(reaches.shape[1], dtype=np.int64)
    indices = np.flatnonzero(rows)
    for start in range(0, len(indices), _ROWS):
        total += reaches[indices[start : start + _ROWS]].sum(axis=0, dtype=np.int64)
    return total


def _prune(picks: Sequence[tuple[int, Indices]], needs: Counts) -> list[int]:
    """Take back, the last first, every pick that no row which has all it needs would miss."""
    counts = np.zeros(len(needs), dtype=np.int64)
    for _, helped in picks:
        counts[helped] += 1
    complete = counts >= needs
    kept: list[int] = []
    for column, helped in reversed(picks):
        if (complete[helped] & (counts[helped] <= needs[helped])).any():
            kept.append(column)
        else:
            counts[helped] -= 1
    return kept[::-1]


def _replay(reaches: Flags, domains: Indices, needs: Counts, chosen: Sequence[int]) -> Cover:
    """Say what each of the chosen columns completes."""
    left = needs.copy()
    given: dict[int, Flags] = {}
    gained: list[tuple[int, ...]] = []
    for column in chosen:
        before = given.setdefault(int(domains[column]), np.zeros(len(needs), dtype=np.bool_))
        new = reaches[:, column] & ~before
        before |= new
        left[new] -= 1
        gained.append(tuple(np.flatnonzero(new & (left == 0)).tolist()))
    return Cover(tuple(chosen), tuple(gained))
