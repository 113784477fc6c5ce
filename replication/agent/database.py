"""Connections to the local mariadbd over its unix socket, as the operating system user that the agent runs as.

When it has no connection left there, by the second port: replication/agent/admin.py.
"""

import contextlib
import os
import pwd
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import MySQLdb
from MySQLdb.cursors import DictCursor

from replication.core.vault_ports import DatabaseError
from replication.dialects.base import Row

CONNECT_SECONDS: Final = 2
LOST: Final = frozenset({2002, 2003, 2006, 2013, 2055, 4031})
"""Client errors after which the connection is of no use any more."""

TOO_MANY_CONNECTIONS: Final = 1040
OVER: Final = "the time for this command is over"


def local_user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


class LocalSession:
    """One connection for one thread, opened when first needed and again after it was lost.

    read_seconds: the driver gives up on an answer after this long; whole seconds are all it can count.
    server: tells one run of mariadbd from the next, so that a connection to the last one is not tried first.
    spare: another way in, for when the socket has no connection left.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_seconds: int,
        server: Callable[[], object] = lambda: None,
        spare: Callable[..., Any] | None = None,
    ) -> None:
        self.path, self.read_seconds, self._server, self.spare = path, read_seconds, server, spare
        self._connection: Any = None
        self._wire: socket.socket | None = None
        """The connection's socket, for `abort`: the driver lets no other thread near a connection that is in use."""
        self._connected_to: object = None
        self._lock = threading.Lock()
        self._aborted = False

    def rows(self, statement: str, *values: Any) -> list[Row]:
        try:
            with self._open().cursor(DictCursor) as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall())
        except MySQLdb.Error as error:
            raise self._failed(error) from error

    def run(self, statement: str, *values: Any) -> None:
        try:
            with self._open().cursor() as cursor:
                cursor.execute(statement, values)
        except MySQLdb.Error as error:
            raise self._failed(error) from error

    def abort(self) -> None:
        """From another thread: make the statement that runs now fail at once. The server is not asked to stop it."""
        with self._lock:
            self._aborted = True
            if self._wire is not None:
                with contextlib.suppress(OSError):
                    self._wire.shutdown(socket.SHUT_RDWR)

    def ready(self) -> None:
        """Take back an abort: the next statement may run, on a new connection. Only on the thread that runs statements:
        a connection must not be closed under a statement."""
        with self._lock:
            aborted, self._aborted = self._aborted, False
        if aborted:
            self.close()

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if self._wire is not None:
                self._wire.close()
                self._wire = None
        if connection is not None:
            with contextlib.suppress(MySQLdb.Error):
                connection.close()

    def _open(self) -> Any:
        with self._lock:
            if self._aborted:
                raise DatabaseError(0, OVER)
        server = self._server()
        if self._connection is not None and self._connected_to is not server:
            self.close()
        if self._connection is not None:
            return self._connection
        connection = self._connect()
        with self._lock:
            self._connection, self._connected_to = connection, server
            self._wire = socket.socket(fileno=os.dup(connection.fileno()))
            if self._aborted:  # while it connected, when there was nothing yet to break off
                raise DatabaseError(0, OVER)
        return connection

    def _connect(self) -> Any:
        options = {
            "autocommit": True,
            "charset": "utf8mb4",
            "use_unicode": True,
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": self.read_seconds,
            "write_timeout": self.read_seconds,
        }
        try:
            return MySQLdb.connect(unix_socket=str(self.path), user=local_user(), **options)
        except MySQLdb.Error as error:
            if self.spare is None or error.args[0] != TOO_MANY_CONNECTIONS:
                raise
        return self.spare(**options)

    def _failed(self, error: Any) -> DatabaseError:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        text = str(error.args[1]) if len(error.args) > 1 else str(error)
        if code in LOST or code == 0:
            self.close()
        return DatabaseError(0, OVER) if self._aborted else DatabaseError(code, text)
