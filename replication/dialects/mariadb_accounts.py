"""Accounts: of the other nodes, which prove themselves by certificate, and of the vault's own clients."""

import hashlib
from typing import Final

from replication.core.commands import ReplicationAccount
from replication.core.vault_ports import AccountStatus

from .base import Client, Session
from .sessions import exists, kill

__all__ = ["ADMIN", "Accounts", "Client"]

ACCOUNT_PREFIX: Final = "vha_"
ADMIN: Final = "vha_admin"
"""The agent's account for the second port, on each node its own."""
REPLICATION_SLAVE_BIT: Final = 1 << 19
"""Of `access` in mysql.global_priv."""


class Accounts:
    session: Session
    client: Client | None

    def accounts(self) -> tuple[AccountStatus, ...]:
        rows = self.session.rows(
            "SELECT User AS name, COALESCE(JSON_VALUE(Priv, '$.x509_subject'), '') AS subject,"
            " COALESCE(JSON_VALUE(Priv, '$.access'), 0) AS access,"
            " COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) AS locked"
            " FROM mysql.global_priv WHERE Host = '%%' AND LEFT(User, %s) = %s ORDER BY User",
            len(ACCOUNT_PREFIX),
            ACCOUNT_PREFIX,
        )
        return tuple(
            AccountStatus(
                name=row["name"],
                # Created, but the grant did not follow: a subject that never matches makes it be created again.
                subject=row["subject"] if int(row["access"]) & REPLICATION_SLAVE_BIT else "",
                locked=str(row["locked"]) in ("1", "true"),
            )
            for row in rows
        )

    def create_account(self, account: ReplicationAccount) -> None:
        self.session.run("CREATE OR REPLACE USER %s@'%%' REQUIRE SUBJECT %s", account.name, account.subject)
        self.session.run("GRANT REPLICATION SLAVE ON *.* TO %s@'%%'", account.name)

    def drop_account(self, name: str) -> None:
        self.session.run("DROP USER IF EXISTS %s@'%%'", name)

    def lock_account(self, name: str, locked: bool) -> None:
        self.session.run("SET SESSION sql_log_bin = 0")
        try:
            self.session.run(f"ALTER USER %s@'%%' ACCOUNT {'LOCK' if locked else 'UNLOCK'}", name)
        finally:
            self.session.run("SET SESSION sql_log_bin = 1")

    def end_streams(self, name: str) -> int:
        rows = self.session.rows(
            "SELECT ID AS id FROM information_schema.processlist WHERE USER = %s AND COMMAND LIKE 'Binlog Dump%%'", name
        )
        for row in rows:
            kill(self.session, row["id"])
        return len(rows)

    def ensure_admin(self, address: str, subject: str) -> bool:
        rows = self.session.rows(
            "SELECT Host AS host, COALESCE(JSON_VALUE(Priv, '$.x509_subject'), '') AS subject,"
            " COALESCE(JSON_VALUE(Priv, '$.access'), 0) AS access FROM mysql.global_priv WHERE User = %s",
            ADMIN,
        )
        strangers = [row["host"] for row in rows if row["host"] != address]
        mine = [row for row in rows if row["host"] == address and row["subject"] == subject and int(row["access"])]
        if mine and not strangers:
            return False
        self.session.run("SET SESSION sql_log_bin = 0, max_statement_time = 1")  # a lock may be held for long
        try:
            for host in strangers:  # came with another node's data
                self.session.run("DROP USER %s@%s", ADMIN, host)
            self.session.run("CREATE OR REPLACE USER %s@%s REQUIRE SUBJECT %s", ADMIN, address, subject)
            self.session.run("GRANT ALL PRIVILEGES ON *.* TO %s@%s WITH GRANT OPTION", ADMIN, address)
        finally:
            self.session.run("SET SESSION sql_log_bin = 1, max_statement_time = DEFAULT")
        return True

    def ensure_client(self) -> None:
        client = self.client
        if client is None:
            return
        # The hash instead of the password: what is written here also stands in the binary log.
        digest = _native_password(client.password)
        if not exists(
            self.session, "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", client.database
        ):
            self.session.run(f"CREATE DATABASE {_name(client.database)} CHARACTER SET utf8mb4")
        known = self.session.rows(
            "SELECT JSON_VALUE(Priv, '$.authentication_string') AS digest FROM mysql.global_priv"
            " WHERE Host = '%%' AND User = %s",
            client.user,
        )
        if not known:
            self.session.run("CREATE USER %s@'%%' IDENTIFIED BY PASSWORD %s", client.user, digest)
        elif known[0]["digest"] != digest:
            self.session.run("ALTER USER %s@'%%' IDENTIFIED BY PASSWORD %s", client.user, digest)
        # In a grant an unescaped underscore stands for any character, so it would open other databases too.
        pattern = client.database.replace("_", "\\_")
        if not exists(
            self.session, "SELECT 1 FROM mysql.db WHERE Host = '%%' AND User = %s AND Db = %s", client.user, pattern
        ):
            self.session.run(f"GRANT ALL PRIVILEGES ON {_name(pattern)}.* TO %s@'%%'", client.user)


def _name(identifier: str) -> str:
    return "`" + identifier.replace("`", "``").replace("%", "%%") + "`"


def _native_password(password: str) -> str:
    """mysql_native_password's stored form. SHA-1 is what that protocol is made of, not our choice."""
    once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()
