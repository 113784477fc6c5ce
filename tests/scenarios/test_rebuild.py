"""A node that cannot go on from where it is gets a full copy, by a click or by itself, and nothing of it is thrown away.

Real agents and databases under a whole controller. Proves: purged logs: Re-synchronize Master makes a full copy by itself and
says why; it can be undone, and is not rebuilt behind the back of who undid it; a node that has diverged is not replaced without
its hostname, is exported first, and follows with equal rows afterwards; the old data is kept, and removed on request; an empty new
node is copied from a fallback without a click; two that cannot go on are copied one after the other; a Master that dies while a third
node is copied is replaced at once, and the copy goes on; a node that is made inactive ends its copy, as it was.
"""

from collections.abc import Iterator

import pytest

from tests.scenarios.rebuilds import Place, place, purge, purge_what_it_lacks, secrets_in, share, write
from tests.vault_host import VaultHost
from tests.waiting import wait_for

A, B, C = "127.0.82.1", "127.0.82.2", "127.0.82.3"


@pytest.fixture(scope="module")
def pair() -> Iterator[Place]:
    with place(A, B) as found:
        found.stack.execute("UPDATE nodes_vault SET rebuild_policy = 'never'")
        yield found


def test_purged_logs_re_synchronize_makes_a_full_copy_by_itself(pair: Place) -> None:
    pair.wait_lossless()
    purge_what_it_lacks(pair)
    pair.fallback.wait_report(lambda report: bool(report.needs_rebuild))
    ended = pair.wait_ended(pair.command("resynchronize"))
    assert ended["state"] == "succeeded", ended["result"]["summary"]
    assert "full copy, because the primary no longer has the binary logs that it needs" in ended["result"]["summary"]
    assert "vault-b was rebuilt from vault-a" in ended["result"]["summary"]
    pair.wait_lossless()
    pair.wait_equal()
    assert b"while it was away" in secrets_in(pair.fallback)
    report = pair.fallback.report()
    assert (report.needs_rebuild, report.kept is not None) == ("", True)
    assert pair.ends_told() == [("P65", "info", ended["message"][:1000])]


def test_undo_puts_the_old_data_back_and_nobody_rebuilds_behind_that(pair: Place) -> None:
    node = pair.fallback
    ended = pair.wait_ended(
        pair.command("undo-rebuild", node.hostname, "--confirm", node.hostname, "--reason", "a test")
    )
    assert ended["state"] == "succeeded", ended["result"]["summary"]
    assert "the data of before its rebuild again" in ended["result"]["summary"]
    assert pair.ends_told()[1:] == [("P67", "info", ended["message"])]
    report = node.wait_report(lambda report: bool(report.needs_rebuild))
    assert report.kept is None
    assert b"while it was away" not in secrets_in(node), "it has the very data of before"
    pair.stack.execute("UPDATE nodes_vault SET rebuild_policy = 'always'")
    try:
        # Somebody else's wish, made later than the policy could have been applied.
        ended = pair.wait_ended(pair.command("rebuild", node.hostname, "--rate", "200", "--do-not-compare"))
    finally:
        pair.stack.execute("UPDATE nodes_vault SET rebuild_policy = 'never'")
    assert ended["state"] == "succeeded", ended["result"]["summary"]
    steps = [step["name"] for step in ended["steps"] if step["state"] == "done"]
    assert steps == [
        f"{word} {node.hostname}" for word in ("order", "transfer", "prepare", "swap", "start", "catch-up")
    ] or (
        set(steps) >= {f"order {node.hostname}", f"catch-up {node.hostname}"}  # a phase of a few ms may be over unseen
    )
    assert pair.stack.rows("SELECT COUNT(*) AS n FROM nodes_operation WHERE kind = 'rebuild'") == [{"n": 1}]
    pair.wait_lossless()
    pair.wait_equal()


def test_a_diverged_node_is_replaced_only_when_confirmed_and_exported_first(pair: Place) -> None:
    pair.wait_lossless()
    node = pair.fallback
    node.sql("SET GLOBAL read_only = 0")
    write(node, "only here")  # as a person with the root account might, by mistake
    node.sql("SET GLOBAL read_only = 1")
    write(pair.primary, "and on the Master")  # the same number: strict mode stops the fallback here
    wait_for(lambda: pair.stack.status_of(node.hostname)[0] in ("slave-error", "diverged"), 30, "its replication stops")
    refused = pair.wait_ended(pair.command("resynchronize"))
    assert refused["state"] == "failed", refused["result"]["summary"]
    assert "it is to be confirmed with its hostname" in refused["result"]["summary"]
    assert b"only here" in secrets_in(node)
    wait_for(lambda: pair.stack.status_of(node.hostname)[0] == "diverged", 30, "its row says that it has diverged")
    ended = pair.wait_ended(pair.command("resynchronize", "--yes"))
    assert ended["state"] == "succeeded", ended["result"]["summary"]
    assert "full copy, because it has diverged" in ended["result"]["summary"]
    pair.wait_lossless()
    pair.wait_equal()
    assert {b"and on the Master"} <= secrets_in(node)
    assert b"only here" not in secrets_in(node)
    (found,) = pair.stack.rows("SELECT hostname, transaction_count FROM nodes_lossreport WHERE transaction_count > 0")
    assert found == {"hostname": node.hostname, "transaction_count": 1}


def test_an_undo_removes_the_copy_and_so_exports_first_what_only_that_has(pair: Place) -> None:
    node = pair.fallback
    node.sql("SET GLOBAL read_only = 0")
    write(node, "only in the copy")
    node.sql("SET GLOBAL read_only = 1")
    ended = pair.wait_ended(
        pair.command("undo-rebuild", node.hostname, "--confirm", node.hostname, "--reason", "a test")
    )
    assert ended["state"] == "succeeded", ended["result"]["summary"]
    assert f"1 transactions of {node.hostname} are not in the vault" in ended["result"]["summary"]
    assert b"only in the copy" not in secrets_in(node)
    (exported,) = (node.home / "lost").glob(f"*-{ended['id']}/transactions.txt")
    assert "only in the copy" in exported.read_text()
    wait_for(lambda: pair.stack.status_of(node.hostname)[0] == "diverged", 30, "the data of before have diverged")
    ended = pair.wait_ended(pair.command("resynchronize", "--yes"))
    assert ended["state"] == "succeeded", ended["result"]["summary"]


def test_old_data_is_removed_on_request(pair: Place) -> None:
    node = pair.fallback
    assert node.report().kept is not None
    ended = pair.wait_ended(
        pair.command("remove-old-data", node.hostname, "--confirm", node.hostname, "--reason", "room is needed")
    )
    assert ended["state"] == "succeeded", ended["result"]["summary"]
    node.wait_report(lambda report: report.kept is None)
    assert not (node.home / "data.old").exists()


def test_an_empty_new_node_is_copied_by_itself_and_from_a_fallback(pair: Place) -> None:
    pair.wait_lossless()
    pair.stack.execute("UPDATE nodes_vault SET rebuild_policy = 'nothing-lost'")
    purge(pair.primary)
    node = pair.add(C, "vault-c")

    def begun() -> str:
        last = pair.latest("rebuild")
        mine = pair.stack.rows("SELECT id FROM nodes_vaultnode WHERE hostname = 'vault-c'")[0]["id"]
        return str(last["id"]) if last is not None and last["node_id"] == mine else ""

    id = wait_for(
        begun, 60, lambda: f"it is rebuilt by the vault's setting: {node.report()}\n{pair.stack.log('service-a')}"
    )
    ended = pair.wait_ended(id)
    assert ended["state"] == "succeeded", ended["result"]["summary"]
    assert ended["requested_by_id"] is None
    assert f"vault-c was rebuilt from {pair.fallback.hostname}" in ended["result"]["summary"]
    assert "It is equal to the Master." in ended["result"]["summary"]
    pair.wait_equal_on(node)
    (told,) = pair.stack.rows(
        "SELECT text FROM nodes_event WHERE operation = ? AND text LIKE '%begun by the service%'", id
    )
    assert "by the vault's setting" in told["text"]


def test_two_that_cannot_go_on_are_copied_one_after_the_other(pair: Place) -> None:
    pair.stack.execute("UPDATE nodes_vault SET rebuild_policy = 'never'")
    pair.wait_lossless()
    purge_what_it_lacks(pair)
    both = [host for host in pair.hosts if host is not pair.primary]
    ended = pair.wait_ended(pair.command("resynchronize"), 120)
    assert ended["state"] == "succeeded", ended["result"]["summary"]
    for host in both:
        assert f"{host.hostname}: full copy, because the primary no longer has" in ended["result"]["summary"]
        pair.wait_equal_on(host)
        assert b"while it was away" in secrets_in(host)
    steps = [step["name"] for step in ended["steps"] if step["name"].startswith(("order", "catch-up"))]
    assert steps.index(f"order {both[1].hostname}") > steps.index(f"order {both[0].hostname}")


def begin_copying(pair: Place, rate: int) -> tuple[str, VaultHost]:
    """A copy to the node that is neither Master nor acker, at so many MiB a second; it is under way."""
    pair.wait_lossless()
    row = pair.stack.vault()
    (node,) = (host for host in pair.hosts if host.hostname not in (row["primary"], row["acker"]))
    wait_for(lambda: pair.stack.status_of(node.hostname)[0] == "slave-waiting", 30, "the third one follows")
    confirmed = ("--confirm", node.hostname, "--reason", "a test")
    id = pair.command(
        "rebuild", node.hostname, "--source", row["acker"], "--rate", str(rate), "--do-not-compare", *confirmed
    )
    wait_for(lambda: share(node) > 0.1, 60, lambda: f"it is copied: {node.report().task}, {pair.operation(id)}")
    return id, node


def test_a_master_that_dies_while_a_third_node_is_copied_is_replaced_at_once(pair: Place) -> None:
    id, node = begin_copying(pair, 3)
    acker, lost = pair.stack.vault()["acker"], pair.primary
    lost.kill_database()
    pair.stack.wait_vault(primary=acker, timeout=10)
    assert share(node) < 2.0, "the copy was over before: nothing is shown"
    write(pair.primary, "after the failover")
    ended = pair.wait_ended(id)
    assert ended["state"] == "succeeded", ended["result"]["summary"]
    assert f"{node.hostname} was rebuilt from {acker}" in ended["result"]["summary"]
    pair.wait_equal_on(node)


def test_a_node_that_is_made_inactive_ends_its_copy(pair: Place) -> None:
    id, node = begin_copying(pair, 1)  # a command takes its time on a busy host
    kept = node.report().kept
    pair.stack.manage("vault", "deactivate", node.hostname, "--confirm", node.hostname, "--reason", "a test", "--yes")
    ended = pair.wait_ended(id)
    assert ended["state"] == "failed"
    assert "was made inactive or deleted meanwhile; the node is as before" in ended["result"]["summary"]
    report = node.report()
    assert report.kept is not None
    assert kept is not None
    assert report.kept.operation == kept.operation
    assert not (node.home / "copy.new").exists()
