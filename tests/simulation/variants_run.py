"""python -m tests.simulation.variants_run: every known bug, and in which seed it was found; then the same seeds without any.

With --json for the tests. Exits non-zero when a bug was not found, or when the product itself violates something.
"""

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable
from multiprocessing import Pool

from tests.simulation import variants_agent, variants_controller, variants_copies
from tests.simulation.variants import VARIANTS, Variant

REGISTERED = (variants_agent, variants_controller, variants_copies)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="variants (default: all)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a run
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation.variants_run", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    names = given.names or sorted(VARIANTS)
    scenarios = sorted(by_scenario(names))
    with Pool(given.jobs) as pool:
        found = dict(zip(names, pool.imap(_look_for, names), strict=True))
        clean = dict(zip(scenarios, pool.imap(_without, [(s, names) for s in scenarios]), strict=True))
    if given.json:
        print(json.dumps({"found": found, "clean": clean}))
    else:
        _tell(found, clean)
    return 1 if not all(found.values()) or any(clean.values()) else 0


def by_scenario(names: list[str]) -> dict[str, list[Variant]]:
    table: dict[str, list[Variant]] = {}
    for name in names:
        table.setdefault(VARIANTS[name].scenario.__name__, []).append(VARIANTS[name])
    return table


def _collected(work: Callable[[], object]) -> object:
    result = work()
    gc.collect()
    return result


def _look_for(name: str) -> object:
    return _collected(VARIANTS[name].found_at)


def _without(task: tuple[str, list[str]]) -> object:
    """The violations of the product itself in all seeds of a scenario."""
    scenario, names = task
    variants = by_scenario(names)[scenario]
    seeds = range(max(v.within for v in variants))
    return _collected(
        lambda: [f"seed {s}: {v}" for s in seeds for v in variants[0].violations(s, built_in=False)],
    )


def _tell(found: dict[str, object], clean: dict[str, object]) -> None:
    for name, how in found.items():
        variant = VARIANTS[name]
        seed, text = how if isinstance(how, tuple) else (None, "NOT FOUND")
        needed = "" if seed is None else f"{seed + 1} of {variant.within} seeds"
        print(f"{name:42} {variant.rule or '-':3} {needed:18} {text}")
    for scenario, violations in clean.items():
        for violation in violations if isinstance(violations, list) else ():
            print(f"without any: {scenario} {violation}")


if __name__ == "__main__":
    sys.exit(main())
