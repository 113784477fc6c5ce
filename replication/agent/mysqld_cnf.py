"""The option file of the local mysqld, where the server is MySQL. Written before every start, by mycnf.write."""

from typing import Final

from replication.agent.config import AgentConfig
from replication.agent.database import local_user
from replication.dialects.mysql_settings import PLUGINS, option_lines

CONNECTIONS: Final = 300


def render(config: AgentConfig, server_id: int, paths: dict[str, str], *, admin_port: bool) -> str:
    """paths: option and quoted path. admin_port: whether the second port can be had."""
    # Its second port takes administrators only, and as many as come.
    admin = (f"admin_address={config.ip}", f"admin_port={config.admin_port}", "create_admin_listener_thread=1")
    lines = [
        "# Written by the vault agent before every start of mysqld; changes made here are lost.",
        "[mysqld]",
        f"user={local_user()}",
        *(f"{name}={path}" for name, path in paths.items()),
        f"bind_address={config.ip}",
        f"port={config.database_port}",
        f"server_id={server_id}",
        f"report_host={config.hostname}",
        f"report_port={config.database_port}",
        "log_bin=binlog",
        "relay_log=relay",
        "max_binlog_size=128M",
        f"max_connections={CONNECTIONS}",
        *(admin if admin_port else ()),
        f"innodb_buffer_pool_size={config.buffer_pool}",
        "character_set_server=utf8mb4",
        "local_infile=0",
        "secure_file_priv=NULL",
        "persisted_globals_load=OFF",  # or SET PERSIST is stronger than this file, and could start a node open
        "mysqlx=0",
        "tls_version=TLSv1.2,TLSv1.3",
        *(f"plugin_load_add={plugin}" for plugin in PLUGINS),
        *option_lines(),
    ]
    return "\n".join(lines) + "\n"
