"""The clone plugin of MySQL: one server fetches a copy from another, into a directory beside its own data.

Source: MySQL manual, "The Clone Plugin"; what was measured is in docs/design/mysql.md.
"""

import time
from dataclasses import dataclass
from typing import Final

from replication.core.vault_ports import DatabaseError

from .base import PkiFiles, Session
from .mysql_closing import Closing
from .sessions import kill

COPY_ACCOUNT: Final = "vha_copy"
"""On the source while a copy is made of it, for the target's certificate. It may be cloned from and nothing else. It comes along
in the copy, and is dropped there."""
MIB: Final = 1024 * 1024
END_S: Final = 10.0
POLL_S: Final = 0.05


@dataclass(frozen=True)
class Progress:
    """In bytes; total is an estimate."""

    done: int
    total: int


class Cloning(Closing):
    def __init__(self, session: Session, pki: PkiFiles) -> None:
        self.session, self.pki = session, pki

    # --- the source's side ------------------------------------------------------------------------------------------

    def allow(self, subject: str) -> None:
        """Let one server in: who shows this certificate. On this node only."""
        with self._writable(), self._unlogged():
            self.session.run("DROP USER IF EXISTS %s@'%%'", COPY_ACCOUNT)
            self.session.run("CREATE USER %s@'%%' REQUIRE SUBJECT %s", COPY_ACCOUNT, subject)
            self.session.run("GRANT BACKUP_ADMIN ON *.* TO %s@'%%'", COPY_ACCOUNT)

    def forbid(self) -> None:
        """Let nobody in any more, and end who is in."""
        with self._writable(), self._unlogged():
            self.session.run("DROP USER IF EXISTS %s@'%%'", COPY_ACCOUNT)
        for row in self.session.rows(
            "SELECT PROCESSLIST_ID AS id FROM performance_schema.threads WHERE PROCESSLIST_USER = %s", COPY_ACCOUNT
        ):
            kill(self.session, row["id"])

    # --- the target's side --------------------------------------------------------------------------------------------

    def prepare(self, host: str, port: int, bytes_per_second: int) -> None:
        """From whom, with which certificate, and how fast (0: as fast as it goes; whole MiB is all that it knows)."""
        rate = -(-bytes_per_second // MIB)
        for name, value in {
            "clone_valid_donor_list": f"{host}:{port}",
            "clone_ssl_ca": self.pki.ca,
            "clone_ssl_cert": self.pki.cert,
            "clone_ssl_key": self.pki.key,
            "clone_max_network_bandwidth": rate,
            "clone_max_data_bandwidth": rate,
        }.items():
            self.session.run(f"SET GLOBAL {name} = %s", value)

    def fetch(self, host: str, port: int, directory: str) -> None:
        """Blocks until the copy is whole. Nothing of this server changes. Raises DatabaseError."""
        self.session.run(
            "CLONE INSTANCE FROM %s@%s:" + str(int(port)) + " IDENTIFIED BY '' DATA DIRECTORY = %s REQUIRE SSL",
            COPY_ACCOUNT,
            host,
            directory,
        )

    def break_off(self) -> None:
        """End whatever is being fetched, and wait until it has ended. Raises DatabaseError when it does not."""
        until = time.monotonic() + END_S
        fetching = "SELECT ID AS id FROM performance_schema.processlist WHERE INFO LIKE 'CLONE INSTANCE FROM%%'"
        while rows := self.session.rows(fetching):
            for row in rows:
                kill(self.session, row["id"])
            if time.monotonic() > until:
                raise DatabaseError(0, "a copy that was begun earlier is still being fetched")
            time.sleep(POLL_S)

    def progress(self) -> Progress:
        rows = self.session.rows(
            "SELECT COALESCE(SUM(NETWORK), 0) AS done, COALESCE(SUM(ESTIMATE), 0) AS total"
            " FROM performance_schema.clone_progress"
        )
        return Progress(int(rows[0]["done"]), int(rows[0]["total"]))

    def check_whole(self) -> None:
        """Whether the last copy is. Raises DatabaseError."""
        rows = self.session.rows("SELECT STATE AS state, ERROR_MESSAGE AS error FROM performance_schema.clone_status")
        if not rows or rows[0]["state"] != "Completed":
            raise DatabaseError(0, f"the copy is not whole: {rows[0]['error'] if rows else 'nothing was fetched'}")
