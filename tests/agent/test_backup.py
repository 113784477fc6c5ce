"""Backups that an agent makes, of real databases.

Proves: a backup of a fallback under writes holds every row up to its position and none after, whatever its checksum, size and
manifest say is so; a changed or shortened file is found by the check; the newest good ones stay and nothing of anybody else
goes; cancelled, killed, on a full disk or in a directory that others may enter it leaves nothing behind and says why.
"""

import gzip
import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from replication.core.backups import SUFFIX
from replication.core.positions import GtidPosition
from replication.core.report import read_task
from replication.core.tasks import ENDED, TaskPhase, TaskReport
from tests.agent.orders import database, follow, open_primary
from tests.vault_host import VaultHost
from tests.waiting import wait_for
from tests.writers import Writers, create_table

A, B = "127.0.85.1", "127.0.85.2"
MEMBERS = [{"hostname": "backed-a", "address": f"{A}:5389"}, {"hostname": "backed-b", "address": f"{B}:5389"}]


@dataclass(frozen=True)
class Pair:
    primary: VaultHost
    fallback: VaultHost


@pytest.fixture(scope="module")
def pair(make: Callable[..., VaultHost]) -> Pair:
    primary, fallback = make(A, "backed-a").init().start(), make(B, "backed-b").init().start()
    open_primary(primary, [fallback], jump=False)
    follow(fallback, primary)
    create_table(primary)
    primary.sql("CREATE TABLE vault.rows_ (id INT PRIMARY KEY)")
    return Pair(primary, fallback)


def begin(host: VaultHost, operation: str, **args: Any) -> tuple[int, dict[str, Any]]:
    wanted = {"keep": 3, "bytes_per_second": 0, "members": MEMBERS, **args}
    body = {"kind": "backup", "operation": operation, "args": wanted}
    status, text = host.request("POST", "/task", json.dumps(body).encode())
    return status, json.loads(text)


def ended(host: VaultHost, operation: str) -> TaskReport:
    def look() -> TaskReport | None:
        task = host.report().task
        return task if task is not None and task.operation == operation and task.phase in ENDED else None

    found = wait_for(look, 60, lambda: f"the backup ends: {host.report().task}\n{host.log()}")
    assert found is not None
    return found


def back_up(host: VaultHost, **args: Any) -> dict[str, Any]:
    """One that works; what it left for its controller."""
    operation = secrets.token_hex(16)
    status, answer = begin(host, operation, **args)
    assert status == 200, answer
    assert read_task(answer).active
    task = ended(host, operation)
    assert task.phase is TaskPhase.DONE, task
    result: dict[str, Any] = json.loads(host.request("GET", f"/task/{operation}/result")[1])
    assert task.position == result["manifest"]["position"]
    return result


def refused(host: VaultHost, **args: Any) -> str:
    status, answer = begin(host, secrets.token_hex(16), **args)
    assert status in (400, 422), answer
    return str(answer["text"])


def listed(host: VaultHost) -> list[dict[str, Any]]:
    status, text = host.request("GET", "/backups")
    assert status == 200, text
    return list(json.loads(text)["backups"])


def ask(host: VaultHost, what: str, name: str) -> tuple[int, dict[str, Any]]:
    status, text = host.request("POST", f"/backups/{what}", json.dumps({"name": name}).encode())
    return status, json.loads(text)


def checked(host: VaultHost, name: str) -> dict[str, Any]:
    before = next(b for b in listed(host) if b["name"] == name)["checked_at"]
    status, answer = ask(host, "check", name)
    assert status == 200, answer

    def look() -> dict[str, Any] | None:
        told = json.loads(host.request("GET", "/backups")[1])
        found: dict[str, Any] = next(b for b in told["backups"] if b["name"] == name)
        return found if told["checking"] is None and found["checked_at"] and (found["fault"] or not before) else None

    return wait_for(look, 20, "the file was read through") or {}


def files(host: VaultHost) -> list[str]:
    return sorted(path.name for path in host.config.backups_dir.iterdir())


def test_a_backup_under_writes_tells_what_it_holds(pair: Pair) -> None:
    host = pair.fallback
    with Writers([pair.primary], 2, password=pair.primary.client_password) as writers:
        writers.wait_acknowledged(0, 10, host=pair.primary, count=20)
        result = back_up(host)
        writers.wait_acknowledged(0, 10, host=pair.primary, count=40)
    manifest, file = result["manifest"], Path(result["path"])
    content = file.read_bytes()
    assert file.parent == host.config.backups_dir
    assert (len(content), hashlib.sha256(content).hexdigest()) == (manifest["bytes"], manifest["sha256"])
    assert len(gzip.decompress(content)) == manifest["data_bytes"]
    assert manifest["bytes"] * 3 < manifest["data_bytes"], "it is compressed"
    assert GtidPosition.parse(database(host).gtid_slave_pos).covers(GtidPosition.parse(manifest["position"]))
    assert (manifest["hostname"], manifest["members"]) == (host.hostname, MEMBERS)
    assert manifest["server_version"] == database(host).version
    assert (
        (host.config.backups_dir / f"{file.name}.json").stat().st_mode & 0o777 == file.stat().st_mode & 0o777 == 0o600
    )
    assert listed(host)[0] == manifest


def test_the_newest_good_ones_stay_and_nothing_of_anybody_else_goes(pair: Pair) -> None:
    host = pair.fallback
    directory = host.config.backups_dir
    foreign = directory / f"another-20200101T000000Z-0{SUFFIX}"
    foreign.write_bytes(b"not ours")
    theirs = {
        **back_up(host)["manifest"],
        "agent_id": "f" * 32,
        "name": foreign.name,
        "taken_at": "2020-01-01T00:00:00+00:00",
    }
    (directory / f"{foreign.name}.json").write_text(json.dumps(theirs))
    notes = directory / "notes.txt"
    notes.write_text("mine")
    first, second = back_up(host, keep=9), back_up(host, keep=9)
    good, bad = first["manifest"]["name"], second["manifest"]["name"]
    (directory / bad).write_bytes(b"damaged")
    assert checked(host, bad)["fault"]
    # One good one is kept: the newest of all. The damaged one and those before it go; before it was there, none would have.
    last = back_up(host, keep=1)
    assert [b["name"] for b in listed(host)] == [last["manifest"]["name"]]
    assert {good, bad} <= set(last["removed"])
    assert foreign.exists()
    assert notes.exists()
    status, answer = ask(host, "remove", foreign.name)
    assert status == 422
    assert "another host" in answer["text"]
    assert ask(host, "remove", last["manifest"]["name"])[0] == 200
    assert files(host) == sorted([foreign.name, f"{foreign.name}.json", "notes.txt"])
    for path in (foreign, directory / f"{foreign.name}.json", notes):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(lambda data: data[:-100], "bytes and must have", id="shortened"),
        pytest.param(lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], "checksum", id="one bit"),
    ],
)
def test_a_damaged_file_is_found(pair: Pair, damage: Callable[[bytes], bytes], says: str) -> None:
    host = pair.fallback
    result = back_up(host)
    name, file = result["manifest"]["name"], Path(result["path"])
    sound = checked(host, name)
    assert (sound["fault"], bool(sound["checked_at"])) == ("", True)
    file.write_bytes(damage(file.read_bytes()))
    assert says in checked(host, name)["fault"]
    assert ask(host, "remove", name)[0] == 200


def test_only_controllers_may_ask(pair: Pair) -> None:
    for method, path in (("GET", "/backups"), ("POST", "/backups/check"), ("POST", "/backups/remove")):
        assert pair.fallback.request(method, path, b'{"name": "x"}', who="node")[0] == 403
    assert ask(pair.fallback, "remove", "../../state.json")[0] == 400
    assert ask(pair.fallback, "check", f"no-such{SUFFIX}")[0] == 422


def test_cancelled_it_leaves_nothing(pair: Pair) -> None:
    host, operation = pair.fallback, secrets.token_hex(16)
    before = files(host)
    assert begin(host, operation, bytes_per_second=1024 * 1024)[0] == 200
    wait_for(lambda: (t := host.report().task) and t.done > 0, 20, "the backup is under way")
    assert "busy" in refused(host), "one at a time"
    assert json.loads(host.request("POST", f"/task/{operation}/cancel")[1]) == {"ends": True}
    task = ended(host, operation)
    assert (task.phase, task.says) == (TaskPhase.CANCELLED, "cancelled; nothing was changed")
    assert files(host) == before
    wait_for(lambda: not _writers(host), 10, "no program of it is left")


def test_an_agent_that_is_killed_in_the_middle_leaves_nothing_half(pair: Pair) -> None:
    host, operation = pair.fallback, secrets.token_hex(16)
    before = files(host)
    assert begin(host, operation, bytes_per_second=1024 * 1024)[0] == 200
    wait_for(lambda: (t := host.report().task) and t.done > 0, 20, "the backup is under way")
    host.kill_agent()
    assert len(files(host)) == len(before) + 1, "there is something to remove"
    wait_for(lambda: not _writers(host), 20, "what it had started ends by itself")
    host.start()
    task = host.report().task
    assert task is not None
    assert (task.operation, task.phase) == (operation, TaskPhase.FAILED)
    assert files(host) == before


def _writers(host: VaultHost) -> list[int]:
    """Programs of a backup that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(host.home).encode() in words and b"mariadb-backup" in words:
                found.append(int(entry.name))
    return found


def test_a_directory_that_others_may_enter_is_refused(pair: Pair) -> None:
    directory = pair.fallback.config.backups_dir
    directory.chmod(0o750)
    try:
        assert "chmod 0700" in refused(pair.fallback)
        assert pair.fallback.request("GET", "/backups")[0] == 422
    finally:
        directory.chmod(0o700)
    assert back_up(pair.fallback)


def test_bad_arguments_are_refused(pair: Pair) -> None:
    assert "keep" in refused(pair.fallback, keep=0)
    assert "rate" in refused(pair.fallback, bytes_per_second=10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_said_and_nothing_is_left(make: Callable[..., VaultHost], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "tmpfs", str(disk)], check=True)
    try:
        host = make("127.0.85.3", "backed-c").init("--backup-dir", str(disk)).start()
        open_primary(host, [], jump=False)
        first = back_up(host, keep=5)
        assert Path(first["path"]).parent == disk
        filler = disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - 3_000_000))
        # By its last backup it fits. What has come since cannot be compressed and fills the disk.
        host.sql("CREATE TABLE vault.noise (id INT PRIMARY KEY, noise LONGBLOB)")
        for n in range(6):
            host.sql("INSERT INTO vault.noise VALUES (%s, %s)", n, secrets.token_bytes(1_000_000))
        operation = secrets.token_hex(16)
        status, answer = begin(host, operation)
        assert status == 200, answer
        task = ended(host, operation)
        assert task.phase is TaskPhase.FAILED
        assert "full" in task.says
        assert files(host) == sorted([first["manifest"]["name"], f"{first['manifest']['name']}.json", "filler"])
        with filler.open("ab") as more:
            more.write(bytes(shutil.disk_usage(disk).free - 100_000))
        assert "make room" in refused(host)
        host.sql("INSERT INTO vault.noise VALUES (99, 'still writable')")
        host.stop()
        host.kill_database()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_home_is_not_made_with_a_directory_that_is_not_private(
    make: Callable[..., VaultHost], tmp_path: Path
) -> None:
    host = make("127.0.85.4", "backed-d")
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o755)
    open_to_all.chmod(0o755)
    for directory, says in ((open_to_all, "chmod 0700"), (tmp_path / "missing", "mount its disk")):
        with pytest.raises(AssertionError, match=says):
            host.init("--backup-dir", str(directory))
        assert not host.config_exists()
