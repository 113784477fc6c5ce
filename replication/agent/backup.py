"""BACKUP: mariadb-backup of the running database, compressed into a file, complete or not there at all.

    name.new, flushed  →  its manifest  →  name: from here on it is a backup  →  the oldest ones go

What is interrupted before leaves nothing that anybody would take for a backup, and the next start or backup removes it.
"""

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from replication.agent import backup_files, mariabackup
from replication.agent.backup_files import BackupError
from replication.agent.config import AgentConfig
from replication.agent.database import local_user
from replication.agent.durable import flush
from replication.agent.tasks import Body, Recipe, Task, TaskFailed
from replication.core.backups import SUFFIX, BackupArgs, Manifest, expendable
from replication.core.tasks import TaskOrder, TaskPhase, TaskReport
from replication.core.throttle import reason_against
from replication.core.vault_ports import State, TaskRefused
from replication.core.version import VERSION

log = logging.getLogger(__name__)

RESERVE_BYTES: Final = 512 * 1024 * 1024
"""What a backup leaves free on the disk that the database writes to."""
ROOT: Final = Path(__file__).resolve().parents[2]


class Backups:
    """What a controller may ask of this host's backups."""

    def __init__(self, config: AgentConfig, state: Callable[[], State], running: Callable[[], bool]) -> None:
        """running: whether the database runs."""
        self._config, self._state, self._running = config, state, running
        self._server_version: Callable[[], str] = lambda: ""
        self._lock = threading.Lock()
        self._reading: tuple[str, int] | None = None
        """Name and bytes so far of the one that is being checked."""

    def recipe(self, server_version: Callable[[], str]) -> Recipe:
        self._server_version = server_version
        return Recipe(prepare=self._prepare, resume=self._resume)

    # --- what is there

    def listed(self) -> dict[str, Any]:
        """For `GET /backups`. Raises BackupError when the directory cannot be used."""
        directory = self._config.backups_dir
        backup_files.check_directory(directory)
        free = shutil.disk_usage(directory).free
        found = [m.to_json() for m in backup_files.manifests(directory) if m.agent_id == self._config.agent_id]
        reading = self._reading
        checking = {"name": reading[0], "done": reading[1]} if reading is not None else None
        return {"directory": str(directory), "free_bytes": free, "checking": checking, "backups": found}

    def begin_check(self, name: str) -> dict[str, Any]:
        """Read one through, on a thread of its own; what came of it is in the list then. Raises BackupError."""
        directory = self._config.backups_dir
        backup_files.check_directory(directory)
        manifest = backup_files.named(directory, name)
        with self._lock:
            if self._reading is not None and self._reading[0] != name:
                raise BackupError("another backup of this host is being read: wait until that has ended")
            if self._reading is None:
                self._reading = (name, 0)
                threading.Thread(target=self._check, args=(name,), name="check of a backup", daemon=True).start()
        return {"checking": name, "bytes": manifest.bytes}

    def _check(self, name: str) -> None:
        def counted(size: int) -> None:
            self._reading = (name, size)

        try:
            backup_files.checked(self._config.backups_dir, name, counted)
        except BackupError as error:
            log.error("the check of %s came to nothing: %s", name, error)
        finally:
            self._reading = None

    def remove(self, name: str) -> dict[str, Any]:
        """Remove one that this agent made. Raises BackupError."""
        directory = self._config.backups_dir
        manifest = backup_files.named(directory, name)
        if manifest.agent_id != self._config.agent_id:
            raise BackupError(f"{name} was made by another host, {manifest.hostname}: remove it there")
        try:
            backup_files.remove(directory, manifest)
        except OSError as error:
            raise BackupError(f"{name} cannot be removed: {error.strerror}") from error
        return {"removed": name}

    # --- the task

    def _prepare(self, order: TaskOrder) -> Body:
        try:
            args = BackupArgs.from_json(order.args)
            if against := reason_against(args.bytes_per_second):
                raise ValueError(against)
            backup_files.check_directory(self._config.backups_dir)
        except (ValueError, BackupError) as error:
            raise TaskRefused(str(error)) from error
        if self._config.engine != "mariadb":
            raise TaskRefused(
                "backups of a MySQL server are not made by this agent: use mysqldump or MySQL's own means"
            )
        if not os.access(self._config.mariadb_backup, os.X_OK):
            raise TaskRefused(
                f"{self._config.mariadb_backup} is missing: install mariadb-backup (on Debian: apt install mariadb-backup)"
            )
        if not self._running():
            raise TaskRefused("its database does not run")
        backup_files.sweep(self._config.backups_dir, self._config.agent_id)
        self._check_room()
        return lambda task: self._carry_out(task, args)

    def _resume(self, report: TaskReport) -> None:
        """The agent ended in the middle of one: it is made anew by whoever wants it."""
        backup_files.sweep(self._config.backups_dir, self._config.agent_id)

    def _check_room(self) -> None:
        """Against the last backup, or the data itself when there is none. Raises TaskRefused."""
        directory = self._config.backups_dir
        mine = [m for m in backup_files.manifests(directory) if m.agent_id == self._config.agent_id]
        estimate = int(mine[0].bytes * 1.2) if mine else data_bytes(self._config.data_dir)
        free, reserve = shutil.disk_usage(directory).free, self._reserve()
        if free < estimate + reserve:
            raise TaskRefused(
                f"the disk of {directory} has {free // 2**20} MiB free, a backup needs about "
                f"{(estimate + reserve) // 2**20}: make room there, keep fewer backups, or use another disk"
            )

    def _reserve(self) -> int:
        """Bytes that stay free: where the database writes, a full disk would end the vault."""
        same = self._config.backups_dir.stat().st_dev == self._config.home.stat().st_dev
        return RESERVE_BYTES if same else 0

    def _carry_out(self, task: Task, args: BackupArgs) -> None:
        config, began = self._config, time.monotonic()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = f"{config.hostname}-{stamp}-{task.report.operation[:8]}{SUFFIX}"
        file = config.backups_dir / name
        scratch = config.backups_dir / f"{name}.{config.agent_id[:8]}.new"
        task.phase(TaskPhase.TRANSFERRING, total=data_bytes(config.data_dir))
        try:
            done = self._run(task, scratch, args)
            manifest = self._manifest(task, args, name, done, time.monotonic() - began)
            task.check()
            backup_files.write(config.backups_dir, manifest)
            os.replace(scratch, file)
            flush(config.backups_dir)
        except OSError as error:
            raise TaskFailed(f"{file} cannot be completed: {error.strerror}; nothing was left behind") from error
        finally:
            backup_files.sweep(config.backups_dir, config.agent_id)
        removed = self._retire(args.keep)
        task.report = replace(
            task.report, position=manifest.position, done=manifest.data_bytes, total=manifest.data_bytes
        )
        self._keep_result(task, manifest, removed)

    def _run(self, task: Task, scratch: Path, args: BackupArgs) -> Mapping[str, Any]:
        """Have the file written by a process of its own; what that says at its end."""
        config = self._config
        place = tempfile.mkdtemp(prefix="backup-", dir=config.tmp_dir)
        order = {
            "command": mariabackup.arguments(
                config.mariadb_backup, socket=config.socket, user=local_user(), scratch=Path(place)
            ),
            "file": str(scratch),
            "bytes_per_second": args.bytes_per_second,
            "reserve": self._reserve(),
        }
        try:
            return self._listen(task, order)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _listen(self, task: Task, order: Mapping[str, Any]) -> Mapping[str, Any]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self._config.tmp_dir)}
        program = [sys.executable, "-P", "-m", "replication.agent.backup_writer"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with task.child(program, env=environment, cwd=str(self._config.home), **pipes) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            with contextlib.suppress(OSError):  # it has ended: its last word, or its silence, says why
                writer.stdin.write(json.dumps(order).encode())
                writer.stdin.close()
            for line in writer.stdout:
                said = json.loads(line)
                if "done" in said:
                    return dict(said["done"])
                if "failed" in said:
                    raise TaskFailed(f"{said['failed']}; nothing was left behind")
                task.count(int(said["read"]))
        task.check()
        raise TaskFailed("the process that wrote the backup was ended from outside; nothing was left behind")

    def _manifest(self, task: Task, args: BackupArgs, name: str, done: Mapping[str, Any], seconds: float) -> Manifest:
        state = self._state().read()
        return Manifest(
            name=name, vault=state.vault, node=state.node, agent_id=self._config.agent_id,
            hostname=self._config.hostname, operation=task.report.operation,
            taken_at=datetime.now(UTC).isoformat(timespec="milliseconds"), position=str(done["position"]),
            server_version=self._server_version(), agent_version=VERSION, os_user=local_user(),
            bytes=int(done["written"]), data_bytes=int(done["read"]), sha256=str(done["sha256"]),
            seconds=round(seconds, 1), members=args.members,
        )  # fmt: skip

    def _retire(self, keep: int) -> list[str]:
        """Remove what is no longer wanted; the new one is a backup whatever becomes of that."""
        directory = self._config.backups_dir
        mine = [m for m in backup_files.manifests(directory) if m.agent_id == self._config.agent_id]
        removed = []
        for manifest in expendable(mine, keep):
            try:
                backup_files.remove(directory, manifest)
            except OSError as error:
                log.warning("an old backup, %s, cannot be removed: %s", manifest.name, error.strerror)
            else:
                removed.append(manifest.name)
        return removed

    def _keep_result(self, task: Task, manifest: Manifest, removed: list[str]) -> None:
        path = str(self._config.backups_dir / manifest.name)
        try:
            task.keep_result({"path": path, "removed": removed, "manifest": asdict(manifest)})
        except OSError as error:
            log.warning("what the backup came to cannot be kept for its controller: %s", error.strerror)


def data_bytes(directory: Path) -> int:
    """Size of the files that a backup copies: no logs. What vanishes meanwhile counts nothing."""
    total = 0
    for place, _directories, files in os.walk(directory):
        for name in files:
            if name.startswith(("binlog.", "relay.", "ib_logfile")):
                continue
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total
