"""The local mysqld as a process, where the server is MySQL: what differs from mariadbd."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from replication.agent.database import local_user
from replication.agent.errors import CannotStart
from replication.agent.process import Mariadbd, last_error
from replication.core.vault_ports import BootRole

FREE_BYTES_MIN: Final = 512 * 1024 * 1024
"""A new data directory takes about 190 MB."""


class Mysqld(Mariadbd):
    """It has no `--init-rpl-role`: what stood in its binary log when it died is committed at its next start, acknowledged or
    not. An old primary's tail so becomes extra transactions, which the next follow finds and holds."""

    def check_installed(self) -> None:
        if not os.access(self.config.mariadbd, os.X_OK):
            raise CannotStart(
                f"{self.config.mariadbd} is missing: install the MySQL server (on Debian: mysql-server-core)"
            )

    def install(self) -> None:
        """Make an empty data directory. Raises CannotStart.

        Administrators come in by the socket, as this operating system user, and by no password: that is settled before the
        directory gets its name, so that no server with an open root account ever listens.
        """
        config, scratch = self.config, self.config.home / "data.new"
        free = shutil.disk_usage(config.home).free
        if free < FREE_BYTES_MIN:
            raise CannotStart(
                f"the disk of {config.home} has {free // 2**20} MiB free, a new database needs {FREE_BYTES_MIN // 2**20}: "
                "make room, then start again"
            )
        shutil.rmtree(scratch, ignore_errors=True)
        statements = config.run_dir / "install.sql"
        statements.write_text(_accounts(local_user()))
        try:
            done = subprocess.run(
                [
                    config.mariadbd,
                    "--no-defaults",
                    "--initialize-insecure",
                    f"--init-file={statements}",
                    f"--datadir={scratch}",
                    f"--user={local_user()}",
                    "--skip-log-bin",
                    f"--tmpdir={config.tmp_dir}",
                    "--secure-file-priv=NULL",
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        finally:
            statements.unlink(missing_ok=True)
        text = (done.stderr + done.stdout).decode(errors="replace")
        # A statement that fails does not end it.
        if done.returncode or "[ERROR]" in text:
            shutil.rmtree(scratch, ignore_errors=True)
            said = last_error(text.partition("[MY-013455]")[0]) or " ".join(text.split()[-40:])
            raise CannotStart(f"the database could not be initialised (exit code {done.returncode}): {said}")
        scratch.rename(config.data_dir)

    def _arguments(self, role: BootRole) -> list[str]:
        # A server that was killed leaves this file; with it and a process of the same number the next one does not start.
        Path(f"{self.config.socket}.lock").unlink(missing_ok=True)
        return [self.config.mariadbd, f"--defaults-file={self.config.my_cnf}"]


def _accounts(user: str) -> str:
    """The administrators' accounts, each statement on a line of its own, as --init-file wants it."""
    name = "'" + user.replace("\\", "\\\\").replace("'", "''") + "'@'localhost'"
    root = "'root'@'localhost'"
    # Options to load plugins are ignored while a data directory is made.
    lines = [
        "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so';",
        f"ALTER USER {root} IDENTIFIED WITH auth_socket;",
    ]
    if user != "root":
        lines += [
            f"CREATE USER {name} IDENTIFIED WITH auth_socket;",
            f"GRANT ALL PRIVILEGES ON *.* TO {name} WITH GRANT OPTION;",
        ]
    return "\n".join(lines) + "\n"
