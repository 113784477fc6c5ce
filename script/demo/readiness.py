"""Whether each part answers. True or False, never an exception: "not yet" is the normal answer while starting."""

import errno
import http.client
import json
import shutil
import socket
import ssl
import subprocess
from typing import Any, Final

import redis

from replication.core import limits

from .plan import WEB_ADDRESS, Plan, VaultHost

PROBE_SECONDS: Final = 2.0
FULL_BYTES: Final = 16 * 1024**2
"""Less than this is full: a database cannot even make its next log file."""
STATUS_SECONDS: Final = 20.0
"""`manage.py vault_status` loads Django, which takes a second or more on a busy machine."""


def port_taken(address: str, port: int) -> bool:
    """Whether somebody listens there, also on all addresses at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of an earlier run in TIME_WAIT do not count; a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def no_room(plan: Plan) -> str:
    """A sentence when the disk is full; "" when it is not."""
    free = shutil.disk_usage(plan.var).free
    if free >= FULL_BYTES:
        return ""
    return f"the disk of {plan.var} is full ({free // 1024**2} MiB free): make room, then start again."


def redis_answers(plan: Plan) -> bool:
    password = (plan.secrets / "redis_password").read_text()
    client = redis.Redis(
        unix_socket_path=str(plan.sockets / "redis.sock"), password=password, socket_timeout=PROBE_SECONDS
    )
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def agent_answers(plan: Plan, host: VaultHost) -> bool:
    return _ask_agent(plan, host, "/healthz")


def pair_at_work(plan: Plan) -> bool:
    """Whether one node is a writable primary and every other one follows, by their agents' own word."""
    primaries = [host for host in plan.hosts if _ask_agent(plan, host, "/primary")]
    return len(primaries) == 1 and all(
        _ask_agent(plan, host, "/replica") for host in plan.hosts if host not in primaries
    )


def _ask_agent(plan: Plan, host: VaultHost, path: str) -> bool:
    context = ssl.create_default_context(cafile=str(plan.pki / "ca.pem"))
    connection = http.client.HTTPSConnection(host.address, limits.AGENT_PORT, timeout=PROBE_SECONDS, context=context)
    return _get(connection, path)


def web_answers(plan: Plan) -> bool:
    return _get(http.client.HTTPConnection(WEB_ADDRESS, plan.web_port, timeout=PROBE_SECONDS), "/healthz")


def service_answers(plan: Plan) -> bool:
    """Whether a service worker leads."""
    return _get(http.client.HTTPConnection(WEB_ADDRESS, plan.web_port, timeout=PROBE_SECONDS), "/readyz")


def _get(connection: http.client.HTTPConnection, path: str) -> bool:
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def vault_status(plan: Plan, environment: dict[str, str]) -> dict[str, Any] | None:
    """The first vault of `manage.py vault_status --json`; None when it gave no answer."""
    command = [str(plan.root / ".venv" / "bin" / "python"), str(plan.root / "manage.py"), "vault_status", "--json"]
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=plan.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STATUS_SECONDS,
            start_new_session=True,
        )
        vaults = json.loads(done.stdout)["vaults"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return None
    return vaults[0] if vaults else None


def seen_within(vault: dict[str, Any], seconds: float) -> bool:
    """Whether every active node of this vault_status has answered within the last `seconds`."""
    ages = [node["age_seconds"] for node in vault["nodes"] if node["active"]]
    return bool(ages) and all(age is not None and age < seconds for age in ages)


def diverged(vault: dict[str, Any]) -> str:
    """The host name of an active node of this vault_status that is held as diverged; "" when none is."""
    held = (node["hostname"] for node in vault["nodes"] if node["active"] and node["status"] == "Diverged")
    return next(held, "")
