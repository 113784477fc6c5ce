"""What this process has seen of one node, and the long poll that keeps it fresh."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from replication.core import limits
from replication.core.errors import NodeUnreachable
from replication.core.ports import Agents, Clock
from replication.core.report import NodeReport
from replication.core.roles import ProcessState, Witness
from replication.core.view import NodeView

REFUSED_PAUSE = timedelta(milliseconds=20)
"""Between two tries while a node refuses, for as long as a failover may hang on it; the hello interval after that."""
REFUSED_HASTE = timedelta(seconds=5)


@dataclass
class Sight:
    """One node: the wishes of the inventory in `config`, the rest from its agent. Silence is counted in our own ticks, so
    that a controller that did not run accuses nobody."""

    config: NodeView
    report: NodeReport | None = None
    silence: timedelta = field(default_factory=timedelta)
    link: str = "never"
    witness: Witness = Witness.UNKNOWN
    blocked_until: dict[str, float] = field(default_factory=dict)
    given_up_at: float = -math.inf
    rest: timedelta = field(default_factory=timedelta)

    def answered(self, report: NodeReport) -> None:
        self.report, self.silence, self.link = report, timedelta(), "answers"
        if report.process is ProcessState.UP:
            self.witness = Witness.UNKNOWN

    def given_up(self, now: float) -> None:
        """Commits hung on it as acker: it rests, twice as long each time until it has held for a while."""
        again = now - self.given_up_at < 2 * limits.RETRY_MAX.total_seconds()
        self.rest = min(self.rest * 2, limits.RETRY_MAX) if again else limits.RETRY_AFTER
        self.given_up_at = now

    def failed(self, error: NodeUnreachable) -> None:
        self.link = error.kind

    def view(self, now: float) -> NodeView:
        return replace(
            self.config,
            report=self.report,
            silence=self.silence,
            link=self.link,
            witness=self.witness,
            blocked=any(until > now for until in self.blocked_until.values()),
            resting=now < self.given_up_at + self.rest.total_seconds(),
        )


async def keep_watching(
    sight: Sight,
    agents: Agents,
    clock: Clock,
    interval: Callable[[], timedelta],
    term: Callable[[], int],
    changed: Callable[[], None],
) -> None:
    """Long-poll one agent for ever. The agent answers at once when its state changes, else after the interval.

    Each hello gives the last answer's challenge back: that is what renews a primary's lease.
    """
    since, refused_since = -1, clock.monotonic()
    while True:
        try:
            echo = sight.report.challenge if sight.report is not None else ""
            leased = sight.report is not None and sight.report.lease_left is not None
            wait = min(interval(), limits.LEASE_RENEWAL) if leased else interval()
            report = await agents.hello(sight.config, since=since, wait=wait, echo=echo, term=term())
        except NodeUnreachable as error:
            sight.failed(error)
            since = -1
            changed()
            hasty = clock.monotonic() - refused_since < REFUSED_HASTE.total_seconds()
            await clock.sleep(
                REFUSED_PAUSE if error.kind == "refused" and hasty else min(interval(), limits.HELLO_INTERVAL)
            )
        else:
            since, refused_since = report.version, clock.monotonic()
            sight.answered(report)
            changed()
