"""The highest epoch of each vault that this controller host has read or written, in a file outside the metadata database.

A database that was restored from an older backup is told by it (rule 16): the file must not be part of that backup. Shared
by the processes of a host; the number only ever rises.
"""

import fcntl
import json
import os
from pathlib import Path

FILE_NAME = "epochs.json"


class HighWater:
    """Blocking: used on the threads that talk to the database."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._seen: tuple[int, int] | None = None
        self._known: dict[str, int] = {}
        self._look()

    def of(self, vault: str) -> int:
        """As of the last `reach`; 0 for a vault that this host has never seen. From any thread."""
        return self._known.get(vault, 0)

    def reach(self, vault: str, epoch: int) -> None:
        """Remember `epoch`, durably before this returns, when it is higher than all before. Raises OSError.

        Looks at the file first: another process of this host may have led until now, and gone further.
        """
        self._look()
        if epoch <= self.of(vault):
            return
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = _higher(self._known, _read(self._path))
            if epoch > known.get(vault, 0):
                known[vault] = epoch
                _write(self._path, known)
            self._known = known
        finally:
            os.close(lock)

    def _look(self) -> None:
        """Read the file again when it is another one: it is replaced, never written in place."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return  # not there yet, or removed by hand: what this process knows stays
        seen = (status.st_ino, status.st_mtime_ns)
        if seen != self._seen:
            self._known = _higher(self._known, _read(self._path))
            self._seen = seen


def _higher(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {vault: max(one.get(vault, 0), other.get(vault, 0)) for vault in one | other}


def _read(path: Path) -> dict[str, int]:
    """Raises OSError when the file is there but cannot be believed: without it a restored database would be trusted."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise OSError(
            f"{path} is damaged ({error}): remove it only if the metadata database was not restored"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(epoch, int) for epoch in content.values()):
        raise OSError(f"{path} is damaged: remove it only if the metadata database was not restored")
    return content


def _write(path: Path, known: dict[str, int]) -> None:
    scratch = path.with_suffix(".new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump(known, out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(scratch, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
