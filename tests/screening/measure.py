"""What docs/screening.md tells in numbers: `python -m tests.screening.measure`. Takes a minute or two."""

import random
import sys
import time
from itertools import islice
from typing import TextIO

from server.records.names_alike import NameIndex
from tests.screening.invented import PERTURBATIONS, company, listed, person

ENTRIES = 25_000
PARTIES = 10_000
TRIES = 500
SEED = 20_261_124


def main(out: TextIO = sys.stdout, *, entries: int = ENTRIES, parties: int = PARTIES, tries: int = TRIES) -> None:
    """Measure and print."""
    rng = random.Random(SEED)
    entered = list(listed(SEED, entries))
    began = time.perf_counter()
    index = NameIndex(entered)
    out.write(f"{entries:,} entries, {index.name_count:,} names: index in {time.perf_counter() - began:.2f} s\n")
    began = time.perf_counter()
    for _ in range(20):
        list(index.find([[company(rng), company(rng)]]))
    out.write(f"one party of two names: {(time.perf_counter() - began) / 20:.3f} s\n")
    told = [entry for entry in entered if entry.kind != "Vessel"]
    for name, perturb in PERTURBATIONS.items():
        chosen = rng.sample(told, min(tries, len(told)))
        asked = [[perturb(rng.choice(entry.names), rng)] for entry in chosen]
        found = list(index.find(asked))
        hits = sum(any(like.entry_id == e.entry_id for like in likes) for e, likes in zip(chosen, found, strict=True))
        out.write(f"found, {name}: {hits / len(chosen):.1%}, hits a party {sum(map(len, found)) / len(found):.2f}\n")
    for name, make in (("company", company), ("person", person)):
        began = time.perf_counter()
        count = with_hit = hits = 0
        for likes in index.find([[make(rng)] for _ in range(parties)]):
            count += 1
            hits += len(likes)
            with_hit += bool(likes)
        took = time.perf_counter() - began
        out.write(
            f"{count:,} unrelated, each a {name}: {with_hit / count:.1%} have a hit, {hits / count:.2f} hits each, "
            f"{took:.1f} s\n"
        )


if __name__ == "__main__":
    main(parties=int(next(islice(sys.argv, 1, None), PARTIES)))
