"""Carries out the faults of a schedule, and repairs everything at its end."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from replication.core.roles import OrderKind
from replication.core.tasks import REPLACES_DATA, TaskKind
from replication.core.vault_ports import DatabaseError
from replication.core.view import NodeView, RebuildWish, SwitchoverWish
from tests.simulation.controller import Controller
from tests.simulation.host import VaultHost
from tests.simulation.mariadbd import APPLY
from tests.simulation.metadata import ADDRESS
from tests.simulation.schedule import Fault

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

KNOWN_AFTER: Final = 0.6
"""Seconds after which a standby that runs has read the row again."""


class Faults:
    def __init__(self, world: "Simulation") -> None:
        self.world, self.kernel, self.network, self.db = world, world.kernel, world.network, world.db
        self._wishes = count(1)
        self._again = count(1)
        self._healed = False
        self._maintained: list[VaultHost] = []
        """Hosts on which an administrator has still to undo what he did."""
        self._administrator = self.kernel.program("administrator")

    def plan(self, fault: Fault, start: float) -> None:
        self.kernel.call_at(start + fault.at, self._begin, fault)
        if fault.kind == "restore metadata":
            self.kernel.call_at(max(start, start + fault.at - fault.n / 1000), self.db.take_backup)

    def _begin(self, fault: Fault) -> None:
        begin: Callable[[Fault], Callable[[], None] | None] = getattr(
            self, "_" + fault.kind.replace(" ", "_").replace("-", "_")
        )
        self.world.history.note("fault", str(fault))
        end = begin(fault)
        if end is not None:
            self.kernel.call_later(fault.seconds, end)

    # --- whom it hits ---------------------------------------------------------------------------------------------

    def _host(self, target: str) -> VaultHost | None:
        row, hosts = self.db.content.row, self.world.hosts
        if target in hosts:
            return hosts[target]
        primary, acker = row.primary[:1], row.promotable[:1]
        if target == "primary":
            return hosts.get(primary)
        if target in ("source", "target"):
            kinds = REPLACES_DATA if target == "target" else {TaskKind.SEND}
            at_it = [h for h in hosts.values() if (t := h.copies.task) is not None and t.active and t.kind in kinds]
            return at_it[0] if at_it else self._host("fallback" if target == "target" else "primary")
        if target == "acker":
            return hosts.get(acker) or self._host("fallback")
        if target == "fallback":
            others = [h for n, h in hosts.items() if n not in (primary, acker)] or [
                h for n, h in hosts.items() if n != primary
            ]
            return others[-1] if others else None
        return None

    def _controller(self, target: str) -> Controller | None:
        controllers = self.world.controllers
        if target in controllers:
            return controllers[target]
        leads = [c for c in controllers.values() if c.leads]
        if target == "leader":
            return leads[0] if leads else None
        return next((c for c in controllers.values() if c not in leads), None) if target == "standby" else None

    def _address(self, target: str) -> str:
        if target == ADDRESS:
            return ADDRESS
        place = self._host(target) or self._controller(target)
        return place.address if place is not None else ""

    # --- databases, agents, hosts ---------------------------------------------------------------------------------

    def _crash_database(self, fault: Fault) -> None:
        host = self._host(fault.target)
        if host is not None and host.server.alive:
            host.server.crash()

    def _freeze_database(self, fault: Fault) -> Callable[[], None] | None:
        host = self._host(fault.target)
        if host is None or not host.server.alive:
            return None
        host.server.freeze()
        return host.server.thaw

    def _kill_agent(self, fault: Fault) -> Callable[[], None] | None:
        host = self._host(fault.target)
        if host is None:
            return None
        host.kill_agent()
        return lambda: self._start_agent(host)

    def _start_agent(self, host: VaultHost) -> None:
        if host.agent is None and host.address not in self.network.off:
            host.start_agent()

    def _kill_agent_at_port(self, fault: Fault) -> Callable[[], None] | None:
        host = self._host(fault.target)
        if host is None:
            return None
        host.fuse = fault.n

        def over() -> None:
            host.fuse = None
            self._start_agent(host)

        return over

    def _freeze_agent(self, fault: Fault) -> Callable[[], None] | None:
        host = self._host(fault.target)
        if host is None or host.agent is None:
            return None
        host.agent.program.freeze()
        return host.agent.program.thaw

    def _power_off(self, fault: Fault) -> Callable[[], None] | None:
        host = self._host(fault.target)
        if host is None or host.address in self.network.off:
            return None
        host.power_off()
        return lambda: self._power_on(host)

    def _power_on(self, host: VaultHost) -> None:
        if host.address in self.network.off:
            host.power_on()

    def _freeze_host(self, fault: Fault) -> Callable[[], None] | None:
        """As a virtual machine that is paused: nothing runs, packets to it wait in its network card or are lost."""
        ends = [self._freeze_database(fault), self._freeze_agent(fault)]
        return lambda: [end() for end in ends if end is not None] and None

    def _stop_applier(self, fault: Fault) -> Callable[[], None] | None:
        """A person, or an error, stops the applier; somebody starts it again."""
        host = self._host(fault.target)
        if host is None or not host.server.ready:
            return None
        host.server.stop_applier()
        return lambda: host.server.start_applier() if host.server.ready else None

    def _slow_applier(self, fault: Fault) -> Callable[[], None] | None:
        host = self._host(fault.target)
        if host is None:
            return None
        host.server.apply_seconds = fault.n / 4000, fault.n / 1000

        def over() -> None:
            host.server.apply_seconds = APPLY

        return over

    def _set_read_only(self, fault: Fault) -> Callable[[], None] | None:
        """By hand, for maintenance; opened again by the same hand, unless the node has become a replica meanwhile."""
        host = self._host(fault.target)
        if host is None or not host.server.ready or host.disk.durable.order_kind is OrderKind.NONE:
            return None
        session = host.server.connect_session()
        self._administrator.run(_quietly, lambda: session.close_writes(timedelta(seconds=fault.seconds / 2)))
        return lambda: self._end_maintenance(host)

    def _end_maintenance(self, host: VaultHost) -> None:
        agent = host.agent
        if agent is None or not host.server.ready or agent.lease.closed:
            self._maintained.append(host)  # it is looked at again when all is healed
        elif host.disk.durable.order_kind is not OrderKind.NONE:
            self._administrator.run(_quietly, lambda: host.server.connect_session().set_read_only(False))

    def _disk_full(self, fault: Fault) -> Callable[[], None] | None:
        host = self._host(fault.target)
        if host is None:
            return None
        host.disk.full = True

        def over() -> None:
            host.disk.full = False

        return over

    # --- controllers ----------------------------------------------------------------------------------------------

    def _kill_controller(self, fault: Fault) -> Callable[[], None] | None:
        controller = self._controller(fault.target)
        if controller is None:
            return None
        controller.stop()
        return lambda: self._start_controller(controller)

    def _start_controller(self, controller: Controller) -> None:
        if controller.process is None:
            controller.start()

    def _freeze_controller(self, fault: Fault) -> Callable[[], None] | None:
        controller = self._controller(fault.target)
        if controller is None or controller.program is None:
            return None
        controller.program.freeze()
        return controller.program.thaw

    def _kill_controller_at_port(self, fault: Fault) -> Callable[[], None] | None:
        controller = self._controller(fault.target)
        if controller is None:
            return None
        controller.light_fuse(fault.n, controller.stop)

        def over() -> None:
            controller.put_out_fuse()
            self._start_controller(controller)

        return over

    def _freeze_controller_at_port(self, fault: Fault) -> Callable[[], None] | None:
        controller = self._controller(fault.target)
        if controller is None or controller.program is None:
            return None
        program = controller.program
        controller.light_fuse(fault.n, program.freeze)

        def over() -> None:
            controller.put_out_fuse()
            program.thaw()

        return over

    # --- network --------------------------------------------------------------------------------------------------

    def _cut(self, fault: Fault) -> Callable[[], None] | None:
        a, b = self._address(fault.target), self._address(fault.other)
        return self._cut_links({(a, b), (b, a)}) if a and b and a != b else None

    def _cut_one_way(self, fault: Fault) -> Callable[[], None] | None:
        a, b = self._address(fault.target), self._address(fault.other)
        return self._cut_links({(a, b)}) if a and b and a != b else None

    def _isolate(self, fault: Fault) -> Callable[[], None] | None:
        me = self._address(fault.target)
        others = {h.address for h in self.world.hosts.values()} | {*self.world.controllers, ADDRESS}
        links = {(me, o) for o in others if o != me} | {(o, me) for o in others if o != me}
        return self._cut_links(links) if me else None

    def _cut_links(self, links: set[tuple[str, str]]) -> Callable[[], None]:
        for link in sorted(links):
            self.network.cut(*link)

        def heal() -> None:
            for link in sorted(links):
                self.network.heal(*link)

        return heal

    def _noise(self, fault: Fault) -> Callable[[], None]:
        self.network.noise = fault.n / 100

        def over() -> None:
            self.network.noise = 0.0

        return over

    def _slow_network(self, fault: Fault) -> Callable[[], None]:
        self.network.slow = fault.n / 1000

        def over() -> None:
            self.network.slow = 0.0

        return over

    # --- metadata database ----------------------------------------------------------------------------------------

    def _metadata(self, trouble: str) -> Callable[[], None]:
        self.db.troubles.append(trouble)

        def over() -> None:
            if trouble in self.db.troubles:
                self.db.troubles.remove(trouble)

        return over

    def _metadata_slow(self, fault: Fault) -> Callable[[], None]:
        return self._metadata("slow")

    def _metadata_silent(self, fault: Fault) -> Callable[[], None]:
        return self._metadata("silent")

    def _metadata_away(self, fault: Fault) -> Callable[[], None]:
        return self._metadata("away")

    def _restore_metadata(self, fault: Fault) -> None:
        """It is stopped, and comes back with an older content.

        Not in the very moment of a claim: an epoch that only its leader knows of, and that the database then forgets, is the
        one case that nobody can see (docs/design/simulation.md).
        """
        if self._healed:
            return
        if self.kernel.now - self.db.changed_at < KNOWN_AFTER:
            self.kernel.call_later(0.1, self._restore_metadata, fault)
            return
        back = self._metadata("away")

        def over() -> None:
            if not self._healed:
                self.db.restore()
            back()

        self.kernel.call_later(fault.seconds, over)

    # --- operators: what the screen refuses is not done -----------------------------------------------------------

    def _wished(self, target: str) -> NodeView | None:
        """The row of a node that is not the primary, neither by the row nor in truth."""
        host, content = self._host(target), self.db.content
        if host is None or host.disk.durable.primary_order_kind != "none":
            return None
        node = next((n for n in content.nodes.values() if n.hostname == host.name and not n.removed), None)
        return node if node is not None and node.id != content.row.primary else None

    def _set(self, node: NodeView, **fields: Any) -> None:
        self.db.content.nodes[node.id] = replace(node, **fields)

    def _make_inactive(self, fault: Fault) -> Callable[[], None] | None:
        node = self._wished(fault.target)
        if node is None:
            return None
        self._set(node, active=False)
        return self._all_active

    def _all_active(self) -> None:
        for node in list(self.db.content.nodes.values()):
            if not node.active and not node.removed:
                self._set(node, active=True)

    def _delete(self, fault: Fault) -> Callable[[], None] | None:
        node = self._wished(fault.target)
        if node is None:
            return None
        self._set(node, removed=True)
        return self._add_again

    def _add_again(self) -> None:
        """A deleted node is entered once more, as a new row, when the old one is gone."""
        content = self.db.content
        for name, host in self.world.hosts.items():
            if any(n.hostname == name for n in content.nodes.values()):
                continue
            id = f"{name}{next(self._again):031d}"
            content.nodes[id] = NodeView(id=id, hostname=name, ip=host.address, ordinal=10 + next(self._again))

    def _re_synchronize(self, fault: Fault) -> None:
        node = self._wished(fault.target)
        if node is not None:
            self._set(node, resync_wanted=True)

    def _rebuild(self, fault: Fault) -> None:
        """n: 0 lets the leader choose the source, 1 wants the primary, 2 the acker."""
        row = self.db.content.row
        source = ("", row.primary, row.promotable)[fault.n]
        self._wish_for_data(self._wished(fault.target), source=source)

    def _undo(self, fault: Fault) -> None:
        self._wish_for_data(self._wished(fault.target), undo=True)

    def _wish_for_data(self, node: NodeView | None, **how: Any) -> None:
        if node is not None and node.wish is None:
            self._set(node, rebuild=RebuildWish(operation=f"copy{next(self._wishes)}", **how))

    def _cancel_rebuild(self, fault: Fault) -> None:
        """As the job of the wish does: the wish is taken back, and whoever is at it is told to end."""
        for node in list(self.db.content.nodes.values()):
            if node.rebuild is not None:
                self._set(node, rebuild=None)
        for host in self.world.hosts.values():
            if host.agent is not None and host.copies.task is not None:
                task, tasks = host.copies.task, host.agent.tasks
                if not host.agent.program.frozen:
                    tasks.cancel(task.operation)

    def _switchover(self, fault: Fault) -> None:
        node, content = self._wished(fault.target), self.db.content
        if node is not None and content.wish is None:
            wish = SwitchoverWish(operation=f"wish{next(self._wishes)}", node=node.id)
            content.wish, content.wished_at = wish, self.kernel.now
            content.operations[wish.operation] = "queued"

    def _stop_service(self, fault: Fault) -> Callable[[], None]:
        self.db.content.running = False

        def over() -> None:
            self.db.content.running = True

        return over

    def _run_now(self, fault: Fault) -> None:
        self.db.content.run_wanted = True

    # --- the end --------------------------------------------------------------------------------------------------

    def heal_all(self) -> None:
        """Nothing is cut, frozen, full, off or killed any more."""
        self.world.history.note("fault", "all is healed")
        self._healed = True
        self.db.troubles.clear()
        self.db.content.running = True
        self.db.content.silence_failover_at = None
        self._all_active()
        for host in self.world.hosts.values():
            host.disk.full, host.fuse, host.server.apply_seconds = False, None, APPLY
            if host.agent is not None:
                host.agent.program.thaw()
            host.server.thaw()
            self._power_on(host)
            self._start_agent(host)
        for controller in self.world.controllers.values():
            controller.put_out_fuse()
            if controller.program is not None:
                controller.program.thaw()
            self._start_controller(controller)
        self.network.heal_all()

    def repair(self) -> None:
        """What an operator does who looks now and then while it heals."""
        maintained, self._maintained = self._maintained, []
        for host in maintained:
            self._end_maintenance(host)
        for host in self.world.hosts.values():
            if host.agent is not None and host.agent.revival.gave_up:  # as its sentence says
                host.start_agent()
            if host.disk.durable.needs_rebuild:
                self._wish_for_data(self._wished(host.name))
        self._add_again()


def _quietly(action: Callable[[], object]) -> None:
    with contextlib.suppress(DatabaseError):
        action()
