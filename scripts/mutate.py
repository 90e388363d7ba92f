# ruff: noqa: SLF001  # mutmut has a command line and no API
"""Mutation testing of verifier/evidence and verifier/place by mutmut (docs/mutation.md), in a copy of the tree.

Usage: mutate.py [--jobs N] [PATTERN ...], in the copy's root; a pattern names mutants as mutmut does. Exit status 1: a
mutant survived that tests/verifier/mutation_accepted.txt does not list.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import libcst as cst
import mutate_outside
import pytest
from mutmut import __main__ as mutmut
from mutmut import stats
from mutmut.mutation import mutators
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import get_module_from_key, orig_function_and_class_names_from_key

ACCEPTED = Path("tests/verifier/mutation_accepted.txt")
KILLED = {"killed", "timeout", "segfault"}


def delete_raise(_: cst.Raise) -> Iterator[cst.BaseSmallStatement]:
    """Yield the check's deletion: what was refused passes."""
    yield cst.Pass()


def visit(self: MutationVisitor, node: cst.CSTNode) -> bool:
    """Mutate a raise as a whole only: inside is nothing but a message."""
    if isinstance(node, cst.Raise):
        self._create_mutations(node)
        return False
    return visit_anything(self, node)


visit_anything = MutationVisitor.on_visit


def drop_operand(node: cst.BooleanOperation) -> Iterator[cst.BaseExpression]:
    """Yield the condition without its one or other half: one check of several in a line is deleted."""
    yield node.left.with_changes(lpar=node.lpar, rpar=node.rpar) if node.lpar else node.left
    yield node.right.with_changes(lpar=node.lpar, rpar=node.rpar) if node.lpar else node.right


def fastest_first(runner: PytestRunner, tests: Iterable[str]) -> list[str]:
    """Return pytest's arguments with the tests in the order of their duration, so that most mutants die early."""
    return in_given_order(runner, sorted(tests, key=lambda t: state().duration_by_test.get(t, 0.0)))


in_given_order = PytestRunner._pytest_args_regular_run


def survivors(patterns: Sequence[str]) -> tuple[Counter[str], Counter[str]]:
    """Return how many mutants ended how, and those that live: `module.function: old -> new`."""
    ends: Counter[str] = Counter()
    alive: Counter[str] = Counter()
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            if patterns and not any(fnmatch(name, p) for p in patterns):
                continue
            end = status_by_exit_code[code]
            ends[end] += 1
            if end not in KILLED:
                alive[described(name, path)] += 1
    return ends, alive


def described(name: str, path: Path) -> str:
    """Return what a mutant changes, without line numbers: these move with every edit."""
    function, owner = orig_function_and_class_names_from_key(name)
    diff = get_diff_for_mutant(name, path=path).splitlines()[3:]
    old, new = (" ".join(line[1:].strip() for line in diff if line.startswith(sign)) for sign in "-+")
    where = ".".join(filter(None, (get_module_from_key(name).removeprefix("verifier."), owner, function)))
    return f"{where}: {old} -> {new}"


def accepted() -> dict[str, Counter[str]]:
    """Return the survivors that are accepted, by the reason that heads them."""
    reasons: dict[str, Counter[str]] = {}
    reason = ""
    for line in ACCEPTED.read_text().splitlines() if ACCEPTED.exists() else ():
        if line.startswith("["):
            reason = line.strip("[]")
        elif line and not line.startswith("#"):
            reasons.setdefault(reason, Counter())[line] += 1
    return reasons


def report(patterns: Sequence[str], outside: tuple[int, list[str]]) -> int:
    """Print the end: totals, the accepted by reason, and the rest; return the exit status."""
    ends, alive = survivors(patterns)
    made, lived = outside
    ends.update({"killed": made - len(lived), "survived": len(lived)})
    alive.update(lived)
    if not ends.total():
        print(f"no mutant is named {' or '.join(patterns)}")
        return 1
    print(f"\nmutants {ends.total()}, " + ", ".join(f"{end} {count}" for end, count in ends.most_common()))
    for reason, entries in accepted().items():
        known = entries & alive
        alive -= known
        print(f"accepted {known.total():4}  {reason}")
        if not patterns:
            for entry in sorted((entries - known).elements()):
                print(f"  no longer survives: {entry}")
    print(f"not accepted {alive.total()}")
    for entry in sorted(alive.elements()):
        print(entry)
    return 1 if alive else 0


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("patterns", nargs="*")
    arguments = parser.parse_args()
    mutators.mutation_operators.extend([(cst.Raise, delete_raise), (cst.BooleanOperation, drop_operand)])
    MutationVisitor.on_visit = visit
    PytestRunner._pytest_args_regular_run = fastest_first
    pytest.Item._nodeid = property(lambda item: item.nodeid)  # mutmut 3.8 reads what pytest 9.2 no longer has
    if not sys.stdout.isatty():
        mutmut.print_status = stats.print_status = lambda *_, **__: None  # it draws one line over and over
    inside = tuple(p for p in arguments.patterns if ".outside_" not in p)
    if inside or not arguments.patterns:
        mutmut._run(inside, arguments.jobs)
    return report(arguments.patterns, mutate_outside.run(arguments.patterns, arguments.jobs))


if __name__ == "__main__":
    sys.exit(main())
