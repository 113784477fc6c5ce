"""What the agent does with nftables, in a table of its own: the cut, and the gate.

The cut: packets to a revoked primary's database port are answered with a reset on this host. STOP SLAVE IO_THREAD of an acknowledging replica dials its primary once more, which takes a second or two when that host is
gone; rejected at once it takes milliseconds, and no acknowledgement can leave the host whatever mariadbd does. Without
the right to do so everything holds all the same, one second later (rpl_semi_sync_slave_kill_conn_timeout=1).

The gate: packets of others to our own database port are answered with a reset once a primary's lease is over; with a kernel
lease also when the agent is no longer there to say so. The agent's own way in is a unix socket, which no packet filter sees.
"""

import ipaddress
import logging
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

log = logging.getLogger(__name__)

NFT_SECONDS: Final = 2
SEARCH_PATH: Final = "/usr/sbin:/sbin:/usr/bin:/bin"
"""Not the environment's: an ordinary user's PATH lacks the first two."""


def table_of(agent_id: str) -> str:
    return f"inet vault_agent_{agent_id[:12]}"


def why_no_nftables() -> str:
    """Why nftables cannot be used here, as a sentence; "" when it can. Changes nothing."""
    if shutil.which("nft", path=SEARCH_PATH) is None:
        return "nft is not installed (on Debian: apt install nftables)"
    if not _nft("add table inet vault_agent_check", "--check"):
        return "this user may not use nftables on this host, or its kernel has none (root may, as a rule)"
    return ""


class NftCut:
    """Implements core.vault_ports.Firewall with a table of this agent's own."""

    def __init__(self, agent_id: str, port: int, *, wanted: bool) -> None:
        self.table, self.port, self.wanted = table_of(agent_id), port, wanted
        self._armed = False

    @property
    def armed(self) -> bool:
        return self._armed

    def arm(self) -> None:
        """Make the table, or find out that this user may not. What an earlier agent has cut stays cut."""
        if not self.wanted:
            return
        table = self.table
        self._armed = _nft(
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
            _nft(f"add element {self.table} revoked{family} {{ {address} }}")

    def lift(self) -> None:
        if self._armed:
            _nft(f"flush set {self.table} revoked4; flush set {self.table} revoked6")

    def remove(self) -> None:
        """Leave nothing behind in the kernel. Never raises."""
        if self.wanted:
            _nft(f"delete table {self.table}")  # also one that an earlier agent made
            self._armed = False


def shield(agent_id: str, address: str, port: int, sources: Sequence[str]) -> bool:
    """Let nobody but this host itself reach its database's second port. Goes with the table. Whether it is so now.

    address, port: where the database listens. sources: the addresses with which this host comes there.
    """
    family = "ip6" if ipaddress.ip_address(address).version == 6 else "ip"
    table = table_of(agent_id)
    return _nft(
        f"add table {table}; add chain {table} admin {{ type filter hook input priority 0; }}; flush chain {table} admin; "
        f"add rule {table} admin {family} daddr {address} tcp dport {port} "
        f"{family} saddr != {{ {', '.join(sorted(set(sources)))} }} reject with tcp reset"
    )


class Gate:
    """The way in to our own database port, for everybody who comes by the network: clients and replicas."""

    def __init__(self, agent_id: str, address: str, port: int, *, wanted: bool, timed: bool) -> None:
        """timed: with a kernel lease. It may be engaged still, by an agent that is gone."""
        self.table, self.port, self.wanted, self._timed = table_of(agent_id), port, wanted, timed
        family = "ip6" if ipaddress.ip_address(address).version == 6 else "ip"
        self._mine = f"{family} daddr {address} tcp dport"
        self._armed = False

    @property
    def armed(self) -> bool:
        return self._armed

    @property
    def timed(self) -> bool:
        """Whether there is a kernel lease."""
        return self._armed and self._timed

    def arm(self) -> None:
        """Make the sets and chains, or find out that this user may not. What was shut stays shut, a lease goes on."""
        if not self.wanted:
            return
        table = self.table
        hook = "{ type filter hook input priority 0; }"
        self._armed = _nft(
            f"add table {table}; "
            f"add set {table} shut {{ type inet_service; }}; "
            f"add set {table} leased {{ type inet_service; flags timeout; }}; "
            f"add chain {table} lease {hook}; "
            f"add chain {table} gate {hook}; flush chain {table} gate; "
            f"add rule {table} gate {self._mine} @shut reject with tcp reset"
        )

    def shut(self) -> bool:
        """Nobody comes in any more, connections that stand included. Whether it is so now."""
        return self._armed and _nft(f"add element {self.table} shut {{ {self.port} }}")

    def open(self) -> bool:
        """Everybody may come in, however long the agent is silent."""
        return self._armed and _nft(f"flush chain {self.table} lease; flush set {self.table} shut")

    def lease(self, seconds: float) -> bool:
        """Everybody may come in for so long; then the kernel shuts the gate, unless this is called again."""
        if not self.timed:
            return False
        table, port, milliseconds = self.table, self.port, max(1, int(seconds * 1000))
        # Adding an element that is there does not prolong it. One transaction: no packet sees the port shut in between.
        return _nft(
            f"add element {table} leased {{ {port} }}; delete element {table} leased {{ {port} }}; "
            f"add element {table} leased {{ {port} timeout {milliseconds}ms }}; "
            f"flush chain {table} lease; "
            f"add rule {table} lease {self._mine} {port} tcp dport != @leased reject with tcp reset; "
            f"flush set {table} shut"
        )


def _nft(commands: str, *options: str) -> bool:
    nft = shutil.which("nft", path=SEARCH_PATH)
    if nft is None:
        return False
    try:
        done = subprocess.run(
            [nft, *options, commands],
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
