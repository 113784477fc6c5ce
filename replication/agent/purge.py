"""`vault-agent purge`: remove a node's data, keys and certificates, after it has left its vault."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable
from typing import Final

from replication.agent import control, places, state
from replication.agent.config import AgentConfig
from replication.agent.control import PurgeRefused
from replication.agent.core import VaultAgent
from replication.agent.lock import locked
from replication.agent.places import Places

AGENT_EXIT_SECONDS: Final = 30
"""How long a running agent may take to end after it has removed its data."""


def purge(config: AgentConfig, confirm: Callable[[str], str]) -> str:
    """Remove everything, through the running agent when there is one. Returns a sentence on what was left alone, or "".

    confirm: shows a question and returns what was typed; it must be the hostname.
    Raises PurgeRefused, CannotStart (another program holds the home), StateDamaged, OSError or ValueError.
    """
    report = control.ask_report(config)
    kept = None if report is not None else state.load(config.state_file)
    vault = report.vault if report is not None else kept.vault if kept is not None else ""
    why_not = reason_against(vault)
    if why_not:
        raise PurgeRefused(why_not)
    typed = confirm(
        f"This removes the database, keys and certificates of {config.hostname} in {config.home} for good."
        f"{_lost(config)}"
        f" Type the hostname to go on: "
    )
    if typed != config.hostname:
        raise PurgeRefused(f"{typed!r} is not the hostname {config.hostname}: nothing was removed")
    if control.ask_purge(config):
        return _wait_for_exit(config)
    with locked(config):
        asyncio.run(VaultAgent(config).remove_data())
        return remove_remains(config)


def _lost(config: AgentConfig) -> str:
    """A warning of what is nowhere else; "" when there is nothing."""
    exports = len(list(config.lost_dir.glob("*/")))
    if not exports:
        return ""
    return (
        f" Also {exports} export(s) of lost transactions in {config.lost_dir}, which are nowhere else: copy them first."
    )


def reason_against(vault: str) -> str:
    """Why a node in this vault must not be purged; "" when it may be."""
    if not vault:
        return ""
    return (
        f"this node still belongs to vault {vault}: delete it in High Availability → Vault first,"
        " wait until its row is gone, then purge"
    )


def remove_remains(config: AgentConfig) -> str:
    """Remove what VaultAgent.remove_data leaves: keys, settings, sockets, logs, the home itself. The caller has the lock.

    Returns a sentence on the files in the home that are not the agent's and stay, or "".
    """
    mine = (
        config.data_dir,
        config.salvage_dir,
        config.log_dir,
        config.tmp_dir,
        config.run_dir,
        config.pki_dir,
        config.lost_dir,
    )
    for directory in mine:
        shutil.rmtree(directory, ignore_errors=True)
    for left_of_copies in Places(config.home).everything():
        places.remove(left_of_copies)
    for half_made in config.home.glob("*.new"):
        shutil.rmtree(half_made) if half_made.is_dir() else half_made.unlink()
    with contextlib.suppress(OSError):  # not empty: see _left_alone
        (config.home / "backups").rmdir()
    for told in ("task.json", "task-result.json"):
        (config.home / told).unlink(missing_ok=True)
    # The settings go last: as long as they are there, a purge that was interrupted can be repeated.
    for file in (config.my_cnf, config.state_file, config.pid_file, config.lock_file, config.config_file):
        file.unlink(missing_ok=True)
    return _left_alone(config)


def _left_alone(config: AgentConfig) -> str:
    if not config.home.exists():
        return ""
    left = sorted(entry.name for entry in config.home.iterdir())
    if not left:
        config.home.rmdir()
        return ""
    # They may be the last that is left of a vault: whoever removes them does so by name.
    backups = f"its backups in {config.home / 'backups'} are still there" if "backups" in left else ""
    others = ", ".join(name for name in left if name != "backups")
    strange = f"{others} in {config.home} is not the agent's and was left alone" if others else ""
    return "; ".join(filter(None, (backups, strange)))


def _wait_for_exit(config: AgentConfig) -> str:
    deadline = time.monotonic() + AGENT_EXIT_SECONDS
    while config.config_file.exists():
        if time.monotonic() > deadline:
            raise PurgeRefused(f"the data is gone, but the agent does not end: stop it, then remove {config.home}")
        time.sleep(0.05)
    return _left_alone(config)
