"""The thread that carries out verbs, one after the other, each within the time that its sender gave it."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from replication.agent.database import LocalSession
from replication.agent.peers import peers_of
from replication.core.commands import Answer, Command, Verb
from replication.core.errors import StepFailed
from replication.core.vault_ports import Ports, StateError
from replication.procedures.vault.verbs import perform

BREAK_OFF_AFTER_SECONDS: Final = 0.3
"""After the deadline, and before the sender stops listening: a verb that keeps its time says better why it failed."""


class VerbLane:
    """carried_out, ended: called with a verb that succeeded, and with any when it is over, before it is answered."""

    def __init__(
        self,
        hostname: str,
        session: LocalSession,
        ports: Callable[[], Ports],
        changed: Callable[[], None],
        carried_out: Callable[[Verb], None],
        ended: Callable[[Verb], None],
    ) -> None:
        self._hostname, self._session, self._ports, self._changed = hostname, session, ports, changed
        self._carried_out, self._ended = carried_out, ended
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="verbs")
        self.verb = ""
        """Of the one under way, or ""."""
        self._busy = threading.Lock()
        self._running: Command | None = None

    def between(self, act: Callable[[], None]) -> None:
        """Run it while no verb does, and wait. What it raises passes through."""
        self.pool.submit(act).result()

    async def carry_out(self, verb: Verb, command: Command) -> Answer:
        """Raises StaleEpoch, StepFailed, or ValueError for bad arguments."""
        waiting = self.pool.submit(self._perform, verb, command, time.monotonic())
        answer = asyncio.wrap_future(waiting)
        await asyncio.wait({answer}, timeout=command.deadline + BREAK_OFF_AFTER_SECONDS)
        if not answer.done():
            if waiting.cancel():
                text = (
                    f"it was busy with {self.verb or 'starting its database'} until the time for this command was over"
                )
                raise StepFailed(self._hostname, verb.value, "busy", text)
            self._break_off(command)
        return await answer

    def end(self) -> None:
        self.pool.shutdown()

    def _break_off(self, command: Command) -> None:
        """End the statement of this command, and of no other, if it still runs."""
        with self._busy:
            if self._running is command:
                self._session.abort()

    def _perform(self, verb: Verb, command: Command, received: float) -> Answer:
        ports = self._ports()
        with self._busy:
            self._running = command
            self._session.ready()
        self.verb = verb.value
        self._changed()
        left = max(0.0, command.deadline - (time.monotonic() - received))
        try:
            answer = perform(ports, self._hostname, verb, replace(command, deadline=left))
            self._carried_out(verb)
            return answer
        finally:
            with self._busy:
                self._running = None
                self._session.ready()
            try:
                if "peers" in command.args:
                    self._note_peers(ports, command)
            finally:  # also when that could not be written: it is busy no longer
                self._ended(verb)
                self.verb = ""
                self._changed()

    def _note_peers(self, ports: Ports, command: Command) -> None:
        """Whom to ask when the lease ends; only from a command that was accepted, even if it then failed."""
        peers = peers_of(command.args["peers"])
        state = ports.state.read()
        if (state.vault, state.term, state.epoch) == (command.vault, command.term, command.epoch):
            try:
                ports.state.write(peers=peers)
            except StateError as error:
                raise StepFailed(self._hostname, "peers", "state", str(error)) from error
