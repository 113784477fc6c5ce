"""Full copies in the simulated world: directed stories, and a slice of seeds in which each has one.

Proves: a node is rebuilt whatever its database does; an agent that is killed at any step of the swap goes on or goes back, and the
vault is whole again; an undone node has its old data and follows; a source that dies leaves the target as it was.
"""

import pytest

from replication.core.tasks import TaskKind, TaskPhase
from tests.simulation.run import run
from tests.simulation.schedule import Fault, Schedule, with_copies
from tests.simulation.world import Result

SEEDS = range(7_000_000, 7_000_050)


def told(result: Result, kind: TaskKind, phase: TaskPhase) -> int:
    """How many tasks of this kind ended so."""
    said = [" ".join(map(str, what)) for _, _, *what in result.history.log]
    return sum(s.startswith(f"{kind.value} ") and f": {phase.value}, " in s for s in said)


def life(name: str, *faults: Fault, nodes: int = 2) -> Result:
    return run(Schedule(name, nodes=nodes, faults=faults))


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(Fault(1.0, "freeze database", "b", seconds=30.0), id="it hangs"),
        pytest.param(Fault(1.4, "crash database", "b"), id="it has just died"),
        pytest.param(Fault(1.0, "stop applier", "b", seconds=30.0), id="it does not apply"),
    ],
)
def test_a_node_is_rebuilt_whatever_its_database_does(trouble: Fault) -> None:
    result = life("whatever", trouble, Fault(1.5, "rebuild", "b"), Fault(14.0, "run now"))
    assert result.violations == []
    assert told(result, TaskKind.RECEIVE, TaskPhase.DONE) == 1


def test_an_agent_that_is_killed_at_any_step_of_the_swap_goes_on_or_goes_back() -> None:
    ends = {TaskPhase.DONE: 0, TaskPhase.FAILED: 0}
    for uses in range(1, 24):
        result = life(
            f"killed {uses}",
            Fault(1.0, "rebuild", "b"),
            Fault(1.1, "kill agent at port", "b", seconds=6.0, n=uses),
            nodes=3,
        )
        assert result.violations == [], uses
        for phase in ends:
            ends[phase] += told(result, TaskKind.RECEIVE, phase)
    assert ends[TaskPhase.DONE] > 3, "otherwise this test says nothing"
    assert ends[TaskPhase.FAILED] > 3, "otherwise this test says nothing"


def test_who_is_undone_has_its_old_data_and_follows_again() -> None:
    result = life("undone", Fault(1.0, "rebuild", "c"), Fault(8.0, "undo", "c"), nodes=3)
    assert result.violations == []
    assert told(result, TaskKind.UNDO, TaskPhase.DONE) == 1


def test_the_primary_that_is_copied_dies_and_the_target_goes_on_as_before() -> None:
    results = [
        life(f"source {n}", Fault(1.0, "rebuild", "c", n=1), Fault(1.3, "power off", "a", seconds=2.0), nodes=3)
        for n in range(4)
    ]
    assert [r.violations for r in results if r.violations] == []
    assert sum(told(r, TaskKind.RECEIVE, TaskPhase.FAILED) for r in results) > 0


def test_a_slice_of_seeds_with_copies_violates_nothing() -> None:
    found = {seed: result.violations for seed in SEEDS if (result := run(with_copies(seed))).violations}
    assert found == {}
