"""The agent protocol from end to end, as docs/reference/agent-protocol.md has it: one pair, one life, spoken to over HTTPS.

Proves, in the order of the story: two closed nodes become a lossless pair; the health pages follow every change of role; after
a kill -9 the acker is opened and has every acknowledged row; the old primary comes back as a replica; a leader that was
replaced is turned away, also after the agents were restarted; a node that left its vault is purged.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replication.core import limits
from replication.core.commands import ReplicationAccount, Verb, account_name
from replication.core.errors import StaleEpoch, StepFailed
from replication.core.roles import OrderKind
from tests.agent.orders import follow_args
from tests.vault_host import VaultHost, vault_hosts
from tests.waiting import wait_for

PATIENCE = limits.STEP_DEADLINE.total_seconds()


@pytest.fixture
def pair() -> Iterator[tuple[VaultHost, VaultHost]]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    with vault_hosts(directory) as make:
        # Without the cut: on one machine it would reject the other node's packets too.
        first, second = make("127.0.22.31", "protocol-1", cut="none"), make("127.0.22.32", "protocol-2", cut="none")
        second.client_password = first.client_password  # the account moves with the data
        yield first.init().start(), second.init().start()
    shutil.rmtree(directory, ignore_errors=True)


class Leader:
    """Gives orders under one term, each under an epoch of its own."""

    def __init__(self, term: int, epoch: int = 0) -> None:
        self.term, self.epoch = term, epoch

    def order(self, host: VaultHost, verb: Verb, args: dict[str, Any] | None = None) -> dict[str, Any]:
        self.epoch += 1
        return dict(host.order(verb, args, term=self.term, epoch=self.epoch).facts)

    def follow(self, host: VaultHost, source: VaultHost, *, truncate_tail: bool) -> None:
        database = source.wait_up().database
        assert database is not None
        self.order(host, Verb.FOLLOW, follow_args(host, source, database, truncate_tail=truncate_tail))


def pages(host: VaultHost) -> tuple[int, int]:
    """Codes of /primary and /replica, as a load balancer sees them: without a certificate."""
    first, second = (host.request("GET", page, who="nobody")[0] for page in ("/primary", "/replica"))
    return first, second


def account(host: VaultHost) -> dict[str, Any]:
    return ReplicationAccount(name=account_name(host.node), subject=host.subject).to_json()


def write(host: VaultHost, row: int) -> None:
    with contextlib.closing(host.connect_client(read_timeout=10)) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO told VALUES (%s)", (row,))


def rows(host: VaultHost) -> list[int]:
    return [row["id"] for row in host.sql("SELECT id FROM vault.told ORDER BY id")]


def test_the_life_of_a_pair(pair: tuple[VaultHost, VaultHost]) -> None:
    old, new = pair
    leader = Leader(term=1)
    closed, primary, replica = (503, 503), (200, 503), (503, 200)
    assert (pages(old), pages(new)) == (closed, closed)

    leader.order(old, Verb.OPEN, {"accounts": [account(new)]})
    assert pages(old) == primary
    leader.follow(new, old, truncate_tail=False)
    wait_for(lambda: pages(new) == replica, PATIENCE, "the replica's page says so")

    leader.order(new, Verb.ACKER)
    start = leader.order(old, Verb.LOSSLESS)["gtid_binlog_pos"]
    assert leader.order(new, Verb.RECEIVED, {"position": start})["gtid_io_pos"]
    old.sql("CREATE TABLE vault.told (id BIGINT PRIMARY KEY)")
    acknowledged = list(range(20))
    for row in acknowledged:
        write(old, row)
    assert old.report().order_kind is OrderKind.LOSSLESS

    old.kill_database()
    wait_for(lambda: pages(old) == closed, PATIENCE, "a dead primary's page says so")
    leader.order(old, Verb.FENCE)
    leader.order(new, Verb.REVOKE)
    leader.order(new, Verb.DRAIN)
    wait_for(
        lambda: pages(new) == closed, PATIENCE, "what is drained follows no more, and is closed until it is opened"
    )
    leader.order(new, Verb.OPEN, {"accounts": [account(old)], "jump": True})
    assert (pages(new), pages(old)) == (primary, closed)
    assert rows(new) == acknowledged

    leader.follow(old, new, truncate_tail=True)
    wait_for(lambda: pages(old) == replica, PATIENCE, "the old primary came back as a replica")
    acknowledged.append(len(acknowledged))
    write(new, acknowledged[-1])
    wait_for(lambda: rows(old) == acknowledged, PATIENCE, lambda: f"the new row arrives: {rows(old)}")

    turned_away(leader, old, new)

    leader.order(old, Verb.DETACH, {"leave": True})
    assert old.report().vault == ""
    assert pages(old) == closed
    done = old.run("purge", "--yes-i-mean", old.hostname)
    assert done.returncode == 0, done.stderr
    old.wait_agent_ended()
    assert not old.config_exists()
    write(new, len(acknowledged))


def turned_away(leader: Leader, old: VaultHost, new: VaultHost) -> None:
    """A new leader takes over; the one before gets nowhere, also with agents that were killed in between."""
    after = Leader(term=leader.term + 1, epoch=leader.epoch)
    after.order(new, Verb.SOLO)
    for _ in range(2):
        with pytest.raises(StaleEpoch) as stale:
            new.order(Verb.SOLO, term=leader.term, epoch=after.epoch)
        assert (stale.value.promised_term, stale.value.promised_epoch) == (after.term, after.epoch)
        with pytest.raises(StaleEpoch):
            new.order(Verb.FENCE, term=after.term, epoch=after.epoch - 1)
        with pytest.raises(StepFailed, match="another vault"):
            old.order(Verb.FOLLOW, {}, vault="f" * 32, term=99, epoch=99_999)
        assert new.database_pid
        new.kill_agent()
        new.start()
    new.order(Verb.SOLO, term=after.term, epoch=after.epoch)  # repeating an order is no step back
    leader.term, leader.epoch = after.term, after.epoch
