"""Secrets and certificates of the embedded pair: made once, kept in files that only this user can read."""

import os
import secrets
import subprocess
from pathlib import Path
from typing import Final

from replication import certificates
from replication.agent import config

from .plan import CannotRun, Plan, VaultHost

CLIENT_USER: Final = "vault"
CLIENT_DATABASE: Final = "vault"
SECRET_NAMES: Final = ("secret_key", "redis_password", "admin_password", "client_password")
INIT_SECONDS: Final = 60


def make_secrets(plan: Plan) -> None:
    """A file per secret, without a newline: settings read them through NAME_FILE variables, which keep every byte."""
    for name in SECRET_NAMES:
        file = plan.secrets / name
        if not file.exists():
            write_private(file, secrets.token_urlsafe(48 if name == "secret_key" else 18))


def write_private(file: Path, text: str) -> None:
    """Write `file` with mode 0600; a reader sees the old content or the new one."""
    scratch = file.with_name(f".{file.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    scratch.replace(file)


def make_certificates(plan: Plan) -> None:
    """The authority, the controller's certificate, and one for each vault host that is not made yet."""
    try:
        certificates.create_authority(plan.authority)
        if not (plan.pki / "cert.pem").exists():
            certificates.issue(
                plan.authority, plan.pki, common_name="demo-controller", role="controller", addresses=["127.0.0.1"]
            )
        for host in plan.hosts:
            if not made(host):
                certificates.issue(
                    plan.authority,
                    host.certificates,
                    common_name=host.hostname,
                    role="node",
                    addresses=[host.address],
                )
    except certificates.CertificateError as error:
        raise CannotRun(f"{error}.") from error


def made(host: VaultHost) -> bool:
    return (host.home / "agent.json").exists()


def make_host(plan: Plan, host: VaultHost) -> config.AgentConfig:
    """The agent's home, made once, as an administrator would make it. Raises CannotRun with the agent's own sentence."""
    if not made(host):
        command = [str(plan.root / "script" / "vault-agent"), "init", "--home", str(host.home)]
        command += ["--hostname", host.hostname, "--ip", host.address, "--pki", str(host.certificates)]
        command += ["--client-database", CLIENT_DATABASE, "--client-user", CLIENT_USER]
        command += ["--client-password-file", str(plan.secrets / "client_password")]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=INIT_SECONDS,
            start_new_session=True,
        )
        if done.returncode:
            raise CannotRun((done.stderr.strip() or done.stdout.strip() or "vault-agent init failed").splitlines()[-1])
    try:
        settled = config.load(host.home)
    except config.ConfigError as error:
        raise CannotRun(f"{error}.") from error
    if settled.ip != host.address:
        raise CannotRun(
            f"the pair in {plan.var} was made for {settled.ip}, not for {host.address}: set VAULT_HA_DEMO_ADDRESSES back,"
            " or set VAULT_HA_VAR to another directory for a second pair."
        )
    return settled
