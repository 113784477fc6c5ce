"""The target of a full copy.

Proves, on real servers and agents: a copy takes the place of the data, which are kept, and the node follows and acknowledges from
then on, also after a crash; the wrong source, the wrong operation, another user or version, garbage, a stream that breaks off or
is cut short, cancelling, stopping and killing leave the node as it was, with a sentence and nothing on its disk.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from replication.core.commands import Verb
from replication.core.roles import OrderKind
from replication.core.tasks import TaskPhase
from tests.agent.copying import (
    PATIENCE,
    backup_of,
    cancel,
    command,
    copy,
    headers,
    leftovers,
    push,
    rebuild,
    send,
    wait_ended,
    wait_phase,
)
from tests.agent.orders import database, follow, has, open_primary, order, write
from tests.vault_host import VaultHost
from tests.waiting import wait_for

Pair = tuple[VaultHost, VaultHost]


@pytest.fixture(scope="module")
def pair(make: Callable[..., VaultHost]) -> Pair:
    """A primary and a node that has other data and cannot follow it."""
    source, target = make("127.0.80.11", "source-1", cut="none"), make("127.0.80.12", "target-1", cut="none")
    target.client_password = source.client_password
    for host in (source, target):
        host.init().start()
    open_primary(target, [source], jump=False)
    target.sql("CREATE TABLE vault.mine (id INT PRIMARY KEY)")
    order(target, Verb.CLOSE)
    open_primary(source, [target], jump=False)
    source.sql("CREATE TABLE vault.rows_ (id BIGINT PRIMARY KEY, filling LONGBLOB)")
    return source, target


def write_more(host: VaultHost) -> None:
    host.sql("INSERT INTO vault.rows_ (id) SELECT COALESCE(MAX(id), 1000) + 1 FROM vault.rows_")


def test_first(pair: Pair) -> None:
    source, target = pair
    report = copy(source, target)
    print(report.task, report.kept)
    assert report.task is not None and report.task.phase is TaskPhase.DONE, target.log()
    follow(target, source)
    order(target, Verb.ACKER)
