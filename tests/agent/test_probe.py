"""Looking around from a vault host: what an agent sees of its neighbours, and that it is nobody's port scanner.

Proves: a database that greets and an agent that proves itself answer; closed ports, other programs and foreign certificates are told
apart; the clock, the size of the data and the server_id are the host's own; only a controller may ask; other ports, too many
targets, names and addresses of more than one host are not looked at; nothing but a TLS hello is sent; silence and many
questions have their bounds; every question is in the log, and a hello is answered meanwhile.
"""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from replication import certificates
from replication.agent.probe import TIMES_MAX, size_of
from replication.client import AgentClient
from replication.core import limits
from replication.core.errors import NodeUnreachable
from replication.core.probe import TARGETS_MAX, Door, ProbeAnswer, Reach, Target
from replication.core.view import NodeView
from tests.listening import served
from tests.vault_host import Identity, VaultHost, authority, identity
from tests.waiting import wait_for

ASKER, NEIGHBOUR, EMPTY, OTHER = (f"127.0.62.{n}" for n in (41, 42, 43, 44))
AGENT, DATABASE = limits.AGENT_PORT, limits.DATABASE_PORT
DEADLINE = limits.PROBE_DEADLINE.total_seconds()
SLACK = 1.0
"""Seconds, on a busy machine."""


@pytest.fixture(scope="module")
def hosts(make: Callable[..., VaultHost]) -> tuple[VaultHost, VaultHost]:
    # One machine: a cut of one would reach everybody's packets.
    one, two = make(ASKER, "asker-1", cut="none"), make(NEIGHBOUR, "neighbour-1", cut="none")
    return one.init().start(), two.init().start()


@pytest.fixture
def host(hosts: tuple[VaultHost, VaultHost]) -> VaultHost:
    """The tests of this file ask it fewer than TIMES_MAX times in all."""
    return hosts[0]


def target(ip: str, port: int, door: str = "") -> dict[str, Any]:
    return {"ip": ip, "port": port, "door": door or ("database" if port == DATABASE else "agent")}


def asked(host: VaultHost, targets: Any, who: Identity = "controller") -> tuple[int, dict[str, Any]]:
    status, text = host.request("POST", "/probe", json.dumps({"targets": targets}).encode(), who=who)
    return status, json.loads(text)


def reached(host: VaultHost, *targets: dict[str, Any]) -> list[str]:
    status, answer = asked(host, list(targets))
    assert status == 200, answer
    return [str(word) for word in ProbeAnswer.from_json(answer).reached]


@contextlib.contextmanager
def something(ip: str, port: int, says: bytes = b"") -> Iterator[list[bytes]]:
    """A program that says something to everybody and then listens; answers what it heard from each."""
    heard: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                with listening.accept()[0] as one:
                    one.settimeout(5)
                    if says:
                        one.sendall(says)
                    got = b""
                    with contextlib.suppress(OSError):
                        while part := one.recv(4096):
                            got += part
                    heard.append(got)

    with served(ip, port, serve):
        yield heard


def test_a_neighbour_answers_on_both_ports(host: VaultHost) -> None:
    assert reached(host, target(NEIGHBOUR, DATABASE), target(NEIGHBOUR, AGENT)) == ["answers", "answers"]


def test_where_nobody_listens_it_is_refused(host: VaultHost) -> None:
    assert reached(host, target(EMPTY, DATABASE), target(EMPTY, AGENT)) == ["refused", "refused"]


def test_a_host_that_swallows_everything_is_silent_and_costs_one_deadline(host: VaultHost) -> None:
    with socket.create_server((EMPTY, DATABASE), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(4):  # its queue is full: the kernel drops what comes
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        before = time.monotonic()
        assert reached(host, *[target(EMPTY, DATABASE)] * 4) == ["silent"] * 4
    assert time.monotonic() - before < DEADLINE + SLACK


def test_other_programs_are_not_taken_for_a_database_or_an_agent(host: VaultHost) -> None:
    with something(OTHER, DATABASE, b"SSH-2.0-OpenSSH_9.2\r\n"), something(OTHER, AGENT, b"HTTP/1.1 200 OK\r\n\r\n"):
        assert reached(host, target(OTHER, DATABASE), target(OTHER, AGENT)) == ["strange", "strange"]


def test_a_database_that_turns_everybody_away_is_still_there(host: VaultHost) -> None:
    refusal = b"\x10\x04Too many connections"
    with something(OTHER, DATABASE, bytes([len(refusal) + 1, 0, 0, 0, 255]) + refusal):
        assert reached(host, target(OTHER, DATABASE)) == ["answers"]


def test_to_a_database_nothing_is_sent_and_to_an_agent_a_tls_hello_without_our_certificate(host: VaultHost) -> None:
    greeting = bytes([1, 0, 0, 0, 10])
    with something(OTHER, DATABASE, greeting) as to_database, something(OTHER, AGENT) as to_agent:
        assert reached(host, target(OTHER, DATABASE), target(OTHER, AGENT)) == ["answers", "silent"]
        wait_for(lambda: to_database and to_agent, 10, "both connections have ended")
    assert to_database == [b""]
    (hello,) = to_agent
    assert hello[:1] == b"\x16"  # a TLS handshake record
    assert hello[5:6] == b"\x01"  # the client's hello
    assert len(hello) == 5 + int.from_bytes(hello[3:5])  # and nothing after it
    assert host.hostname.encode() not in hello


@contextlib.contextmanager
def proving(ip: str, pki: Path, says: bytes = b"") -> Iterator[None]:
    """A TLS server with this certificate, for one connection; `says` is its answer to whatever it is asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "cert.pem", pki / "key.pem")

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError), listening.accept()[0] as one:  # ssl.SSLError is one
            one.settimeout(5)
            with context.wrap_socket(one, server_side=True) as secure:
                if secure.recv(65536):
                    secure.sendall(says)

    with served(ip, AGENT, serve):
        yield


@pytest.mark.parametrize(
    ("ours", "address", "word"), [(True, OTHER, "answers"), (True, EMPTY, "certificate"), (False, OTHER, "certificate")]
)
def test_an_agent_proves_that_it_is_ours_and_at_this_address(
    host: VaultHost, tmp_path: Path, ours: bool, address: str, word: str
) -> None:
    issuer = authority() if ours else tmp_path / "strangers"
    certificates.create_authority(issuer)
    certificates.issue(issuer, tmp_path / "pki", common_name="vault-9", role="node", addresses=[address])
    with proving(OTHER, tmp_path / "pki"):
        assert reached(host, target(OTHER, AGENT)) == [word]


def test_it_tells_its_own_time_size_and_server_id(host: VaultHost) -> None:
    before = time.time()
    answer = ProbeAnswer.from_json(asked(host, [])[1])
    assert before <= answer.clock <= time.time()
    assert answer.server_id == host.sql("SELECT @@server_id AS id")[0]["id"]
    data = host.config.data_dir
    assert answer.data_bytes is not None
    assert abs(answer.data_bytes - (size_of(data) or 0)) < 64 * 2**20
    assert answer.data_bytes > 2**20


def test_holes_in_files_take_up_nothing(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with (tmp_path / "deep" / "ibdata").open("wb") as file:
        file.truncate(10**9)
        file.write(b"x" * 5000)
    (tmp_path / "link").symlink_to("/")
    assert size_of(tmp_path) in range(5000, 100_000)


@pytest.mark.parametrize("who", ["nobody", "node"])
def test_only_a_controller_may_ask(host: VaultHost, who: Identity) -> None:
    status, answer = asked(host, [target(NEIGHBOUR, DATABASE)], who)
    assert status == 403
    assert "OU=controller" in answer["text"]


def test_other_ports_are_not_looked_at(host: VaultHost) -> None:
    ports = (22, 443, 3306, 3308, 5390, 6379)
    with contextlib.ExitStack() as stack:
        heard = [stack.enter_context(something(OTHER, port, b"hello")) for port in ports]
        doors = [target(OTHER, port, door) for port in ports for door in ("agent", "database")]
        assert reached(host, *doors) == ["not-allowed"] * len(doors)
    assert heard == [[] for _ in ports]


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        pytest.param(None, "must be a list", id="none"),
        pytest.param({}, "must be a list", id="an object"),
        pytest.param(["127.0.0.1:3307"], "a target is an object", id="a text"),
        pytest.param([target(NEIGHBOUR, 3307)] * (TARGETS_MAX + 1), f"at most {TARGETS_MAX}", id="too many"),
        pytest.param([target("localhost", 3307)], "localhost", id="a name"),
        pytest.param([target("127.0.0.0/8", 3307)], "127.0.0.0/8", id="a network"),
        pytest.param([target("224.0.0.1", 3307)], "not the address of one host", id="multicast"),
        pytest.param([target("255.255.255.255", 3307)], "not the address of one host", id="broadcast"),
        pytest.param([target("0.0.0.0", 3307)], "not the address of one host", id="any"),
        pytest.param([target("fe80::1%lo", 3307)], "not the address of one host", id="link-local"),
        pytest.param([target(NEIGHBOUR, 0)], "a port from 1 to 65535", id="port 0"),
        pytest.param([target(NEIGHBOUR, True)], "a port from 1 to 65535", id="no port"),
        pytest.param([target(NEIGHBOUR, 3307, "shell")], "shell", id="another door"),
    ],
)
def test_what_is_no_question_is_refused(host: VaultHost, targets: Any, says: str) -> None:
    status, answer = asked(host, targets)
    assert status == 400
    assert says in answer["text"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 60_000])
def test_what_is_no_json_is_refused(host: VaultHost, body: bytes) -> None:
    assert host.request("POST", "/probe", body)[0] == 400


def test_it_cannot_be_asked_without_end_and_answers_hellos_meanwhile(hosts: tuple[VaultHost, VaultHost]) -> None:
    other = hosts[1]
    answers = [asked(other, [])[0] for _ in range(TIMES_MAX + 1)]
    assert answers == [200] * TIMES_MAX + [429]
    assert f"more than {TIMES_MAX} times" in asked(other, [])[1]["text"]
    assert other.report().hostname == other.hostname


def test_every_question_is_in_the_log_with_who_asked(host: VaultHost) -> None:
    reached(host, target(NEIGHBOUR, DATABASE))
    assert f"test-controller asked to look around: {NEIGHBOUR} port {DATABASE}: answers" in host.log()


def test_it_asks_with_an_address_of_ipv6_too(host: VaultHost) -> None:
    assert reached(host, target("::1", DATABASE)) == ["refused"]


def test_a_disk_that_is_gone_is_told_as_not_known(host: VaultHost, tmp_path: Path) -> None:
    """And a later question is answered again."""
    data = host.config.data_dir
    moved = data.rename(data.with_name("data-away"))
    try:
        assert ProbeAnswer.from_json(asked(host, [])[1]).data_bytes is None
    finally:
        shutil.rmtree(data, ignore_errors=True)
        moved.rename(data)
    assert ProbeAnswer.from_json(asked(host, [])[1]).data_bytes


# --- the controller's side ----------------------------------------------------------------------------------------


def asked_by_client(ip: str, *targets: Target) -> ProbeAnswer:
    pki = identity("controller")
    assert pki is not None

    async def ask() -> ProbeAnswer:
        async with AgentClient(pki) as agents:
            return await agents.probe(NodeView(id="", hostname="asked", ip=ip), targets)

    return asyncio.run(ask())


def test_the_client_asks_and_understands_the_answer(host: VaultHost) -> None:
    answer = asked_by_client(host.ip, Target(NEIGHBOUR, DATABASE, Door.DATABASE), Target(EMPTY, AGENT, Door.AGENT))
    assert answer.reached == (Reach.ANSWERS, Reach.REFUSED)
    assert answer.server_id


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (b"404 Not Found", "lacks"),
        (b"429 Too Many Requests", "busy"),
        (b"500 Internal Server Error", "protocol"),
        (b"200 OK", "protocol"),  # its answer is an empty object
    ],
)
def test_an_agent_that_does_not_look_around_is_told_from_one_that_is_silent(
    tmp_path: Path, says: bytes, kind: str
) -> None:
    certificates.issue(authority(), tmp_path, common_name="vault-9", role="node", addresses=[OTHER])
    with proving(OTHER, tmp_path, b"HTTP/1.1 " + says + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"):
        with pytest.raises(NodeUnreachable) as caught:
            asked_by_client(OTHER)
    assert caught.value.kind == kind
