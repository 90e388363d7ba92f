"""`python -m tests.conformance VECTORS --command CMD`: checks any verifier's command line with the report vectors.

Exit codes: 0 all answers agree, 1 one differs, 2 the vectors or the command cannot be used. docs/conformance.md.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.runner import check, table
from tests.conformance.vectors import UnusableVectorError, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the table, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("vectors", type=Path, help="folder of vectors, such as tests/vectors")
    parser.add_argument("--command", required=True, help='command line to check, such as "trigpoint verify"')
    parser.add_argument("--one-by-one", action="store_true", help="one run of the command for each vector")
    options = parser.parse_args(arguments)
    try:
        results = check(load(options.vectors, "report"), options.command, one_by_one=options.one_by_one)
    except (UnusableVectorError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"tests.conformance: {error}\n")
        return 2
    sys.stdout.write(table(results) + "\n")
    return 0 if all(r.agrees for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
