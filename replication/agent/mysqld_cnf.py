"""What the option file says where the server is MySQL, beside what every server is told. Written by mycnf.write."""

from replication.agent.config import AgentConfig
from replication.dialects.mysql_settings import PLUGINS, option_lines


def lines(config: AgentConfig, *, admin_port: bool) -> tuple[str, ...]:
    """admin_port: whether the second port can be had. It takes administrators only, and as many as come."""
    admin = (f"admin_address={config.ip}", f"admin_port={config.admin_port}", "create_admin_listener_thread=1")
    return (
        *(admin if admin_port else ()),
        "secure_file_priv=NULL",
        "persisted_globals_load=OFF",  # or SET PERSIST is stronger than this file, and could start a node open
        "mysqlx=0",
        *(f"plugin_load_add={plugin}" for plugin in PLUGINS),
        *option_lines(),
    )
