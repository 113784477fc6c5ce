"""`vault-agent restore`: a data directory out of a backup, beside the node to be read, or in the place of its data.

In the place of its data the node forgets its vault: it holds less than was acknowledged, so it must neither take over nor go on as
if nothing had happened. It opens only when the leader finds that no other node remembers the vault (plan P60), or follows whoever
is the primary. Until the last step its memory says that it must not open at all: a restore that is interrupted is repeated.
"""

import contextlib
import os
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from replication.agent import backup_files, peers, state, unpack
from replication.agent.config import AgentConfig
from replication.agent.database import local_user
from replication.agent.lock import locked
from replication.agent.places import Places, move, remove
from replication.agent.proc import find_mariadbd
from replication.core.backups import Manifest
from replication.core.roles import OrderKind
from replication.core.vault_ports import SERVER_ID_MAX, AgentState
from replication.procedures.vault.lease import GrantRequest

INTERRUPTED: Final = "a restore from a backup was interrupted: repeat vault-agent restore"
ASK_WITHIN: Final = timedelta(seconds=3)
ANY_EPOCH: Final = 2**62
NO_MEMBER: Final = ("it belongs to another vault", "it belongs to no vault")
SILENT: Final = ("it does not answer", "it cannot be asked")


class RestoreRefused(Exception):
    """Nothing was changed; the text is one sentence that says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class RestoreRequest:
    """What the operator typed."""

    file: Path | None
    """None: the newest good backup of this node's directory."""
    to: Path | None = None
    """A directory to leave the data in; None: in the place of the node's."""
    give_up_newer: bool = False
    """What is in the node's data and not in the backup may go."""


def restore(
    config: AgentConfig, request: RestoreRequest, confirm: Callable[[str], str], say: Callable[[str], None]
) -> str:
    """Returns what to read at the end. confirm: shows a question and returns what was typed. say: progress, a line each.

    Raises RestoreRefused, BackupError or CannotStart; OSError or ValueError for what nobody foresaw.
    """
    if config.engine != "mariadb":
        raise RestoreRefused("backups are of MariaDB, and this agent runs MySQL")
    file = request.file or _latest(config)
    manifest = backup_files.read(backup_files.beside(file))
    if request.to is not None:
        target = Path(os.path.abspath(request.to))
        _check_empty(target)
        _unpack(config, file, manifest, target, say)
        return _how_to_read(config, target, manifest)
    with locked(config):
        return _in_place(config, file, manifest, request, confirm, say)


def _latest(config: AgentConfig) -> Path:
    """The newest one that was not found to be damaged."""
    backup_files.check_directory(config.backups_dir)
    good = [m for m in backup_files.manifests(config.backups_dir) if not m.fault]
    if not good:
        raise RestoreRefused(f"there is no good backup in {config.backups_dir}: name a file with --from")
    return config.backups_dir / good[0].name


def _check_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RestoreRefused(f"{target} is there already: name a directory that is empty or does not exist")


def _unpack(config: AgentConfig, file: Path, manifest: Manifest, target: Path, say: Callable[[str], None]) -> None:
    say(f"reading {file}: {manifest.bytes // 2**20} MiB")
    if fault := backup_files.fault_of(file, manifest):
        raise RestoreRefused(f"{file} cannot be used: {fault}; take another backup")
    unpack.check_version(config, manifest)
    unpack.check_room(target.parent, manifest)
    say(f"unpacking {manifest.data_bytes // 2**20} MiB to {target}")
    unpack.unpack(config, file, target)
    say("preparing the data")
    unpack.prepare(config, target)


def _how_to_read(config: AgentConfig, target: Path, manifest: Manifest) -> str:
    socket = target / "read.sock"
    server = [
        config.mariadbd, "--no-defaults", f"--user={manifest.os_user}", f"--datadir={target}", f"--socket={socket}", f"--pid-file={target}/read.pid",
        "--skip-networking", "--read-only", "--skip-log-bin", "--skip-slave-start",
    ]  # fmt: skip
    client = ["mariadb", "--no-defaults", f"--socket={socket}", f"--user={manifest.os_user}"]
    return (
        f"{target} holds the data of {manifest.hostname} up to {_extent(manifest)}.\n"
        f"A server on it, without network, until Ctrl-C (as user {manifest.os_user}):\n  {shlex.join(server)}\n"
        f"Beside it:\n  {shlex.join(client)}\n"
        f"It holds every password of the vault: remove {target} when you have what you need."
    )


def _extent(manifest: Manifest) -> str:
    return f"position {manifest.position or '(nothing written)'}, {manifest.taken_at}"


# --- in the place of the node's data ---------------------------------------------------------------------------------------


def _in_place(
    config: AgentConfig,
    file: Path,
    manifest: Manifest,
    request: RestoreRequest,
    confirm: Callable[[str], str],
    say: Callable[[str], None],
) -> str:
    places, kept = Places(config.home), _memory(config)
    _refuse_by_itself(config, places, manifest, kept, request)
    gone = _refuse_by_others(config, manifest, kept)
    _ask(config, manifest, gone, confirm)
    config.prepare_directories()
    for left in (places.incoming, places.ready):
        remove(left)
    try:
        _unpack(config, file, manifest, places.incoming, say)
        say("setting its position")
        unpack.settle(config, places.incoming, manifest)
        move(places.incoming, places.ready)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(places.incoming)
        raise
    say("putting it in the place of the data")
    _swap(config, places, kept, f"the backup of {manifest.hostname}, {_extent(manifest)}")
    return _what_next(config, places, manifest)


def _memory(config: AgentConfig) -> AgentState | None:
    try:
        return state.load(config.state_file)
    except state.StateDamaged:
        return None  # it was held closed for that, and forgets it now


def _refuse_by_itself(
    config: AgentConfig, places: Places, manifest: Manifest, kept: AgentState | None, request: RestoreRequest
) -> None:
    if (pid := find_mariadbd(config.my_cnf)) is not None:
        raise RestoreRefused(
            f"its database still runs (process {pid}): stop it with the agent (vault-agent serve --stop-database, or kill {pid})"
        )
    if places.journal.exists():
        raise RestoreRefused(
            "a full copy was being put in place when its agent ended: start the agent once, then stop it"
        )
    if manifest.os_user != local_user():
        raise RestoreRefused(
            f"the backup was made by user {manifest.os_user}, who alone may log in to what is in it; this is user {local_user()}: "
            f"run the agent, and this command, as {manifest.os_user}"
        )
    interrupted = kept is not None and kept.quarantine == INTERRUPTED
    if places.data.exists() and places.kept.exists() and not interrupted:
        raise RestoreRefused(
            f"{places.kept} holds data of before a full copy, and is wanted for those of now: move it away"
        )
    if interrupted or kept is None or not kept.vault or not places.data.exists() or request.give_up_newer:
        return
    role = "it was the Master" if kept.primary_order_kind is not OrderKind.NONE else "it was a fallback"
    raise RestoreRefused(
        f"this node has data and belongs to a vault ({role}, epoch {kept.epoch}): what was acknowledged after the backup, "
        f"{_extent(manifest)}, may be nowhere else. Start its agent instead; or, when its data are worth nothing any more, add "
        f"--give-up-newer: they are kept in {places.kept}"
    )


def _refuse_by_others(config: AgentConfig, manifest: Manifest, kept: AgentState | None) -> list[str]:
    """Nobody may go back in time while another node of the vault lives. Returns who does not answer."""
    own = {config.hostname.lower()}
    known = {m.address: m.hostname for m in manifest.members if m.hostname.lower() not in own}
    for address in kept.peers if kept is not None else ():
        known.setdefault(address, address)
    vault = kept.vault if kept is not None and kept.vault else manifest.vault
    if not known or not vault:
        return []
    request = GrantRequest(vault=vault, node=manifest.node or config.agent_id, epoch=ANY_EPOCH)
    answers = peers.ask(peers.client_context(config.pki_dir), tuple(known), request, ASK_WITHIN)
    gone = []
    for address, says in answers.items():
        name = known[address] if known[address] == address else f"{known[address]} ({address})"
        if says.startswith(SILENT):
            gone.append(name)
        elif says not in NO_MEMBER:
            raise RestoreRefused(
                f"{name} lives and belongs to the vault: what it holds is newer than any backup. Start the agent of this node and "
                "rebuild it from there (High Availability → Vault); if the data of that node are worth nothing, delete it "
                "there first"
            )
    return gone


def _ask(config: AgentConfig, manifest: Manifest, gone: list[str], confirm: Callable[[str], str]) -> None:
    others = f" {', '.join(gone)} did not answer: go on only if that data is lost for good." if gone else ""
    typed = confirm(
        f"This puts {config.hostname} back to {_extent(manifest)}. What was acknowledged after that is lost unless another node "
        f"has it.{others} Type the hostname to go on: "
    )
    if typed != config.hostname:
        raise RestoreRefused(f"{typed!r} is not the hostname {config.hostname}: nothing was changed")


def _swap(config: AgentConfig, places: Places, kept: AgentState | None, restored: str) -> None:
    interrupted = kept is not None and kept.quarantine == INTERRUPTED
    # From here to the last line an agent that is started holds the node closed, whatever lies under `data`.
    state.save(config.state_file, AgentState(server_id=_server_id(), quarantine=INTERRUPTED))
    if places.data.exists():
        if interrupted and places.kept.exists():
            remove(places.data)  # half of an earlier restore; what was there before it is in data.old
        else:
            move(places.data, places.kept)
    move(places.ready, places.data)
    state.save(config.state_file, AgentState(server_id=_server_id(), restored=restored))


def _server_id() -> int:
    """A fresh one: what was written under the old one after the backup must not look like its own."""
    return 1 + secrets.randbelow(SERVER_ID_MAX)


def _what_next(config: AgentConfig, places: Places, manifest: Manifest) -> str:
    old = f"The data of before are in {places.kept}.\n" if places.kept.exists() else ""
    logs = _logs(places)
    return (
        f"{config.hostname} holds the data of {manifest.hostname} up to {_extent(manifest)}.\n"
        f"Lost, unless found elsewhere: everything that was acknowledged after that.\n{old}{logs}"
        f"Now start its agent: vault-agent serve --home {shlex.quote(str(config.home))}\n"
        "When it is the Master of the list in High Availability → Vault, the service opens it within seconds. Then rebuild the "
        "other nodes from it."
    )


def _logs(places: Places) -> str:
    """What came after the backup may still be read where the old data have their binary logs."""
    if not any(places.kept.glob("binlog.0*")):
        return ""
    return (
        "Their binary logs may tell what came after the backup: "
        f"mariadb-binlog --verbose --base64-output=decode-rows {shlex.quote(str(places.kept))}/binlog.0*\n"
    )
