"""The lease of a primary on a simulated host: the real rules and keeper, wired as replication/agent/lease.py wires them.

Without the gate in front of the database port: what it would keep out is let in here.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from replication.core import limits
from replication.core.roles import OrderKind, ProcessState
from replication.core.vault_ports import AgentState, DatabaseError, ProcessError
from replication.procedures.vault import lease as leases
from replication.procedures.vault.lease import Challenges, Closed, GrantRequest, Lease, Step, next_step
from replication.procedures.vault.lease_keeper import LeaseKeeper
from tests.simulation.kernel import Signal

if TYPE_CHECKING:
    from tests.simulation.agent import Job, VaultAgent

TICK: Final = 0.1
"""Seconds between two steps while there is a lease to keep. The agent's own thread looks twice as often."""
SLACK: Final = 0.5


class SimLease:
    """Implements procedures.vault.lease_keeper.Doors."""

    def __init__(self, agent: "VaultAgent", on_verbs: Callable[[Callable[[], bool]], "Job"]) -> None:
        self._agent, self._kernel, self._host, self._on_verbs = agent, agent.kernel, agent.host, on_verbs
        self._session = agent.server.connect_session()
        self._nonces = 0
        self._challenges = Challenges(self._nonce)
        kept = self._host.kept_lease
        loaded = leases.kept(kept[1], same_boot=kept[0] == self._host.boot_id) if kept is not None else Lease()
        self._keeper = LeaseKeeper(self, loaded)
        self._reopening: Job | None = None
        self.woken = Signal()

    def _nonce(self) -> str:
        self._nonces += 1
        return f"{self._agent.program.name}/{self._agent.run}/{self._nonces}"

    # --- on the loop ----------------------------------------------------------------------------------------------

    def challenge(self) -> str:
        return self._challenges.issue(self.now())

    def hello(self, echo: str, term: int, sent: float) -> None:
        """sent: when the controller sent it. Beyond that and its time the sender believes the lease to be over."""
        issued = self._challenges.issued(echo) if echo else None
        if issued is not None and term >= self._agent.state.read().term:
            before = self._keeper.lease.until
            self._keeper.renew(issued)
            until = self._keeper.lease.until
            if until is not None and until != before and until > sent + limits.PRIMARY_LEASE.total_seconds() + SLACK:
                self._host.violated(
                    f"{self._host.name} keeps its lease longer than the controller that renewed it knows"
                )

    @property
    def left(self) -> float | None:
        return self._keeper.lease.left(self.now())

    @property
    def closed(self) -> bool:
        return self._keeper.lease.closed is not Closed.NO

    @property
    def over_for(self) -> float:
        """Seconds since a lease that binds is over; 0 when it runs, or the primary is closed."""
        lease, now = self._keeper.lease, self.now()
        return now - lease.until if lease.over(now) and lease.until is not None and not self.closed else 0.0

    def may_be_open(self) -> bool:
        return self._keeper.lease.may_be_open(self.now())

    # --- on its own thread ----------------------------------------------------------------------------------------

    def run(self) -> None:
        while True:
            self._keeper.step()
            lease = self._keeper.lease
            if lease.kind is OrderKind.NONE:
                self._kernel.block_until(self._ordered, None, self.woken)
            else:
                self._kernel.block(TICK)

    def _ordered(self) -> bool:
        return self._agent.state.read().order_kind is not OrderKind.NONE

    def now(self) -> float:
        return self._kernel.now

    def state(self) -> AgentState:
        return self._agent.state.read()

    def ask(self, peers: tuple[str, ...], request: GrantRequest, within: timedelta) -> bool:
        answers: list[asyncio.Future[Any]] = []
        answered = Signal()
        for peer in peers:
            address = peer.rpartition(":")[0]
            answer: asyncio.Future[Any] = self._kernel.create_future()
            answer.add_done_callback(lambda _: answered.fire())
            answers.append(answer)
            host, mine = self._host.peers[address], self._host.address
            host.network.send(mine, address, host.request, mine, ("grant", request), answer)
        until = self._kernel.now + within.total_seconds()
        self._kernel.block_until(lambda: all(a.done() for a in answers), until, answered)
        return all(a.done() and a.result() == "" for a in answers)

    def close(self) -> Closed:
        self._agent.host.said("its lease is over: it closes itself")
        if not self._agent.process.running():
            return Closed.DOWN
        if self._read_only():
            return Closed.READ_ONLY
        try:
            self._agent.process.kill()
        except ProcessError:
            pass
        return Closed.DOWN

    def _read_only(self) -> bool:
        if self._agent.process.phase is ProcessState.HUNG:
            return False
        try:
            switches = self._session.switches()
            return switches.waiting_sessions == 0 and self._session.close_writes(limits.FENCE_READ_ONLY)
        except DatabaseError:
            return False

    def reopen(self) -> bool:
        if self._keeper.lease.closed is Closed.DOWN or not self._agent.process.running():
            return True
        if self._reopening is None:
            self._reopening = self._on_verbs(self._reopen)
        if not self._reopening.done.done():
            return False
        done, self._reopening = self._reopening.done, None
        return done.exception() is None and bool(done.result())

    def _reopen(self) -> bool:
        state = self.state()
        due = next_step(self._keeper.lease, self.now()) is Step.REOPEN
        if not due or state.order_kind is OrderKind.NONE or state.quarantine:
            return False
        try:
            if state.order_kind is OrderKind.LOSSLESS:
                self._session.set_waiting(True)
            self._session.set_read_only(False)
        except DatabaseError:
            return False
        return True

    def changed(self, before: Lease, after: Lease) -> None:
        self._host.kept_lease = (self._host.boot_id, self._keeper.lease)
        if (before.closed, before.until is None) != (after.closed, after.until is None):
            self._agent.bump()
