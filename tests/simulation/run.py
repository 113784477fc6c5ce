"""Runs seeds, one or many, and makes a failing schedule smaller. The command line is in __main__.py."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unittest.mock import patch

from replication.core import plan, recovery
from replication.core.report import NodeReport
from replication.core.view import NodeView, VaultView
from replication.procedures.controller import sight
from tests.simulation.schedule import WITH_COPIES, Schedule, generate
from tests.simulation.world import Result, Simulation

Setup = Callable[[Simulation], None]
"""Replaces parts of a world before it runs: how a variant is built in."""


@dataclass(frozen=True)
class Failure:
    seed: int
    violations: list[str]
    shrunk: Schedule
    faults: int
    """Before it was shrunk."""
    kept: tuple[int, ...]

    def __str__(self) -> str:
        only = ",".join(map(str, self.kept))
        copies = " --copies" if self.shrunk.seed.endswith(WITH_COPIES) else ""
        lines = [
            f"seed {self.seed}: {self.violations[0]}",
            *(f"    also: {v}" for v in self.violations[1:4]),
            f"  replay: script/simulate --start {self.seed} --seeds 1{copies} --verbose --faults {only or 'none'}",
            f"  {len(self.kept)} of its {self.faults} faults are needed ({_describe(self.shrunk)}):",
            *(f"    {fault}" for fault in self.shrunk.faults),
        ]
        return "\n".join(lines)


def _describe(schedule: Schedule) -> str:
    return f"{schedule.nodes} nodes, {'lossless at the start' if schedule.warm else 'from nothing'}"


def run(schedule: Schedule, setup: Setup | None = None) -> Result:
    with _quick():
        simulation = Simulation(schedule)
        if setup is not None:
            setup(simulation)
        return simulation.run()


def try_seed(seed: int, setup: Setup | None = None, make: Callable[[int], Schedule] = generate) -> Failure | None:
    schedule = make(seed)
    result = run(schedule, setup)
    if not result.violations:
        return None
    return shrink(seed, schedule, result.violations, setup)


def shrink(seed: int, schedule: Schedule, violations: list[str], setup: Setup | None = None) -> Failure:
    """Leave out one fault after the other for as long as it still fails. Exact: a run is decided by its schedule alone."""
    kept, smaller = list(range(len(schedule.faults))), schedule
    again = True
    while again:
        again = False
        for i in range(len(kept)):
            candidate = smaller.without(i)
            found = run(candidate, setup).violations
            if found:
                smaller, violations, again = candidate, found, True
                del kept[i]
                break
    return Failure(seed, violations, smaller, len(schedule.faults), tuple(kept))


@contextmanager
def _quick() -> Iterator[None]:
    """Nothing here changes what is decided: no text is written that nobody reads, and what is reckoned from a frozen view is
    reckoned once."""
    primary = cached_property(VaultView.primary.fget)  # type: ignore[attr-defined]
    primary.__set_name__(VaultView, "primary")
    outdated = _once(recovery.outdated)
    swaps = (
        patch.object(NodeReport, "to_json", lambda self: {}),
        *(patch.object(module, "outdated", outdated) for module in (plan, recovery)),
        patch.object(VaultView, "primary", primary),
        patch.object(sight, "replace", _replace),
    )
    logging.disable(logging.CRITICAL)
    collecting = gc.isenabled()
    gc.disable()
    try:
        with ExitStack() as stack:
            for swap in swaps:
                stack.enter_context(swap)
            yield
    finally:
        logging.disable(logging.NOTSET)
        if collecting:
            gc.enable()


def _once(judge: Callable[[VaultView], bool]) -> Callable[[VaultView], bool]:
    last: list[Any] = [None, False]

    def once(view: VaultView) -> bool:
        if last[0] is not view:
            last[:] = view, judge(view)
        return bool(last[1])

    return once


def _replace(node: NodeView, **changes: Any) -> NodeView:
    """As dataclasses.replace, for a class that checks nothing."""
    copy: NodeView = object.__new__(NodeView)
    copy.__dict__.update(node.__dict__)
    copy.__dict__.update(changes)
    return copy
