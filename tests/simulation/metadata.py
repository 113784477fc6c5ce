"""The metadata database as one object: the published row, wishes, the lease, operations. Statements are atomic and take time.

It may be slow, silent or away; it may be restored from a backup, which takes everything back but what others remember.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any, Final, TypeVar

from replication.core import limits
from replication.core.snapshot import Snapshot, VaultConfig
from replication.core.view import NodeView, SwitchoverWish, Topology
from tests.simulation.kernel import Kernel
from tests.simulation.network import Network

T = TypeVar("T")
ADDRESS: Final = "metadata"


class Unavailable(Exception):
    """What the driver raises: whether the statement was carried out is unknown."""


@dataclass
class Content:
    """Everything that a backup holds."""

    row: Topology
    nodes: dict[str, NodeView]
    holder: str = ""
    term: int = 0
    expires: float = 0.0
    running: bool = True
    noted_running: bool = True
    run_wanted: bool = False
    silence_failover_at: float | None = None
    silence_hold: float = 0.0
    lossless_since: float | None = None
    wish: SwitchoverWish | None = None
    wished_at: float = 0.0
    operations: dict[str, str] = field(default_factory=dict)
    """Operation → "queued", "running" or how it ended."""

    def copy(self) -> "Content":
        return replace(self, nodes=dict(self.nodes), operations=dict(self.operations))


class MetadataDb:
    def __init__(self, kernel: Kernel, network: Network, rng: Random, content: Content) -> None:
        self.kernel, self.network, self.rng, self.content = kernel, network, rng, content
        self.troubles: list[str] = []
        """What is wrong with it, the last one counts: "slow", "silent" (accepts and never answers) or "away" (refuses)."""
        self.changed_at = 0.0
        self.backup: Content | None = None
        self.row_changed: Callable[[Topology, Topology, str], None] = lambda before, after, by: None
        self.restored: Callable[[], None] = lambda: None

    @property
    def mode(self) -> str:
        return "away" if "away" in self.troubles else self.troubles[-1] if self.troubles else "well"

    async def query(self, sender: str, statement: Callable[[Content], T]) -> T:
        """Carry out a statement for the process that awaits it. Raises Unavailable."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.network.send(sender, ADDRESS, self._arrived, sender, statement, answer)
        try:
            async with asyncio.timeout(limits.METADATA_PATIENCE.total_seconds()):
                return await answer
        except TimeoutError:
            raise Unavailable("no answer") from None

    def _arrived(self, sender: str, statement: Callable[[Content], Any], answer: "asyncio.Future[Any]") -> None:
        if self.mode == "silent":
            return
        if self.mode == "away":
            self.network.send(ADDRESS, sender, _refuse, answer)
            return
        busy = self.rng.random() * (1.5 if self.mode == "slow" else 0.002)
        self.kernel.later(busy, None, self._carry_out, sender, statement, answer)

    def _carry_out(self, sender: str, statement: Callable[[Content], Any], answer: "asyncio.Future[Any]") -> None:
        if self.mode in ("well", "slow"):
            self.network.send(ADDRESS, sender, _answer, answer, statement(self.content))

    def change_row(self, row: Topology, by: str) -> None:
        before, c = self.content.row, self.content
        if before.promotable != row.promotable:
            c.lossless_since = self.kernel.now if row.promotable else None
        c.row, self.changed_at = row, self.kernel.now
        self.row_changed(before, row, by)

    def take_backup(self) -> None:
        self.backup = self.content.copy()

    def restore(self) -> None:
        if self.backup is not None:
            self.content = self.backup.copy()
            self.restored()

    @staticmethod
    def epoch(c: Content) -> int:
        return c.row.epoch

    # --- statements ----------------------------------------------------------------------------------------------

    def acquire(self, holder: str) -> Callable[[Content], int | None]:
        """Take or renew the lease by the database's own clock; the term, or None."""

        def statement(c: Content) -> int | None:
            now = self.kernel.now
            if c.holder != holder and c.expires >= now:
                return None
            if c.holder != holder:
                c.term, c.holder = c.term + 1, holder
            c.expires = now + limits.LEADER_LEASE.total_seconds()
            return c.term

        return statement

    def leads(self, c: Content, holder: str, term: int) -> bool:
        return c.holder == holder and c.term == term and c.expires > self.kernel.now

    def raise_term(self, holder: str, known: int, term: int) -> Callable[[Content], bool]:
        def statement(c: Content) -> bool:
            led = self.leads(c, holder, known)
            if led:
                c.term = term
            return led

        return statement

    def compare_and_set(
        self, known: Topology, owner: str, holder: str, term: int, by: str, changes: dict[str, Any], *, claim: bool
    ) -> Callable[[Content], Topology | None]:
        def statement(c: Content) -> Topology | None:
            led = self.leads(c, holder, term)
            same = c.row.epoch == known.epoch and (claim or c.row.owner == owner)
            if not (led and same):
                return None
            self.change_row(replace(c.row, **changes), by)
            return c.row

        return statement

    def snapshot(self, c: Content) -> Snapshot:
        now = self.kernel.now
        if c.wish is not None and now - c.wished_at > limits.SWITCHOVER_BEGIN.total_seconds():
            if c.operations.get(c.wish.operation) == "queued":
                c.operations[c.wish.operation] = "failed"
            c.wish = None
        config = VaultConfig(
            topology=c.row,
            nodes=tuple(sorted(c.nodes.values(), key=lambda n: n.ordinal)),
            silence_hold=timedelta(seconds=self._hold_left(c)),
            switchover=c.wish if c.wish is not None and c.operations.get(c.wish.operation) == "queued" else None,
        )
        return Snapshot(vaults=(config,), running=c.running, noted_running=c.noted_running, run_wanted=c.run_wanted)

    def _hold_left(self, c: Content) -> float:
        if c.silence_failover_at is None:
            return 0.0
        calm = self.kernel.now - c.lossless_since if c.lossless_since is not None else 0.0
        return max(0.0, c.silence_hold - calm)

    def note_silence_failover(self, c: Content) -> None:
        again = c.silence_failover_at is not None
        hold = 2 * c.silence_hold if again else 0.0
        least, most = limits.SILENCE_HOLD.total_seconds(), limits.SILENCE_HOLD_MAX.total_seconds()
        c.silence_failover_at, c.silence_hold = self.kernel.now, min(max(hold, least), most)


def _answer(answer: "asyncio.Future[Any]", value: object) -> None:
    if not answer.done():
        answer.set_result(value)


def _refuse(answer: "asyncio.Future[Any]") -> None:
    if not answer.done():
        answer.set_exception(Unavailable("connection refused"))
        answer.exception()  # nobody may be waiting any more
