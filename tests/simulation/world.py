"""One run: hosts, controllers, metadata database and writers are put together, the schedule happens to them, all is healed,
and the vault has to be whole again within a bound.
"""

import asyncio
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Any, Final

from replication.core import limits
from replication.core.commands import Command, ReplicationAccount, Verb, account_name
from replication.core.positions import extra_transactions
from replication.core.roles import OrderKind, SystemRole
from replication.core.view import NodeView, Topology
from tests.simulation.clients import Writer
from tests.simulation.controller import TERMINAL, Controller
from tests.simulation.faults import Faults
from tests.simulation.history import History
from tests.simulation.host import VaultHost
from tests.simulation.kernel import Deadlock, Kernel
from tests.simulation.mariadbd import Mariadbd
from tests.simulation.metadata import Content, MetadataDb
from tests.simulation.network import Network
from tests.simulation.schedule import CONTROLLERS, NODES, Schedule

VAULT: Final = "f" * 32
HEALS_WITHIN: Final = 150.0
"""Virtual seconds from the last repair until the vault must be whole: the longest order to a host that was cut off takes a
minute, and pauses between tries grow to half of that."""
OPERATIONS_END_WITHIN: Final = 2 * limits.RETRY_MAX.total_seconds() + 15
"""Seconds. What is no longer tried ends after twice the longest pause; after that a leader without any looks for rows that
others have left, every ten seconds. A wish that nobody begins has failed long before."""
POLL: Final = 0.2
LOOK: Final = 0.25
CLOSES_WITHIN: Final = 2.5
"""Seconds: the last round of asking, and read-only with its limit."""


@dataclass
class Result:
    schedule: Schedule
    violations: list[str]
    history: History
    seconds: float
    """Virtual."""
    events: int = 0

    @property
    def digest(self) -> str:
        return self.history.digest()


class Simulation:
    """Everything in one run. Variants replace parts of it before `run`."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.kernel = Kernel(schedule.seed)
        self.history = History(lambda: self.kernel.now, lambda name, row: self.hosts[name].server.has_received(row))
        self.network = Network(self.kernel, self._chance("network"))
        content = Content(row=Topology(vault=VAULT), nodes={})
        self.db = MetadataDb(self.kernel, self.network, self._chance("metadata"), content)
        self.db.row_changed = self.history.row_changed
        self.db.restored = self._note_restored
        self.hosts: dict[str, VaultHost] = {}
        for number, name in enumerate(NODES[: schedule.nodes], start=1):
            self._add_host(name, number)
        by_address = {h.address: h for h in self.hosts.values()}
        for host in self.hosts.values():
            host.peers = by_address
        self.controllers: dict[str, Controller] = {}
        for name in CONTROLLERS:
            controller = Controller(self.kernel, self.network, self.db, by_address, name)
            controller.said = lambda who, epoch, rule, text: self.history.note(who, f"{rule} {text}")
            self.controllers[name] = controller
        rows = count(1)
        self.writers = [
            self._writer(w, nodes, rows) for w, nodes in (("stays", "a"), ("moves", "ba"), ("roams", "abc"))
        ]
        self.faults = Faults(self)
        self._healed_at = 0.0

    def _note_restored(self) -> None:
        self.history.restored = True
        self.history.note("metadata", f"is restored to epoch {self.db.content.row.epoch}")

    def _chance(self, name: str) -> Random:
        return Random(f"{self.schedule.seed} {name}")

    def _add_host(self, name: str, number: int) -> None:
        address = f"10.0.0.{number}"
        rng = self._chance(name)
        server = Mariadbd(self.kernel, self.network, address, rng, armed=self.schedule.armed)
        server.acknowledged = lambda row: self.history.served(name, row)
        host = VaultHost(self.kernel, self.network, server, rng, name=name, address=address, number=number)
        host.state_changed = lambda before, after: self.history.state_changed(name, before, after)
        host.obeyed = lambda sender, epoch: self.history.obeyed(name, sender, epoch)
        host.violated = self.history.violate
        host.replaced = lambda: self.history.replaced(name)
        host.said = lambda text: self.history.note(name, text)
        self.hosts[name] = host
        role = SystemRole.PRIMARY if number == 1 else SystemRole.FALLBACK
        node = NodeView(id=name * 32, hostname=name, ip=address, system_role=role, ordinal=number)
        self.db.content.nodes[node.id] = node

    def _writer(self, name: str, nodes: str, rows: "count[int]") -> Writer:
        places = [(n, self.hosts[n].server) for n in nodes if n in self.hosts]
        network, hosts = self.network, self.hosts
        up = lambda n: hosts[n].address not in network.off  # noqa: E731
        return Writer(self.kernel, self.history, name, places, rows, self._chance(name), up)

    # --- running --------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        began = self.kernel.now
        try:
            self.kernel.run(self._main())
        except Deadlock as error:
            self.history.violate(f"deadlock: {error}")
        violations = [*self.history.violations, *(f"exception in {fault}" for fault in self.kernel.faults)]
        return Result(self.schedule, violations, self.history, self.kernel.now - began, self.kernel.events)

    async def _main(self) -> None:
        kernel, start = self.kernel, self.kernel.now
        for host in self.hosts.values():
            host.start_agent()
        if self.schedule.warm:
            await self._warm_up()
        for controller in self.controllers.values():
            controller.start()
        for writer in self.writers:
            writer.start()
        for fault in self.schedule.faults:
            self.faults.plan(fault, start)
        self._watch_leases()
        healed = start + self.schedule.heal_at
        await asyncio.sleep(max(0.0, healed - kernel.now))
        self.faults.heal_all()
        self._healed_at = kernel.now
        await self._converge()

    def _watch_leases(self) -> None:
        """A primary whose lease is over closes, unless its agent cannot act."""
        for name, host in self.hosts.items():
            agent, server = host.agent, host.server
            if (
                agent is None
                or server.run is None
                or agent.program.frozen
                or not server.ready
                or agent.lease.over_for < CLOSES_WITHIN
            ):
                continue
            acting_for = self.kernel.now - max(agent.program.runs_since, server.run.program.runs_since)
            if acting_for > CLOSES_WITHIN and not server.database.switches().read_only:
                self.history.violate(f"{name} is open {agent.lease.over_for:.1f} s after its lease was over")
        self.kernel.later(LOOK, None, self._watch_leases)

    async def _warm_up(self) -> None:
        """A lossless vault, by the same verbs that a controller sends."""
        others = [h for h in self.hosts.values() if h.name != "a"]
        a, acker = self.hosts["a"], self.hosts["b"]
        accounts = [
            ReplicationAccount(name=account_name(h.name * 32), subject=f"/CN={h.name}").to_json() for h in others
        ]
        await asyncio.sleep(0.001)  # agents have taken up their databases
        self._row(1, primary=a.name * 32)
        await self._order(a, Verb.OPEN, jump=False, accounts=accounts)
        await asyncio.gather(*(self._follow(h, a) for h in others))
        self._row(2, may_ack=frozenset({acker.name * 32}))
        await self._order(acker, Verb.ACKER)
        peers = [f"{acker.address}:{limits.AGENT_PORT}"]
        answer = await self._order(a, Verb.LOSSLESS, peers=peers)
        await self._order(acker, Verb.RECEIVED, position=answer["gtid_binlog_pos"])
        self.db.change_row(replace(self.db.content.row, promotable=acker.name * 32), "start")
        for id, node in self.db.content.nodes.items():
            self.db.content.nodes[id] = replace(node, joined=True)

    def _row(self, epoch: int, **changes: Any) -> None:
        self.db.change_row(replace(self.db.content.row, epoch=epoch, owner=f"start{epoch}", **changes), "start")

    async def _follow(self, host: VaultHost, source: VaultHost) -> None:
        state = source.server.database.positions().gtid_binlog_state
        await self._order(
            host, Verb.FOLLOW, source_host=source.address, source_port=limits.DATABASE_PORT,
            account=account_name(host.name * 32), source_binlog_state=state, source_oldest_binlog="", truncate_tail=False,
            rejudge=False,
        )  # fmt: skip

    async def _order(self, host: VaultHost, verb: Verb, **args: Any) -> Any:
        command = Command(
            vault=VAULT,
            node=host.name * 32,
            term=0,
            epoch=self.db.content.row.epoch,
            operation="start",
            deadline=5.0,
            args=args,
        )
        assert host.agent is not None
        done = host.agent.program.spawn(host.agent.execute(verb, command))
        return (await done).facts

    async def _converge(self) -> None:
        kernel, bound = self.kernel, self.kernel.now + HEALS_WITHIN
        while (missing := self._missing()) and kernel.now < bound and not self._hopeless():
            self.faults.repair()
            await asyncio.sleep(POLL)
        for writer in self.writers:
            writer.stopped = True
        if missing:
            self.history.violate(f"not whole again after {HEALS_WITHIN:.0f} s: {missing}")
            return
        await asyncio.sleep(0.3)  # what is on its way arrives
        primary = self._name(self.db.content.row.primary)
        server = self.hosts[primary].server
        self.history.check_rows(primary, set(server.rows()))
        for name, host in self.hosts.items():
            extra = [row for row in host.server.rows() if not server.has_received(row)]
            if extra and not host.disk.durable.quarantine:
                self.history.violate(f"{name} follows and has rows that {primary} does not have: {extra[:8]}")
        bound = kernel.now + OPERATIONS_END_WITHIN
        while (left := self._unended()) and kernel.now < bound:
            await asyncio.sleep(POLL)
        for operation, state in left.items():
            self.history.violate(f"operation {operation} is {state} for ever")

    def _hopeless(self) -> bool:
        return bool(self.history.violations or self.kernel.faults)

    @staticmethod
    def _name(id: str) -> str:
        return id[:1]

    def _missing(self) -> str:
        """What keeps the vault from being whole; "" when it is. Looked at on the servers themselves, not in reports."""
        content = self.db.content
        row = content.row
        if row.intent is not None:
            return f"an intent is open: {row.intent.kind}"
        if not row.primary or self._name(row.primary) not in self.hosts:
            return "no primary is recorded"
        primary = self.hosts[self._name(row.primary)]
        held = {n.hostname for n in content.nodes.values() if n.id != row.primary and self._held(n, primary)}
        for name, host in self.hosts.items():
            if host.agent is None or (not host.server.ready and name not in held):
                return f"{name} does not run"
            order, open_ = host.agent.state.read().order_kind, not self._closed(host)
            if (host is primary) != open_:
                return f"{name} is {'open' if open_ else 'closed'}, its order is {order}"
        for node in content.nodes.values():
            task = self.hosts[node.hostname].copies.task
            if node.wish is not None or (task is not None and task.active):
                return f"{node.hostname} is to have other data, or to send them"
        if not row.promotable:
            left = [n for n in content.nodes.values() if n.id != row.primary and n.hostname not in held]
            return "the vault is solo" if left else ""
        if primary.agent is None or primary.agent.state.read().order_kind is not OrderKind.LOSSLESS:
            return "the primary does not wait for its acker"
        for node in content.nodes.values():
            if node.id == row.primary or node.hostname in held:
                continue
            replica = self.hosts[node.hostname].server.database.replica()
            if (
                replica is None
                or not replica.streaming
                or not replica.applier
                or replica.source_host != primary.address
            ):
                return f"{node.hostname} does not follow"
        if not any(c.watches for c in self.controllers.values()):
            return "nobody leads"
        if self.writers[-1].last_ok < self._healed_at:
            return "a writer that tries all nodes gets no row in"
        return ""

    def _held(self, node: NodeView, primary: VaultHost) -> bool:
        """Held closed for a person, and what happened justifies it."""
        host = self.hosts[node.hostname]
        state = host.disk.durable
        mine, theirs = host.server.storage.binlog_state, primary.server.storage.binlog_state
        return bool(state.quarantine and extra_transactions(mine, theirs))

    @staticmethod
    def _closed(host: VaultHost) -> bool:
        return not host.server.ready or host.server.database.switches().read_only

    def _unended(self) -> dict[str, str]:
        """Operations without a terminal state that the leader does not know to be open either."""
        leader = next((c for c in self.controllers.values() if c.leads), None)
        open_ = leader.open_operations() if leader is not None else set()
        found = self.db.content.operations.items()
        return {operation: state for operation, state in found if state not in TERMINAL and operation not in open_}
