"""Benchmarks by name: `script/bench console`. Prints a table, writes docs/evidence/ and exits 1 when a goal was missed."""

import argparse
import shutil
import sys

import tests.conftest as environment  # before anything reads the settings
from tests.bench import compare, console, copy

BENCHES = {"compare": compare.bench, "console": console.bench, "copy": copy.bench}


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHES), nargs="?", default="console")
    parser.add_argument("--seconds", type=float, default=60, help="how long the open screens poll (default 60)")
    parser.add_argument("--no-evidence", action="store_true", help="print only, write no page under docs/evidence")
    arguments = parser.parse_args()
    try:
        missed = BENCHES[arguments.name](seconds=arguments.seconds, evidence=not arguments.no_evidence)
    finally:
        shutil.rmtree(environment.VAR, ignore_errors=True)
    for goal in missed:
        print(f"missed: {goal}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
