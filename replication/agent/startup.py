"""What an agent finds when it starts: who it is, what it remembers, and whether its data is there."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from replication import certificates
from replication.agent.address import address_kind
from replication.agent.config import AgentConfig
from replication.agent.process import Mariadbd
from replication.agent.state import StateDamaged, StateFile, load
from replication.agent.system import fresh_server_id
from replication.core.roles import OrderKind
from replication.core.vault_ports import AgentState
from replication.procedures.vault.revival import remembered

log = logging.getLogger(__name__)

DATA_GONE: Final = "its data directory is gone"


@dataclass(frozen=True)
class Identity:
    """What does not change while an agent runs."""

    certificate_subject: str
    certificate_expires: str
    address_kind: str
    boot_id: str


def identity(config: AgentConfig) -> Identity:
    certificate = certificates.load(config.pki_dir / "cert.pem")
    return Identity(
        certificate_subject=certificates.subject_oneline(certificate),
        certificate_expires=certificates.expires(certificate).isoformat(),
        address_kind=address_kind(config.ip),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    )


def memory(config: AgentConfig, *, swapping: bool) -> AgentState:
    """What the agent before this one wrote down; held back where that is lost. swapping: data were being replaced."""
    kept, lost = None, ""
    try:
        kept = load(config.state_file)
        if kept is None and (config.data_dir.exists() or swapping):
            lost = f"the agent's memory {config.state_file} is lost"
    except StateDamaged as error:
        lost = f"the agent's memory is damaged: {error}"
    return remembered(kept, lost, server_id=fresh_server_id([]))


def settle_data(process: Mariadbd, state: StateFile, data_dir: Path, *, gone: bool) -> None:
    """A new node gets an empty database. A member of a vault does not: it would be opened by the order that the old data had,
    empty, while others hold everything. It stays down, so that its fallback takes over or it is rebuilt."""
    found = state.read()
    if gone and not found.vault:
        process.install()
    elif gone:
        log.error("%s %s", data_dir, DATA_GONE)
        if found.order_kind is OrderKind.NONE:
            state.hold(lambda now: replace(now, needs_rebuild=DATA_GONE))
    elif found.needs_rebuild == DATA_GONE:  # somebody has put it back
        state.hold(lambda now: replace(now, needs_rebuild=""))
