"""Put the kept old data back in the place of a copy. The copy is removed once the old data serve: it can be made again."""

from collections.abc import Callable

from replication.agent.swap import Fence, Journal, Stage, Swap
from replication.agent.tasks import Body, Recipe, TaskFailed
from replication.core.tasks import NO_WAY_BACK, TaskKind, TaskOrder, TaskReport
from replication.core.vault_ports import AgentState, TaskRefused


class Undo:
    def __init__(
        self, swap: Swap, state: Callable[[], AgentState], fresh_server_id: Callable[[list[int]], int]
    ) -> None:
        self._swap, self._state, self._fresh_server_id = swap, state, fresh_server_id

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.prepare, self.resume)

    def prepare(self, order: TaskOrder) -> Body:
        if self._swap.kept() is None:
            raise TaskRefused("there is nothing to put back: no data of before a full copy are kept here")
        try:
            remembered = self._swap.memory_of_the_kept()
        except (OSError, ValueError) as error:
            raise TaskRefused(f"what is known of the kept data cannot be read: {error}") from error
        state = self._state()
        used = [state.server_id, int(remembered.get("server_id", 0))]
        journal = Journal(
            operation=order.operation,
            kind=TaskKind.UNDO,
            server_id=self._fresh_server_id(used),
            fence=Fence.of(state),
            of_the_kept=remembered,
        )
        return lambda task: self._swap.carry_out(task, journal)

    def resume(self, report: TaskReport) -> Body | None:
        try:
            stage = self._swap.take_up(report.operation)
        except (OSError, ValueError) as error:
            raise TaskFailed(f"what is left of it cannot be read: {error}") from error
        if stage is Stage.FORWARD:
            return self._swap.finish
        if stage is Stage.COMPLETE or (report.phase in NO_WAY_BACK and self._swap.kept() is None):
            return lambda task: task.tell(replaced=True)
        if report.phase in NO_WAY_BACK:
            raise TaskFailed("the agent ended while the kept data were put back; the copy is in its place")
        return None
