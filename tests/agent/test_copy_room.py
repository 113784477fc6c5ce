"""Where a full copy has no place: refused before it begins, or ended with the words that help.

Proves: a data directory that cannot be renamed, a home that cannot be written to and programs that are missing are refused, each
with what to do; a disk that runs full while the copy comes leaves the node as it was. And what the parts say by themselves: the
position of a copy, the state that its source had, who is let in, and what is left when its task waits in vain.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from replication.agent.config import AgentConfig
from replication.agent.intake import Intake
from replication.agent.places import Places
from replication.agent.process import Mariadbd
from replication.agent.receive import Receive, read_position, state_at
from replication.agent.state import StateFile
from replication.agent.swap import Swap
from replication.agent.tasks import TaskRunner
from replication.core.commands import Verb
from replication.core.tasks import RebuildArgs, TaskKind, TaskOrder, TaskPhase
from replication.core.vault_ports import AgentState, TaskRefused
from tests.agent.copying import Push, backup_of, leftovers, rebuild, wait_ended, wait_phase
from tests.agent.orders import open_primary, order
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for

ARGS = RebuildArgs(source_name="source", source_subject="/CN=source/OU=node", source_bytes=1)
ORDER = TaskOrder(kind=TaskKind.RECEIVE, operation="o", args=ARGS.to_json())


def receive(home: Path, silence: float = 60, **settings: object) -> Receive:
    """The target's part alone, without a database."""
    config = replace(AgentConfig(home=home, agent_id="0" * 32, hostname="host", ip="127.0.80.31"), **settings)  # type: ignore[arg-type]  # of its fields
    state = StateFile(home / "state.json", AgentState())
    process = Mariadbd(config, state, lambda: None)

    def nothing(act: Callable[[], None]) -> None:
        raise AssertionError("it must not come so far")

    def no_database() -> object:
        raise AssertionError("it must not come so far")

    swap = Swap(Places(home), process, lambda: state, no_database, nothing)  # type: ignore[arg-type]  # never called
    return Receive(config, Intake(), swap, state.read, lambda used: 1, silence)


def test_programs_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(TaskRefused, match=r"/nowhere/mbstream is missing .* apt install mariadb-backup"):
        receive(tmp_path, mbstream="/nowhere/mbstream").prepare(ORDER)


def test_a_data_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TaskRefused, match=r"a symbolic link, .* mount the volume at"):
        receive(tmp_path).prepare(ORDER)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """The data directory as a volume of its own."""
    data = tmp_path / "data"
    data.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "none", str(data))
    yield data
    subprocess.run(["umount", str(data)], check=True)


def mount(*arguments: str) -> None:
    if os.getuid() != 0 or subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount")


def test_a_data_directory_that_is_a_mount_point_is_refused(volume: Path) -> None:
    with pytest.raises(TaskRefused, match=r"a mount point of its own, .* mount the volume at"):
        receive(volume.parent).prepare(ORDER)


def test_a_home_that_cannot_be_written_to_is_refused() -> None:
    with pytest.raises(TaskRefused, match=r"cannot write to /proc/copy.new .* the property of"):
        receive(Path("/proc")).prepare(ORDER)


def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    tasks = TaskRunner(tmp_path, lambda: None)
    tasks.register(TaskKind.RECEIVE, receive(tmp_path, silence=0.1).recipe)
    tasks.begin(ORDER)

    def ended() -> str:
        task = tasks.report()
        assert task is not None
        return task.says if task.phase is TaskPhase.FAILED else ""

    says = wait_for(ended, 5, "it gives up")
    assert says.startswith("the source source has not begun within 0.1 s")
    wait_for(lambda: leftover_names(tmp_path) == {"log", "task.json"}, 5, "nothing is left behind")
    assert tasks.begin(ORDER) == tasks.report(), "the same order again begins nothing"


def leftover_names(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()}


@pytest.mark.parametrize(
    ("text", "position"),
    [
        pytest.param("binlog.000001\t2486\t0-3534665249-11\n", "0-3534665249-11", id="one domain"),
        pytest.param("binlog.000002\t5\t0-1-5,7-2-3\n", "0-1-5,7-2-3", id="two domains"),
        pytest.param("binlog.000001\t325\t\n", "", id="a source without any transaction"),
    ],
)
def test_the_position_of_a_copy(tmp_path: Path, text: str, position: str) -> None:
    (tmp_path / "xtrabackup_binlog_info").write_text(text)
    assert read_position(tmp_path) == position


def test_a_copy_without_a_position_is_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="writes no binary log"):
        read_position(tmp_path)


@pytest.mark.parametrize(
    ("before", "position", "state"),
    [
        pytest.param("", "0-2-9", "0-2-9", id="nothing is known of before"),
        pytest.param("0-1-5,0-2-8", "0-2-9", "0-1-5,0-2-9", id="an earlier primary is known"),
        pytest.param("0-2-4,0-1-5", "0-1-6", "0-2-4,0-1-6", id="the last one is the position"),
        pytest.param("0-1-50,0-2-8", "0-2-9", "0-2-9", id="nothing beyond the position is claimed"),
        pytest.param("0-1-5,3-1-7", "0-1-6", "0-1-6", id="nor another domain"),
        pytest.param("0-1-5", "", "", id="an empty copy"),
    ],
)
def test_the_state_of_a_copy(before: str, position: str, state: str) -> None:
    assert state_at(before, position) == state


# --- a disk that runs full ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_disk() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    mount("-t", "tmpfs", "-o", "size=560m", "none", str(directory))
    yield directory
    subprocess.run(["umount", str(directory)], check=True)
    directory.rmdir()


def test_a_disk_that_runs_full_leaves_the_node_as_it_was(small_disk: Path, tmp_path: Path) -> None:
    with vault_hosts(small_disk) as make:
        target = make("127.0.80.32", "full-1", cut="none").init().start()
        open_primary(target, [], jump=False)
        target.sql("CREATE TABLE vault.mine (id INT PRIMARY KEY)")
        order(target, Verb.CLOSE)
        whole = backup_of(target, tmp_path / "scratch")
        operation = rebuild(target, target)
        stream = admitted(target, operation)
        stream.send(whole[:100_000])
        wait_phase(target, TaskPhase.TRANSFERRING)
        filler = small_disk / "filler"
        left = shutil.disk_usage(small_disk).free
        with filler.open("wb") as file:  # somebody else's, after the copy was found to fit
            os.posix_fallocate(file.fileno(), 0, left - 8 * 2**20)
        stream.send(whole[100_000:])
        answer = stream.end()
        stream.close()
        report = wait_ended(target, operation)
        assert report.task is not None
        assert report.task.phase is TaskPhase.FAILED
        assert report.task.says.endswith("the disk of " + str(target.home) + " is full; nothing was changed"), (
            report.task
        )
        assert answer[0] == 507
        assert leftovers(target) == []
        filler.unlink()
        assert target.sql("SHOW TABLES IN vault LIKE 'mine'")


def admitted(target: VaultHost, operation: str) -> Push:
    """A verb answers when its task has begun, which is a moment before the door is open."""

    def open_() -> bool:
        return (
            target.request("POST", f"/copy/{operation}", b"", who="node")[0] == 403
        )  # another node: not the one that was ordered

    wait_for(open_, 10, "the copy is waited for")
    return Push(target, target, operation)
