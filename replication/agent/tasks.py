"""Runs the long work of this host: one task at a time, each on a thread of its own, cancelled by request.

What runs and what it came to is on disk (`home/task.json`): an agent that is started anew says of a task that was under way what
became of it. Most of them have failed then and left nothing behind; whoever can go on after a restart registers `resume`.
"""

import contextlib
import json
import logging
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from replication.agent.durable import write_json
from replication.core.tasks import NO_WAY_BACK, TaskKind, TaskOrder, TaskPhase, TaskReport
from replication.core.vault_ports import TaskRefused

log = logging.getLogger(__name__)

OPERATION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""It becomes a part of names of files."""
TERMINATE_SECONDS: Final = 5
"""How long a program that was told to end may take before it is killed."""


class TaskFailed(Exception):
    """The task ends as failed; the text is one sentence, and says what became of the data where that is not "as before"."""


class TaskCancelled(Exception):
    """Somebody wants it to end."""


class TaskInterrupted(Exception):
    """The agent ends where there is no way back: its report stays as it is, and the next agent goes on from there."""


Body = Callable[["Task"], None]


@dataclass(frozen=True)
class Recipe:
    """What one kind of task does. All three raise TaskRefused or TaskFailed, with one sentence each."""

    prepare: Callable[[TaskOrder], Body]
    """Checks the arguments and whether it can begin, quickly, on the caller's thread; returns what to run."""
    resume: Callable[[TaskReport], Body | None] = lambda report: None
    """At a start of the agent, with what was under way: what to run to its end, or None when it has failed and nothing is left."""


class Task:
    """What the running body sees of itself. Its methods raise TaskCancelled when it is to end, except where there is no way back."""

    def __init__(self, runner: "TaskRunner", report: TaskReport) -> None:
        self._runner = runner
        self.report = report
        self.cancelled = threading.Event()
        self.stopping = threading.Event()
        """The agent ends."""
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def check(self) -> None:
        if self.cancelled.is_set() and self.report.phase not in NO_WAY_BACK:
            raise TaskCancelled

    def phase(self, phase: TaskPhase, **changes: Any) -> None:
        """Enter a phase, durably. changes: other fields of its report."""
        with self._lock:
            self.check()
            self.report = replace(self.report, phase=phase, **changes)
            self._runner.note(self.report)

    def tell(self, **changes: Any) -> None:
        """Change fields of its report. On disk with the next phase, or at its end."""
        self.report = replace(self.report, **changes)

    def count(self, done: int, total: int | None = None) -> None:
        """So many bytes so far. Cheap: goes to no disk, and out with the next hello."""
        self.check()
        self.report = replace(self.report, done=done, total=self.report.total if total is None else total)

    def keep_result(self, result: Mapping[str, Any]) -> None:
        """What its controller may ask for when it has ended. Raises OSError."""
        self._runner.keep_result(self.report.operation, result)

    @contextlib.contextmanager
    def child(self, arguments: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
        """Start a program that ends with this task: told to when it is cancelled, and killed when the block is left before its
        end. Raises TaskFailed when it cannot be started."""
        try:
            started = subprocess.Popen(list(arguments), **options)
        except OSError as error:
            raise TaskFailed(f"{arguments[0]} cannot be started: {error.strerror}") from error
        with self._lock:
            self._children.append(started)
        if self.cancelled.is_set():
            started.terminate()
        try:
            yield started
        finally:
            with self._lock:
                self._children.remove(started)
            _end(started)

    def cancel(self) -> bool:
        """Whether it will end; False when there is no way back any more."""
        with self._lock:
            if self.report.phase in NO_WAY_BACK:
                return False
            self.cancelled.set()
            for child in self._children:
                child.terminate()
        return True


class TaskRunner:
    """Implements core.vault_ports.Tasks. `changed` is called when a report should go out at once, from any thread."""

    def __init__(self, home: Path, changed: Callable[[], None]) -> None:
        self._file, self._results = home / "task.json", home / "task-result.json"
        self._changed = changed
        self._recipes: dict[TaskKind, Recipe] = {}
        self._lock = threading.Lock()
        self._running: Task | None = None
        self._thread: threading.Thread | None = None
        self._last = self._load()

    def register(self, kind: TaskKind, recipe: Recipe) -> None:
        self._recipes[kind] = recipe

    def report(self) -> TaskReport | None:
        running = self._running
        return running.report if running is not None else self._last

    def begin(self, order: TaskOrder) -> TaskReport:
        with self._lock:
            now = self.report()
            if now is not None and (now.operation, now.kind) == (order.operation, order.kind):
                return now
            if now is not None and now.active:
                raise TaskRefused(
                    f"this host is busy with another {now.kind.value} ({now.phase.value}): wait until that has ended"
                )
            if order.kind not in self._recipes:
                raise TaskRefused(f"this agent cannot do {order.kind.value}")
            if not OPERATION.fullmatch(order.operation):
                raise TaskRefused(
                    f"{order.operation[:80]!r} is no id of an operation: letters, digits and dashes, 64 at most"
                )
            body = self._recipes[order.kind].prepare(order)
            began = datetime.now(UTC).isoformat(timespec="milliseconds")
            return self._run(
                body, TaskReport(operation=order.operation, kind=order.kind, phase=TaskPhase.WAITING, began=began)
            )

    def resume(self) -> None:
        """Once, at the start of the agent, before mariadbd is touched: end, or go on with, what was under way."""
        with self._lock:
            left = self._last
            if left is None or not left.active:
                return
            recipe = self._recipes.get(left.kind)
            try:
                body = recipe.resume(left) if recipe is not None else None
            except TaskFailed as error:
                self._end(replace(left, phase=TaskPhase.FAILED, says=str(error)))
                return
            if body is not None:
                self._start(body, left)
                return
            says = f"the agent ended while it was {left.phase.value}; nothing was changed"
            self._end(replace(left, phase=TaskPhase.FAILED, says=says))

    def cancel(self, operation: str) -> bool:
        """Whether this operation's task will end, or has ended. False when there is no way back any more, or it is not here."""
        running, last = self._running, self._last
        if running is not None and running.report.operation == operation:
            return running.cancel()
        return last is not None and last.operation == operation

    def result(self, operation: str) -> Mapping[str, Any] | None:
        """What a task that has ended left for its controller; None when there is nothing of this operation."""
        try:
            kept = json.loads(self._results.read_bytes())
        except (OSError, ValueError):
            return None
        return kept["result"] if kept["operation"] == operation else None

    def keep_result(self, operation: str, result: Mapping[str, Any]) -> None:
        """Raises OSError."""
        write_json(self._results, {"operation": operation, "result": result})

    def end(self) -> None:
        """The agent ends: what can be cancelled is, and says so; what has no way back goes on to where the next agent can take it up."""
        running, thread = self._running, self._thread
        if running is not None:
            running.stopping.set()
            running.cancel()
        if thread is not None:
            thread.join()

    def note(self, report: TaskReport) -> None:
        """Raises TaskFailed when it cannot be made durable."""
        try:
            write_json(self._file, asdict(report))
        except OSError as error:
            raise TaskFailed(f"{self._file} cannot be written: {error.strerror}") from error
        self._changed()

    def _run(self, body: Body, report: TaskReport) -> TaskReport:
        try:
            self.note(report)
        except TaskFailed as error:
            raise TaskRefused(str(error)) from error
        return self._start(body, report)

    def _start(self, body: Body, report: TaskReport) -> TaskReport:
        task = Task(self, report)
        self._running = task
        self._thread = threading.Thread(target=self._carry_out, args=(task, body), name=report.kind.value, daemon=True)
        self._thread.start()
        return report

    def _carry_out(self, task: Task, body: Body) -> None:
        try:
            body(task)
            ended = replace(task.report, phase=TaskPhase.DONE)
        except TaskInterrupted:
            with self._lock:
                self._last, self._running = task.report, None
            return
        except TaskCancelled:
            ended = _cancelled(task)
        except TaskFailed as error:
            cancelled = task.cancelled.is_set() and task.report.phase not in NO_WAY_BACK
            ended = _cancelled(task) if cancelled else replace(task.report, phase=TaskPhase.FAILED, says=str(error))
        except Exception as error:
            log.exception("%s failed by a fault of ours", task.report.kind.value)
            ended = replace(
                task.report, phase=TaskPhase.FAILED, says=f"{error.__class__.__name__}: see the agent's log"
            )
        with self._lock:
            self._end(ended)

    def _end(self, report: TaskReport) -> None:
        log.info("%s of operation %s: %s %s", report.kind.value, report.operation, report.phase.value, report.says)
        self._last, self._running = report, None
        with contextlib.suppress(TaskFailed):  # then the next start of the agent says that it was interrupted
            self.note(report)
        self._changed()

    def _load(self) -> TaskReport | None:
        try:
            kept = json.loads(self._file.read_bytes())
            return TaskReport(**{**kept, "kind": TaskKind(kept["kind"]), "phase": TaskPhase(kept["phase"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.error("%s cannot be read, what it told of is forgotten: %s", self._file, error)
            return None


def _cancelled(task: Task) -> TaskReport:
    if task.stopping.is_set():
        says = f"the agent was stopped while it was {task.report.phase.value}; nothing was changed"
        return replace(task.report, phase=TaskPhase.FAILED, says=says)
    return replace(task.report, phase=TaskPhase.CANCELLED, says="cancelled; nothing was changed")


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
