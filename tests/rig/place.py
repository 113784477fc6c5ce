"""A whole installation on a network of its own: vault hosts n1, n2 …, controller hosts ctl1, ctl2 …, clients on `web`.

    with rig() as place:
        primary, acker = place.lossless()
        place.net.cut("ctl1", primary.hostname)

Gone at the end, however the test ends.
"""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.rig.host import RigHost
from tests.rig.metadata import MetadataServer, metadata_server
from tests.rig.network import Network, network
from tests.rig.trials import start_alike
from tests.stack import Controller, controller
from tests.waiting import wait_for
from tests.writers import SHORT_PATIENCE_SECONDS, Writers, create_table

METADATA, CLIENTS = "meta", "web"
SETTLE_SECONDS = 90
IDS_PER_GROUP = 1_000_000_000


@contextlib.contextmanager
def rig(
    vaults: int = 2, controllers: int = 1, *, init: Sequence[str] = (), service: Sequence[str] = ()
) -> Iterator["Place"]:
    """Enrolled, started, lossless, with the writers' table. Several controllers share a MariaDB on a host of its own.

    init: more arguments for `vault-agent init`. service: a program instead of the ordinary service worker. Skips the test
    without root.
    """
    names = [f"n{i + 1}" for i in range(vaults)]
    leaders = [f"ctl{i + 1}" for i in range(controllers)]
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="vha-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        net = stack.enter_context(network(*names, *leaders, METADATA, CLIENTS))
        metadata: MetadataServer | None = None
        if controllers > 1:
            with net.inside(METADATA):
                metadata = stack.enter_context(metadata_server(directory, net.address(METADATA)))
        hosts = [RigHost(net, directory, name) for name in names]
        for host in hosts:
            stack.callback(host.destroy)
        start_alike(hosts, *init)
        made: list[Controller] = []
        for name in leaders:
            like = made[0] if made else None
            inside = net.on(name)
            made.append(
                stack.enter_context(controller(directory, name=name, metadata=metadata, like=like, inside=inside))
            )
        for each in made:
            each.start("service-a", *service) if service else each.service("a")
        made[0].add_pair(*hosts)
        place = Place(net, hosts, made, metadata)
        primary, _ = place.lossless()
        create_table(primary)
        yield place


class Place:
    def __init__(
        self, net: Network, hosts: list[RigHost], controllers: list[Controller], metadata: MetadataServer | None
    ) -> None:
        self.net, self.controllers, self.metadata = net, controllers, metadata
        self.hosts = {host.hostname: host for host in hosts}
        self.password = hosts[0].client_password
        self._groups = 0

    @property
    def stack(self) -> Controller:
        """The first controller: whoever reads the metadata may take it."""
        return self.controllers[0]

    def lossless(self, timeout: float = SETTLE_SECONDS) -> tuple[RigHost, RigHost]:
        """Wait until it is; returns the primary and its acker."""

        def look() -> dict[str, Any] | None:
            row = self.stack.vault()
            return row if row["acker"] and row["intent"] in (None, "null") else None

        row = wait_for(look, timeout, lambda: f"lossless: {self.tell()}") or {}
        return self.hosts[row["primary"]], self.hosts[row["acker"]]

    def settle(self) -> tuple[RigHost, RigHost]:
        """Mend everything that a test has broken, and wait until the vault is lossless and every node follows."""
        self.net.heal()
        for host in self.hosts.values():
            host.thaw()
            if host.agent is None or host.agent.poll() is not None:
                host.agent = None
                host.start(ready=False)
        self.clear_hold()
        wait_for(self._all_well, SETTLE_SECONDS, lambda: f"every node is well: {self.tell()}")
        return self.lossless()

    def _all_well(self) -> bool:
        return {word for word, _ in self.statuses().values()} == {"master", "slave-waiting"}

    def clear_hold(self) -> None:
        """As an operator does who knows why the last host was lost (anti-flapping)."""
        self.stack.execute("UPDATE nodes_vault SET silence_failover_at = NULL, silence_hold_seconds = 0")

    def statuses(self) -> dict[str, tuple[str, str]]:
        """Hostname → status word and detail, as the screen has them."""
        rows = self.stack.rows("SELECT hostname, status, status_detail FROM nodes_vaultnode ORDER BY hostname")
        return {row["hostname"]: (row["status"], row["status_detail"]) for row in rows}

    def tell(self) -> str:
        logs = "\n".join(f"--- {c.name}\n{c.log('service-a')}" for c in self.controllers)
        return f"{self.stack.vault()} {self.statuses()}\n{logs}"

    def wait_status(self, host: RigHost, word: str, timeout: float = 20) -> None:
        wait_for(
            lambda: self.statuses()[host.hostname][0] == word, timeout, lambda: f"{host.hostname} {word}: {self.tell()}"
        )

    def wait_reason(self, part: str, timeout: float = 20) -> None:
        wait_for(lambda: part in self.stack.vault()["reason"], timeout, lambda: f"{part!r}: {self.tell()}")

    def wait_primary(self, host: RigHost, timeout: float = 30) -> None:
        """Recorded, and no change under way."""
        self.stack.wait_vault(timeout, primary=host.hostname, intent=None)

    def writers(
        self, *hosts: RigHost, count: int = 4, where: str = CLIENTS, patience: float = SHORT_PATIENCE_SECONDS
    ) -> Writers:
        """Clients on the host `where`, with ids of their own. patience: seconds; see tests/writers.py."""
        self._groups += 1
        return Writers(
            hosts, count, password=self.password, first_id=self._groups * IDS_PER_GROUP, patience=patience,
            inside=self.net.on(where),
        )  # fmt: skip

    def signal_leader(self, number: signal.Signals) -> None:
        pid = self.stack.leader_pid()
        next(c for c in self.controllers if c.name == self.stack.leader()["host"]).signal_process(pid, number)
