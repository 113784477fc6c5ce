"""The agent's own way into a database whose connection table is full: a second port, and an account for this host's certificate.

Commits that hang in lossless state hold their sessions, and clients that give up leave them behind: in the end not even the
administrator gets a connection on the socket (error 1040). Then the agent comes in by `extra_port`, over TLS, from its own
address only. The account stays out of the binary log, so every node has one of its own. Others are kept away by a packet
filter where the agent may use one: `extra_port` takes any account of the database.
"""

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import MySQLdb

from replication import certificates
from replication.agent.config import AgentConfig
from replication.agent.firewall import shield
from replication.dialects.mariadb_accounts import ADMIN

log = logging.getLogger(__name__)

TRY_EVERY_SECONDS: Final = 30
CONNECT_SECONDS: Final = 2


def is_free(ip: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError:
            log.warning("port %s on %s is taken, so there is no second port for the agent", port, ip)
            return False
    return True


def source_address(ip: str) -> str:
    """The address with which this host comes when it dials its own address `ip`: not the same on loopback."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ip, 1))  # sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return ip


class AdminDoor:
    """The second way in. `connect` is for LocalSession, when the first is shut."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self.source = source_address(config.ip)

    @property
    def subject(self) -> str:
        return certificates.subject_oneline(certificates.load(self._config.pki_dir / "cert.pem"))

    def shield(self) -> bool:
        """Keep everybody else away from it, where this user may use a packet filter. Whether it is so now."""
        config = self._config
        return shield(config.agent_id, config.ip, config.admin_port, [config.ip, self.source])

    def connect(self, **options: Any) -> Any:
        """Raises MySQLdb.Error."""
        pki = self._config.pki_dir
        return MySQLdb.connect(
            host=self._config.ip,
            port=self._config.admin_port,
            user=ADMIN,
            ssl={"ca": str(pki / "ca.pem"), "cert": str(pki / "cert.pem"), "key": str(pki / "key.pem")},
            ssl_mode="VERIFY_IDENTITY",
            **options,
        )


class AdminProbe(threading.Thread):
    """Whether the second way in works, tried twice a minute; `changed` is called when that changes.

    look_again: the database was started, or the account made.
    """

    def __init__(self, door: AdminDoor, changed: Callable[[], None]) -> None:
        super().__init__(name="admin port", daemon=True)
        self._door, self._changed = door, changed
        self.works = False
        self._turn = threading.Condition()
        self._hurry = self._ending = False

    def look_again(self) -> None:
        with self._turn:
            self._hurry = True
            self._turn.notify_all()

    def end(self) -> None:
        with self._turn:
            self._ending = True
            self._turn.notify_all()

    def run(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._hurry or self._ending, TRY_EVERY_SECONDS)
                if self._ending:
                    return
                self._hurry = False
            works = self._try()
            if works != self.works:
                self.works = works
                self._changed()

    def _try(self) -> bool:
        try:
            self._door.connect(connect_timeout=CONNECT_SECONDS, read_timeout=CONNECT_SECONDS).close()
        except MySQLdb.Error as error:
            if self.works:
                log.warning("the database cannot be reached over its second port: %s", error)
            return False
        return True
