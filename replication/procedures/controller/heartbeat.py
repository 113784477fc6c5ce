"""The SystemHighAvailabilityService while this process leads: one watch per vault, the operators' wishes every interval."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from replication.core import limits
from replication.core.lag import Lag, lags_of
from replication.core.ports import Leadership, Witnesses
from replication.core.snapshot import Snapshot

from .procedure import World
from .watch import VaultWatch

PACE = min(limits.HELLO_INTERVAL, timedelta(seconds=0.5))
"""How often wishes are read; also the longest a Start, Stop or Run Now waits."""
LINGER = timedelta(seconds=1)
"""How long a stopped service goes on watching after its last act, to see that it has taken effect."""


class Heartbeat:
    """Runs until cancelled. `last_pass` is the monotonic time of the last full pass, None before the first."""

    def __init__(self, world: World, witnesses: Witnesses, leadership: Leadership, new_id: Callable[[], str]) -> None:
        self.world, self.witnesses, self.leadership, self.new_id = world, witnesses, leadership, new_id
        self.watches: dict[str, VaultWatch] = {}
        self.last_pass: float | None = None
        self._passing_since: float | None = None
        self._looked: set[str] = set()
        """Vaults that this leader has looked at since it began, whose primary was told what it has to be."""

    async def run(self) -> None:
        try:
            while True:
                if self.leadership.held:
                    await self.one_pass()
                await self.world.clock.sleep(PACE)
        finally:
            await asyncio.gather(*(w.close() for w in self.watches.values()), return_exceptions=True)

    async def one_pass(self) -> None:
        """Read the wishes, keep one watch per vault that needs one, write down what changed."""
        generations = {id: watch.generation for id, watch in self.watches.items()}
        snapshot = await self.world.inventory.load()
        await self._update_watches(snapshot, generations)
        for watch in self.watches.values():
            watch.check()
            watch.evaluate()
            await watch.publish()
        busy = any(w.acting for w in self.watches.values())
        if snapshot.running or self._run_now_answered(snapshot):
            self.last_pass = self.world.clock.monotonic()
        done = snapshot.run_wanted and self._run_now_answered(snapshot)
        settled = snapshot.running or not busy
        if done or (settled and snapshot.running != snapshot.noted_running):
            await self.world.inventory.note_service(started=snapshot.running, pass_done=done)
            self._passing_since = None

    def _run_now_answered(self, snapshot: Snapshot) -> bool:
        """A full pass has been made since Run Now was seen: every node was asked, and nothing is under way."""
        if not snapshot.run_wanted:
            self._passing_since = None
            return False
        now = self.world.clock.monotonic()
        if self._passing_since is None:
            self._passing_since = now
        heard = all(s.link != "never" for w in self.watches.values() for s in w.sights.values())
        busy = any(w.acting for w in self.watches.values())
        patience = now - self._passing_since > (snapshot.interval + limits.HELLO_MARGIN).total_seconds()
        return (heard and not busy) or patience

    async def _update_watches(self, snapshot: Snapshot, generations: dict[str, int]) -> None:
        configs = {c.topology.vault: c for c in snapshot.vaults}
        for id in set(self.watches) - set(configs):
            await self.watches.pop(id).close()
        for id, config in configs.items():
            watch = self.watches.get(id)
            # A stopped service whose leader died may have left a primary that is recorded and was never told to open.
            unseen = bool(config.topology.primary) and id not in self._looked
            wanted = snapshot.running or snapshot.run_wanted or config.work_is_waiting
            if watch is not None and not wanted:
                quiet = self.world.clock.monotonic() - watch.quiet_since > LINGER.total_seconds()
                if watch.acting is None and quiet and not (watch.left_waiting or watch.replacing):
                    await watch.publish()
                    await self.watches.pop(id).close()
                    self._looked.add(id)
                    continue
            if watch is not None:
                watch.update(config, snapshot, generations[id])
            elif wanted or unseen:
                self.watches[id] = VaultWatch(
                    self.world, self.witnesses, self.leadership, config, snapshot, self.new_id
                )

    def answers(self) -> dict[str, float | None]:
        """Node id → seconds since its last answer; None for a node that has not answered this process."""
        return {
            id: None if sight.report is None else round(sight.silence.total_seconds(), 2)
            for watch in self.watches.values()
            for id, sight in watch.sights.items()
        }

    def heard(self) -> dict[str, float | None]:
        """ "heard:" and the id of each published acker → seconds since it last heard its primary; None when it does not say."""
        now = self.world.clock.monotonic()
        ages: dict[str, float | None] = {}
        for watch in self.watches.values():
            acker = watch.sights.get(watch.config.topology.promotable)
            if acker is not None:
                node = acker.view(now)
                age, silence = node.database.heard_age if node.database is not None else None, acker.silence
                ages[f"heard:{node.id}"] = None if age is None else round(age + silence.total_seconds(), 2)
        return ages

    def lags(self) -> dict[str, Lag]:
        """Node id → how far it is behind, of every fallback that is watched."""
        return {id: lag for watch in self.watches.values() for id, lag in lags_of(watch.view()).items()}
