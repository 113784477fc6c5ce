"""A MariaDB server over TCP that holds the metadata of several controller hosts, as an administrator would set one up.

    with metadata_server(directory, "127.0.64.9") as server:
        server.create("console")  # → a URL for VAULT_HA_DATABASE

Its clock is set to a zone that is not UTC, its isolation level and SQL mode are MariaDB's defaults: whatever the console
needs it has to ask for.
"""

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import MySQLdb
from MySQLdb.cursors import DictCursor

from tests.waiting import wait_for

PORT = 3306
USER, PASSWORD = "console", "only-for-tests"
READY_SECONDS = 60
END_SECONDS = 20


@contextlib.contextmanager
def metadata_server(directory: Path, ip: str) -> Iterator["MetadataServer"]:
    """Initialised and running; killed at the end, however the test ends. directory: a short path, for the socket."""
    server = MetadataServer(directory / "metadata", ip)
    try:
        server.install()
        server.start()
        yield server
    finally:
        server.end()


class MetadataServer:
    def __init__(self, home: Path, ip: str) -> None:
        self.home, self.ip = home, ip
        self.socket = home / "m.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._user = pwd.getpwuid(os.getuid()).pw_name

    def install(self) -> None:
        self.home.mkdir()
        done = subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--force", "--skip-test-db",
             "--auth-root-authentication-method=socket", f"--auth-root-socket-user={self._user}",
             f"--datadir={self.home / 'data'}", f"--user={self._user}"],
            capture_output=True, text=True, timeout=READY_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers over TCP."""
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["mariadbd", "--no-defaults", f"--datadir={self.home / 'data'}", f"--socket={self.socket}",
                 f"--pid-file={self.home / 'pid'}", f"--bind-address={self.ip}", f"--port={PORT}",
                 f"--user={self._user}", "--skip-name-resolve", "--innodb-buffer-pool-size=32M",
                 "--default-time-zone=+05:30"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: self.sql("SELECT 1"), READY_SECONDS, self.log)

    def log(self) -> str:
        file = self.home / "log"
        return f"the metadata database answers\n{file.read_text(errors='replace')[-3000:] if file.exists() else ''}"

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None, "the metadata database does not run"
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()  # also ends one that was stopped
            process.wait(END_SECONDS)

    def create(self, name: str) -> str:
        """A database (an empty one, the first time) and an account that may do everything in it, and nothing else. Returns its URL."""
        self.sql(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4")
        self.sql(f"CREATE USER IF NOT EXISTS {USER}@'%%' IDENTIFIED BY '{PASSWORD}'")
        self.sql(f"GRANT ALL ON {name}.* TO {USER}@'%%'")
        return f"mysql://{USER}:{PASSWORD}@{self.ip}:{PORT}/{name}"

    def sql(self, statement: str, *values: Any, database: str = "") -> list[dict[str, Any]]:
        """One statement as the administrator, over the socket: works also when the network is cut."""
        try:
            with contextlib.closing(
                MySQLdb.connect(
                    unix_socket=str(self.socket), user=self._user, database=database, autocommit=True,
                    charset="utf8mb4", cursorclass=DictCursor, connect_timeout=2, read_timeout=5,
                )
            ) as connection, connection.cursor() as cursor:  # fmt: skip
                cursor.execute(statement, values)
                return list(cursor.fetchall())
        except MySQLdb.Error as error:
            raise ConnectionError(str(error)) from error
