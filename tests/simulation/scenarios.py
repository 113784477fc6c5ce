"""Directed schedules: what must happen for one certain bug to show, in a random order of small things.

Beside the faults of a schedule, which begin at a moment, a scenario may hang faults on an order: when it is sent for the n-th
time. Orders may also come out of a network queue a second time, long after they were carried out.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any, Final

from replication.core.commands import Verb
from tests.simulation.run import Setup
from tests.simulation.schedule import Fault, Schedule
from tests.simulation.world import Simulation

LATE: Final = (0.3, 4.0)
"""Seconds after which an order comes a second time, from and to."""
SLOW: Final = (0.2, 0.5)
"""Seconds that a slow applier takes for a transaction, from and to."""
BEGIN: Final = 0.5
"""Seconds until somebody leads: moments in a scenario count from here."""


@dataclass(frozen=True)
class Trigger:
    """When `verb` is sent for the nth time, the fault begins `fault.at` seconds later."""

    verb: Verb
    fault: Fault
    nth: int = 1


@dataclass(frozen=True)
class Scenario:
    schedule: Schedule
    triggers: tuple[Trigger, ...] = ()
    twice: frozenset[Verb] = frozenset()
    """Orders that come a second time, late."""
    prepared: tuple[Setup, ...] = ()

    def setup(self, simulation: Simulation) -> None:
        """Hang the triggers on the network of a world."""
        for prepare in self.prepared:
            prepare(simulation)
        _compare_rows(simulation)
        network, kernel, chance = simulation.network, simulation.kernel, Random(f"{self.schedule.seed} scenario")
        send, sent = network.send, Counter[Verb]()

        def directed(sender: str, receiver: str, arrive: Callable[..., None], *args: Any, noisy: bool = False) -> None:
            send(sender, receiver, arrive, *args, noisy=noisy)
            what = args[1] if len(args) > 1 else ()
            if not isinstance(what, tuple) or what[:1] != ("command",):
                return
            verb = what[1]
            sent[verb] += 1
            if verb in self.twice:
                kernel.later(
                    chance.uniform(*LATE), None, send, sender, receiver, arrive, args[0], what, _nobody(kernel)
                )
            for trigger in self.triggers:
                if trigger.verb is verb and trigger.nth == sent[verb]:
                    kernel.later(trigger.fault.at, None, simulation.faults._begin, trigger.fault)

        network.send = directed  # type: ignore[method-assign]


def _compare_rows(simulation: Simulation) -> None:
    """At the end nobody who follows has what the primary does not have."""
    history, check = simulation.history, simulation.history.check_rows

    def check_rows(node: str, there: set[int]) -> None:
        check(node, there)
        for name, host in simulation.hosts.items():
            extra = sorted(set(host.server.rows()) - there)
            if extra and not host.disk.durable.quarantine:
                history.violate(f"{name} has rows that {node} does not have: {extra[:8]}")

    history.check_rows = check_rows  # type: ignore[method-assign]


def _nobody(kernel: Any) -> Any:
    """Whoever waited for the answer has long had it."""
    return kernel.create_future()


class Make:
    """Builds the scenario of one seed: `r` is its chance."""

    def __init__(self, name: str, seed: int) -> None:
        self.seed = f"{name} {seed}"
        self.r = Random(self.seed)
        self.faults: list[Fault] = []
        self.triggers: list[Trigger] = []
        self.prepared: list[Setup] = []

    def fault(
        self, at: float, kind: str, target: str = "", other: str = "", *, seconds: float = 0.0, n: int = 0
    ) -> None:
        self.faults.append(Fault(round(BEGIN + at, 3), kind, target, other, round(seconds, 3), n))

    def on(
        self, verb: Verb, kind: str, target: str = "", other: str = "", *,
        after: float = 0.0, seconds: float = 0.0, n: int = 0, nth: int = 1,
    ) -> None:  # fmt: skip
        self.triggers.append(Trigger(verb, Fault(round(after, 4), kind, target, other, round(seconds, 3), n), nth))

    def slow_applier(self, at: float, node: str) -> None:
        """Its applier takes longer than the writers, for three seconds."""

        def prepare(simulation: Simulation) -> None:
            server, kernel = simulation.hosts[node].server, simulation.kernel
            begin = kernel.now + BEGIN + at
            kernel.call_at(begin + 3.0, setattr, server, "apply_seconds", server.apply_seconds)
            kernel.call_at(begin, setattr, server, "apply_seconds", SLOW)

        self.prepared.append(prepare)

    def writer(self, at: float, node: str) -> None:
        """One more client, who does not leave this node."""

        def prepare(simulation: Simulation) -> None:
            insists = simulation._writer("insists", node, count(100_000))
            simulation.kernel.call_at(simulation.kernel.now + BEGIN + at, insists.start)

        self.prepared.append(prepare)

    def lasts(self, seconds: float) -> None:
        """Nothing is healed before."""
        self.fault(seconds, "run now")

    def done(
        self, *, nodes: int = 2, warm: bool = True, armed: bool | None = None, twice: frozenset[Verb] = frozenset()
    ) -> Scenario:
        faults = tuple(sorted(self.faults, key=lambda f: f.at))
        armed = self.r.random() < 0.5 if armed is None else armed
        schedule = Schedule(self.seed, nodes, warm, armed, faults)
        return Scenario(schedule, tuple(self.triggers), twice, tuple(self.prepared))
