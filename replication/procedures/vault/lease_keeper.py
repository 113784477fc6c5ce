"""Keeps a primary's lease: asks the other nodes before it ends, closes the primary when it has ended, reopens it when it may.

One step at a time, on a thread that does nothing else: no verb, no disk and no hung statement may hold it up.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol

from replication.core import limits
from replication.core.vault_ports import AgentState

from . import lease as leases
from .lease import Closed, GrantRequest, Lease, Step


class Doors(Protocol):
    """What the keeper needs of the agent. `ask`, `close` and `reopen` block."""

    def now(self) -> float:
        """Seconds on the boot clock."""
        ...

    def state(self) -> AgentState: ...

    def ask(self, peers: tuple[str, ...], request: GrantRequest, within: timedelta) -> bool:
        """Whether every one of these agents ("ip:port") grants within the time."""
        ...

    def close(self) -> Closed:
        """Read-only and the clients' way in taken away, or SIGKILL; says how it ended."""
        ...

    def reopen(self) -> bool:
        """Open a database that was closed by read-only, by the order that stands now. False: not yet."""
        ...

    def changed(self, before: Lease, after: Lease) -> None:
        """Called with every renewal, on any thread, so it must be quick."""
        ...


class LeaseKeeper:
    """renew may be called from any thread, step from one. lock: held for moments only, never while a door is waited for."""

    def __init__(self, doors: Doors, lease: Lease, lock: AbstractContextManager[object] | None = None) -> None:
        self.doors, self.lease = doors, lease
        self._lock = lock if lock is not None else contextlib.nullcontext()

    def renew(self, issued: float) -> None:
        """A controller with the right to do so gave back the challenge of that moment."""
        now = self.doors.now()
        self._change(lambda lease: leases.renewed(leases.ordered(lease, self.doors.state(), now), issued, now))

    def step(self) -> Step:
        """Do what is due, and say what it was."""
        now = self.doors.now()
        lease = self._change(lambda lease: leases.ordered(lease, self.doors.state(), now))
        step = leases.next_step(lease, now)
        if step is Step.ASK:
            self._ask(lease, now)
        elif step is Step.CLOSE:
            how = self.doors.close()
            after, state = self.doors.now(), self.doors.state()
            self._change(lambda held: leases.closed(leases.ordered(held, state, after), lease, how, after))
        elif step is Step.REOPEN and self.doors.reopen():
            self._change(lambda held: leases.opened(held) if held.closed is lease.closed else held)
        return step

    def _ask(self, lease: Lease, now: float) -> None:
        state = self.doors.state()
        request = GrantRequest(vault=state.vault, node=state.node, epoch=state.epoch)
        # Whom to ask is not known: nobody can have granted.
        if state.peers and self.doors.ask(state.peers, request, self._patience(lease, now)):
            self._change(lambda held: leases.granted(held, lease, now))
        else:
            self._change(lambda held: leases.refused(held, now))

    @staticmethod
    def _patience(lease: Lease, now: float) -> timedelta:
        """A round that is under way when the lease ends would keep it open for longer; one after that is the last."""
        left = (lease.until or 0.0) - now
        return min(limits.GRANT_DEADLINE, timedelta(seconds=left)) if left > 0 else limits.GRANT_DEADLINE

    def _change(self, change: Callable[[Lease], Lease]) -> Lease:
        with self._lock:
            before = self.lease
            after = self.lease = change(before)
        if after != before:
            self.doors.changed(before, after)
        return after
