"""What is to be brought up and where, read from the environment once. See docs/reference/settings.md."""

import hashlib
import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from replication.core import limits

HOSTNAMES: Final = ("vault-1", "vault-2")
DEFAULT_ADDRESSES: Final = "127.0.0.11 127.0.0.12"
DEFAULT_WEB_PORT: Final = "8000"
WEB_ADDRESS: Final = "127.0.0.1"
SOCKET_DIR_MAX: Final = 80
"""Bytes. A unix socket's path holds 107; the rest is for the longest file name in the directory."""
FREE_BYTES_NEEDED: Final = 1024**3
"""Two new MariaDB data directories take 0.3 GiB; the rest is for binary logs and for MariaDB's own reserve."""


class CannotRun(Exception):
    """The pair cannot be brought up; the text is one sentence for the person at the terminal."""


@dataclass(frozen=True, kw_only=True)
class VaultHost:
    """One half of the embedded pair."""

    hostname: str
    address: str
    home: Path

    @property
    def certificates(self) -> Path:
        """Where its certificate is issued to; `vault-agent init` copies it from there."""
        return self.home.parent / "issued" / self.hostname


@dataclass(frozen=True, kw_only=True)
class Plan:
    root: Path
    """The tree: manage.py, script, …"""
    var: Path
    """All state, absolute and without symbolic links: it also marks the processes that belong to it."""
    web_port: int
    hosts: tuple[VaultHost, ...]

    @property
    def url(self) -> str:
        return f"http://{WEB_ADDRESS}:{self.web_port}/"

    @property
    def secrets(self) -> Path:
        return self.var / "secrets"

    @property
    def logs(self) -> Path:
        return self.var / "log"

    @property
    def pki(self) -> Path:
        """The controller's certificate."""
        return self.var / "pki"

    @property
    def authority(self) -> Path:
        return self.var / "authority"

    @property
    def run_file(self) -> Path:
        return self.var / "run.json"

    @property
    def sockets(self) -> Path:
        """Below var, or a private directory in /tmp when var lies too deep for unix sockets."""
        if len(os.fsencode(self.var)) <= SOCKET_DIR_MAX:
            return self.var
        digest = hashlib.sha256(os.fsencode(self.var)).hexdigest()[:16]
        return Path("/tmp") / f"vault-ha-{os.getuid()}-{digest}"  # noqa: S108  # make_directories checks its owner

    @property
    def ports(self) -> list[tuple[str, int, str]]:
        """Address, port, and what to do when it is taken."""
        web = (WEB_ADDRESS, self.web_port, "set VAULT_HA_WEB_PORT to a free port")
        return [web] + [
            (host.address, port, "set VAULT_HA_DEMO_ADDRESSES to two other loopback addresses")
            for host in self.hosts
            for port in (limits.AGENT_PORT, limits.DATABASE_PORT)
        ]

    def make_directories(self) -> None:
        """Raises CannotRun when one cannot be made, or is somebody else's."""
        for directory in (self.var, self.logs, self.secrets, self.sockets):
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                found = directory.lstat()
            except OSError as error:
                raise CannotRun(
                    f"cannot make {directory}: {error.strerror}. Set VAULT_HA_VAR to another place."
                ) from error
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                raise CannotRun(f"{directory} belongs to another user: run as that user, or set VAULT_HA_VAR.")
            directory.chmod(0o700)


def read(root: Path, environment: Mapping[str, str]) -> Plan:
    """Raises CannotRun on a variable that makes no sense."""
    var = Path(os.path.realpath(environment.get("VAULT_HA_VAR") or root / "var"))
    return Plan(
        root=root,
        var=var,
        web_port=_port(environment.get("VAULT_HA_WEB_PORT") or DEFAULT_WEB_PORT),
        hosts=tuple(
            VaultHost(hostname=hostname, address=address, home=var / hostname)
            for hostname, address in zip(
                HOSTNAMES, _addresses(environment.get("VAULT_HA_DEMO_ADDRESSES") or DEFAULT_ADDRESSES), strict=True
            )
        ),
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise CannotRun(f"VAULT_HA_WEB_PORT is {text!r}: give a port from 1 to 65535.")
    return int(text)


def _addresses(text: str) -> tuple[str, ...]:
    """Loopback only: the pair's client account works without TLS, and nothing outside this machine may reach it."""
    try:
        found = tuple(str(ipaddress.IPv4Address(word)) for word in text.split())
    except ValueError:
        found = ()
    loopback = [address for address in found if ipaddress.IPv4Address(address).is_loopback]
    if len(found) != len(HOSTNAMES) or len(set(loopback)) != len(HOSTNAMES):
        raise CannotRun(
            f"VAULT_HA_DEMO_ADDRESSES is {text!r}: give two different loopback addresses, such as {DEFAULT_ADDRESSES!r}."
        )
    return found
