"""What takes minutes or hours on a vault host, beside the verbs: full copies, their undoing, lists of lost transactions, backups,
comparisons. Wires each to the one mechanism for long work, and answers what a controller asks of them."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from replication.agent.backup import Backups
from replication.agent.binlogs import read_inventory
from replication.agent.compare import Comparer, Wish
from replication.agent.config import AgentConfig
from replication.agent.engines import WHAT_IS_MISSING, receiving, refusing, sending
from replication.agent.export import Exports
from replication.agent.intake import Intake
from replication.agent.mysql_export import MySqlExports
from replication.agent.places import Places
from replication.agent.process import Mariadbd
from replication.agent.sizes import Sizes
from replication.agent.state import StateFile
from replication.agent.swap import Swap
from replication.agent.system import fresh_server_id
from replication.agent.tasks import TaskRunner
from replication.agent.undo import Undo
from replication.core.gtid_ranges import GtidRanges, Inventory
from replication.core.report import DatabaseReport
from replication.core.roles import OrderKind, ProcessState
from replication.core.tasks import REPLACES_DATA, TaskKind, TaskOrder, TaskReport
from replication.core.vault_ports import AgentState, ProcessError, TaskRefused
from replication.dialects.base import LocalDatabase


class LongWork:
    """state, seen: the memory, and the last look at the database; both are others later than when this is made.

    between_verbs: runs what it is given while no verb does, waits for it, and passes on what it raises.
    """

    def __init__(
        self,
        config: AgentConfig,
        process: Mariadbd,
        *,
        state: Callable[[], StateFile],
        seen: Callable[[], DatabaseReport | None],
        database: Callable[[], LocalDatabase],
        between_verbs: Callable[[Callable[[], None]], None],
        changed: Callable[[], None],
    ) -> None:
        self._config, self._process, self._state, self._seen, self._changed = config, process, state, seen, changed
        self._reading_logs = asyncio.Lock()
        self.comparer = Comparer(config.socket, self._side)
        self.tasks = TaskRunner(config.home, changed)
        self.backups = Backups(config, state, process.running)
        self.intake = Intake()
        self.swap = Swap(Places(config.home), process, state, database, between_verbs, self._count_again)
        self.sizes = Sizes(config.data_dir, self.swap.places.kept, self.swap.measured)
        self._register()

    def _register(self) -> None:
        config, process, tasks = self._config, self._process, self.tasks

        def memory() -> AgentState:
            return self._state().read()

        Exports(config, tasks, lambda: process.phase is ProcessState.UP)
        receive = receiving(config)(config, self.intake, self.swap, memory, fresh_server_id)
        send = sending(config)(config, self._state, lambda: process.phase, lambda: process.handle, self._seen)
        tasks.register(TaskKind.BACKUP, self.backups.recipe(self._database_version))
        tasks.register(TaskKind.RECEIVE, receive.recipe)
        tasks.register(TaskKind.UNDO, Undo(self.swap, memory, fresh_server_id).recipe)
        tasks.register(TaskKind.SEND, send.recipe)
        if config.engine != "mariadb":
            for kind in WHAT_IS_MISSING:
                tasks.register(kind, refusing(kind, config.engine))
            tasks.register(TaskKind.EXPORT, MySqlExports(config, tasks).recipe)

    def _count_again(self) -> None:
        self.sizes.look_again()

    def _database_version(self) -> str:
        seen = self._seen()
        return seen.version if seen is not None else ""

    def tidy_up(self) -> None:
        """When the agent starts: what was under way when the last one ended is taken up again, or nobody would."""
        task, places = self.tasks.report(), self.swap.places
        if task is None or not task.active or task.kind not in REPLACES_DATA:
            if self.swap.pending:
                self.swap.abandon()
            for left in (places.incoming, places.ready):
                if left.exists():
                    with contextlib.suppress(OSError):  # the next copy tries again
                        places.discard(left)
        places.tidy()

    # --- what controllers ask -------------------------------------------------------------------------------------

    async def begin(self, order: TaskOrder) -> TaskReport:
        """Raises TaskRefused, or ValueError for arguments that make no sense."""
        return await asyncio.get_running_loop().run_in_executor(None, self.tasks.begin, order)

    def cancel(self, operation: str) -> bool:
        """Whether it ends, or has ended; False when there is no way back, or it is not known here."""
        return self.tasks.cancel(operation)

    async def result(self, operation: str) -> Mapping[str, Any] | None:
        return await asyncio.get_running_loop().run_in_executor(None, self.tasks.result, operation)

    async def remove_kept(self, operation: str) -> None:
        """Remove the data of before the full copy of this operation; done already is well. Raises TaskRefused."""
        await asyncio.get_running_loop().run_in_executor(None, self._remove_kept, operation)

    def _remove_kept(self, operation: str) -> None:
        kept, task = self.swap.kept(), self.tasks.report()
        if task is not None and task.active and task.kind in REPLACES_DATA:
            raise TaskRefused("the data of this host are being replaced: try again when that has ended")
        if kept is not None and kept.operation != operation:
            raise TaskRefused(f"what is kept here is of operation {kept.operation}, not of {operation}")
        try:
            self.swap.forget_kept(operation)
        except OSError as error:
            raise TaskRefused(f"the kept data cannot be removed: {error.strerror}") from error
        self._changed()

    async def transactions(self) -> Inventory:
        """What stands in the binary logs here. Raises ProcessError."""
        if self._config.engine == "mysql":
            seen = self._seen()
            if seen is None:
                raise ProcessError("its database has not said yet what it has executed")
            return Inventory((), GtidRanges(), executed=seen.gtid_binlog_pos)
        async with self._reading_logs:  # one at a time: it takes a processor
            return await asyncio.get_running_loop().run_in_executor(None, read_inventory, self._config.data_dir)

    async def compare(self, what: str, wish: Wish) -> Mapping[str, Any]:
        """A part of a comparison. Raises CannotCompare, or ValueError for what makes no sense."""
        return await self.comparer.answer(what, wish)

    def _side(self) -> tuple[bool, str]:
        """Whether it is the primary, and why it can be compared with nothing, or ""."""
        if self._config.engine != "mariadb":
            return False, f"comparisons are made between MariaDB servers, and this one is {self._config.engine}"
        state, seen = self._state().read(), self._seen()
        if self._process.phase is not ProcessState.UP or seen is None:
            return False, f"its database is {self._process.phase.value}"
        if state.order_kind is not OrderKind.NONE:
            return True, "it is closed to writes" if seen.read_only else ""
        return False, "" if seen.applier else "it does not follow now"
