"""The cut: packets to a revoked primary's database port are answered with a reset on this host.

STOP SLAVE IO_THREAD of an acknowledging replica dials its primary once more, which takes a second or two when that host is
gone; rejected at once it takes milliseconds, and no acknowledgement can leave the host whatever mariadbd does. Without
the right to do so everything holds all the same, one second later (rpl_semi_sync_slave_kill_conn_timeout=1).
"""

import ipaddress
import logging
import shutil
import subprocess
from typing import Final

log = logging.getLogger(__name__)

NFT_SECONDS: Final = 2
SEARCH_PATH: Final = "/usr/sbin:/sbin:/usr/bin:/bin"
"""Not the environment's: an ordinary user's PATH lacks the first two."""


class NftCut:
    """Implements core.vault_ports.Firewall with a table of this agent's own."""

    def __init__(self, agent_id: str, port: int, *, wanted: bool) -> None:
        self.table, self.port, self.wanted = f"inet vault_agent_{agent_id[:12]}", port, wanted
        self.nft = shutil.which("nft", path=SEARCH_PATH)
        self._armed = False

    @property
    def armed(self) -> bool:
        return self._armed

    def arm(self) -> None:
        """Make the table, or find out that this user may not. What an earlier agent has cut stays cut."""
        if not self.wanted or self.nft is None:
            return
        table = self.table
        self._armed = self._nft(
            f"add table {table}; "
            f"add set {table} revoked4 {{ type ipv4_addr; }}; add set {table} revoked6 {{ type ipv6_addr; }}; "
            f"add chain {table} out {{ type filter hook output priority 0; }}; flush chain {table} out; "
            # No match on the socket's owner: packets of a socket that was closed meanwhile have none.
            f"add rule {table} out ip daddr @revoked4 tcp dport {self.port} reject with tcp reset; "
            f"add rule {table} out ip6 daddr @revoked6 tcp dport {self.port} reject with tcp reset"
        )

    def cut(self, address: str) -> None:
        try:
            family = ipaddress.ip_address(address).version
        except ValueError:
            log.warning("%s is no address, so it cannot be cut off", address)
            return
        if self._armed:
            self._nft(f"add element {self.table} revoked{family} {{ {address} }}")

    def lift(self) -> None:
        if self._armed:
            self._nft(f"flush set {self.table} revoked4; flush set {self.table} revoked6")

    def remove(self) -> None:
        """Leave nothing behind in the kernel. Never raises."""
        if self.wanted and self.nft is not None:
            self._nft(f"delete table {self.table}")  # also one that an earlier agent made
            self._armed = False

    def _nft(self, commands: str) -> bool:
        try:
            done = subprocess.run(
                [self.nft or "nft", commands],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=NFT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("nft did not run: %s", error)
            return False
        if done.returncode:
            log.info("nft refused: %s", done.stderr.decode(errors="replace").strip().splitlines()[:1])
        return done.returncode == 0
