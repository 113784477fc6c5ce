"""script/simulate: many seeds on all processors. The last line reads "N seeds, V violations"."""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import Pool

from tests.simulation.run import Failure, run, try_seed
from tests.simulation.schedule import Schedule, generate, with_copies

CHUNK = 25
Make = Callable[[int], Schedule]


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/simulate", description=__doc__)
    parser.add_argument("--seeds", type=_count, default=1000, help="how many (default: 1000)")
    parser.add_argument("--start", type=int, default=0, metavar="N", help="the first seed (default: 0)")
    parser.add_argument(
        "--jobs", type=_count, default=os.cpu_count() or 1, help="processes (default: one per processor)"
    )
    parser.add_argument("--verbose", action="store_true", help="print the schedule and the history of every seed")
    parser.add_argument("--copies", action="store_true", help="each seed also has a full copy or two")
    parser.add_argument("--faults", metavar="I,J", help="with --verbose: only these faults of the schedule, or none")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a run
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    seeds = range(given.start, given.start + given.seeds)
    began = time.monotonic()
    make = with_copies if given.copies else generate
    violations = _tell(seeds, given.faults, make) if given.verbose else _try(seeds, given.jobs, make)
    took = time.monotonic() - began
    print(f"{given.seeds / took:.0f} seeds a second, {took:.1f} s")
    print(f"{given.seeds} seeds, {violations} violations")
    return 1 if violations else 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _try(seeds: range, jobs: int, make: Make) -> int:
    """The number of seeds that violate something."""
    found = 0
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    with Pool(min(jobs, len(chunks))) as pool:
        for failures in pool.imap_unordered(partial(_chunk, make), chunks):
            for failure in failures:
                found += 1
                print(failure, flush=True)
    return found


def _chunk(make: Make, seeds: range) -> list[Failure]:
    failures = [failure for seed in seeds if (failure := try_seed(seed, make=make)) is not None]
    gc.collect()
    return failures


def _tell(seeds: range, only: str | None, make: Make) -> int:
    found = 0
    for seed in seeds:
        schedule = _reduced(make(seed), only)
        print(f"seed {seed}: {schedule.nodes} nodes, warm={schedule.warm}, armed={schedule.armed}")
        for number, fault in enumerate(schedule.faults):
            print(f"  fault {number}: {fault}")
        result = run(schedule)
        for at, who, *what in result.history.log:
            print(f"{at:9.4f} {who!s:10} {' '.join(map(str, what))}")
        for violation in result.violations:
            print(f"VIOLATION {violation}")
        print(f"history {result.digest}, {result.seconds:.1f} virtual s, {result.events} events")
        found += bool(result.violations)
    return found


def _reduced(schedule: Schedule, only: str | None) -> Schedule:
    if only is None:
        return schedule
    keep = [] if only == "none" else [int(i) for i in only.split(",")]
    faults = tuple(fault for i, fault in enumerate(schedule.faults) if i in keep)
    return Schedule(schedule.seed, schedule.nodes, schedule.warm, schedule.armed, faults)


if __name__ == "__main__":
    sys.exit(main())
