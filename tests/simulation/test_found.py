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


def test_a_revoked_node_follows_again_when_its_promotion_was_given_up() -> None:
    """b's agent is killed in the middle of REVOKE: the receiver could not connect behind the cut, and was stopped then."""
    faults = (
        Fault(2.999, "kill agent at port", "acker", seconds=1.57, n=18),
        Fault(4.143, "switchover", "fallback"),
    )
    results = [run(Schedule(f"given up {seed}", nodes=2, faults=faults)) for seed in range(12)]
    assert [r.violations for r in results if r.violations] == []
    given_up = [r for r in results if any("a is Master again" in str(what) for _, _, *what in r.history.log)]
    assert given_up, "otherwise this test says nothing"


def test_a_deleted_node_that_a_restored_database_brings_back_is_taken_out_again() -> None:
    faults = (Fault(2.0, "delete", "acker", seconds=4.0), Fault(4.5, "restore metadata", seconds=0.8, n=1900))
    assert run(Schedule("brought back", nodes=2, faults=faults)).violations == []


def test_a_first_open_that_was_interrupted_ends_with_an_account_for_clients() -> None:
    """The agent is killed in the middle of OPEN, and the next one opens by the order that it finds."""
    for uses in range(4, 30):
        fault = Fault(0.1, "kill agent at port", "a", seconds=0.5, n=uses)
        assert run(Schedule(f"interrupted {uses}", nodes=2, warm=False, faults=(fault,))).violations == []


def test_a_node_that_was_locked_out_before_its_first_order_joins_when_it_can() -> None:
    """c's disk takes no promise, so the proof of b locks it out; told to stand back it would say that it belongs to no vault."""
    faults = (
        Fault(0.948, "disk full", "c", seconds=1.8),
        Fault(1.039, "freeze controller", "leader", seconds=1.5),
    )
    results = [run(Schedule(f"locked out {n}", nodes=3, warm=False, faults=faults)) for n in range(4)]
    assert [r.violations for r in results if r.violations] == []


def test_an_acker_whose_relay_log_was_thrown_away_during_the_drain_is_not_promoted() -> None:
    """Its applier is slow, and is stopped and started by hand after the revocation: two acknowledged rows were lost."""
    faults = (
        Fault(0.808, "slow applier", "fallback", seconds=3.673, n=217),
        Fault(1.158, "crash database", "a"),
        Fault(1.358, "stop applier", "fallback", seconds=0.412),
    )
    results = [run(Schedule(seed, nodes=2, warm=True, faults=faults)) for seed in ("63209", "1", "2", "3", "4", "5")]
    assert [r.violations for r in results if r.violations] == []


def test_a_solo_primary_that_still_waits_is_released() -> None:
    """Its agent was killed between writing down that it is solo and switching the waiting off."""
    for uses in range(1, 20):
        faults = (
            Fault(0.876, "delete", "fallback", seconds=2.306),
            Fault(0.949, "kill agent at port", "a", seconds=0.233, n=uses),
        )
        assert run(Schedule(f"waits {uses}", nodes=2, warm=True, faults=faults)).violations == []


def test_a_node_behind_the_cut_of_a_promotion_that_was_given_up_follows_again() -> None:
    """Its agent was killed between the cut and the stop of the receiver, while the primary's host was frozen."""
    faults = (
        Fault(3.384, "freeze host", "b", seconds=0.378),
        Fault(3.829, "kill agent at port", "primary", seconds=1.164, n=17),
        Fault(5.11, "kill agent at port", "primary", seconds=1.398, n=12),
        Fault(5.116, "freeze host", "a", seconds=1.635),
        Fault(5.595, "kill agent at port", "b", seconds=1.342, n=8),
    )
    assert run(Schedule("91377", nodes=2, warm=False, armed=True, faults=faults)).violations == []
