"""A vault host of the rig: agent and mariadbd as programs on a host of tests/rig/network.py, and what can befall them."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.rig.network import Network
from tests.vault_host import VaultHost
from tests.waiting import wait_for


class RigHost(VaultHost):
    """As VaultHost; the test itself is on the host too when it asks the agent or opens a client's connection."""

    def __init__(self, net: Network, directory: Path, name: str, **settings: Any) -> None:
        super().__init__(directory, net.address(name), name, **settings)
        self.net = net

    def start(self, *extra: str, ready: bool = True) -> "RigHost":
        with self.net.inside(self.hostname):
            super().start(*extra, ready=ready)
        return self

    def run(self, *arguments: str, typed: str | None = None) -> "subprocess.CompletedProcess[str]":
        with self.net.inside(self.hostname):
            return super().run(*arguments, typed=typed)

    def request(self, *arguments: Any, **options: Any) -> tuple[int, str]:
        with self.net.inside(self.hostname):
            return super().request(*arguments, **options)

    def connect_client(self, **options: Any) -> Any:
        with self.net.inside(self.hostname):
            return super().connect_client(**options)

    def destroy(self) -> None:
        with self.net.inside(self.hostname):
            super().destroy()

    # --- what can befall it

    def programs(self) -> list[int]:
        """Agent and mariadbd, whatever runs of them."""
        agent = [self.agent.pid] if self.agent is not None and self.agent.poll() is None else []
        return agent + ([self.database_pid] if self.database_pid else [])

    def freeze(self) -> None:
        """All programs of the host at once, as when a virtual machine is paused."""
        for pid in self.programs():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.programs():
            os.kill(pid, signal.SIGCONT)

    def lose(self) -> None:
        """Power off: no packet tells anybody, then everything is gone. `net.heal()` and `start()` bring it back."""
        self.net.isolate(self.hostname)
        self.net.kill_all(self.hostname)
        if self.agent is not None:
            self.agent.wait()
            self.agent = None
        wait_for(lambda: not self.database_pid, 30, "mariadbd is gone")
