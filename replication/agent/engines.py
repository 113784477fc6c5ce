"""Which database engine a node runs: found once by init from the program's own word, and what depends on it."""

import re
import subprocess
from collections.abc import Callable
from typing import Final

from replication.agent.clone import ReceiveClone, SendClone
from replication.agent.config import AgentConfig, ConfigError, Engine
from replication.agent.mysqld import Mysqld
from replication.agent.process import Mariadbd
from replication.agent.receive import Receive
from replication.agent.send import Send
from replication.agent.tasks import Body, Recipe
from replication.core.tasks import TaskKind, TaskOrder
from replication.core.vault_ports import State, TaskRefused
from replication.dialects.base import Client, LocalDatabase, PkiFiles, Session
from replication.dialects.mariadb import MariaDb
from replication.dialects.mysql import MySql

OLDEST_MYSQL: Final = (8, 4)
VERSION_SECONDS: Final = 20
NAMES: Final[dict[Engine, str]] = {"mariadb": "MariaDB", "mysql": "MySQL"}
WHAT_IS_MISSING: Final = {
    # Of MySQL.
    TaskKind.BACKUP: "be backed up",
}


def engine_of(program: str) -> Engine:
    """Ask a server's program what it is. Raises ConfigError for a MySQL that is too old."""
    try:
        done = subprocess.run(
            [program, "--no-defaults", "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "mariadb"  # whoever starts it says what is wrong with it
    text = done.stdout.decode(errors="replace")
    found = re.search(r"\bVer (\d+)\.(\d+)", text)
    if "MariaDB" in text or found is None or int(found[1]) >= 10:
        return "mariadb"
    version = int(found[1]), int(found[2])
    if version < OLDEST_MYSQL:
        shown, oldest = (".".join(map(str, v)) for v in (version, OLDEST_MYSQL))
        raise ConfigError(f"{program} is MySQL {shown}, which is too old: MySQL {oldest} or later is needed")
    return "mysql"


def local_database(config: AgentConfig, session: Session) -> LocalDatabase:
    """The dialect for this node's server."""
    pki, account = config.pki_dir, config.client
    files = PkiFiles(ca=str(pki / "ca.pem"), cert=str(pki / "cert.pem"), key=str(pki / "key.pem"))
    client = Client(database=account.database, user=account.user, password=account.password) if account else None
    return (MySql if config.engine == "mysql" else MariaDb)(session, files, client)


def server_process(config: AgentConfig, state: State, changed: Callable[[], None]) -> Mariadbd:
    return (Mysqld if config.engine == "mysql" else Mariadbd)(config, state, changed)


def receiving(config: AgentConfig) -> type[Receive]:
    return ReceiveClone if config.engine == "mysql" else Receive


def sending(config: AgentConfig) -> type[Send]:
    return SendClone if config.engine == "mysql" else Send


def refusing(kind: TaskKind, engine: Engine) -> Recipe:
    """For work that is made with another engine's programs."""

    def prepare(order: TaskOrder) -> Body:
        raise TaskRefused(f"a node on {NAMES[engine]} cannot {WHAT_IS_MISSING[kind]} in this version")

    return Recipe(prepare)
