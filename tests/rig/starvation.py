"""Programs that get only a share of a processor, by the kernel's control groups. Needs root; skips the test without."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.waiting import wait_for

PERIOD_US = 100_000
OLD, NEW = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
_numbers = itertools.count()


@contextlib.contextmanager
def starved(pids: Sequence[int], share: float) -> Iterator[None]:
    """These processes together get `share` of one processor (0.1 = 10 ms of every 100 ms)."""
    old = (OLD / "cgroup.procs").exists()
    root = OLD if old else NEW
    group = root / f"vhr{os.getpid()}x{next(_numbers)}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"a share of a processor needs root and control groups: {error}")
    before = {pid: _group_of(pid, root, old=old) for pid in pids}
    try:
        quota = int(PERIOD_US * share)
        if old:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):  # it has ended
                (before.get(int(pid), root) / "cgroup.procs").write_text(pid)
        wait_for(lambda: _removed(group), 10, "the control group is empty")


def _group_of(pid: int, root: Path, *, old: bool) -> Path:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if (controllers == "") != old and (not old or "cpu" in controllers.split(",")):
            return root / path.lstrip("/")
    return root


def _removed(group: Path) -> bool:
    group.rmdir()
    return True
