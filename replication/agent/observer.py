"""Looks at the local database every 100 ms on a thread and a connection of its own, and keeps the ages of what it saw.

A hung statement must not stop the clock: the deadline is kept by whoever reads `late_for`, from two timestamps.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from replication.agent.admin import AdminDoor
from replication.agent.config import AgentConfig
from replication.agent.database import LocalSession
from replication.agent.engines import local_database
from replication.agent.salvage import binary_logs
from replication.core import limits
from replication.core.report import DatabaseReport
from replication.core.vault_ports import DatabaseError
from replication.dialects.base import Observation

log = logging.getLogger(__name__)

READ_SECONDS: Final = 10
STUCK: Final = timedelta(seconds=0.5)
"""Commits that have waited for so long are told at once: a controller with a long interval must hear of it."""
CATCH_UP: Final = timedelta(milliseconds=100)
"""How long an answer waits for a look that is newer than the question."""
OLDEST_TRANSACTION_EVERY: Final = timedelta(seconds=1)
REPAIRS_TOLD: Final = 5


@dataclass(frozen=True)
class Ages:
    """Monotonic moments; None when it is not so."""

    heard: float | None = None
    streaming_since: float | None = None
    stuck_since: float | None = None
    alone: bool = False
    """Since it was told to wait, a commit has returned without its acknowledgement."""


class Observer(threading.Thread):
    """`changed` is called, on this thread, when something changed that a controller wants to know at once.

    server: tells one run of mariadbd from the next; what was seen of the last one is never told of this one.
    admin: whose account is made when it is not there. came_up: called, on this thread, when it is there.
    """

    def __init__(
        self,
        config: AgentConfig,
        answered: Callable[[], None],
        changed: Callable[[], None],
        server: Callable[[], object],
        admin: AdminDoor,
        came_up: Callable[[], None],
    ) -> None:
        super().__init__(name="observer", daemon=True)
        self._session = LocalSession(config.socket, read_seconds=READ_SECONDS, server=server, spare=admin.connect)
        self._admin, self._came_up, self._admin_ready = admin, came_up, False
        self._database = local_database(config, self._session)
        self._data_dir = config.data_dir
        self._answered, self._changed, self._server = answered, changed, server
        self._ending = False
        self._turn = threading.Condition()
        self._hurry = False
        self._asked = self._came = self._looked_from = 0.0
        self._seen: Observation | None = None
        self._seen_of: object = None
        self._ages = Ages()
        self._drift: tuple[str, ...] = ()
        self._repaired: tuple[str, ...] = ()
        self._drift_at = 0.0
        self._oldest = self._oldest_at = 0.0
        self._told_stuck = False

    def late_for(self) -> float:
        """Seconds that an answer is outstanding; 0 when none is."""
        asked, came = self._asked, self._came
        return time.monotonic() - asked if asked > came else 0.0

    def run(self) -> None:
        while not self._ending:
            self._asked = time.monotonic()
            try:
                self._look()
                self._answered()
            except DatabaseError:
                pass  # the process watch says what is wrong with it
            except Exception:  # an answer that makes no sense must not end the looking
                log.exception("the database's answer cannot be understood")
            with self._turn:
                self._came = time.monotonic()
                self._looked_from = self._asked
                self._turn.notify_all()
                self._turn.wait_for(lambda: self._hurry or self._ending, limits.PING_INTERVAL.total_seconds())
                self._hurry = False
        self._session.close()

    def catch_up(self, patience: timedelta = CATCH_UP) -> None:
        """Wait until a look that began after this call has ended, or the patience is over. From any other thread."""
        now = time.monotonic()
        with self._turn:
            self._hurry = True
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._looked_from >= now or self._ending, patience.total_seconds())

    def end(self) -> None:
        with self._turn:
            self._ending = True
            self._turn.notify_all()
        self._session.abort()

    def _look(self) -> None:
        server = self._server()
        seen = self._database.observe()
        now = time.monotonic()
        if server is not self._seen_of:
            self._seen, self._ages, self._seen_of, self._drift_at = None, Ages(), server, 0.0
            self._repaired, self._admin_ready = (), False
        repaired = now - self._drift_at > limits.SETTINGS_CHECK.total_seconds() and self._check_settings(now)
        if now - self._oldest_at > OLDEST_TRANSACTION_EVERY.total_seconds():
            self._oldest, self._oldest_at = self._database.oldest_transaction(), now
        before, told = self._seen, (self._told_stuck, self._ages.alone)
        self._ages = _aged(self._ages, before, seen, now)
        self._seen = seen
        self._told_stuck = _stuck(self._ages, now)
        if self._ages.alone and not told[1]:
            log.error("a commit has returned although it was not acknowledged: this primary does not count as lossless")
        news = (self._told_stuck, self._ages.alone) != told
        if before is None or _striking(before) != _striking(seen) or news or repaired:
            self._changed()

    def _check_settings(self, now: float) -> bool:
        """Set right what is not as it must be. Whether there was something."""
        self._drift, self._drift_at = self._database.drift(), now
        if not self._admin_ready:
            self._make_admin()
        if not self._drift:
            return False
        for sentence in self._database.repair():
            log.warning("a setting was changed by somebody and is set right: %s", sentence)
            self._repaired = (*self._repaired, sentence)[-REPAIRS_TOLD:]
        self._drift = self._database.drift()
        return True

    def _make_admin(self) -> None:
        try:
            if self._database.ensure_admin(self._admin.source, self._admin.subject):
                log.info("made the account for the second port")
        except DatabaseError as error:
            log.warning("the account for the second port could not be made, trying again: %s", error)
            return
        self._admin_ready = True
        self._came_up()

    @property
    def read_only(self) -> bool | None:
        """As it was seen last; None when nothing was seen since mariadbd was started."""
        seen = self._seen
        return None if seen is None or self._seen_of is not self._server() else seen.switches.read_only

    def report(self) -> DatabaseReport | None:
        """What was seen last, with the ages as of now."""
        seen, ages, now = self._seen, self._ages, time.monotonic()
        if seen is None or self._seen_of is not self._server():
            return None
        replica, switches, positions = seen.replica, seen.switches, seen.positions
        return DatabaseReport(
            version=seen.version,
            server_id=positions.server_id,
            read_only=switches.read_only,
            gtid_binlog_pos=positions.gtid_binlog_pos,
            gtid_binlog_state=positions.gtid_binlog_state,
            gtid_slave_pos=positions.gtid_slave_pos,
            binlog_oldest=oldest_binary_log(self._data_dir),
            source_host=replica.source_host if replica else "",
            source_port=replica.source_port if replica else 0,
            gtid_io_pos=replica.gtid_io_pos if replica else "",
            receiver=replica.receiver if replica else "",
            applier=replica.applier if replica else False,
            receiver_errno=replica.receiver_errno if replica else 0,
            receiver_error=replica.receiver_error if replica else "",
            applier_errno=replica.applier_errno if replica else 0,
            applier_error=replica.applier_error if replica else "",
            seconds_behind=replica.seconds_behind if replica else None,
            heard_age=_since(ages.heard, now) if ages.heard is not None else None,
            receiver_up_for=_since(ages.streaming_since, now),
            semisync_primary=switches.waiting and not ages.alone,
            semisync_replica=switches.acknowledging,
            ack_clients=switches.ack_clients,
            waiting_sessions=switches.waiting_sessions,
            commits_stuck_for=_since(ages.stuck_since, now),
            acknowledged=seen.acknowledged,
            unacknowledged=seen.unacknowledged,
            connections=seen.connections,
            connections_max=seen.connections_max,
            oldest_transaction=self._oldest,
            drift=self._drift,
            repaired=self._repaired,
        )


def _since(moment: float | None, now: float) -> float:
    return 0.0 if moment is None else round(now - moment, 3)


def _stuck(ages: Ages, now: float) -> bool:
    return ages.stuck_since is not None and now - ages.stuck_since > STUCK.total_seconds()


def _aged(ages: Ages, before: Observation | None, seen: Observation, now: float) -> Ages:
    if seen.heard and (before is None or before.heard != seen.heard):
        ages = replace(ages, heard=now if before is not None else None)
    streaming = seen.replica is not None and seen.replica.streaming
    ages = replace(ages, streaming_since=(ages.streaming_since or now) if streaming else None)
    stays = before is not None and before.switches.waiting and seen.switches.waiting
    unasked = before is not None and seen.unacknowledged > before.unacknowledged
    ages = replace(ages, alone=seen.switches.waiting and (ages.alone or (stays and unasked)))
    waits = seen.switches.waiting_sessions > 0
    moved = before is None or before.acknowledged != seen.acknowledged
    return replace(
        ages, stuck_since=None if not waits else now if moved or ages.stuck_since is None else ages.stuck_since
    )


def _striking(seen: Observation) -> tuple[object, ...]:
    replica, switches = seen.replica, seen.switches
    stream = (replica.receiver, replica.applier, replica.receiver_errno, replica.applier_errno) if replica else ()
    return (switches.read_only, switches.waiting, switches.acknowledging, switches.ack_clients, stream)


def oldest_binary_log(data_dir: Path) -> str:
    """Its name; "" when there is none."""
    names = binary_logs(data_dir)
    return names[0] if names else ""
