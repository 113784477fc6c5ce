"""Binary logs are saved before a start that may cut them: enough of them, durably, until nothing is lost when they go.

On a real pair: a tail that goes over more than two files is saved whole, what the start cut off is exported as never acknowledged,
a copy that holds something which was not exported is never dropped, and without room for a copy nothing is cut.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replication.agent import binlogs, salvage
from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.vault_ports import ProcessError
from tests.agent.orders import HangingWrite, account, database, follow, open_primary, order, write
from tests.agent.test_disk import fill, mounted, needs_root
from tests.agent.test_divergence import export, listed
from tests.vault_host import VaultHost
from tests.waiting import wait_for

PATIENCE = 20


@pytest.fixture(scope="module")
def pair(make: Callable[..., VaultHost]) -> tuple[VaultHost, VaultHost]:
    old, new = (make(f"127.0.83.{n}", f"salv-{n}", cut="none") for n in (21, 22))
    for host in (old, new):
        host.client_password = old.client_password
        host.init().start()
    open_primary(old, [old, new], jump=False)
    old.sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY, t VARCHAR(5000) INVISIBLE DEFAULT REPEAT('x', 5000))")
    follow(new, old)
    order(new, Verb.ACKER)
    order(old, Verb.LOSSLESS)
    write(old)
    return old, new


def test_a_tail_over_many_files_is_saved_cut_exported_and_only_then_dropped(pair: tuple[VaultHost, VaultHost]) -> None:
    old, new = pair
    data, copies = old.config.data_dir, old.config.salvage_dir
    assert len(binlogs.needed_by_recovery(data)) == 1
    order(new, Verb.REVOKE)
    old.sql("SET GLOBAL max_binlog_size = 4096")
    hanging = []
    for _ in range(2):  # a third would not even be written: the second waits for the first with the log in its hands
        before = binlogs.names(data)
        hanging.append(HangingWrite(old))
        wait_for(lambda b=before: binlogs.names(data) != b, PATIENCE, hanging[-1].says)  # type: ignore[misc]  # bound per loop
    order(new, Verb.DRAIN)
    open_primary(new, [old], jump=True)
    needed = binlogs.needed_by_recovery(data)
    assert len(needed) > salvage.FILES
    follow(old, new, truncate_tail=True)
    for write_ in hanging:
        write_.join(PATIENCE)
        assert not write_.acknowledged
    (copy,) = salvage.copies(copies)
    assert {path.name for path in copy.iterdir()} >= {*needed, binlogs.INDEX}
    assert not (copy / salvage.DONE).exists(), "something was cut off"

    for _ in range(salvage.KEPT + 2):  # as later starts do
        salvage.save_binary_logs(data, copies)
    assert copy.exists(), "what was not exported is not dropped"

    result = export(old, new)
    assert (result["count"], result["never_acknowledged"]) == (0, len(hanging))
    assert all(entry["cut"] for entry in result["transactions"])
    assert len(listed(result)) == len(hanging)
    directory = Path(result["directory"])
    assert not (directory / "transactions.sql").exists()
    assert (directory / "never-acknowledged.sql").stat().st_size
    assert (copy / salvage.DONE).exists()
    assert export(old, new)["exported_before"] == len(hanging), "once is enough"
    kept_aside = directory.rename(directory.parent.parent / "by-hand")
    assert export(old, new)["exported_before"] == len(hanging), "also when its files were taken away"
    kept_aside.rename(directory)
    for _ in range(salvage.KEPT):
        salvage.save_binary_logs(data, copies)
    assert not copy.exists()
    assert len(salvage.copies(copies)) == salvage.KEPT
    assert directory.exists()


# --- files alone


@pytest.fixture
def data(pair: tuple[VaultHost, VaultHost], tmp_path: Path) -> Path:
    """Copies of real logs, as a data directory."""
    there = tmp_path / "data"
    there.mkdir()
    source = pair[1].config.data_dir
    pair[1].sql("FLUSH BINARY LOGS")
    wait_for(lambda: len(binlogs.needed_by_recovery(source)) == 1, PATIENCE, "what came before is durable")
    names = binlogs.names(source)[-3:]
    for name in names:
        shutil.copy(source / name, there / name)
    (there / binlogs.INDEX).write_text("".join(f"./{name}\n" for name in names))
    return there


def test_a_copy_of_which_nothing_was_cut_is_known_and_one_of_which_something_was_is_not(
    data: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "salvage"
    copy = Path(salvage.save_binary_logs(data, copies))
    newest = data / binlogs.names(data)[-1]
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-10])
    salvage.judge(data, copies)
    assert not (copy / salvage.DONE).exists(), "it is shorter now"
    newest.write_bytes(whole[:-10] + bytes(20))
    salvage.judge(data, copies)
    assert not (copy / salvage.DONE).exists(), "it is as long, and another one"
    newest.unlink()
    salvage.judge(data, copies)
    assert not (copy / salvage.DONE).exists(), "it is gone"
    newest.write_bytes(whole + b"more")
    salvage.judge(data, copies)
    assert (copy / salvage.DONE).exists()


def test_of_an_old_copy_only_what_was_cut_is_kept(data: Path, tmp_path: Path) -> None:
    copies = tmp_path / "salvage"
    names = binlogs.names(data)
    copy = Path(salvage.save_binary_logs(data, copies))
    newest = data / names[-1]
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-10])
    for _ in range(salvage.KEPT):
        salvage.save_binary_logs(data, copies)
    assert sorted(path.name for path in copy.iterdir()) == sorted((binlogs.INDEX, names[-1]))
    assert (copy / names[-1]).read_bytes() == whole


def test_what_cannot_be_understood_is_saved_whole(data: Path) -> None:
    names = binlogs.names(data)
    assert binlogs.needed_by_recovery(data) == names[-1:]
    newest = data / names[-1]
    newest.write_bytes(newest.read_bytes()[:30])
    assert binlogs.needed_by_recovery(data) == names
    newest.write_bytes(b"something else")
    assert binlogs.needed_by_recovery(data) == names


def test_the_copies_are_private(data: Path, tmp_path: Path) -> None:
    copy = Path(salvage.save_binary_logs(data, tmp_path / "salvage"))
    assert copy.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in copy.iterdir())


def test_without_logs_there_is_nothing_to_save(tmp_path: Path) -> None:
    assert salvage.save_binary_logs(tmp_path, tmp_path / "salvage") == ""


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    with mounted("-t", "tmpfs", "-o", f"size={salvage.SPARE_BYTES + 2**20}", "tmpfs") as directory:
        yield directory


@needs_root
def test_on_a_full_disk_nothing_is_saved_and_so_nothing_may_be_cut(data: Path) -> None:
    with small_disk() as directory:
        assert salvage.save_binary_logs(data, directory)
        shutil.rmtree(salvage.copies(directory)[0])
        filler = fill(directory)
        with pytest.raises(ProcessError, match="No space left on device"):
            salvage.save_binary_logs(data, directory)
        assert salvage.copies(directory) == []
        filler.unlink()
        assert salvage.save_binary_logs(data, directory)


@needs_root
def test_a_node_whose_logs_cannot_be_saved_is_not_cut_and_says_why(pair: tuple[VaultHost, VaultHost]) -> None:
    """The same, seen from the order: FOLLOW is refused, and the tail is still there."""
    follower, primary = pair  # the first test made them change places
    data = primary.config.data_dir
    order(primary, Verb.ACCOUNTS, {"accounts": [account(pair[0]), account(pair[1])]})
    order(follower, Verb.ACKER)
    order(primary, Verb.LOSSLESS)
    order(follower, Verb.REVOKE)
    hanging = HangingWrite(primary)
    wait_for(lambda: database(primary).waiting_sessions, PATIENCE, hanging.says)
    order(follower, Verb.DRAIN)
    open_primary(follower, [primary], jump=True)
    tail = _last(data)
    with small_disk() as small, _in_place_of(primary.config.salvage_dir, small):
        fill(small)
        with pytest.raises(StepFailed) as refused:
            follow(primary, follower, truncate_tail=True)
        assert "cannot be copied" in refused.value.text
        assert _last(data) == tail
    follow(primary, follower, truncate_tail=True)
    hanging.join(PATIENCE)
    assert tail not in _all(data), "with room it is saved and cut"
    assert export(primary, follower)["never_acknowledged"] == 1


def _all(data: Path) -> list[str]:
    return [str(gtid) for name in binlogs.names(data) for gtid, _at in binlogs.gtids(data / name)]


def _last(data: Path) -> str:
    return _all(data)[-1]


@contextlib.contextmanager
def _in_place_of(directory: Path, other: Path) -> Iterator[None]:
    environment = {**os.environ, "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    subprocess.run(["mount", "--bind", other, directory], check=True, env=environment)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True, env=environment)
