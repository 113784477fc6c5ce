"""The backups on this host: the directory that holds them, what is written beside each, whether a file is still what it was."""

import contextlib
import hashlib
import json
import logging
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from replication.agent.durable import flush, write_json
from replication.core.backups import SUFFIX, Manifest

log = logging.getLogger(__name__)

CHUNK: Final = 1024 * 1024
BESIDE: Final = ".json"


class BackupError(Exception):
    """One sentence for the operator."""


def check_directory(directory: Path) -> None:
    """Backups hold every password of the vault: refuse a directory that others may enter. Raises BackupError."""
    try:
        found = directory.stat()
    except OSError as error:
        raise BackupError(
            f"the directory for backups {directory}: {error.strerror}; make it, or mount its disk"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise BackupError(f"the directory for backups {directory} is no directory")
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise BackupError(
            f"the directory for backups {directory} must belong to the user of the agent and be private to it: "
            f"chown it to user {os.getuid()} and chmod 0700"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise BackupError(f"the directory for backups {directory} cannot be written")


def manifests(directory: Path) -> list[Manifest]:
    """Of every complete backup in it, the newest first; one whose file has gone is left out, one that cannot be read too."""
    found = []
    for path in directory.glob(f"*{SUFFIX}{BESIDE}"):
        try:
            manifest = read(path)
        except BackupError as error:
            log.warning("%s", error)
            continue
        if (directory / manifest.name).is_file():
            found.append(manifest)
    return sorted(found, key=lambda m: (m.taken_at, m.name), reverse=True)


def read(path: Path) -> Manifest:
    """The manifest in a file. Raises BackupError."""
    try:
        return Manifest.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise BackupError(f"{path} is missing: it lies beside the backup and holds its checksum; copy both") from error
    except (OSError, ValueError) as error:
        raise BackupError(f"{path} cannot be read: {error}") from error


def beside(file: Path) -> Path:
    return file.with_name(file.name + BESIDE)


def write(directory: Path, manifest: Manifest) -> None:
    """Durably: a crash leaves the old or the new one. Raises OSError."""
    target = beside(directory / manifest.name)
    scratch = target.with_name(f"{target.name}.{manifest.agent_id[:8]}.new")
    write_json(target, manifest.to_json(), scratch)


def remove(directory: Path, manifest: Manifest) -> None:
    """The file first: one without a manifest would be nobody's. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        (directory / manifest.name).unlink()
    with contextlib.suppress(FileNotFoundError):
        beside(directory / manifest.name).unlink()
    flush(directory)


def sweep(directory: Path, agent_id: str) -> None:
    """Remove what an interrupted backup of this agent left; never what another host that shares the directory is writing."""
    with contextlib.suppress(OSError):
        for path in directory.glob(f"*.{agent_id[:8]}.new"):
            path.unlink(missing_ok=True)
        for path in directory.glob(f"*{SUFFIX}{BESIDE}"):
            with contextlib.suppress(BackupError):
                manifest = read(path)
                if manifest.agent_id == agent_id and not (directory / manifest.name).exists():
                    path.unlink(missing_ok=True)


def fault_of(file: Path, manifest: Manifest, counted: Callable[[int], None] = lambda count: None) -> str:
    """Read the file through: what is wrong with it, as a sentence; "" when it is what was written. counted: bytes so far."""
    checksum, size = hashlib.sha256(), 0
    try:
        found = file.stat().st_size
        if found != manifest.bytes:
            return f"it has {found} bytes and must have {manifest.bytes}"
        with file.open("rb") as source:
            while chunk := source.read(CHUNK):
                checksum.update(chunk)
                size += len(chunk)
                counted(size)
    except FileNotFoundError:
        return "the file is gone"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "" if checksum.hexdigest() == manifest.sha256 else "its checksum is not what it was when it was written"


def checked(directory: Path, name: str, counted: Callable[[int], None] = lambda count: None) -> Manifest:
    """Read one through and write down what came of it. Raises BackupError."""
    manifest = named(directory, name)
    fault = fault_of(directory / name, manifest, counted)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = replace(manifest, checked_at=now, fault=fault)
    try:
        write(directory, manifest)
    except OSError as error:
        raise BackupError(f"what came of the check cannot be written beside {name}: {error.strerror}") from error
    return manifest


def named(directory: Path, name: str) -> Manifest:
    """Raises BackupError."""
    found = next((m for m in manifests(directory) if m.name == name), None)
    if found is None:
        raise BackupError(f"there is no backup {name[:200]!r} in {directory}")
    return found


def unpacked(source: BinaryIO) -> Iterator[bytes]:
    """The stream in a compressed file, piece by piece. Raises BackupError for what is no whole gzip file."""
    packer = zlib.decompressobj(31)
    try:
        while chunk := source.read(CHUNK):
            while chunk:
                yield packer.decompress(chunk, CHUNK)
                chunk = packer.unconsumed_tail
        yield packer.flush()
    except zlib.error as error:
        raise BackupError(f"the backup cannot be unpacked: {error}") from error
    if not packer.eof:
        raise BackupError("the backup ends too early: it is not whole")
