"""A vault host: what survives its agent. Its disk, its mariadbd, its place in the network."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

from replication.core.roles import Witness
from replication.core.vault_ports import AgentState, Ports
from replication.procedures.vault.lease import Lease
from tests.simulation.agent import Server, VaultAgent
from tests.simulation.controller import Refused
from tests.simulation.copies import CopyDisk
from tests.simulation.disk import Disk
from tests.simulation.kernel import Kernel
from tests.simulation.network import Network


class VaultHost:
    """Implements controller.Endpoint. Everything that a schedule does to a host goes through here."""

    def __init__(
        self, kernel: Kernel, network: Network, server: Server, rng: Random, *, name: str, address: str, number: int
    ) -> None:
        self.kernel, self.network, self.server, self.rng = kernel, network, server, rng
        self.name, self.address = name, address
        self.disk = Disk(kernel, rng, AgentState(server_id=number))
        self.copies = CopyDisk()
        self._boots, self.runs = count(1), count(1)
        self.peers: Mapping[str, VaultHost] = {}
        """All hosts, by address."""
        self.kept_lease: tuple[str, Lease] | None = None
        """The lease as the agent wrote it down last, with the boot in which it did."""
        self.closed_by = "", 0
        """The verb that closed it for good, answered with success, and its epoch: it stays closed until a later order to be
        primary (rule 12)."""
        self.said: Callable[[str], None] = lambda text: None
        self.violated: Callable[[str], None] = lambda text: None
        self.obeyed: Callable[[str, int], None] = lambda sender, epoch: None
        self.boot_id = f"{name}-{next(self._boots)}"
        self.agent: VaultAgent | None = None
        self.fuse: int | None = None
        """The agent is killed at its n-th use of a port from now on, before or after its effect."""
        self.replaced: Callable[[], None] = lambda: None
        """Called when its database has got other data."""
        self.state_changed: Callable[[AgentState, AgentState], None] = lambda before, after: None

    # --- life -----------------------------------------------------------------------------------------------------

    def start_agent(self) -> None:
        self.kill_agent()
        self.agent = VaultAgent(self)
        self.agent.start()

    def kill_agent(self) -> None:
        """SIGKILL: its connections are reset, mariadbd goes on."""
        agent, self.agent = self.agent, None
        if agent is not None:
            agent.program.kill()
            self.disk.crash()
            for sender, answer in agent.open_requests:
                self.reply(sender, answer, Refused("connection reset"))

    def power_off(self) -> None:
        """Everything ends at once, and nobody is told."""
        self.network.power(self.address, on=False)
        self.kill_agent()
        self.server.crash()

    def power_on(self) -> None:
        self.boot_id = f"{self.name}-{next(self._boots)}"
        self.network.power(self.address, on=True)
        self.start_agent()

    # --- the network's side ---------------------------------------------------------------------------------------

    def request(self, sender: str, what: tuple[Any, ...], answer: "asyncio.Future[Any]") -> None:
        if self.agent is None:
            self.reply(sender, answer, Refused("nobody listens"))
        else:
            self.agent.program.spawn(self.agent.serve(sender, what, answer))

    def reply(self, sender: str, answer: "asyncio.Future[Any]", result: object) -> None:
        self.network.send(self.address, sender, _deliver, answer, result, noisy=True)

    def greets(self) -> Witness:
        if not self.server.alive:
            return Witness.REFUSED
        return Witness.SILENT if self.server.frozen else Witness.ANSWERS

    # --- the fuse -------------------------------------------------------------------------------------------------

    def fused(self, ports: Ports) -> Ports:
        """The same ports; while a fuse burns, each use of one may be the agent's last."""
        if self.fuse is None:
            return ports
        return replace(
            ports,
            state=Fused(ports.state, self),
            process=Fused(ports.process, self),
            database=Fused(ports.database, self),
            firewall=Fused(ports.firewall, self),
            tasks=Fused(ports.tasks, self),
        )  # type: ignore[arg-type]

    def burn(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.fuse = None
                self.kill_agent()
                self.kernel.perish()


class Fused:
    """A port that burns the fuse before and after each use."""

    def __init__(self, port: object, host: VaultHost) -> None:
        self._port, self._host = port, host

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._port, name)
        if not callable(inner):
            return inner

        def used(*args: Any, **named: Any) -> Any:
            self._host.burn()
            result = inner(*args, **named)
            self._host.burn()
            return result

        return used


def _deliver(answer: "asyncio.Future[Any]", result: object) -> None:
    """Errors travel as values: an answer that nobody waits for any more must not be reported as one never looked at."""
    if not answer.done():
        answer.set_result(result)
