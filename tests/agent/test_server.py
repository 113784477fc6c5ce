"""The agent's HTTPS server: who may ask what, what bad requests get, and how long anybody may take.

Proves: health pages are for everybody and true; hello and commands are for controllers only; TLS 1.3 only; every bad request
gets a code and a sentence; a hello answers at once when something changes, within 100 ms of a kill -9, and ends when the
agent stops; strangers who hold connections do not lock controllers out.
"""

import concurrent.futures
import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest

from replication.agent import bodies, server
from replication.core import limits
from replication.core.commands import Verb
from replication.core.errors import StaleEpoch, StepFailed
from replication.core.report import PROTOCOL
from replication.core.roles import OrderKind, ProcessState
from tests.vault_host import Identity, VaultHost, client_context
from tests.waiting import wait_for

KILL_TO_ANSWER_SECONDS = 0.1
VAULT = "a" * 32


@pytest.fixture(scope="module")
def host(make: Callable[..., VaultHost]) -> VaultHost:
    return make("127.0.22.11", "server-1").init().start()


def command(**changes: Any) -> dict[str, Any]:
    whole = {"vault": VAULT, "node": "n", "term": 1, "epoch": 1, "operation": "o", "deadline": 1.0, "args": {}}
    return {**whole, **changes}


def raw(host: VaultHost, sent: bytes) -> bytes:
    """Send bytes as a controller and read until the agent closes or has answered once."""
    with socket.create_connection((host.ip, limits.AGENT_PORT), timeout=bodies.BODY_SECONDS * 2) as plain:
        with client_context("controller").wrap_socket(plain, server_hostname=host.ip) as secure:
            secure.sendall(sent)
            return secure.recv(4096)


# --- who may ask what ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["nobody", "node", "controller"])
def test_health_pages_are_for_everybody(host: VaultHost, who: Identity) -> None:
    assert host.request("GET", "/healthz", who=who)[0] == 200
    assert host.request("HEAD", "/healthz", who=who)[0] == 200
    for page in ("/primary", "/replica"):
        assert host.request("GET", page, who=who)[0] in (200, 503)


@pytest.mark.parametrize("who", ["nobody", "node"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/hello"), ("POST", "/command/fence"), ("GET", "/anything")])
def test_everything_else_needs_a_controllers_certificate(
    host: VaultHost, who: Identity, method: str, path: str
) -> None:
    body = json.dumps(command()).encode() if method == "POST" else None
    status, text = host.request(method, path, body, who=who)
    assert status == 403
    assert "OU=controller" in json.loads(text)["text"]
    assert host.report().process is ProcessState.UP


def test_a_certificate_of_another_authority_does_not_get_in(host: VaultHost) -> None:
    # With TLS 1.3 a client learns of it when it reads: an alert, or just the end of the connection.
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        host.request("GET", "/healthz", who="stranger")


def test_older_tls_is_refused(host: VaultHost) -> None:
    context = ssl.create_default_context(cafile=str(host.pki / "ca.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection((host.ip, limits.AGENT_PORT), timeout=5) as plain:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(plain, server_hostname=host.ip)


def test_a_report_is_complete_and_names_the_agent(host: VaultHost) -> None:
    report = host.report()
    assert (report.protocol, report.hostname, report.address) == (PROTOCOL, host.hostname, host.ip)
    assert report.agent_id == host.config.agent_id
    assert report.certificate_subject == host.subject
    assert report.address_kind == "loopback"
    assert str(host.home) in report.purge_command


# --- bad requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["since=x", "since=1.5", "wait=x", "wait=-1", "wait=nan", "wait=inf", f"wait={server.HELLO_WAIT_MAX_SECONDS + 1}"],
)
def test_a_hello_that_makes_no_sense_is_refused(host: VaultHost, query: str) -> None:
    status, text = host.request("GET", f"/hello?{query}")
    assert status == 400
    assert "wait" in json.loads(text)["text"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"", "not a command", id="empty"),
        pytest.param(b"{", "not a command", id="half"),
        pytest.param(b"\xff\xfe", "not a command", id="not text"),
        pytest.param(b"[]", "an object was expected", id="a list"),
        pytest.param(b"[" * 60000, "not a command", id="deep"),
        *[
            pytest.param(json.dumps(content).encode(), says, id=says)
            for content, says in [
                ({k: v for k, v in command().items() if k != "vault"}, "vault is missing"),
                (command(epoch="1"), "epoch is missing or of the wrong type"),
                (command(term=True), "term is missing or of the wrong type"),
                (command(args=[]), "args is missing or of the wrong type"),
                (command(deadline=0), "deadline must be a number of seconds above 0"),
                (command(deadline=float("nan")), "deadline must be"),
                (command(node=""), "vault and node must say whom it is for"),
            ]
        ],
    ],
)
def test_what_is_no_command_is_refused_with_the_reason(host: VaultHost, body: bytes, says: str) -> None:
    status, text = host.request("POST", "/command/open", body)
    assert status == 400
    assert says in json.loads(text)["text"]
    assert host.report().vault == ""


def test_wrong_arguments_of_a_verb_are_a_bad_request(host: VaultHost) -> None:
    status, answer = host.send(Verb.FOLLOW, command(args={"source_host": "127.0.22.99"}))
    assert status == 400
    assert "missing" in answer["text"]
    assert host.report().order_kind is OrderKind.NONE


@pytest.mark.parametrize("verb", ["promote", "OPEN", "open%20", "sql", "x" * 500])
def test_an_unknown_verb_is_a_bad_request(host: VaultHost, verb: str) -> None:
    status, answer = host.send(verb, command())
    assert status == 400
    assert "there is no verb" in answer["text"]


def test_a_body_that_is_too_large_is_refused(host: VaultHost) -> None:
    status, answer = host.send(Verb.OPEN, command(operation="o" * server.BODY_MAX_BYTES))
    assert status == 413
    assert str(server.BODY_MAX_BYTES) in answer["text"]


def test_methods_and_pages_that_do_not_exist(host: VaultHost) -> None:
    assert host.request("GET", "/command/open")[0] == 405
    assert host.request("GET", "/nothing")[0] == 404


def test_endless_headers_are_cut_off(host: VaultHost) -> None:
    long = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"y" * (server.HEADER_MAX_BYTES + 2)
    assert raw(host, long + b"\r\n\r\n").split()[1] == b"400"
    many = b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * (server.HEADERS_MAX + 1)
    assert raw(host, many + b"\r\n").split()[1] == b"400"


def test_a_body_that_does_not_come_is_not_waited_for(host: VaultHost) -> None:
    head = b"POST /command/open HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
    assert raw(host, head).split()[1] == b"408"


def test_plain_http_is_closed_without_a_word(host: VaultHost) -> None:
    with socket.create_connection((host.ip, limits.AGENT_PORT), timeout=server.HANDSHAKE_SECONDS * 2) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = plain.recv(4096)
    assert b"HTTP" not in answer
    assert host.request("GET", "/healthz")[0] == 200


def test_whoever_does_not_finish_the_handshake_is_cut_off(host: VaultHost) -> None:
    with socket.create_connection((host.ip, limits.AGENT_PORT), timeout=server.HANDSHAKE_SECONDS * 3) as silent:
        assert silent.recv(1) == b""


def test_strangers_who_hold_connections_do_not_lock_the_controllers_out(host: VaultHost) -> None:
    with contextlib.ExitStack() as held:
        oldest: ssl.SSLSocket | None = None
        for _ in range(server.CONNECTIONS_MAX + 1):
            plain = held.enter_context(socket.create_connection((host.ip, limits.AGENT_PORT), timeout=5))
            secure = client_context("nobody").wrap_socket(plain, server_hostname=host.ip)
            held.enter_context(secure)
            oldest = oldest or secure
        assert host.report().hostname == host.hostname
        assert oldest is not None
        assert oldest.recv(1) == b"", "the oldest of them was closed to make room"


# --- hello --------------------------------------------------------------------------------------------------------


def test_a_hello_that_knows_nothing_yet_answers_at_once(host: VaultHost) -> None:
    began = time.monotonic()
    host.report(since=-1, wait=20)
    host.report(since=host.report().version - 1, wait=20)
    assert time.monotonic() - began < 10


def test_a_hello_without_news_answers_when_its_time_is_over(host: VaultHost) -> None:
    def quiet() -> bool:
        version, began = host.report().version, time.monotonic()
        unchanged = host.report(since=version, wait=0.5).version == version
        return unchanged and time.monotonic() - began >= 0.5

    wait_for(quiet, 20, "half a second in which nothing changes")


def test_commands_answer_with_facts_refusals_and_promises(host: VaultHost) -> None:
    answer = host.order(Verb.OPEN)
    assert "gtid_binlog_pos" in answer.facts
    assert all(milliseconds >= 0 for milliseconds in answer.steps.values())
    with pytest.raises(StepFailed, match="another vault") as refused:
        host.order(Verb.SOLO, vault="b" * 32)
    assert refused.value.reason == "other-vault"
    with pytest.raises(StaleEpoch) as stale:
        host.order(Verb.SOLO, epoch=0)
    assert (stale.value.promised_term, stale.value.promised_epoch) == (1, 1)
    host.epoch = 1


def test_a_kill_is_told_within_a_tenth_of_a_second_and_the_pages_follow(host: VaultHost) -> None:
    host.order(Verb.OPEN)
    assert host.request("GET", "/primary", who="nobody")[0] == 200
    assert host.request("GET", "/replica", who="nobody")[0] == 503
    version = host.wait_up().version
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        connection = http.client.HTTPSConnection(
            host.ip, limits.AGENT_PORT, timeout=30, context=client_context("controller")
        )
        with contextlib.closing(connection):
            connection.request("GET", "/hello?since=-1&wait=0")  # warm: a controller keeps its connection
            connection.getresponse().read()

            def until_dead() -> float:
                since = version
                while True:
                    connection.request("GET", f"/hello?since={since}&wait=20")
                    report = json.loads(connection.getresponse().read())
                    if report["process"] in ("dead", "starting"):
                        return time.monotonic()
                    since = report["version"]

            answered = pool.submit(until_dead)
            wait_for(answered.running, 5, "the long poll is on its way")
            killed = host.kill_database()
            took = answered.result(20) - killed
    assert took < KILL_TO_ANSWER_SECONDS
    wait_for(lambda: host.request("GET", "/primary", who="nobody")[0] == 200, 30, "a solo primary reopens by itself")


def test_the_primary_page_says_no_while_the_database_is_dead(host: VaultHost) -> None:
    host.order(Verb.OPEN)
    host.order(Verb.FENCE)
    status, text = host.request("GET", "/primary", who="nobody")
    assert (status, text) == (503, "not a writable primary: it has no order to be primary\n")
    host.order(Verb.OPEN)
    assert host.request("GET", "/primary", who="nobody")[0] == 200


def test_a_stopping_agent_ends_its_hellos_at_once(host: VaultHost) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def poll() -> float:
            with contextlib.suppress(OSError, http.client.HTTPException):
                while True:
                    host.report(since=host.report().version, wait=30)
            return time.monotonic()

        ended = pool.submit(poll)
        wait_for(ended.running, 5, "the long poll is on its way")
        asked = time.monotonic()
        assert host.stop() == 0
        assert ended.result(20) - asked < server.STOP_SECONDS
    assert host.database_pid, "mariadbd goes on"
