"""Backups of a whole vault, and its total loss: from a file to a lossless pair again.

Real agents and databases under a whole controller. Proves: a backup comes from a fallback, is a row and an event, can be checked and
removed, and one that has gone is shown as gone; one that cannot be made is an alarm; a cancelled one leaves nothing; when both hosts
are gone, machines with the same names and addresses are made anew, the Master's restored from the file, and the vault opens there
under its row with a higher epoch, holding what was acknowledged before the backup; the fallback is rebuilt from it.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replication.core.roles import OrderKind
from tests.scenarios.rebuilds import Place, place, secrets_in, write
from tests.waiting import wait_for

A, B = "127.0.85.21", "127.0.85.22"
NO_SCHEDULE = "UPDATE nodes_vault SET backup_every_hours = NULL, verify_every_hours = NULL"


@pytest.fixture(scope="module")
def pair() -> Iterator[Place]:
    with place(A, B, rows=50) as found:
        found.stack.execute(NO_SCHEDULE)
        yield found


def back_up(pair: Place) -> dict[str, Any]:
    ended = pair.wait_ended(pair.command("back-up", "--yes"))
    assert ended["state"] == "succeeded", ended
    return ended


def rows(pair: Place) -> list[dict[str, Any]]:
    return pair.stack.rows("SELECT * FROM nodes_backup ORDER BY taken_at DESC")


def wish(pair: Place, action: str, backup: dict[str, Any] | None = None) -> dict[str, Any]:
    """As the screen asks for it."""
    found = f"Backup.objects.get(pk={backup['id']!r})" if backup is not None else "None"
    script = (
        "from nodes.models import Backup; from replication.stores import backups, wishes; from replication.jobs import queueing\n"
        f"o = backups.request({action!r}, wishes.default_vault(), {found}, None, lambda o: queueing.enqueue(o.pk, o.kind))\n"
        "print(o.pk)\n"
    )
    return pair.wait_ended(pair.stack.manage("shell", "-v0", "-c", script).split()[-1])


def test_a_backup_comes_from_a_fallback(pair: Place) -> None:
    pair.wait_lossless()
    ended = back_up(pair)
    (row,) = rows(pair)
    assert row["hostname"] == pair.fallback.hostname
    assert Path(row["path"]).parent == pair.fallback.config.backups_dir
    assert not list(pair.primary.config.backups_dir.iterdir())
    assert (row["size"], row["fault"]) == (Path(row["path"]).stat().st_size, "")
    assert row["position"] == pair.fallback.report().database.gtid_slave_pos  # type: ignore[union-attr]
    assert "the acker: there is no other good fallback" in ended["result"]["summary"]
    assert [event["node_name"] for event in pair.stack.events("W120")] == [pair.fallback.hostname]


def test_it_is_checked_and_what_has_become_of_it_is_shown(pair: Place) -> None:
    (row,) = rows(pair)
    assert wish(pair, "check", row)["state"] == "succeeded"
    assert rows(pair)[0]["checked_at"]
    file = Path(row["path"])
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"!")
    failed = wish(pair, "check", row)
    assert failed["state"] == "failed"
    assert "checksum" in failed["result"]["summary"]
    assert "checksum" in rows(pair)[0]["fault"]
    file.unlink()
    assert wish(pair, "look")["state"] == "succeeded"
    assert rows(pair)[0]["fault"] == "its file is gone"
    assert [event["level"] for event in pair.stack.events("W123")] == ["error", "error"]
    assert wish(pair, "remove", row)["state"] == "succeeded"
    assert rows(pair) == []


def test_one_that_cannot_be_made_is_an_alarm(pair: Place) -> None:
    directory = pair.fallback.config.backups_dir
    directory.chmod(0o755)
    try:
        ended = pair.wait_ended(pair.command("back-up", "--yes"))
    finally:
        directory.chmod(0o700)
    assert ended["state"] == "failed"
    assert "chmod 0700" in ended["result"]["summary"]
    (event,) = pair.stack.events("W121")
    assert event["level"] == "error"
    assert rows(pair) == []


def test_a_cancelled_one_leaves_nothing(pair: Place) -> None:
    pair.stack.execute("UPDATE nodes_vault SET copy_mib_per_second = 1")
    id = pair.command("back-up", "--yes")
    wait_for(lambda: pair.operation(id)["done"], 20, lambda: f"it says how far it is: {pair.operation(id)}")
    pair.stack.execute("UPDATE nodes_operation SET cancel_requested_at = created_at WHERE id = ?", id)
    assert pair.wait_ended(id)["state"] == "cancelled"
    wait_for(lambda: not list(pair.fallback.config.backups_dir.iterdir()), 10, "nothing is left")
    pair.stack.execute("UPDATE nodes_vault SET copy_mib_per_second = 50")
    assert rows(pair) == []


def test_a_vault_that_was_lost_as_a_whole_begins_again_from_a_backup(pair: Place, tmp_path: Path) -> None:
    pair.wait_lossless()
    master, other = pair.primary, pair.fallback
    write(master, "before the backup")
    wait_for(lambda: b"before the backup" in secrets_in(other), 10, "the fallback has it")
    back_up(pair)
    write(master, "after the backup")
    for path in Path(rows(pair)[0]["path"]).parent.iterdir():
        shutil.copy2(path, tmp_path)
    (file,) = tmp_path.glob("*.gz")
    epoch = pair.stack.vault()["epoch"]
    for host in (master, other):
        host.destroy()
        shutil.rmtree(host.home)
    # New machines with the names and addresses of the old ones.
    master.init()
    done = master.run("restore", "--from", str(file), "--yes-i-mean", master.hostname)
    assert done.returncode == 0, done.stderr
    master.start()
    opened = master.wait_report(lambda report: report.order_kind is OrderKind.SOLO)
    assert opened.epoch > epoch
    wait_for(lambda: pair.stack.status_of(master.hostname)[0] == "master", 20, "the screen says so")
    assert {b"before the backup"} == secrets_in(master) & {b"before the backup", b"after the backup"}
    write(master, "a new life")
    # The policy of a new vault rebuilds what only lacks something: nobody has to ask for it.
    other.init().start()
    pair.wait_lossless(90)
    pair.wait_equal()
    assert b"a new life" in secrets_in(other)
    assert other.report().epoch > epoch
    assert back_up(pair)["result"]["path"].startswith(str(other.config.backups_dir))
    faults = {row["path"]: row["fault"] for row in rows(pair)}
    assert faults[str(other.home / "backups" / file.name)] == "its file is gone"


def test_an_emptied_master_is_not_opened_and_nothing_is_rebuilt_from_it(pair: Place) -> None:
    """Its fallback holds everything, was away when the leader of now began to look, and the policy is to rebuild whatever diverges."""
    master, other = pair.primary, pair.fallback
    pair.stack.execute("UPDATE nodes_vault SET rebuild_policy = 'always'")
    write(master, "held by the fallback")
    wait_for(lambda: b"held by the fallback" in secrets_in(other), 10, "the fallback has it")
    other.stop()
    other.kill_database()
    wait_for(lambda: not pair.stack.vault()["acker"], 20, "the vault is solo")
    pair.stack.kill("service-a")
    master.destroy()
    shutil.rmtree(master.home)
    master.init().start()
    pair.stack.service("a")
    done = len(pair.stack.rows("SELECT id FROM nodes_operation"))
    wait_for(
        lambda: pair.stack.status_of(master.hostname)[0] == "master-closed", 30,
        lambda: f"the new leader has seen it: {pair.stack.status_of(master.hostname)}",
    )  # fmt: skip
    other.start()
    wait_for(
        lambda: pair.stack.status_of(other.hostname)[0] not in ("unreachable", "unknown"), 30,
        lambda: f"and the fallback: {pair.stack.status_of(other.hostname)}",
    )  # fmt: skip
    ended = pair.wait_ended(pair.command("resynchronize"))
    assert ended["state"] == "failed"
    assert "is not open as Master" in ended["result"]["summary"]
    assert (master.report().order_kind, master.report().vault) == (OrderKind.NONE, "")
    assert b"held by the fallback" in secrets_in(other)
    assert not other.report().task or not other.report().task.active
    assert len(pair.stack.rows("SELECT id FROM nodes_operation")) == done + 1, "nobody asked for a copy"
