"""One vault host in memory: keeps its promises, obeys the verbs, fails where it is told to."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from replication.core.commands import Answer, Command, Verb, account_name
from replication.core.errors import ReplicationError, StaleEpoch, StepFailed
from replication.core.report import NodeReport
from replication.core.roles import OrderKind, ProcessState
from replication.core.tasks import REPLACES_DATA, KeptData, TaskKind, TaskPhase, TaskReport
from replication.procedures.vault.verbs import GIVE_A_ROLE
from tests.builders import VAULT, id_of, ip_of, report

if TYPE_CHECKING:
    from tests.procedures.world import Scene


class Agent:
    """One vault host. A replica of nobody, closed, until told otherwise."""

    def __init__(self, name: str, scene: "Scene") -> None:
        self.id, self.name, self.scene = id_of(name), name, scene
        self.term = self.epoch = 0
        self.order, self.primary_order = OrderKind.NONE, OrderKind.NONE
        self.primary_order_epoch = 0
        self.process = ProcessState.UP
        self.reachable = True
        self.unreachable_kind = "silent"
        self.vault, self.member = VAULT, self.id
        self.source = ""
        self.flag = self.revoked = self.drained = False
        self.semisync = False
        self.locked: set[str] = set()
        self.tainted, self.quarantine, self.disk_error, self.needs_rebuild = False, "", "", ""
        self.task: TaskReport | None = None
        self.kept: KeptData | None = None
        self.data_bytes, self.disk_free = 10**9, 10**10
        self.operation = ""
        """Of the command that is being obeyed."""
        self.replaced = 0
        """How many times it got other data."""
        self.challenges = count(1)
        self.streaming_since: float | None = None
        self.stuck_since: float | None = None
        self.position = 100
        self.fails: dict[Verb, list[ReplicationError]] = defaultdict(list)
        self.answer_lost: set[Verb] = set()
        self.slow: dict[Verb, float] = {}
        """Seconds a verb takes."""
        self.says: dict[str, Any] = {}
        """Fields of the database report that differ."""
        self.version = 1
        self.changed = asyncio.Event()

    # --- what it is

    @property
    def open(self) -> bool:
        return self.process is ProcessState.UP and self.order is not OrderKind.NONE

    @property
    def streams(self) -> bool:
        """Whether it receives from its source now."""
        source = self.scene.agent_at(self.source)
        if source is None or self.revoked or self.process is not ProcessState.UP:
            return False
        if source.process is not ProcessState.UP:  # a closed one still sends
            return False
        return account_name(self.id) not in source.locked

    @property
    def can_acknowledge(self) -> bool:
        """Whether a client's commit may be acknowledged here at this moment."""
        if not self.open:
            return False
        if self.order is OrderKind.SOLO:
            return True
        return any(a.flag and a.streams and a.source == self.name for a in self.scene.agents.values())

    def bump(self) -> None:
        """Something changed: long polls are answered at once."""
        self.version += 1
        self.changed.set()
        self.changed = asyncio.Event()

    def set(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self, name, value)
        self.scene.settle()

    def report(self) -> NodeReport:
        now = self.scene.clock.monotonic()
        since = self.streaming_since
        clients = sum(a.flag and a.streams and a.source == self.name for a in self.scene.agents.values())
        position = f"0-1-{self.position}"
        db: dict[str, Any] = {
            "source": self.source,
            "read_only": not self.open,
            "gtid_binlog_pos": position,
            "gtid_binlog_state": position,
            "gtid_slave_pos": position,
            "gtid_io_pos": position if self.source else "",
            "receiver": "" if not self.source else "Yes" if self.streams else "No" if self.revoked else "Connecting",
            "heard_age": 0.1 if self.streams else 60.0 if self.source else None,
            "receiver_up_for": 0.0 if since is None else now - since,
            "semisync_primary": self.semisync,
            "semisync_replica": self.flag,
            "ack_clients": clients,
            "commits_stuck_for": 0.0 if self.stuck_since is None else now - self.stuck_since,
            **self.says,
        }
        return report(
            self.name,
            order=self.order,
            db=db,
            version=self.version,
            vault=self.vault,
            node=self.member,
            term=self.term,
            epoch=self.epoch,
            order_epoch=self.epoch,
            primary_order_kind=self.primary_order,
            primary_order_epoch=self.primary_order_epoch,
            process=self.process,
            tainted=self.tainted,
            quarantine=self.quarantine,
            disk_error=self.disk_error,
            needs_rebuild=self.needs_rebuild,
            task=self.task,
            kept=self.kept,
            data_bytes=self.data_bytes,
            disk_free_bytes=self.disk_free,
            challenge=f"{self.name}-{next(self.challenges)}",
        )

    # --- what it is told

    def obey(self, verb: Verb, command: Command) -> Answer:
        if (command.term, command.epoch) < (self.term, self.epoch) or command.epoch < self.epoch:
            raise StaleEpoch(self.name, self.term, self.epoch)
        self.term, self.epoch, self.operation = command.term, command.epoch, command.operation
        if verb in GIVE_A_ROLE and self.replacing:
            raise StepFailed(self.name, verb.value, "task", "its data is being replaced")
        if self.fails[verb]:
            raise self.fails[verb].pop(0)
        if not self.vault:
            self.vault, self.member = command.vault, command.node
        facts = getattr(self, f"_{verb.name.lower()}")(command.args) or {}
        self.scene.settle()
        return Answer(facts=facts)

    def _be(self, order: OrderKind) -> None:
        self.order = self.primary_order = order
        self.primary_order_epoch = self.epoch

    def _open(self, args: Mapping[str, Any]) -> dict[str, Any]:
        if self.tainted or self.quarantine:
            raise StepFailed(self.name, "open", "held-back", "it is held back")
        if self.source and not self.revoked:
            raise StepFailed(self.name, "open", "not-drained", "it still receives")
        self._be(OrderKind.SOLO)
        self.process, self.source, self.flag, self.semisync = ProcessState.UP, "", False, False
        self.revoked = self.drained = False
        self.locked -= {a["name"] for a in args["accounts"]}
        return {"gtid_binlog_pos": f"0-1-{self.position}"}

    def _lossless(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._must_be_open("lossless")
        self._be(OrderKind.LOSSLESS)
        self.semisync = True
        return {"gtid_binlog_pos": f"0-1-{self.position}"}

    def _solo(self, _: Mapping[str, Any]) -> None:
        self._must_be_open("solo")
        self._be(OrderKind.SOLO)
        self.semisync, self.stuck_since = False, None

    def _must_be_open(self, step: str) -> None:
        if not self.open:
            raise StepFailed(self.name, step, "closed", "it is not open")

    def _accounts(self, args: Mapping[str, Any]) -> None:
        self.locked -= {a["name"] for a in args["accounts"]}

    def _lock_out(self, args: Mapping[str, Any]) -> None:
        self.locked.add(args["account"])

    def _follow(self, args: Mapping[str, Any]) -> None:
        if self.quarantine and not args["rejudge"]:
            raise StepFailed(self.name, "follow", "quarantined", self.quarantine)
        self.order = self.primary_order = OrderKind.NONE
        self.process = ProcessState.UP
        self.source = next(a.name for a in self.scene.agents.values() if ip_of(a.name) == args["source_host"])
        self.flag = self.revoked = self.drained = self.tainted = self.semisync = False
        self.quarantine = self.needs_rebuild = ""

    def _acker(self, _: Mapping[str, Any]) -> None:
        if not self.streams:
            raise StepFailed(self.name, "acker", "not-streaming", "it does not stream")
        self.flag = True

    def _revoke(self, _: Mapping[str, Any]) -> None:
        if self.process is not ProcessState.UP or self.tainted:
            raise StepFailed(self.name, "revoke", "not-running", "its database does not run")
        self.revoked, self.flag = True, False

    def _drain(self, _: Mapping[str, Any]) -> dict[str, Any]:
        if not self.revoked and not self.drained:
            raise StepFailed(self.name, "drain", "not-revoked", "it was not revoked")
        self.source, self.drained = "", True
        return {"gtid_slave_pos": f"0-1-{self.position}"}

    def _received(self, _: Mapping[str, Any]) -> dict[str, Any]:
        if not self.streams:
            raise StepFailed(self.name, "received", "timeout", "it has not received that far")
        return {"gtid_io_pos": f"0-1-{self.position}"}

    def _detach(self, args: Mapping[str, Any]) -> None:
        self.order, self.source, self.flag = OrderKind.NONE, "", False
        if args.get("leave"):
            self.vault = self.member = ""

    def _close(self, _: Mapping[str, Any]) -> dict[str, Any]:
        if self.primary_order is OrderKind.NONE:
            raise StepFailed(self.name, "close", "not-primary", "it is not the primary")
        self.order = OrderKind.NONE
        return {"gtid_binlog_pos": f"0-1-{self.position}"}

    def _promise(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "order_kind": self.order.value,
            "primary_order_kind": self.primary_order.value,
            "primary_order_epoch": self.primary_order_epoch,
            "source_host": ip_of(self.source) if self.source else "",
        }

    # --- long work

    @property
    def replacing(self) -> bool:
        return self.task is not None and self.task.active and self.task.kind in REPLACES_DATA

    def _begin(self, kind: TaskKind) -> dict[str, Any]:
        task = self.task
        if task is None or (task.operation, task.kind) != (self.operation, kind):
            if task is not None and task.active:
                raise StepFailed(self.name, kind.value, "task", "this host is busy")
            task = self.task = TaskReport(operation=self.operation, kind=kind, phase=TaskPhase.WAITING)
        return {"task": {"operation": task.operation, "kind": task.kind.value, "phase": task.phase.value}}

    def _rebuild(self, _: Mapping[str, Any]) -> dict[str, Any]:
        if self.order is not OrderKind.NONE:
            raise StepFailed(self.name, "rebuild", "is-primary", "it is the primary")
        self.flag = False
        return self._begin(TaskKind.RECEIVE)

    def _undo(self, _: Mapping[str, Any]) -> dict[str, Any]:
        if self.order is not OrderKind.NONE:
            raise StepFailed(self.name, "undo", "is-primary", "it is the primary")
        self.flag = False
        return self._begin(TaskKind.UNDO)

    def _send(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return self._begin(TaskKind.SEND)

    def cancel(self, operation: str) -> bool:
        task = self.task
        if task is None or task.operation != operation:
            return False
        if task.active:
            self.end_task(TaskPhase.CANCELLED)
        return True

    def end_task(self, phase: TaskPhase) -> None:
        """The long work ends; DONE gives it other data and a clean memory, as docs/design/rebuild.md says."""
        assert self.task is not None
        done = phase is TaskPhase.DONE and self.task.kind in REPLACES_DATA
        self.task = replace(self.task, phase=phase, replaced=done)
        if done:
            self.replaced += 1
            self.source, self.process, self.tainted, self.quarantine, self.needs_rebuild = (
                "",
                ProcessState.UP,
                False,
                "",
                "",
            )
            self.order = self.primary_order = OrderKind.NONE
            self.primary_order_epoch, self.flag, self.revoked = 0, False, False
            self.kept = KeptData(operation=self.task.operation, since="2026-01-01T00:00:00+00:00", bytes=10**9)
        self.scene.settle()

    def _fence(self, _: Mapping[str, Any]) -> None:
        self.order, self.process, self.source, self.semisync = OrderKind.NONE, ProcessState.DOWN, "", False
