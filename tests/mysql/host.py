"""A vault host for tests whose server is a real mysqld: tests/vault_host.py with another program."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.vault_host import VaultHost

SCRIPT = Path(__file__).resolve().parents[2] / "script" / "mysql"


def find_mysqld() -> tuple[str, str]:
    """Path of a mysqld that is there already and "", or "" and why there is none."""
    done = subprocess.run([SCRIPT, "--find"], capture_output=True, text=True, env=os.environ, timeout=60)
    return done.stdout.strip(), done.stderr.strip()


class MySqlHost(VaultHost):
    def __init__(self, program: str, directory: Path, ip: str, hostname: str, **settings: Any) -> None:
        super().__init__(directory, ip, hostname, **settings)
        self.program = program

    def init_arguments(self) -> list[str]:
        return [*super().init_arguments(), "--server", self.program]

    @property
    def database_pid(self) -> int:
        """Process id of mysqld; 0 when it does not run."""
        try:
            pid = int(self.config.pid_file.read_text())
            return pid if b"mysqld" in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
        except (OSError, ValueError):
            return 0


@contextlib.contextmanager
def mysql_hosts(program: str, directory: Path) -> Iterator[Callable[..., MySqlHost]]:
    """Make any number of hosts below `directory` (a short path: it holds sockets); all are gone at the end."""
    made: list[MySqlHost] = []

    def make(ip: str, hostname: str, **settings: Any) -> MySqlHost:
        made.append(MySqlHost(program, directory, ip, hostname, **settings))
        return made[-1]

    try:
        yield make
    finally:
        for host in made:
            host.destroy()
