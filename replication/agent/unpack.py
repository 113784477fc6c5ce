"""From the file of a backup to a data directory that a mariadbd can be started on."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from replication.agent import backup_files, mariabackup
from replication.agent.backup_files import BackupError
from replication.agent.config import AgentConfig
from replication.agent.database import LocalSession, local_user
from replication.core.backups import Manifest
from replication.core.vault_ports import DatabaseError
from replication.dialects.mariadb import MariaDb, PkiFiles

START_SECONDS: Final = 300
"""Data as they are after a prepare need no recovery; a large buffer pool takes a while."""
STOP_SECONDS: Final = 120
ROOM: Final = 1.1
"""Beyond the data: the redo log, and what preparing makes."""
MEMORY: Final = "256M"
"""For preparing, which applies the redo log of the time that the backup took."""


def check_version(config: AgentConfig, manifest: Manifest) -> None:
    """An older server does not start on newer data. Raises BackupError."""
    try:
        told = subprocess.run([config.mariadbd, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError as error:
        raise BackupError(f"{config.mariadbd} cannot be started: {error.strerror}") from error
    here, there = _series(told), _series(manifest.server_version)
    if here and there and here < there:
        raise BackupError(
            f"the backup is of MariaDB {manifest.server_version}, and here is {'.'.join(map(str, here))}: "
            "install that version or a newer one"
        )


def _series(text: str) -> tuple[int, int] | None:
    found = re.search(r"\b(\d+)\.(\d+)\.\d+", text)
    return (int(found[1]), int(found[2])) if found else None


def check_room(directory: Path, manifest: Manifest) -> None:
    """Raises BackupError."""
    try:
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise BackupError(f"{directory}: {error.strerror}") from error
    need = int(manifest.data_bytes * ROOM)
    if free < need:
        raise BackupError(
            f"the disk of {directory} has {free // 2**20} MiB free, the data need {need // 2**20}: make room, or use another disk"
        )


def unpack(config: AgentConfig, file: Path, target: Path) -> None:
    """Raises BackupError; the directory is gone then, when it was not there before."""
    was_there = target.exists()
    try:
        target.mkdir(mode=0o700, exist_ok=True)
        target.chmod(0o700)
        _extract(config, file, target)
    except (OSError, BackupError) as error:
        if not was_there:
            shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, BackupError):
            raise
        raise BackupError(f"{file} cannot be unpacked to {target}: {error.strerror}") from error


def _extract(config: AgentConfig, file: Path, target: Path) -> None:
    with (
        file.open("rb") as source,
        subprocess.Popen(
            [config.mbstream, "-x", "-C", str(target)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        ) as program,
    ):
        assert program.stdin is not None
        assert program.stderr is not None
        try:
            with suppress(BrokenPipeError):  # it says why itself
                for piece in backup_files.unpacked(source):
                    program.stdin.write(piece)
                program.stdin.close()
        except BackupError:
            program.kill()
            raise
        said = program.stderr.read().decode(errors="replace")
        if program.wait():
            raise BackupError(f"the backup cannot be unpacked: {' '.join(said.split())[:300] or 'mbstream failed'}")


def prepare(config: AgentConfig, target: Path) -> None:
    """Raises BackupError."""
    done = subprocess.run(
        [config.mariadb_backup, "--no-defaults", "--prepare", f"--target-dir={target}", f"--use-memory={MEMORY}"],
        capture_output=True, text=True, check=False, errors="replace",
    )  # fmt: skip
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode or not any(line.endswith(mariabackup.COMPLETED) for line in lines):
        raise BackupError(f"the data cannot be prepared: {mariabackup.reason(lines, done.returncode)}")


def settle(config: AgentConfig, target: Path, manifest: Manifest) -> None:
    """Start a server on it without network, set the position that it stands at, stop it cleanly. Raises BackupError.

    Without this whoever follows it later would be sent the binary log from its beginning, as if the data began there too.
    """
    with tempfile.TemporaryDirectory(prefix="restore-", dir="/tmp") as place:  # private; a socket's path is short
        socket, log = Path(place) / "s", config.log_dir / "restore.log"
        arguments = [
            config.mariadbd, "--no-defaults", f"--user={local_user()}", f"--datadir={target}", f"--socket={socket}",
            f"--pid-file={place}/pid", f"--tmpdir={place}", "--skip-networking", "--skip-slave-start", "--log-bin=binlog",
            "--server-id=1", "--gtid-strict-mode=1", "--log-slave-updates", f"--innodb-buffer-pool-size={config.buffer_pool}",
        ]  # fmt: skip
        with log.open("ab") as output:
            try:
                server = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=target)
            except OSError as error:
                raise BackupError(f"{config.mariadbd} cannot be started: {error.strerror}") from error
        session = LocalSession(socket, read_seconds=60)
        try:
            _wait_for(session, server, log)
            MariaDb(session, PkiFiles(ca="", cert="", key="")).take_position(manifest.position, manifest.position)
        except DatabaseError as error:
            raise BackupError(f"the position of the restored data cannot be set: {error}") from error
        finally:
            session.close()
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        if server.returncode:
            raise BackupError(f"a server on the restored data did not end cleanly: see {log}")
    os.sync()  # what was unpacked lies in memory still


def _wait_for(session: LocalSession, server: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            session.rows("SELECT 1")
        except DatabaseError as error:
            if server.poll() is not None:
                raise BackupError(f"no server can be started on the restored data: see {log}") from error
            if time.monotonic() > until:
                raise BackupError(f"a server on the restored data does not answer: see {log}") from error
            time.sleep(0.05)
        else:
            return
