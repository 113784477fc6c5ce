"""The cut: on this host, packets to a revoked primary's database port are answered with a reset.

Proves, with the kernel's own nftables: established and new connections end at once, other addresses and ports go on; a cut
outlives the agent that made it; nothing is left behind; a revoked acker is cut and the next order lifts it.
"""

import contextlib
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from replication.agent.firewall import NftCut
from replication.core import limits
from tests.vault_host import VaultHost

REVOKED, OTHER = "127.0.21.31", "127.0.21.32"
PORT = limits.DATABASE_PORT
SECONDS = 5


@pytest.fixture
def cut() -> Iterator[NftCut]:
    firewall = NftCut(secrets.token_hex(16), PORT, wanted=True)
    firewall.arm()
    assert firewall.armed, "these tests need the right to use nftables, as script/test has it"
    yield firewall
    firewall.remove()


@contextlib.contextmanager
def listening(address: str, port: int = PORT) -> Iterator[None]:
    with socket.create_server((address, port)):
        yield


def connect(address: str, port: int = PORT) -> socket.socket:
    return socket.create_connection((address, port), timeout=SECONDS)


def tables() -> str:
    return subprocess.run(["/usr/sbin/nft", "list", "tables"], capture_output=True, text=True, check=True).stdout


def test_the_revoked_address_is_refused_at_once_and_others_are_not(cut: NftCut) -> None:
    with listening(REVOKED), listening(OTHER), listening(REVOKED, PORT + 1):
        cut.cut(REVOKED)
        with pytest.raises(ConnectionRefusedError):
            connect(REVOKED)
        connect(OTHER).close()
        connect(REVOKED, PORT + 1).close()
        cut.lift()
        connect(REVOKED).close()


def test_an_open_connection_is_reset(cut: NftCut) -> None:
    with listening(REVOKED), connect(REVOKED) as stream:
        cut.cut(REVOKED)
        with pytest.raises(ConnectionError):  # noqa: PT012  # the reset may meet the write or the read
            stream.sendall(b"acknowledged")
            stream.recv(1)


def test_a_cut_outlives_its_agent_and_goes_with_the_node(cut: NftCut) -> None:
    with listening(REVOKED):
        cut.cut(REVOKED)
        successor = NftCut(cut.table.removeprefix("inet vault_agent_"), PORT, wanted=True)
        successor.arm()
        assert successor.table == cut.table
        with pytest.raises(ConnectionRefusedError):
            connect(REVOKED)
        successor.remove()
        connect(REVOKED).close()
    assert cut.table not in tables()


def test_both_families_can_be_cut_and_text_that_is_no_address_cannot(cut: NftCut) -> None:
    cut.cut("2001:db8::1")
    cut.cut("primary.example; flush ruleset")
    listed = subprocess.run(["/usr/sbin/nft", "list", "table", *cut.table.split()], capture_output=True, text=True)
    assert "2001:db8::1" in listed.stdout
    assert "revoked4" in listed.stdout


def test_without_the_wish_nothing_is_made() -> None:
    firewall = NftCut(secrets.token_hex(16), PORT, wanted=False)
    firewall.arm()
    firewall.cut(REVOKED)
    assert not firewall.armed
    assert firewall.table not in tables()


def test_an_agent_says_whether_its_cut_is_armed(make: Callable[..., VaultHost]) -> None:
    armed = make("127.0.21.33", "cut-1").init().start("--stop-database")
    table = NftCut(armed.config.agent_id, PORT, wanted=True).table
    assert "nftables-cut" in armed.report().fences
    assert table in tables()
    armed.stop()
    assert table not in tables()
