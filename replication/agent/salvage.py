"""Copies of the newest binary logs, made before a start that may cut acknowledged transactions off their end."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from replication.core.vault_ports import ProcessError

INDEX: Final = "binlog.index"
FILES: Final = 2
"""The last file may be just begun, so the one before it belongs to it."""
KEPT: Final = 5


def binary_logs(data_dir: Path) -> list[str]:
    """Names of the binary logs, oldest first, as the index lists them; empty when there are none."""
    try:
        lines = (data_dir / INDEX).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [Path(line).name for line in lines if line.strip()]


def save_binary_logs(data_dir: Path, salvage_dir: Path) -> str:
    """Copy the newest binary logs and the index to a new directory, and drop the oldest copies. Returns its path.

    Only while mariadbd is down. Raises ProcessError when it cannot be done: then the start must not truncate.
    """
    names = binary_logs(data_dir)
    if not names:
        return ""
    target = salvage_dir / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    try:
        target.mkdir(mode=0o700, parents=True)
        for name in (INDEX, *names[-FILES:]):
            shutil.copy2(data_dir / name, target / name)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ProcessError(f"the binary logs cannot be copied to {salvage_dir}: {error.strerror}") from error
    for old in sorted(path for path in salvage_dir.iterdir() if path.is_dir())[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return str(target)
