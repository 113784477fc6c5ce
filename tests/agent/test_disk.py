"""A disk that takes no writes any more, as an agent notices and tells it.

Proves, on real file systems: a full, a read-only and a hanging disk are each told with their reason, at once or after the
deadline, and taken back when the disk works again; the agent answers hellos meanwhile, and a fence kills its database although
the order cannot be written down. Mounting needs root; without it these tests are skipped.
"""

import concurrent.futures
import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from replication.agent.disk import BYTES, DiskProbe
from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import StaleEpoch, StepFailed
from replication.core.roles import OrderKind, ProcessState
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for

PATIENCE = 10
DEADLINE = limits.DISK_DEADLINE.total_seconds()
QUICK = timedelta(milliseconds=50)
IMAGE_BYTES = 640 * 1024 * 1024
"""Sparse. A new database is made only where there is room for it."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


def _run(*command: str | Path) -> None:
    environment = {**os.environ, "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr.strip()}"


@contextlib.contextmanager
def mounted(*arguments: str | Path) -> Iterator[Path]:
    """A short path at which a file system is mounted, private to this test."""
    directory = Path(tempfile.mkdtemp(prefix="vhd-"))
    try:
        _run("mount", *arguments, directory)
        try:
            yield directory
        finally:
            _run("umount", "--lazy", directory)
    finally:
        directory.rmdir()


@contextlib.contextmanager
def small_tmpfs() -> Iterator[Path]:
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs") as directory:
        yield directory


@contextlib.contextmanager
def ext4() -> Iterator[Path]:
    """A file system of its own on a file: unlike memory it can be frozen."""
    with tempfile.TemporaryDirectory(prefix="vhd-") as there:
        image = Path(there) / "image"
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", image)
        with mounted("-o", "loop", image) as directory:
            yield directory


def fill(directory: Path) -> Path:
    """Take all the room there is."""
    filler = directory / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(directory).free)
    for size in (2**20, 4096, 1):  # what fallocate left
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * size):
                pass
    return filler


@contextlib.contextmanager
def probing(directory: Path, deadline: timedelta = limits.DISK_DEADLINE) -> Iterator[tuple[DiskProbe, list[str]]]:
    """A probe that tries often, and what it said of the disk each time it told something."""
    told: list[str] = []
    probe = DiskProbe(directory, lambda: told.append(probe.error), interval=QUICK, deadline=deadline)
    probe.start()
    try:
        yield probe, told
    finally:
        probe.end()
        probe.join(PATIENCE)


def test_a_disk_that_takes_writes_is_not_worth_a_word(tmp_path: Path) -> None:
    with probing(tmp_path) as (probe, told):
        seen = (tmp_path / "disk-probe.new").exists
        wait_for(seen, PATIENCE, "a try")
        wait_for(lambda: not seen(), PATIENCE, "its end")
        probe.look()
    assert (probe.error, told) == ("", [])
    assert list(tmp_path.iterdir()) == []
    assert probe.free_bytes > 0


@needs_root
def test_a_full_disk_is_told_and_taken_back() -> None:
    with small_tmpfs() as directory, probing(directory) as (probe, told):
        filler = fill(directory)
        wait_for(lambda: told == ["No space left on device"], PATIENCE, lambda: str(told))
        assert probe.error == told[0]
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - BYTES // 2)
        wait_for(lambda: shutil.disk_usage(directory).free >= BYTES // 2, PATIENCE)
        before = time.monotonic()
        wait_for(lambda: time.monotonic() > before + 5 * QUICK.total_seconds(), PATIENCE)
        assert probe.error == told[0], "room for half a page is no room"
        filler.unlink()
        wait_for(lambda: told[1:] == [""], PATIENCE, lambda: str(told))


@needs_root
def test_a_disk_that_became_read_only_is_told_and_taken_back() -> None:
    with small_tmpfs() as directory, probing(directory) as (_, told):
        wait_for(lambda: _remounted(directory, "ro"), PATIENCE, "no file is open")
        wait_for(lambda: told == ["Read-only file system"], PATIENCE, lambda: str(told))
        _run("mount", "-o", "remount,rw", directory)
        wait_for(lambda: told[1:] == [""], PATIENCE, lambda: str(told))


def _remounted(directory: Path, how: str) -> bool:
    _run("mount", "-o", f"remount,{how}", directory)  # refused while a try is under way
    return True


EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


@needs_root
def test_a_disk_that_fails_is_told() -> None:
    with ext4() as directory, probing(directory) as (_, told):
        wait_for((directory / "disk-probe.new").exists, PATIENCE, "a try")
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            flag = ctypes.c_uint32(NO_LOG_FLUSH)
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.ioctl(descriptor, EXT4_IOC_SHUTDOWN, ctypes.byref(flag)) == 0, os.strerror(ctypes.get_errno())
        finally:
            os.close(descriptor)
        wait_for(lambda: told[-1:] == ["Input/output error"], PATIENCE, lambda: str(told))


@contextlib.contextmanager
def hanging(directory: Path) -> Iterator[None]:
    """No write to this file system comes back."""
    _run("fsfreeze", "--freeze", directory)
    try:
        yield
    finally:
        _run("fsfreeze", "--unfreeze", directory)


@needs_root
def test_a_write_that_does_not_come_back_is_told_after_the_deadline() -> None:
    deadline = timedelta(seconds=1)
    with ext4() as directory, probing(directory, deadline) as (probe, told):
        with hanging(directory):
            began = time.monotonic()
            wait_for(lambda: probe.look() or told, PATIENCE, "it is late")
            took = time.monotonic() - began
            assert told == ["a write has not come back for 1 s"]
            assert deadline.total_seconds() - 0.1 < took < deadline.total_seconds() + 1
            wait_for(lambda: "2 s" in probe.error, PATIENCE, lambda: probe.error)
        wait_for(lambda: probe.look() or told[1:] == [""], PATIENCE, lambda: str(told))
        assert probe.error == ""


# --- an agent and its database on such a disk -----------------------------------------------------------------------


@contextlib.contextmanager
def primary_on(directory: Path, ip: str) -> Iterator[VaultHost]:
    """A solo primary whose home is there. Its log is not: it would hang with the disk."""
    with tempfile.TemporaryDirectory(prefix="vhd-log-") as elsewhere, vault_hosts(directory) as make:
        host: VaultHost = make(ip, "disk-1")
        host.log_file = Path(elsewhere) / "agent.log"
        host.init().start().order(Verb.OPEN)
        yield host


@needs_root
def test_on_a_full_disk_the_agent_answers_and_a_fence_kills() -> None:
    size = f"size={IMAGE_BYTES}"
    with mounted("-t", "tmpfs", "-o", size, "tmpfs") as directory, primary_on(directory, "127.0.62.21") as host:
        version = host.report().version
        filler = fill(directory)
        report = host.wait_report(lambda report: report.disk_error != "", PATIENCE)
        assert report.disk_error == "No space left on device"
        assert report.version > version, "a long poll tells it at once"
        assert "takes no writes: No space left" in host.run("status").stdout
        with pytest.raises(StepFailed) as refused:
            host.order(Verb.SOLO)
        assert refused.value.reason == "state", "what cannot be written is not promised"
        with pytest.raises(StepFailed) as fenced:
            host.order(Verb.FENCE)
        assert fenced.value.reason == "state"
        assert "killed" in str(fenced.value)
        assert host.report().process is ProcessState.DEAD
        assert host.database_pid == 0
        filler.unlink()
        host.wait_report(lambda report: report.disk_error == "", PATIENCE)
        host.order(Verb.FENCE)


@needs_root
def test_on_a_disk_that_hangs_the_agent_answers_and_a_fence_kills() -> None:
    with ext4() as directory, primary_on(directory, "127.0.62.22") as host:
        epoch, pool = host.epoch, concurrent.futures.ThreadPoolExecutor(1)
        with hanging(directory):
            began = time.monotonic()
            report = host.wait_report(lambda report: report.disk_error != "", PATIENCE)
            assert "has not come back" in report.disk_error
            assert time.monotonic() - began < DEADLINE + limits.DISK_INTERVAL.total_seconds() + 1
            fence = pool.submit(host.order, Verb.FENCE)
            killed = host.wait_report(lambda report: report.process is ProcessState.DEAD, PATIENCE)
            assert killed.epoch == epoch, "the order is not on the disk"
        with contextlib.suppress(StepFailed):  # it may have said so before the disk came back
            fence.result(PATIENCE)
        fenced = host.wait_report(lambda report: report.epoch > epoch, PATIENCE)
        assert fenced.order_kind is OrderKind.NONE
        assert fenced.process is ProcessState.DEAD, "it was not brought back in between"


@needs_root
def test_a_stale_fence_does_not_kill_on_a_disk_that_hangs() -> None:
    with ext4() as directory, primary_on(directory, "127.0.62.23") as host:
        host.order(Verb.SOLO)
        with hanging(directory):
            with pytest.raises(StaleEpoch):
                host.order(Verb.FENCE, epoch=host.epoch - 1)
            assert host.report().process is ProcessState.UP
