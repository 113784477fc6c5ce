"""The high-water mark of epochs: it only rises, survives, is shared by the processes of a host, and is never believed damaged."""

import subprocess
import sys
from pathlib import Path

import pytest

from replication.stores.highwater import FILE_NAME, HighWater

V, W = "v" * 32, "w" * 32
CLIMB = """
import sys
from pathlib import Path
from replication.stores.highwater import HighWater
marks = HighWater(Path(sys.argv[1]))
for epoch in range(1, 101):
    marks.reach(sys.argv[2], epoch)
    marks.reach("shared", epoch + int(sys.argv[3]))
"""


def test_a_vault_that_was_never_seen_has_none(marks: HighWater) -> None:
    assert marks.of(V) == 0


def test_it_only_rises(marks: HighWater, tmp_path: Path) -> None:
    for epoch, kept in ((7, 7), (3, 7), (7, 7), (8, 8)):
        marks.reach(V, epoch)
        assert marks.of(V) == HighWater(tmp_path).of(V) == kept


def test_vaults_have_their_own(marks: HighWater, tmp_path: Path) -> None:
    marks.reach(V, 7)
    marks.reach(W, 3)
    assert [HighWater(tmp_path).of(v) for v in (V, W)] == [7, 3]


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    climbing = [subprocess.Popen([sys.executable, "-c", CLIMB, tmp_path, *own]) for own in ((V, "0"), (W, "50"))]
    assert [process.wait(60) for process in climbing] == [0, 0]
    seen = HighWater(tmp_path)
    assert [seen.of(v) for v in (V, W, "shared")] == [100, 100, 150]


def test_a_standby_that_takes_over_knows_how_far_the_former_leader_went(tmp_path: Path) -> None:
    """Rule 16: the database was restored to an epoch that the standby knew, but the leader had gone further."""
    leader, standby = HighWater(tmp_path), HighWater(tmp_path)
    leader.reach(V, 5)
    standby.reach(V, 5)
    leader.reach(V, 9)
    standby.reach(V, 5)
    assert standby.of(V) == 9


def test_a_file_that_was_removed_forgets_nothing_that_a_process_knows(marks: HighWater, tmp_path: Path) -> None:
    marks.reach(V, 7)
    marks.reach(W, 3)
    (tmp_path / FILE_NAME).unlink()
    marks.reach(V, 5)
    assert marks.of(V) == 7
    marks.reach(V, 8)
    assert [HighWater(tmp_path).of(v) for v in (V, W)] == [8, 3]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"v": "7"}', '{"v": null}', "\x00" * 20])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(OSError, match="remove it only if the metadata database was not restored"):
        HighWater(tmp_path)


def test_a_file_that_is_damaged_while_we_run_is_refused_too(marks: HighWater, tmp_path: Path) -> None:
    marks.reach(V, 7)
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(OSError, match="is damaged"):
        marks.reach(V, 8)
    assert marks.of(V) == 7


def test_a_directory_that_is_not_there_is_an_error_and_not_a_mark(tmp_path: Path) -> None:
    marks = HighWater(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        marks.reach(V, 1)
    assert marks.of(V) == 0


def test_only_this_user_reads_it(marks: HighWater, tmp_path: Path) -> None:
    marks.reach(V, 7)
    assert {file.name for file in tmp_path.iterdir()} == {FILE_NAME, "epochs.lock"}, "no scratch file is left"
    assert {file.stat().st_mode & 0o077 for file in tmp_path.iterdir()} == {0}
