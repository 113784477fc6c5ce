"""What the simulation has found in the product, each as the smallest world in which it showed."""

from collections.abc import Callable
from typing import Any

import pytest

from replication.core.commands import Verb
from tests.simulation.run import run
from tests.simulation.schedule import Fault, Schedule
from tests.simulation.world import Simulation


def held_up(verb: Verb, seconds: float) -> Callable[[Simulation], None]:
    """Orders of this kind take a while on their way."""

    def setup(simulation: Simulation) -> None:
        network = simulation.network
        send = network.send

        def slowly(sender: str, receiver: str, arrive: Callable[..., None], *args: Any, noisy: bool = False) -> None:
            what = args[1] if len(args) > 1 else ()
            if isinstance(what, tuple) and what[:2] == ("command", verb):
                simulation.kernel.later(seconds, None, send, sender, receiver, arrive, *args)
            else:
                send(sender, receiver, arrive, *args, noisy=noisy)

        network.send = slowly  # type: ignore[method-assign]

    return setup


@pytest.mark.parametrize("seed", range(3))
def test_a_node_behind_a_node_is_not_held_as_diverged(seed: int) -> None:
    """b follows a, and a follows the new primary c: what c writes reaches b by way of a, after c's state was read for b."""
    schedule = Schedule(f"chain {seed}", nodes=3, faults=(Fault(1.6, "switchover", "fallback"),))
    assert run(schedule, held_up(Verb.FOLLOW, 0.4)).violations == []
