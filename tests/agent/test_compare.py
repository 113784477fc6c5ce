"""Two real hosts are compared while clients write. Proves: docs/design/comparison.md."""

from collections.abc import Callable

import pytest

from replication.core.commands import Verb
from tests.agent.comparing import compare
from tests.agent.orders import follow, open_primary, order
from tests.vault_host import VaultHost
from tests.writers import Writers, create_table

ADDRESSES = ("127.0.84.11", "127.0.84.12")


@pytest.fixture(scope="module")
def pair(make: Callable[..., VaultHost]) -> tuple[VaultHost, VaultHost]:
    """A lossless primary and its acker."""
    primary, acker = (make(address, f"compare-{n}", cut="none") for n, address in enumerate(ADDRESSES, 1))
    acker.client_password = primary.client_password
    for host in (primary, acker):
        host.init().start()
    open_primary(primary, [acker], jump=False)
    create_table(primary)
    follow(acker, primary)
    order(acker, Verb.ACKER)
    order(primary, Verb.LOSSLESS)
    return primary, acker


def test_nothing_differs(pair: tuple[VaultHost, VaultHost]) -> None:
    found = compare(*pair)
    print(found)
    assert found.differences == ()


def test_no_false_alarm_while_eight_clients_write(pair: tuple[VaultHost, VaultHost]) -> None:
    primary, acker = pair
    with Writers([primary], 8, password=primary.client_password) as writers:
        for _ in range(10):
            found = compare(primary, acker)
            print(len(writers.acknowledged), found)
            assert found.differences == ()
