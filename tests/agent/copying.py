"""Full copies between two agents in tests: ordered with the real verbs, or pushed by a source that does it wrong.

`push` is a whole source of its own: a real mariadb-backup over TLS with a node's certificate, byte by byte as the test wants it.
"""

import contextlib
import http.client
import json
import secrets
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from replication.agent.database import local_user
from replication.core import limits
from replication.core.commands import Command, Verb
from replication.core.report import NodeReport
from replication.core.tasks import RebuildArgs, SendArgs, TaskPhase
from tests.agent.orders import database, epochs
from tests.vault_host import VaultHost, authority

PATIENCE = 60.0


def command(
    host: VaultHost, verb: Verb, operation: str, args: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    """Under an epoch of its own; the status and the answer."""
    order = Command(
        vault="a" * 32, node=host.node, term=1, epoch=next(epochs), operation=operation, deadline=20, args=args or {}
    )
    return host.send(verb, order.to_json())


def rebuild(target: VaultHost, source: VaultHost, *, source_bytes: int = 1, operation: str = "") -> str:
    """Order the target to wait for a copy; returns the operation."""
    operation = operation or secrets.token_hex(8)
    args = RebuildArgs(source_name=source.hostname, source_subject=source.subject, source_bytes=source_bytes)
    status, answer = command(target, Verb.REBUILD, operation, args.to_json())
    assert status == 200, answer
    return operation


def send(source: VaultHost, target: VaultHost, operation: str, *, bytes_per_second: int = 0) -> None:
    args = SendArgs(
        target_name=target.hostname,
        target_host=target.ip,
        target_port=limits.AGENT_PORT,
        target_subject=target.subject,
        bytes_per_second=bytes_per_second,
    )
    status, answer = command(source, Verb.SEND, operation, args.to_json())
    assert status == 200, answer


def copy(source: VaultHost, target: VaultHost) -> NodeReport:
    """A whole full copy; returns the target's report of it."""
    operation = rebuild(target, source)
    send(source, target, operation)
    return wait_ended(target, operation)


def wait_ended(host: VaultHost, operation: str) -> NodeReport:
    return host.wait_report(
        lambda report: report.task is not None and report.task.operation == operation and not report.task.active,
        PATIENCE,
    )


def wait_phase(host: VaultHost, phase: TaskPhase) -> NodeReport:
    return host.wait_report(lambda report: report.task is not None and report.task.phase is phase, PATIENCE)


def cancel(host: VaultHost, operation: str) -> bool:
    status, text = host.request("POST", f"/task/{operation}/cancel", b"")
    assert status == 200, text
    return bool(json.loads(text)["ends"])


def headers(source: VaultHost, **other: str) -> dict[str, str]:
    return {
        "X-Copy-User": local_user(),
        "X-Copy-Bytes": "1000",
        "X-Copy-Version": database(source).version,
        **{name.replace("_", "-"): value for name, value in other.items()},
    }


class Push:
    """A source's connection to a target. Nothing is sent by itself but the head."""

    def __init__(self, source: VaultHost, target: VaultHost, operation: str, **other: str) -> None:
        self._http = http.client.HTTPSConnection(
            target.ip, limits.AGENT_PORT, timeout=PATIENCE, context=context(source)
        )
        self._http.putrequest("POST", f"/copy/{operation}")
        for name, value in headers(source, **other).items():
            self._http.putheader(name, value)
        self._http.putheader("Transfer-Encoding", "chunked")
        self._http.endheaders()

    def send(self, piece: bytes) -> None:
        self._http.send(b"%x\r\n%b\r\n" % (len(piece), piece))

    def end(self) -> tuple[int, dict[str, Any]]:
        self._http.send(b"0\r\n\r\n")
        return self.answer()

    def answer(self) -> tuple[int, dict[str, Any]]:
        response = self._http.getresponse()
        return response.status, json.loads(response.read())

    def close(self) -> None:
        self._http.close()


@contextlib.contextmanager
def push(source: VaultHost, target: VaultHost, operation: str, **other: str) -> Iterator[Push]:
    pushing = Push(source, target, operation, **other)
    try:
        yield pushing
    finally:
        pushing.close()


def context(host: VaultHost) -> ssl.SSLContext:
    found = ssl.create_default_context(cafile=str(authority() / "ca.pem"))
    found.load_cert_chain(host.config.pki_dir / "cert.pem", host.config.pki_dir / "key.pem")
    return found


def backup_of(host: VaultHost, scratch: Path) -> bytes:
    """A whole copy as mariadb-backup streams it; small data only."""
    scratch.mkdir()
    arguments = ["mariadb-backup", "--no-defaults", "--backup", "--stream=mbstream", f"--socket={host.config.socket}"]
    arguments += [f"--user={local_user()}", f"--target-dir={scratch}"]
    done = subprocess.run(arguments, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


def leftovers(host: VaultHost) -> list[str]:
    """What a copy that came to nothing must not leave in the home; what is being removed counts until it is gone."""
    deadline = time.monotonic() + 10
    while True:
        found = [
            path.name for name in ("copy.*", "rubbish*", "swap.json*", "data.out") for path in host.home.glob(name)
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)
