"""Accounts on MySQL: of the other nodes, which prove themselves by certificate, and of the vault's own clients."""

import hashlib
import hmac
import json
import secrets
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Final

from replication.core.commands import ReplicationAccount
from replication.core.vault_ports import AccountStatus

from .base import Client, Session
from .sessions import exists, kill

ACCOUNT_PREFIX: Final = "vha_"
ADMIN: Final = "vha_admin"
"""The agent's account for the administrators' port, on each node its own."""
ROUNDS: Final = 100_000
"""Of PBKDF2: the mark by which a changed password is recognised must be no easier to guess from than the server's own hash."""


class Accounts(ABC):
    session: Session
    client: Client | None

    @abstractmethod
    def _writable(self) -> AbstractContextManager[None]:
        """In which the administrator may write on a closed node."""

    @abstractmethod
    def _unlogged(self) -> AbstractContextManager[None]:
        """In which what is written stays on this node, and works while commits hang."""

    def accounts(self) -> tuple[AccountStatus, ...]:
        rows = self.session.rows(
            "SELECT User AS name, CONVERT(x509_subject USING utf8mb4) AS subject, Repl_slave_priv AS granted,"
            " account_locked AS locked FROM mysql.user WHERE Host = '%%' AND LEFT(User, %s) = %s ORDER BY User",
            len(ACCOUNT_PREFIX),
            ACCOUNT_PREFIX,
        )
        return tuple(
            AccountStatus(
                name=row["name"],
                # Created, but the grant did not follow: a subject that never matches makes it be created again.
                subject=row["subject"] if row["granted"] == "Y" else "",
                locked=row["locked"] == "Y",
            )
            for row in rows
        )

    def create_account(self, account: ReplicationAccount) -> None:
        with self._writable():
            self.session.run("DROP USER IF EXISTS %s@'%%'", account.name)
            self.session.run("CREATE USER %s@'%%' REQUIRE SUBJECT %s", account.name, account.subject)
            self.session.run("GRANT REPLICATION SLAVE ON *.* TO %s@'%%'", account.name)

    def drop_account(self, name: str) -> None:
        with self._writable():
            self.session.run("DROP USER IF EXISTS %s@'%%'", name)

    def lock_account(self, name: str, locked: bool) -> None:
        with self._writable(), self._unlogged():
            self.session.run(f"ALTER USER %s@'%%' ACCOUNT {'LOCK' if locked else 'UNLOCK'}", name)

    def end_streams(self, name: str) -> int:
        rows = self.session.rows(
            "SELECT PROCESSLIST_ID AS id FROM performance_schema.threads"
            " WHERE PROCESSLIST_USER = %s AND PROCESSLIST_COMMAND LIKE 'Binlog Dump%%'",
            name,
        )
        for row in rows:
            kill(self.session, row["id"])
        return len(rows)

    def ensure_admin(self, address: str, subject: str) -> bool:
        rows = self.session.rows(
            "SELECT Host AS host, CONVERT(x509_subject USING utf8mb4) AS subject, Super_priv AS granted"
            " FROM mysql.user WHERE User = %s",
            ADMIN,
        )
        strangers = [row["host"] for row in rows if row["host"] != address]
        mine = [row for row in rows if row["host"] == address and row["subject"] == subject and row["granted"] == "Y"]
        if mine and not strangers:
            return False
        with self._writable(), self._unlogged():
            for host in {*strangers, address}:  # others came with another node's data
                self.session.run("DROP USER IF EXISTS %s@%s", ADMIN, host)
            self.session.run("CREATE USER %s@%s REQUIRE SUBJECT %s", ADMIN, address, subject)
            self.session.run("GRANT ALL PRIVILEGES ON *.* TO %s@%s WITH GRANT OPTION", ADMIN, address)
        return True

    def ensure_client(self) -> None:
        client = self.client
        if client is None:
            return
        known = self.session.rows(
            "SELECT ATTRIBUTE AS attribute FROM information_schema.user_attributes WHERE USER = %s AND HOST = '%%'",
            client.user,
        )
        there = exists(
            self.session, "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", client.database
        )
        # In a grant an unescaped underscore stands for any character, so it would open other databases too.
        pattern = client.database.replace("_", "\\_")
        granted = exists(
            self.session, "SELECT 1 FROM mysql.db WHERE Host = '%%' AND User = %s AND Db = %s", client.user, pattern
        )
        right = bool(known) and _is_of(known[0]["attribute"], client.password)
        if there and granted and right:
            return
        # The server itself writes the hash, and not the password, into its binary log.
        how = "%s@'%%' IDENTIFIED WITH caching_sha2_password BY %s ATTRIBUTE %s"
        with self._writable():
            if not there:
                self.session.run(f"CREATE DATABASE {_name(client.database)} CHARACTER SET utf8mb4")
            if not right:
                verb = "ALTER" if known else "CREATE"
                self.session.run(f"{verb} USER {how}", client.user, client.password, _mark(client.password))
            if not granted:
                self.session.run(f"GRANT ALL PRIVILEGES ON {_name(pattern)}.* TO %s@'%%'", client.user)


def _name(identifier: str) -> str:
    return "`" + identifier.replace("`", "``").replace("%", "%%") + "`"


def _mark(password: str, salt: str = "") -> str:
    """An attribute of the account by which its password is recognised: the server's own hash cannot be made again here."""
    salt = salt or secrets.token_hex(16)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), ROUNDS).hex()
    return json.dumps({"vault_ha": f"{salt}${digest}"})


def _is_of(attribute: str | None, password: str) -> bool:
    try:
        kept = json.loads(attribute or "{}").get("vault_ha", "")
    except ValueError:
        return False
    salt, _, digest = str(kept).partition("$")
    return bool(digest) and hmac.compare_digest(json.loads(_mark(password, salt))["vault_ha"], str(kept))
