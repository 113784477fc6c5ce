"""FENCE on a thread of its own: it never waits behind a statement that hangs, nor for a disk that does."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from replication.agent.process import Mariadbd
from replication.core.commands import Answer, Command, Verb
from replication.core.errors import StepFailed
from replication.core.vault_ports import Ports, ProcessError
from replication.procedures.vault.verbs import perform

PATIENCE: Final = 1.0
"""Seconds; a fence whose order has not reached the disk by then kills all the same."""
AFTER_THE_KILL: Final = 0.3


class FenceLane:
    """One fence at a time."""

    def __init__(self, process: Mariadbd, hostname: str) -> None:
        self._process, self._hostname = process, hostname
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fence")
        self._under_way: asyncio.Future[Answer] | None = None

    @property
    def pending(self) -> bool:
        """Whether a fence is under way: mariadbd must not be brought back beside it."""
        return self._under_way is not None and not self._under_way.done()

    async def carry_out(self, ports: Ports, command: Command) -> Answer:
        """Raises StaleEpoch or StepFailed."""
        loop = asyncio.get_running_loop()
        fence = loop.run_in_executor(self._pool, perform, ports, self._hostname, Verb.FENCE, command)
        self._under_way = fence
        await asyncio.wait({fence}, timeout=PATIENCE)
        if fence.done() or self._stale(ports, command):
            return await fence
        with contextlib.suppress(
            ProcessError
        ):  # no code of it runs any more, but it cannot let go of a disk that hangs
            await loop.run_in_executor(None, self._process.kill)
        await asyncio.wait({fence}, timeout=AFTER_THE_KILL)
        if fence.done():
            return await fence
        text = "it was killed, but a restart of its agent may undo that: its disk has not taken the order yet"
        raise StepFailed(self._hostname, Verb.FENCE.value, "state", text)

    def end(self) -> None:
        self._pool.shutdown()

    @staticmethod
    def _stale(ports: Ports, command: Command) -> bool:
        """By the memory alone: whoever writes it now may hold it for as long as the disk hangs."""
        state = ports.state.read()
        return command.vault != state.vault or command.epoch < state.epoch or command.term < state.term
