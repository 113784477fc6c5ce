"""What `vault-agent init` settles once: identity, addresses, programs, and where everything lies below the agent's home."""

import hashlib
import ipaddress
import json
import os
import re
import shlex
import stat
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from replication.certificates import COMMON_NAME_MAX, is_dns_name
from replication.core import limits

RUN_DIR_MAX: Final = 80
"""Bytes. A unix socket's path holds 107; the rest is for the longest file name in the directory."""
DEFAULT_BUFFER_POOL: Final = "128M"

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_SIZE = re.compile(r"[1-9][0-9]{0,15}[KMG]?")
_RESERVED_DATABASES: Final = frozenset({"mysql", "sys", "information_schema", "performance_schema", "vault_ha"})
_RESERVED_USERS: Final = frozenset({"root", "mysql"})


Engine = Literal["mariadb", "mysql"]


class ConfigError(Exception):
    """The agent's configuration cannot be used; the text is one sentence for the operator."""


@dataclass(frozen=True, kw_only=True)
class ClientAccount:
    """The database and account that the vault's own clients use; made on the primary when it opens."""

    database: str
    user: str
    password: str

    def __post_init__(self) -> None:
        for what, text, reserved in (
            ("client database", self.database, _RESERVED_DATABASES),
            ("client user", self.user, _RESERVED_USERS),
        ):
            if not _IDENTIFIER.fullmatch(text):
                raise ConfigError(
                    f"{what} {text!r}: a letter, then letters, digits or underscores, at most 32 characters"
                )
            if text.lower() in reserved or text.lower().startswith("vha_"):
                raise ConfigError(f"{what} {text!r} is reserved: choose another name")
        if not self.password or not self.password.isprintable():
            raise ConfigError("the client password must be one line of printable characters")

    def __repr__(self) -> str:
        return f"ClientAccount(database={self.database!r}, user={self.user!r}, password=…)"


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """The agent's settings, kept in `home/agent.json` (0600: it may hold the clients' password)."""

    home: Path
    agent_id: str
    """32 hex digits, made once by init."""
    hostname: str
    ip: str
    port: int = limits.AGENT_PORT
    database_port: int = limits.DATABASE_PORT
    client: ClientAccount | None = None
    buffer_pool: str = DEFAULT_BUFFER_POOL
    """innodb_buffer_pool_size as MariaDB reads it: bytes, or with K, M or G."""
    cut: Literal["auto", "none"] = "auto"
    """Whether to reject traffic to a revoked primary, and to a primary whose lease is over, with nftables; "auto" when this
    user may and it works."""
    kernel_lease: bool = False
    """Whether the kernel shuts a lossless primary's port when the agent does not renew it: also when only the agent died."""
    engine: Engine = "mariadb"
    """Found by init from what the program says of itself."""
    mariadbd: str = "/usr/sbin/mariadbd"
    """The server's program, also where that is mysqld."""
    install_db: str = "/usr/bin/mariadb-install-db"
    mariadb_backup: str = "/usr/bin/mariadb-backup"
    mbstream: str = "/usr/bin/mbstream"
    mariadb_binlog: str = "/usr/bin/mariadb-binlog"
    """The last three are needed for copies, backups and exports only: without them the node works, and says what it lacks."""
    backup_dir: str = ""
    """An absolute path for backups, perhaps on another disk or mounted from another host; "" for one below the home."""

    def __post_init__(self) -> None:
        if not self.home.is_absolute():
            raise ConfigError(f"the home {str(self.home)!r} must be an absolute path")
        if not re.fullmatch(r"[0-9a-f]{32}", self.agent_id):
            raise ConfigError(f"agent_id {self.agent_id!r} must be 32 hex digits")
        if not is_dns_name(self.hostname) or len(self.hostname) > COMMON_NAME_MAX:
            raise ConfigError(
                f"hostname {self.hostname!r}: letters, digits, hyphens and dots, at most {COMMON_NAME_MAX} characters"
            )
        object.__setattr__(self, "ip", _normal_address(self.ip))
        for what, port in (("port", self.port), ("database port", self.database_port)):
            if isinstance(port, bool) or not 1 <= port <= 65535:
                raise ConfigError(f"{what} {port} must be between 1 and 65535")
        if self.port == self.database_port:
            raise ConfigError(f"port and database port are both {self.port}: agent and database need one each")
        if not _SIZE.fullmatch(self.buffer_pool):
            raise ConfigError(f"buffer pool {self.buffer_pool!r} must be a size such as 128M or 4G")
        if self.backup_dir and not _is_place_for_backups(Path(self.backup_dir), self.home):
            raise ConfigError(
                f"backup directory {self.backup_dir!r} must be an absolute path outside the agent's own data: another disk is best"
            )
        if self.engine not in ("mariadb", "mysql"):
            raise ConfigError(f'engine {self.engine!r} must be "mariadb" or "mysql"')
        if self.cut not in ("auto", "none"):
            raise ConfigError(f'cut {self.cut!r} must be "auto" or "none"')
        if self.kernel_lease and self.cut == "none":
            raise ConfigError("a kernel lease needs nftables: it cannot be had together with cut none")

    @property
    def admin_port(self) -> int:
        """Second port of the database, for the agent alone: the next one, or the nearest below when that cannot be."""
        above = self.database_port + 1
        if above <= 65535 and above != self.port:
            return above
        return self.database_port - (2 if self.database_port - 1 == self.port else 1)

    @property
    def config_file(self) -> Path:
        return self.home / "agent.json"

    @property
    def data_dir(self) -> Path:
        return self.home / "data"

    @property
    def run_dir(self) -> Path:
        """Holds the sockets, so its path is short: below home, or a private directory in /tmp named after home."""
        below_home = self.home / "run"
        if len(os.fsencode(below_home)) <= RUN_DIR_MAX:
            return below_home
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path("/tmp") / f"vault-agent-{os.getuid()}-{digest}"  # noqa: S108  # owner and mode are checked by prepare_directories

    @property
    def socket(self) -> Path:
        """The unix socket of mariadbd."""
        return self.run_dir / "mariadbd.sock"

    @property
    def pid_file(self) -> Path:
        """Written by mariadbd. Not in run_dir: whatever cleans /tmp must not make the agent lose its mariadbd."""
        return self.home / "mariadbd.pid"

    @property
    def control_socket(self) -> Path:
        """Where `status` and `purge` reach a running agent."""
        return self.run_dir / "agent.sock"

    @property
    def my_cnf(self) -> Path:
        return self.home / "my.cnf"

    @property
    def state_file(self) -> Path:
        return self.home / "state.json"

    @property
    def lock_file(self) -> Path:
        return self.home / "agent.lock"

    @property
    def log_dir(self) -> Path:
        return self.home / "log"

    @property
    def tmp_dir(self) -> Path:
        """mariadbd's own: one that starts removes every temporary table from the directory that it is given, whoever's it is."""
        return self.home / "tmp"

    @property
    def salvage_dir(self) -> Path:
        """Binary logs copied before a start that may truncate them."""
        return self.home / "salvage"

    @property
    def backups_dir(self) -> Path:
        return Path(self.backup_dir) if self.backup_dir else self.home / "backups"

    @property
    def lost_dir(self) -> Path:
        """Transactions that the primary did not have: one directory for each export. Only a purge removes them."""
        return self.home / "lost"

    @property
    def pki_dir(self) -> Path:
        """Holds ca.pem, cert.pem and key.pem."""
        return self.home / "pki"

    @property
    def purge_command(self) -> str:
        """What a person types on this host to remove data, keys and certificates."""
        script = Path(__file__).resolve().parents[2] / "script" / "vault-agent"
        return f"{shlex.quote(str(script))} purge --home {shlex.quote(str(self.home))}"

    def prepare_directories(self) -> None:
        """Make run, log, salvage and temporary directories, private to this user. Raises ConfigError.

        Called before anything is bound or started. A directory in /tmp that somebody else made is refused: whoever owns
        it could put a socket of his own in the place of ours.
        """
        own = (
            () if self.backup_dir else (self.backups_dir,)
        )  # one that was given has to be mounted, not made in its place
        for directory in (self.run_dir, self.log_dir, self.salvage_dir, self.tmp_dir, *own):
            try:
                directory.mkdir(mode=0o700, exist_ok=True)
                found = directory.lstat()
            except OSError as error:
                raise ConfigError(f"the directory {directory} cannot be made: {error.strerror}") from error
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise ConfigError(f"{directory} must be a directory that only this user can enter (mode 0700)")

    def save(self) -> None:
        """Write `agent.json` durably: tmp, fsync, rename."""
        content = {name: value for name, value in asdict(self).items() if name != "home"}
        scratch = self.config_file.with_name("agent.json.new")
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump(content, out, indent=2)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        scratch.replace(self.config_file)


def load(home: Path) -> AgentConfig:
    """Read the settings of the agent that lives in `home`. Raises ConfigError."""
    home = Path(os.path.abspath(home))
    file = home / "agent.json"
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise ConfigError(f"{home} holds no vault agent: make one with `vault-agent init --home {home} …`") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file} is damaged: it is not JSON ({error}); restore it from a backup") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} is damaged: an object was expected")
    try:
        return AgentConfig(home=home, **_checked(content))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[str, type] = {
        field.name: {"port": int, "database_port": int, "kernel_lease": bool}.get(field.name, str)
        for field in fields(AgentConfig)
        if field.name not in ("home", "client")
    }
    for name, value in content.items():
        if name == "client":
            continue
        if name not in kinds:
            raise ConfigError(f"there is no setting {name!r}")
        if not isinstance(value, kinds[name]):
            wanted = {int: "a number", bool: "true or false", str: "a text"}
            raise ConfigError(f"{name} must be {wanted[kinds[name]]}")
    for name in ("agent_id", "hostname", "ip"):
        if name not in content:
            raise ConfigError(f"{name} is missing")
    client = content.get("client")
    if client is not None:
        names = {"database", "user", "password"}
        if not isinstance(client, dict) or set(client) != names or not all(isinstance(v, str) for v in client.values()):
            raise ConfigError("client must hold database, user and password as texts")
        client = ClientAccount(**client)
    return {**content, "client": client}


def _is_place_for_backups(directory: Path, home: Path) -> bool:
    taken = [home / name for name in ("data", "run", "log", "salvage", "tmp", "pki")]
    return directory.is_absolute() and directory != home and not any(directory.is_relative_to(place) for place in taken)


def _normal_address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ConfigError(f"ip {text!r} is not an IP address") from error
    if address.is_unspecified or address.is_multicast:
        raise ConfigError(f"ip {text} is no address of one host: give the address that the other nodes will dial")
    return str(address)
