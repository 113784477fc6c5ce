"""The lease on disk, for the next agent on the same boot: so that a restart neither ends a lease nor makes it longer.

Not flushed, and written on a thread of its own: a disk that hangs must not hold up whoever keeps the lease. What is on disk is
then older than the truth, which closes sooner and never later.
"""

import contextlib
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any, Final

from replication.core.roles import OrderKind
from replication.core.vault_ports import AgentState
from replication.procedures.vault import lease as leases
from replication.procedures.vault.lease import Closed, Lease

log = logging.getLogger(__name__)

FIELDS: Final = frozenset({"boot_id", "kind", "epoch", "until", "closed", "renewed_since"})


class LeaseFile(threading.Thread):
    """`keep` is quick and may be called from any thread; the newest lease wins."""

    def __init__(self, path: Path, boot_id: str) -> None:
        super().__init__(name="lease file", daemon=True)
        self.path, self._boot_id = path, boot_id
        self._turn = threading.Condition()
        self._newest: Lease | None = None
        self._ending = False
        self._failing = False

    def load(self, state: AgentState) -> Lease:
        """What an earlier agent kept; over when that cannot be read, not armed when there is nothing."""
        try:
            content = json.loads(self.path.read_bytes())
            found = _lease(content)
            same_boot = content["boot_id"] == self._boot_id
        except FileNotFoundError:
            return Lease()
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read, so the lease counts as over: %s", self.path, error)
            return leases.unreadable(state)
        return leases.kept(found, same_boot=same_boot)

    def keep(self, lease: Lease) -> None:
        with self._turn:
            self._newest = lease
            self._turn.notify()

    def end(self) -> None:
        """Write what is left to write, and end."""
        with self._turn:
            self._ending = True
            self._turn.notify()

    def run(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._newest is not None or self._ending)
                lease, self._newest = self._newest, None
                if lease is None:
                    return
            try:
                self._write(lease)
                self._failing = False
            except OSError as error:
                if not self._failing:
                    log.warning("the lease cannot be written to %s: %s", self.path, error.strerror)
                self._failing = True

    def _write(self, lease: Lease) -> None:
        content = {
            "boot_id": self._boot_id,
            "kind": lease.kind,
            "epoch": lease.epoch,
            "until": lease.until,
            "closed": lease.closed,
            "renewed_since": lease.renewed_since,
        }
        scratch = self.path.with_name(self.path.name + ".new")
        try:
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as out:
                json.dump(content, out)
            scratch.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise


def _lease(content: Any) -> Lease:
    """Raises ValueError."""
    if not isinstance(content, dict) or not content.keys() >= FIELDS or not isinstance(content["epoch"], int):
        raise ValueError("it does not hold a lease")
    return Lease(
        kind=OrderKind(content["kind"]),
        epoch=content["epoch"],
        until=_moment(content["until"]),
        closed=Closed(content["closed"]),
        renewed_since=_moment(content["renewed_since"]),
    )


def _moment(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("a moment must be a number")
    return float(value)
