"""`vault-agent restore` on real backups of real databases.

Proves: what a backup of a fallback under writes holds is exactly what was there at its position: every row that was acknowledged
before, none after; restored in its place it is closed, belongs to no vault, opens as a primary and has another fallback follow it
only after a full copy; a damaged, shortened or foreign file is refused before anything is touched; so is a restore while the
agent or the database runs, while another node of the vault lives, over data that may be newer, or with the wrong name typed; a
restore that was killed anywhere between is held closed and can be repeated.
"""

import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import MySQLdb
import pytest

from replication.agent import state
from replication.agent.restore import INTERRUPTED
from replication.core.commands import Verb
from replication.core.errors import StepFailed
from replication.core.positions import GtidPosition
from replication.core.roles import OrderKind
from replication.core.vault_ports import AgentState
from tests.agent.orders import account, database, follow, open_primary, order
from tests.agent.test_backup import back_up
from tests.vault_host import VaultHost
from tests.waiting import wait_for
from tests.writers import Writers, create_table

A, B = "127.0.85.11", "127.0.85.12"
MEMBERS = [{"hostname": "restored-a", "address": f"{A}:5389"}, {"hostname": "restored-b", "address": f"{B}:5389"}]


@dataclass(frozen=True)
class Told:
    """A pair, a backup of its fallback, and what was known at its moment."""

    primary: VaultHost
    fallback: VaultHost
    file: Path
    position: str
    before: set[int]
    """Rows that were acknowledged before the backup began."""
    after: set[int]
    """Rows that were written after it had ended."""


@pytest.fixture(scope="module")
def told(make: Callable[..., VaultHost], tmp_path_factory: pytest.TempPathFactory) -> Told:
    primary, fallback = make(A, "restored-a").init().start(), make(B, "restored-b").init().start()
    open_primary(primary, [fallback], jump=False)
    follow(fallback, primary)
    create_table(primary)
    with Writers([primary], 2, password=primary.client_password) as writers:
        writers.wait_acknowledged(0, 10, host=primary, count=30)
        wait_for(lambda: len(rows(fallback)) > 20, 10, "the fallback has rows")
        before = rows(fallback)
        result = back_up(fallback, members=MEMBERS)
        now = time.monotonic()
        writers.wait_acknowledged(now, 10, host=primary, count=30)
        after = {ack.id for ack in writers.since(now + 0.05)}
    kept = tmp_path_factory.mktemp("kept")
    for path in (Path(result["path"]), Path(f"{result['path']}.json")):
        shutil.copy2(path, kept)
    return Told(primary, fallback, kept / Path(result["path"]).name, result["manifest"]["position"], before, after)


def rows(host: VaultHost) -> set[int]:
    return {row["id"] for row in host.sql("SELECT id FROM vault.written")}


def refused(host: VaultHost, *arguments: str, typed: str = "") -> str:
    before = in_home(host)
    done = host.run("restore", *arguments, typed=typed)
    assert done.returncode == 1, done.stdout
    assert in_home(host) == before
    return done.stderr.splitlines()[-1]


def in_home(host: VaultHost) -> list[str]:
    """Without what a running agent makes and removes all the time."""
    return sorted(path.name for path in host.home.iterdir() if path.name not in ("disk-probe.new", "state.json.new"))


def test_restored_beside_the_node_it_holds_what_was_there_at_its_position(told: Told, tmp_path: Path) -> None:
    target = tmp_path / "read"
    done = told.fallback.run("restore", "--latest", "--to", str(target))
    assert done.returncode == 0, done.stderr
    command = next(line for line in done.stdout.splitlines() if "--skip-networking" in line)
    server = subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        found = wait_for(lambda: _read(target), 30, "the server of the printed command answers")
    finally:
        server.terminate()
        server.wait(20)
    assert told.before <= found
    assert not told.after & found
    assert told.before
    assert told.after
    assert target.stat().st_mode & 0o777 == 0o700


def _read(target: Path) -> set[int]:
    try:
        with MySQLdb.connect(unix_socket=str(target / "read.sock"), user="root") as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT id FROM vault.written")
            return {row[0] for row in cursor.fetchall()}
    except MySQLdb.Error:
        return set()


def test_a_damaged_file_is_refused(told: Told, tmp_path: Path) -> None:
    whole, manifest = told.file.read_bytes(), Path(f"{told.file}.json").read_text()
    for name, content, says in (
        ("bit", whole[:9000] + bytes([whole[9000] ^ 4]) + whole[9001:], "checksum"),
        ("short", whole[:-7], "bytes and must have"),
    ):
        directory = tmp_path / name
        directory.mkdir()
        file = directory / told.file.name
        file.write_bytes(content)
        Path(f"{file}.json").write_text(manifest)
        assert says in refused(told.fallback, "--from", str(file), "--to", str(tmp_path / "x"))
        assert not (tmp_path / "x").exists()
    alone = tmp_path / "alone.mbstream.gz"
    alone.write_bytes(whole)
    assert "copy both" in refused(told.fallback, "--from", str(alone), "--to", str(tmp_path / "x"))
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").touch()
    assert "empty" in refused(told.fallback, "--from", str(told.file), "--to", str(tmp_path / "x"))


def test_a_file_that_lies_about_its_checksum_is_not_unpacked_to_half(told: Told, tmp_path: Path) -> None:
    """Whoever made the manifest anew beside a shortened file: what is unpacked of it goes again."""
    import hashlib

    content = told.file.read_bytes()[:-50_000]
    file = tmp_path / told.file.name
    file.write_bytes(content)
    manifest = json.loads(Path(f"{told.file}.json").read_text())
    manifest |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    Path(f"{file}.json").write_text(json.dumps(manifest))
    assert "not whole" in refused(told.fallback, "--from", str(file), "--to", str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_the_place_of_living_data_is_refused(told: Told) -> None:
    fallback = told.fallback
    assert "another agent" in refused(fallback, "--latest", typed=f"{fallback.hostname}\n")
    fallback.stop()
    assert "still runs" in refused(fallback, "--latest", typed=f"{fallback.hostname}\n")
    fallback.kill_database()
    wait_for(lambda: not fallback.database_pid, 20, "its database is gone")
    # The node has data, and a memory that says whose they are.
    assert "--give-up-newer" in refused(fallback, "--latest", typed=f"{fallback.hostname}\n")
    # The primary lives: it holds what is newer than any backup.
    says = refused(fallback, "--latest", "--give-up-newer", typed=f"{fallback.hostname}\n")
    assert "restored-a" in says
    assert "lives" in says
    fallback.start()
    follow(fallback, told.primary)


def test_the_vault_begins_again_from_it_when_all_else_is_gone(told: Told, make: Callable[..., VaultHost]) -> None:
    for host in (told.primary, told.fallback):
        host.kill_agent()
        host.kill_database()
    lost, host = told.primary, told.fallback
    shutil.rmtree(lost.home)
    wait_for(lambda: not host.database_pid, 20, "its database is gone")
    says = refused(host, "--latest", "--give-up-newer", typed="restored-a\n")
    assert "not the hostname" in says
    done = host.run("restore", "--latest", "--give-up-newer", typed=f"{host.hostname}\n")
    assert done.returncode == 0, done.stderr
    assert "restored-a" in done.stdout + done.stderr, "who did not answer is named"
    assert told.position in done.stdout
    host.start()
    report = host.wait_up()
    assert (report.vault, report.order_kind, report.quarantine, report.tainted) == ("", OrderKind.NONE, "", False)
    found = database(host)
    assert (found.read_only, found.gtid_slave_pos) == (True, told.position)
    assert (host.home / "data.old").is_dir()
    order(host, Verb.OPEN, {"jump": True, "client": True})
    assert told.before <= rows(host)
    assert not told.after & rows(host)
    host.sql("INSERT INTO vault.written (id, writer) VALUES (999999999, 0)")
    (mine,) = GtidPosition.parse(database(host).gtid_binlog_pos).last.values()
    (theirs,) = GtidPosition.parse(told.position).last.values()
    assert mine.sequence > theirs.sequence + 900_000, "what was lost is never numbered again"
    assert mine.server != theirs.server
    # A new node cannot follow as if the data began with the binary log: it needs a full copy.
    again = make(A, "restored-a").init().start()
    order(host, Verb.ACCOUNTS, {"accounts": [account(again)]})
    with pytest.raises(StepFailed) as failed:
        follow(again, host)
    assert failed.value.reason == "rebuild", failed.value
    again.destroy()


@pytest.mark.parametrize("swapped", [True, False], ids=["before its last step", "between the two renames"])
def test_a_restore_that_was_interrupted_is_held_closed_and_can_be_repeated(told: Told, swapped: bool) -> None:
    """After the test above: its data are restored, and those of before are kept."""
    host = told.fallback
    host.stop()
    host.kill_database()
    wait_for(lambda: not host.database_pid, 20, "its database is gone")
    (host.home / "data.old" / "marker").touch()
    state.save(host.config.state_file, AgentState(server_id=7, quarantine=INTERRUPTED))
    if not swapped:
        shutil.rmtree(host.home / "data")
    host.start()
    assert "repeat" in host.report().quarantine
    with pytest.raises(StepFailed) as refusal:
        host.order(Verb.OPEN, {"jump": True})
    assert refusal.value.reason == "quarantine"
    host.stop()
    host.kill_database()
    wait_for(lambda: not host.database_pid, 20, "its database is gone")
    done = host.run("restore", "--latest", "--yes-i-mean", host.hostname)
    assert done.returncode == 0, done.stderr
    host.start()
    assert (host.report().quarantine, database(host).gtid_slave_pos) == ("", told.position)
    assert (host.home / "data.old" / "marker").exists(), "what was there before the first try is still kept"
