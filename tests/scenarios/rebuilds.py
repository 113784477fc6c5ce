"""What the tests of full copies share: a pair under a whole controller, data in it, and what is true of it."""

import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.core.tasks import TaskPhase
from tests.stack import Controller, controller
from tests.vault_host import CLIENT_DATABASE, VaultHost, vault_hosts
from tests.waiting import wait_for

ENDED = ("succeeded", "failed", "cancelled", "needs-person")
ROW_BYTES = 1024


@dataclass
class Place:
    stack: Controller
    hosts: list[VaultHost]
    make: Callable[..., VaultHost]

    @property
    def primary(self) -> VaultHost:
        return next(h for h in self.hosts if h.hostname == self.stack.vault()["primary"])

    @property
    def fallback(self) -> VaultHost:
        return next(h for h in self.hosts if h.hostname != self.stack.vault()["primary"])

    def add(self, ip: str, hostname: str) -> VaultHost:
        """A new, empty host as a further fallback."""
        host: VaultHost = self.make(ip, hostname).init().start()
        self.hosts.append(host)
        self.stack.manage(
            "shell", "-v0", "-c",
            "from replication.stores.wishes import *; v = default_vault()\n"
            f"new = NewNode(hostname={hostname!r}, ip_address={ip!r}, port=5389, database_port=3307, system_role='fallback')\n"
            "assert not isinstance(add_node(v, new, None), list)\n",
        )  # fmt: skip
        return host

    def command(self, *words: str) -> str:
        """`manage.py vault …`; returns the id of the operation that it began."""
        return self.stack.manage("vault", *words).rstrip().rstrip(".").rsplit(" ", 1)[-1]

    def operation(self, id: str) -> dict[str, Any]:
        (row,) = self.stack.rows("SELECT * FROM nodes_operation WHERE id = ?", id)
        return {**row, **{name: json.loads(row[name]) for name in ("steps", "result", "arguments")}}

    def latest(self, kind: str) -> dict[str, Any] | None:
        rows = self.stack.rows("SELECT id FROM nodes_operation WHERE kind = ? ORDER BY created_at DESC LIMIT 1", kind)
        return self.operation(rows[0]["id"]) if rows else None

    def ends_told(self) -> list[tuple[str, str, str]]:
        """Rule, level and text of the events that say how a re-synchronization, rebuild or undo ended."""
        rows = self.stack.rows(
            "SELECT e.rule, e.level, e.text FROM nodes_event e JOIN nodes_operation o ON o.id = e.operation"
            " WHERE o.kind IN ('resynchronize', 'rebuild', 'undo') AND e.text = o.message ORDER BY e.id"
        )
        return [(row["rule"], row["level"], row["text"]) for row in rows]

    def wait_ended(self, id: str, timeout: float = 90) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            row = self.operation(id)
            return row if row["state"] in ENDED else None

        def seen() -> str:
            logs = "\n".join(host.log()[-3000:] for host in self.hosts)
            return f"the operation ends; it is {self.operation(id)}\n{self.stack.log('ops')}\n{logs}\n{self.stack.log('service-a')}"

        return wait_for(look, timeout, seen) or {}

    def wait_lossless(self, timeout: float = 60) -> None:
        wait_for(
            lambda: self.stack.vault()["acker"],
            timeout,
            lambda: (
                f"lossless: {self.stack.vault()}\n{[h.report() for h in self.hosts]}\n{self.stack.log('service-a')}"
            ),
        )

    def wait_equal(self, timeout: float = 30) -> None:
        """Every row that the Master has is on its fallback, and no other."""
        self.wait_equal_on(self.fallback, timeout)

    def wait_equal_on(self, host: VaultHost, timeout: float = 30) -> None:
        wanted = checksum(self.primary)
        wait_for(
            lambda: checksum(host) == wanted,
            timeout,
            lambda: f"equal rows: {wanted}, {checksum(host)}; {host.report()}",
        )


@contextmanager
def place(*addresses: str, rows: int = 200) -> Iterator[Place]:
    """Hosts vault-a, vault-b … under a controller with a service worker and an ops worker, lossless, with so many KiB in a table."""
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with vault_hosts(directory) as make, controller(directory) as stack:
            hosts = [make(ip, f"vault-{name}").init() for ip, name in zip(addresses, "abc", strict=False)]
            for host in hosts:
                host.start()
            found = Place(stack, hosts, make)
            stack.service("a")
            stack.ops()
            stack.add_pair(*hosts)
            stack.wait_vault(primary="vault-a", acker="vault-b")
            hosts[0].sql(
                f"CREATE TABLE {CLIENT_DATABASE}.passwords (id INT AUTO_INCREMENT PRIMARY KEY, secret LONGBLOB) ENGINE=InnoDB"
            )
            fill(hosts[0], rows)
            yield found
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def fill(host: VaultHost, rows: int) -> None:
    """So many rows of a KiB each, in few transactions. The bytes do not compress."""
    for begin in range(0, rows, 1000):
        some = ",".join(f"(x'{secrets.token_hex(ROW_BYTES)}')" for _ in range(min(1000, rows - begin)))
        host.sql(f"INSERT INTO {CLIENT_DATABASE}.passwords (secret) VALUES {some}")


def write(host: VaultHost, secret: str) -> None:
    host.sql(f"INSERT INTO {CLIENT_DATABASE}.passwords (secret) VALUES (%s)", secret)


def secrets_in(host: VaultHost) -> set[bytes]:
    return {
        row["secret"] for row in host.sql(f"SELECT secret FROM {CLIENT_DATABASE}.passwords WHERE LENGTH(secret) < 100")
    }


def checksum(host: VaultHost) -> tuple[int, str]:
    (row,) = host.sql(
        f"SELECT COUNT(*) AS n, SUM(CRC32(CONCAT(id, ' ', secret))) AS sum FROM {CLIENT_DATABASE}.passwords"
    )
    return int(row["n"]), str(row["sum"])


def share(node: VaultHost) -> float:
    """How much of the copy has arrived; 2 while it is put in its place or later."""
    task = node.report().task
    if task is None or task.phase is TaskPhase.WAITING or not task.active:
        return 0.0
    if task.phase is not TaskPhase.TRANSFERRING:
        return 1.0 if task.phase is TaskPhase.PREPARING else 2.0
    return task.done / task.total if task.total else 0.0


def purge_what_it_lacks(place: Place) -> None:
    """Take every fallback's stream away, write, and purge on the Master what they have not received."""
    primary = place.primary
    others = [host for host in place.hosts if host is not primary]
    for host in others:
        host.kill_agent()
        host.kill_database()
    place.stack.wait_vault(acker=None)
    write(primary, "while it was away")
    purge(primary)
    for host in others:
        host.start(ready=False)


def purge(primary: VaultHost) -> None:
    """All binary logs up to now, of a Master that nobody is behind of."""
    primary.sql("FLUSH BINARY LOGS")
    wait_for(lambda: _purged(primary), 30, "the Master lets its old binary logs go: none of its threads reads them")


def _purged(primary: VaultHost) -> bool:
    newest = primary.sql("SHOW BINARY LOGS")[-1]["Log_name"]
    primary.sql(f"PURGE BINARY LOGS TO '{newest}'")
    return len(primary.sql("SHOW BINARY LOGS")) == 1
