"""The conformance script's world of simulated servers. The script runs as blocking code on a greenlet, in virtual time."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random
from typing import Any, TypeVar

from replication.core.vault_ports import BootRole, Database, DatabaseError
from replication.dialects.mariadb import Observation
from tests.conformance.world import HANGS, OK, PATIENCE, SETTLED, failure
from tests.simulation.kernel import Kernel, Program, Signal
from tests.simulation.mariadbd import Mariadbd
from tests.simulation.network import Network

T = TypeVar("T")
START = timedelta(seconds=60)
POLL = 0.02


class FakeCall:
    """An action on a greenlet of its own."""

    def __init__(self, program: Program, action: Callable[[], Any]) -> None:
        self._kernel, self._signal, self._outcome = program.kernel, Signal(), HANGS
        self._action = action
        program.run(self._run)

    def _run(self) -> None:
        try:
            self._action()
        except DatabaseError as error:
            self._outcome = failure(error.code)
        else:
            self._outcome = OK
        self._signal.fire()

    def outcome(self, within: float = SETTLED) -> str:
        self._kernel.block_until(lambda: self._outcome != HANGS, self._kernel.now + within, self._signal)
        return self._outcome


class FakeServer(Mariadbd):
    """With the names that the script uses for its hosts."""

    def __init__(self, program: Program, network: Network, number: int) -> None:
        super().__init__(program.kernel, network, f"10.213.63.{number}", Random(f"conformance {number}"))
        self.name, self.account, self.subject = f"m{number}", f"vha_m{number}", f"/CN=m{number}/OU=node"
        self._program = program

    def observe(self) -> Observation:
        return self.database.observe()

    def call(self, action: Callable[[Database], Any]) -> FakeCall:
        session = self.connect_session()
        return FakeCall(self._program, lambda: action(session))


class FakeWorld:
    def __init__(self, program: Program, servers: Sequence[FakeServer], network: Network) -> None:
        self._kernel, self.servers, self._network = program.kernel, servers, network

    def wait(self, holds: Callable[[], object], seconds: float = PATIENCE) -> bool:
        until = self._kernel.now + seconds
        while not self._quietly(holds):
            if self._kernel.now >= until:
                return False
            self._kernel.block(POLL)
        return True

    @staticmethod
    def _quietly(holds: Callable[[], object]) -> bool:
        try:
            return bool(holds())
        except DatabaseError:
            return False

    def took(self, action: Callable[[], Any]) -> float:
        began = self._kernel.now
        action()
        return self._kernel.now - began

    def cut(self, sender: FakeServer, receiver: FakeServer) -> None:
        self._network.cut(sender.address, receiver.address)

    def heal(self) -> None:
        self._network.heal_all()


def play(story: Callable[[FakeWorld], T], servers: int, make: type[FakeServer] = FakeServer, seed: int = 1) -> T:
    """Run a story in a fresh world of servers that run as after a first start, and return what it found."""
    kernel = Kernel(seed)

    async def main() -> T:
        network = Network(kernel, Random(seed))
        program = kernel.program("script")
        hosts = [make(program, network, number) for number in range(1, servers + 1)]

        def work() -> T:
            for host in hosts:
                host.process.start(BootRole.PRIMARY, START)
            return story(FakeWorld(program, hosts, network))

        return await program.run(work)

    found = kernel.run(main())
    assert not kernel.faults, kernel.faults
    return found
