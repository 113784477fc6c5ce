"""Being the source of a full copy: whether this node may, and watching over the program that does it (sender.py)."""

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from replication.agent.config import AgentConfig
from replication.agent.database import local_user
from replication.agent.sender import Order
from replication.agent.tasks import Body, Recipe, Task, TaskFailed
from replication.core import throttle
from replication.core.report import DatabaseReport
from replication.core.roles import ProcessState
from replication.core.tasks import SendArgs, TaskOrder, TaskPhase, TaskReport
from replication.core.vault_ports import State, TaskRefused

ROOT: Final = Path(__file__).resolve().parent.parent.parent
"""Where `replication` is imported from."""

GONE: Final = frozenset({ProcessState.DEAD, ProcessState.DOWN, ProcessState.STARTING})
ENDED: Final = "the database of the source ended during the copy"
"""mariadb-backup itself would go on copying its files, and only notice when it needs it again."""


class Send:
    """What this node is now: memory: what it must not forget; phase: of its mariadbd; server: tells one run of that from the next;
    seen: what SQL said last."""

    def __init__(
        self,
        config: AgentConfig,
        memory: Callable[[], State],
        phase: Callable[[], ProcessState],
        server: Callable[[], object],
        seen: Callable[[], DatabaseReport | None],
    ) -> None:
        self._config, self._memory, self._phase = config, memory, phase
        self._server, self._seen = server, seen
        self._scratch = config.home / "send.tmp"

    @property
    def recipe(self) -> Recipe:
        return Recipe(prepare=self.prepare, resume=self.resume)

    def prepare(self, order: TaskOrder) -> Body:
        """Raises TaskRefused."""
        args = send_args(order.args)
        against = self._reason_against() or throttle.reason_against(args.bytes_per_second)
        if against:
            raise TaskRefused(against)
        return lambda task: self._run(task, self._order(order.operation, args))

    def resume(self, report: TaskReport) -> None:
        """A copy cannot be gone on with: its target has thrown away what it had."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _reason_against(self) -> str:
        state, phase = self._memory().read(), self._phase()
        if state.quarantine:
            return f"it is in quarantine, so its data are no source for a copy: {state.quarantine}"
        if state.needs_rebuild:
            return f"it needs a copy itself: {state.needs_rebuild}"
        if state.tainted:
            return "it may lack transactions that it has acknowledged, so its data are no source for a copy"
        if phase is not ProcessState.UP:
            return f"its database is {phase.value}: a copy is made of one that is up"
        return self._lacks()

    def _lacks(self) -> str:
        if not os.access(self._config.mariadb_backup, os.X_OK):
            return f"{self._config.mariadb_backup} is missing: install it (on Debian: apt install mariadb-backup)"
        return ""

    def _order(self, operation: str, args: SendArgs) -> Order:
        config, seen = self._config, self._seen()
        return Order(
            operation=operation,
            name=args.target_name,
            host=args.target_host,
            port=args.target_port,
            subject=args.target_subject,
            rate=args.bytes_per_second,
            program=config.mariadb_backup,
            socket=str(config.socket),
            user=local_user(),
            version=seen.version if seen is not None else "",
            # It must not be newer than the copy; what is in the copy and not in here, the target adds from its position.
            binlog_state=seen.gtid_binlog_state if seen is not None else "",
            data=str(config.data_dir),
            scratch=str(self._scratch),
            pki=str(config.pki_dir),
        )

    def _run(self, task: Task, order: Order) -> None:
        last: Mapping[str, Any] = {}
        server, told = self._server(), False
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        # Its standard error is the agent's: a defect of it belongs into the agent's log.
        try:
            with task.child([sys.executable, "-m", "replication.agent.sender"], cwd=ROOT, **pipes) as child:
                assert child.stdin is not None
                assert child.stdout is not None
                try:
                    child.stdin.write(order.to_json())
                    child.stdin.flush()
                    for line in child.stdout:
                        last = json.loads(line)
                        self._note(task, last)
                        if not told and (self._server() is not server or self._phase() in GONE):
                            told = True
                            child.stdin.write(f"{ENDED}\n".encode())
                            child.stdin.flush()
                except (OSError, ValueError) as error:
                    raise TaskFailed("the program that sends the copy has failed: see the agent's log") from error
                code = child.wait()
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)  # it may have been killed
        task.check()
        if "failed" in last:
            raise TaskFailed(f"{last['failed']}; nothing was changed here")
        if "received" not in last:
            what = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise TaskFailed(f"the program that sends the copy {what}; nothing was changed here")
        task.phase(TaskPhase.TRANSFERRING, position=str(last["position"]), done=int(last["received"]))

    @staticmethod
    def _note(task: Task, told: Mapping[str, Any]) -> None:
        if "done" not in told:
            return
        if task.report.phase is TaskPhase.WAITING:
            task.phase(TaskPhase.TRANSFERRING)
        task.count(int(told["done"]), int(told["total"]))


def send_args(given: Mapping[str, Any]) -> SendArgs:
    """Raises TaskRefused when they make no sense."""
    try:
        args = SendArgs(**given)
        ipaddress.ip_address(args.target_host)
    except (TypeError, ValueError) as error:
        raise TaskRefused(f"the order to send a copy makes no sense: {error}") from error
    texts = (args.target_name, args.target_host, args.target_subject)
    numbers = (args.target_port, args.bytes_per_second)
    if not all(isinstance(text, str) and text for text in texts) or not all(type(number) is int for number in numbers):
        raise TaskRefused("the order to send a copy makes no sense: texts and whole numbers are wanted")
    if not 1 <= args.target_port <= 65535:
        raise TaskRefused(f"the order to send a copy makes no sense: there is no port {args.target_port}")
    return args
