"""Copies of the newest binary logs, made before a start that may cut transactions off their end.

A copy is thrown away when newer ones have come and nothing is lost with it: the start has cut nothing off, or what it has cut off
was exported (replication/agent/export.py).
"""

import errno
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from replication.agent.binlogs import INDEX, names, needed_by_recovery
from replication.agent.durable import flush
from replication.core.vault_ports import ProcessError

FILES: Final = 2
"""At least. A recovery may look at more: every log since the last checkpoint."""
KEPT: Final = 5
SPARE_BYTES: Final = 64 * 1024 * 1024
"""What a copy leaves free, for the database that has to start afterwards."""
COMPARED_BYTES: Final = 64 * 1024
IN_USE_END: Final = 64
"""What comes before changes when a log is closed."""
DONE: Final = "done"
"""A file in a copy: nothing is lost with it. It says why."""
EXPORTED: Final = "exported"
"""How such a reason begins."""


def binary_logs(data_dir: Path) -> list[str]:
    """Names of the binary logs, oldest first, as the index lists them; empty when there are none."""
    return names(data_dir)


def save_binary_logs(data_dir: Path, salvage_dir: Path) -> str:
    """Copy what the start may cut, durably, and drop old copies that are not needed. Returns the new copy's path.

    Only while mariadbd is down. Raises ProcessError when it cannot be done: then the start must not truncate.
    """
    there = names(data_dir)
    if not there:
        return ""
    target = salvage_dir / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    try:
        salvage_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        wanted = [INDEX, *there[-max(FILES, len(needed_by_recovery(data_dir))) :]]
        judge(data_dir, salvage_dir)
        _drop_old(data_dir, salvage_dir)
        need = sum((data_dir / name).stat().st_size for name in wanted)
        if shutil.disk_usage(salvage_dir).free < need + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        target.mkdir(mode=0o700)
        for name in wanted:
            copy_durably(data_dir / name, target / name)
        flush(target)
        flush(salvage_dir)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ProcessError(f"the binary logs cannot be copied to {salvage_dir}: {error.strerror}") from error
    return str(target)


def copies(salvage_dir: Path) -> list[Path]:
    """Oldest first."""
    try:
        return sorted(path for path in salvage_dir.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def judge(data_dir: Path, salvage_dir: Path) -> None:
    """After a start: mark the copies of which nothing was cut off, so that they need not be kept. Raises OSError.

    A log that goes on behind its copy, with the same content at the end of it, was not cut: mariadbd cuts at the end, and only
    adds to the newest. The content tells it from a log of the same name that began anew, as after a full copy.
    """
    for copy in copies(salvage_dir):
        if (copy / DONE).exists():
            continue
        saved = [path for path in copy.iterdir() if path.name != INDEX]
        if all(_goes_on(data_dir / path.name, path) for path in saved):
            mark(copy, "nothing was cut off")


def was_exported(copy: Path) -> bool:
    """Whether an export has had everything in it."""
    try:
        return (copy / DONE).read_text().startswith(EXPORTED)
    except OSError:
        return False


def mark(copy: Path, why: str) -> None:
    """Nothing is lost when this copy goes. Raises OSError."""
    (copy / DONE).write_text(why + "\n")


def copy_durably(source: Path, target: Path) -> None:
    """Raises OSError."""
    shutil.copyfile(source, target)
    target.chmod(0o600)
    with target.open("rb") as written:
        os.fsync(written.fileno())


def _drop_old(data_dir: Path, salvage_dir: Path) -> None:
    """So many are kept that with the one to come they are KEPT, and beyond that whatever may hold a lost transaction: of an older
    copy the logs that a start has cut."""
    for old in copies(salvage_dir)[: -(KEPT - 1)]:
        if (old / DONE).exists():
            shutil.rmtree(old, ignore_errors=True)
            continue
        for saved in [path for path in old.iterdir() if path.name != INDEX]:
            if _goes_on(data_dir / saved.name, saved):
                saved.unlink()


def _goes_on(log: Path, copy: Path) -> bool:
    end = copy.stat().st_size
    begin = max(IN_USE_END, end - COMPARED_BYTES)
    try:
        with log.open("rb") as now, copy.open("rb") as then:
            now.seek(begin)
            then.seek(begin)
            return now.read(end - begin) == then.read() and log.stat().st_size >= end
    except FileNotFoundError:
        return False
