"""The option file of the local server. Written before every start; nothing else configures it."""

import os
from pathlib import Path
from typing import Final

from replication.agent import mysqld_cnf
from replication.agent.admin import is_free
from replication.agent.config import AgentConfig
from replication.agent.database import local_user
from replication.dialects.mariadb_settings import option_lines

CONNECTIONS: Final = 300
ADMIN_CONNECTIONS: Final = 8
"""The agent needs three."""


def render(config: AgentConfig, server_id: int, *, admin_port: bool) -> str:
    """admin_port: whether the second port can be had. It must not keep the database from starting."""
    paths = {
        "datadir": config.data_dir,
        "socket": config.socket,
        "pid_file": config.pid_file,
        "tmpdir": config.tmp_dir,
        "ssl_ca": config.pki_dir / "ca.pem",
        "ssl_cert": config.pki_dir / "cert.pem",
        "ssl_key": config.pki_dir / "key.pem",
    }
    mysql = config.engine == "mysql"
    program = "mysqld" if mysql else "mariadbd"
    own = mysqld_cnf.lines(config, admin_port=admin_port) if mysql else _of_mariadb(config, admin_port=admin_port)
    lines = [
        f"# Written by the vault agent before every start of {program}; changes made here are lost.",
        f"[{program}]",
        f"user={local_user()}",
        *(f"{name}={_quoted(path)}" for name, path in paths.items()),
        f"bind_address={config.ip}",
        f"port={config.database_port}",
        f"server_id={server_id}",
        f"report_host={config.hostname}",
        f"report_port={config.database_port}",
        "log_bin=binlog",
        "relay_log=relay",
        "max_binlog_size=128M",
        f"max_connections={CONNECTIONS}",
        f"innodb_buffer_pool_size={config.buffer_pool}",
        "character_set_server=utf8mb4",
        "local_infile=0",
        "tls_version=TLSv1.2,TLSv1.3",
        *own,
    ]
    return "\n".join(lines) + "\n"


def _of_mariadb(config: AgentConfig, *, admin_port: bool) -> tuple[str, ...]:
    second = (f"extra_port={config.admin_port}", f"extra_max_connections={ADMIN_CONNECTIONS}") if admin_port else ()
    return (*second, *option_lines())


def write(config: AgentConfig, server_id: int) -> None:
    """Replace the option file. Raises OSError."""
    scratch = config.my_cnf.with_name("my.cnf.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(render(config, server_id, admin_port=is_free(config.ip, config.admin_port)))
    scratch.replace(config.my_cnf)


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
