"""What every verb shares: a deadline, timed steps, and a refusal that says why. One command at a time."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from replication.core.commands import Command, Verb
from replication.core.errors import StaleEpoch, StepFailed
from replication.core.vault_ports import AgentState, Ports, Switches

POLL = timedelta(milliseconds=20)
JOINING = frozenset({Verb.OPEN, Verb.FOLLOW, Verb.PROMISE, Verb.REBUILD})
"""Verbs that a node without a vault accepts: they make it a member."""


@dataclass
class Work:
    """One command being carried out."""

    ports: Ports
    verb: Verb
    command: Command
    hostname: str
    steps: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._until = self.ports.clock.monotonic() + self.command.deadline
        self._was_fenced = False

    def left(self) -> timedelta:
        """Until the deadline; never below zero."""
        return timedelta(seconds=max(0.0, self._until - self.ports.clock.monotonic()))

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = self.ports.clock.monotonic()
        try:
            yield
        finally:
            self.steps[name] = round((self.ports.clock.monotonic() - began) * 1000, 2)

    def refusal(self, reason: str, text: str) -> StepFailed:
        return StepFailed(self.hostname, self.verb.value, reason, text)

    def tainted(self, state: AgentState) -> StepFailed:
        """The refusal to trust a node with what it acknowledged."""
        why = "its relay log is still to be applied" if state.relay_log_kept else state.taint_reason
        return self.refusal("tainted", f"it may lack writes that it had acknowledged{': ' + why if why else ''}")

    def wait(self, done: Callable[[], bool], reason: str, text: Callable[[], str]) -> None:
        """Poll until `done`, or fail at the deadline with the sentence that `text` makes then."""
        while not done():
            if self.left() <= timedelta():
                raise self.refusal(reason, text())
            self.ports.clock.sleep(POLL)

    def wait_switches(self, holds: Callable[[Switches], bool], reason: str, text: str) -> None:
        self.wait(lambda: holds(self.ports.database.switches()), reason, lambda: text)

    def promise(self) -> AgentState:
        """Refuse what is stale or for another vault, then persist what is higher, before anything is done (rule 11)."""

        with self.step("promise"):
            state = self.ports.state.update(self.promised)
        self._was_fenced = state.fenced
        return state

    def promised(self, state: AgentState) -> AgentState:
        """The state after this command's promise. Raises StaleEpoch or StepFailed; only inside a change of the state."""
        command = self.command
        if state.vault != command.vault and not (not state.vault and self.verb in JOINING):
            raise self.refusal("other-vault", f"it belongs to {'another vault' if state.vault else 'no vault'}")
        if command.epoch < state.epoch or command.term < state.term:
            raise StaleEpoch(self.hostname, state.term, state.epoch)
        if command.epoch == state.epoch and state.owner and command.owner and command.owner != state.owner:
            # A metadata database that was restored may give an epoch twice: it belongs to whom it was promised first.
            raise StaleEpoch(self.hostname, state.term, state.epoch)
        owner = command.owner or (state.owner if command.epoch == state.epoch else "")
        return replace(
            state, vault=command.vault, node=command.node, term=command.term, epoch=command.epoch, owner=owner
        )

    def persist(self, **changes: Any) -> AgentState:
        """Change the agent's memory as part of this command, durably."""
        return self.revise(lambda state: replace(state, **changes))

    def revise(self, change: Callable[[AgentState], AgentState]) -> AgentState:
        """As `persist`. A fence does not wait for the verb that is under way; that verb must not take it back afterwards.
        Raises StaleEpoch when more was promised in the meantime, StepFailed after a fence of the same epoch."""

        def checked(state: AgentState) -> AgentState:
            if (state.term, state.epoch) != (self.command.term, self.command.epoch):
                raise StaleEpoch(self.hostname, state.term, state.epoch)
            if state.fenced and not self._was_fenced and self.verb is not Verb.FENCE:
                raise self.refusal("fenced", "it was fenced while this command was under way")
            return change(state)

        state = self.ports.state.update(checked)
        self._was_fenced = state.fenced
        return state
