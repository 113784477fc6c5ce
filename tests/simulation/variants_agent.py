"""Variants of the agent's side: what it remembers, what it refuses, how it starts, closes and hands on its database."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from replication.core.commands import Verb
from replication.core.roles import OrderKind
from replication.core.vault_ports import AgentState, BootRole
from replication.procedures.controller import following
from replication.procedures.vault import primary, replica
from replication.procedures.vault.revival import Revival
from replication.procedures.vault.work import Work
from tests.simulation import variants_scenarios as scenarios
from tests.simulation.disk import Disk
from tests.simulation.lease import SimLease
from tests.simulation.mariadbd import FakeProcess, Mariadbd
from tests.simulation.mariadbd_commit import Pipeline
from tests.simulation.mariadbd_storage import Start, Storage
from tests.simulation.variants import Swap, variant


@variant("5", scenarios.fallback_killed)
def follow_keeps_the_flag_on(swap: Swap) -> None:
    """A node that only follows acknowledges."""

    def make(inner: Any) -> Any:
        def source(work: Work, order: Any) -> None:
            work.ports.database.set_acknowledging(True)
            inner(work, order)

        return source

    swap.wrap(replica, "_change_source", make)
    swap.put(replica, "_stop_acknowledging", lambda work: None)

    def well(inner: Any) -> Any:
        return lambda work, order, state: work.ports.database.switches().acknowledging and inner(work, order, state)

    swap.wrap(replica, "_follows_well", well)


@variant("6", scenarios.cut_during_switch_on)
def position_read_before_the_switch_on(swap: Swap) -> None:
    """LOSSLESS says where the primary stood a moment before it waited: a write that came in between is acknowledged alone, and
    not proven to be with the acker."""

    def make(inner: Any) -> Any:
        def lossless(work: Work) -> Mapping[str, Any]:
            before = work.ports.database.positions().gtid_binlog_pos
            work.ports.clock.sleep(timedelta(seconds=0.2))
            inner(work)
            return {"gtid_binlog_pos": before}

        return lossless

    swap.verb(Verb.LOSSLESS, make)


@variant("11", scenarios.primary_loses_power)
def order_kept_in_memory_only(swap: Swap) -> None:
    """Being lossless is not written to disk: after a restart the node opens itself by an older order."""

    def make(inner: Any) -> Any:
        def flush(self: Disk, state: AgentState) -> None:
            if state.order_kind is OrderKind.LOSSLESS:
                kept = self.durable
                state = replace(
                    state, order_kind=kept.order_kind, order_epoch=kept.order_epoch,
                    primary_order_kind=kept.primary_order_kind, primary_order_epoch=kept.primary_order_epoch,
                )  # fmt: skip
            inner(self, state)

        return flush

    swap.wrap(Disk, "flush", make)


@variant("12", scenarios.closed_primary_restarts)
def close_not_persisted(swap: Swap) -> None:
    """A primary that handed over keeps its order to be the primary. Covered by the lease, which is over by the time at which it
    would open itself: it is not asked."""

    def close(work: Work) -> Mapping[str, Any]:
        if not work.ports.database.switches().read_only and primary._close_writes(work):
            raise work.refusal("long-statement", "it stays open")
        return {"gtid_binlog_pos": work.ports.database.positions().gtid_binlog_pos}

    swap.verb(Verb.CLOSE, lambda inner: close)
    swap.put(SimLease, "may_be_open", lambda self: True)


@variant("12", scenarios.fenced_primary_unreached)
def fence_not_persisted(swap: Swap) -> None:
    """A fence kills the database, and the agent starts it again by the order that it has. Covered by the lease, which is over
    by then: it is not asked."""

    def fence(work: Work) -> Mapping[str, Any]:
        work.ports.process.kill()
        return {}

    swap.verb(Verb.FENCE, lambda inner: fence)
    swap.put(SimLease, "may_be_open", lambda self: True)


@variant("14", scenarios.solo_primary_killed)
def always_started_as_replica(swap: Swap) -> None:
    """Every start cuts off what was only prepared, acknowledged or not."""

    def make(inner: Any) -> Any:
        return lambda self, role, deadline: inner(self, BootRole.REPLICA, deadline)

    swap.wrap(FakeProcess, "start", make)


@variant("14", scenarios.both_die_at_once)
def acker_started_as_replica(swap: Swap) -> None:
    """An acker's restart cuts off its tail. Covered by the rescue when its relay log holds the tail still: here it was purged,
    as a relay log is of what was applied."""

    def as_replica(inner: Any) -> Any:
        def start(self: FakeProcess, role: BootRole, deadline: timedelta) -> None:
            acker = self._server.replica_disk.source is not None
            inner(self, BootRole.REPLICA if acker else role, deadline)

        return start

    def purged(inner: Any) -> Any:
        def crash(self: Mariadbd, **how: Any) -> None:
            applied = self.run.replication.applied_to if self.run is not None else 0
            inner(self, **how)
            del self.replica_disk.relay[:applied]

        return crash

    swap.wrap(FakeProcess, "start", as_replica)
    swap.wrap(Mariadbd, "crash", purged)


def _no_rescue(swap: Swap) -> None:
    """A restarted acker begins anew from its source, and is not held to lack anything."""

    def make(inner: Any) -> Any:
        def start(self: Revival) -> None:
            inner(self)
            state = self.state.read()
            if state.relay_log_kept:
                self.state.write(tainted=False, relay_log_kept=False)
                self.database.follow_by_gtid()

        return start

    swap.wrap(Revival, "_start", make)


@variant("", scenarios.both_die)
def relay_log_rescue_left_out(swap: Swap) -> None:
    """An acker whose database was restarted is taken for one that lacks nothing; its relay log is fetched again, from nobody."""
    _no_rescue(swap)


@variant("15", scenarios.dies_with_a_tail)
def extra_transactions_not_looked_for(swap: Swap) -> None:
    """FOLLOW does not compare. Covered twice, and both are off: a tail that nobody acknowledged is not cut off at the restart, and
    gtid_strict_mode (error 1236) looks away."""
    swap.put(replica, "_judge", lambda work, order, **more: None)
    swap.put(following, "may_truncate", lambda node: False)

    def make(inner: Any) -> Any:
        def start_of(self: Storage, position: str) -> Start:
            start = inner(self, position)
            return Start(len(self.log)) if start.error else start

        return start_of

    swap.wrap(Storage, "start_of", make)


@variant("", scenarios.acker_behind)
def stop_slave_before_drain(swap: Swap) -> None:
    """Both threads are stopped, then one is started to apply the rest: MariaDB throws the relay log away."""

    def revoke(work: Work) -> Mapping[str, Any]:
        db = work.ports.database
        if db.replica() is not None:
            db.stop_replication()
        db.set_acknowledging(False)
        return {}

    def drain(inner: Any) -> Any:
        def body(work: Work) -> Mapping[str, Any]:
            if work.ports.database.replica() is not None:
                work.ports.database.start_applier()
            return inner(work)  # type: ignore[no-any-return]

        return body

    swap.verb(Verb.REVOKE, lambda inner: revoke)
    swap.verb(Verb.DRAIN, drain)


@variant("", scenarios.late_hellos, within=20)
def lease_counted_from_receipt(swap: Swap) -> None:
    """A hello that lay in the network for seconds renews the lease as if it had been sent just now."""

    def make(inner: Any) -> Any:
        def hello(self: SimLease, echo: str, term: int, sent: float) -> None:
            issued = self._challenges.issued
            self._challenges.issued = lambda e: None if issued(e) is None else self.now()  # type: ignore[method-assign]
            try:
                inner(self, echo, term, sent)
            finally:
                self._challenges.issued = issued  # type: ignore[method-assign]

        return hello

    swap.wrap(SimLease, "hello", make)


@variant("1", scenarios.late_solo, within=20)
def no_epoch_check(swap: Swap) -> None:
    """An agent carries out what comes, under whatever epoch."""

    def promised(self: Work, state: AgentState) -> AgentState:
        c = self.command
        return replace(state, vault=c.vault, node=c.node, term=max(state.term, c.term), epoch=max(state.epoch, c.epoch))

    def revise(self: Work, change: Any) -> AgentState:
        return self.ports.state.update(change)

    swap.put(Work, "promised", promised)
    swap.put(Work, "revise", revise)


@variant("1", scenarios.late_orders)
def promises_what_comes(swap: Swap) -> None:
    """An agent takes the epoch of the last order that came for the highest."""

    def promised(self: Work, state: AgentState) -> AgentState:
        c = self.command
        return replace(state, vault=c.vault, node=c.node, term=c.term, epoch=c.epoch)

    swap.put(Work, "promised", promised)


@variant("", scenarios.primary_isolated, within=30)
def fence_by_sigterm(swap: Swap) -> None:
    """A primary that must not go on is stopped politely: now and then a hanging commit is told to have worked."""
    swap.put(FakeProcess, "kill", lambda self: self._server.terminate())


@variant("", scenarios.acker_killed)
def wait_no_slave_off(swap: Swap) -> None:
    """rpl_semi_sync_master_wait_no_slave=0: without a replica that acknowledges, nobody is waited for."""

    def make(inner: Any) -> Any:
        def init(self: Pipeline, *args: Any) -> None:
            inner(self, *args)
            self.wait_no_slave = False

        return init

    swap.wrap(Pipeline, "__init__", make)
