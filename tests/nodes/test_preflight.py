"""+ Add Node asks the host before it saves: what an ops worker found is told at its field, and no answer saves nothing.

The form runs as it does in the web process; the job comes out of a real Redis and runs here, in a thread of its own.
"""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path

import django_rq
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from pytest_django.fixtures import Settings

from nodes.admin.vault.checklist import checklist
from nodes.choices import OperationKind, OperationState
from nodes.models import Event, Operation, Vault, VaultNode
from replication import certificates
from replication.core import limits
from replication.jobs import preflight
from replication.stores import operations
from tests.listening import served
from tests.nodes.test_forms import ADD, GOOD, refusals
from tests.vault_host import authority, identity

CHECK = ADD + "check/"
NOBODY_LISTENS = "127.0.31.77"
NO_AGENT = "127.0.31.78"
SLACK_SECONDS = 2.0
"""What the form may take beyond its wait, on a busy machine."""

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def vault(transactional_db: None) -> Vault:
    return Vault.objects.create(name="Checked vault")


@pytest.fixture
def worker(redis: None) -> Iterator[list[str]]:
    """An ops worker: takes jobs from the real queue and runs them. Answers the ids it was given."""
    assert identity("controller") is not None
    taken: list[str] = []
    end = threading.Event()

    def work() -> None:
        queue = django_rq.get_queue("ops")
        while not end.wait(0.02):
            for id in queue.get_job_ids():
                job = queue.fetch_job(id)
                queue.remove(id)
                assert job is not None
                assert job.func is preflight
                taken.extend(job.args)
                job.func(*job.args)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield taken
    end.set()
    thread.join(20)


@pytest.fixture
def saves() -> Callable[[], tuple[int, int]]:
    return lambda: (VaultNode.objects.count(), Event.objects.count())


def test_where_nobody_listens_the_address_is_refused_with_what_to_do(
    admin: Client, vault: Vault, worker: list[str], saves: Callable[[], tuple[int, int]]
) -> None:
    response = admin.post(ADD, {**GOOD, "ip_address": NOBODY_LISTENS})
    assert response.status_code == 422
    assert refusals(response.content.decode()) == {
        "ip_address": [
            f"No vault agent answers on {NOBODY_LISTENS} port 5389: start it there with vault-agent serve, "
            "or correct the address."
        ]
    }
    assert saves() == (0, 0)
    operation = Operation.objects.get()
    assert worker == [operation.pk]
    assert operation.state == OperationState.SUCCEEDED  # the check itself went well
    assert operation.arguments["ip"] == NOBODY_LISTENS


def test_what_answers_there_but_is_no_agent_is_refused_at_its_address(
    admin: Client, vault: Vault, worker: list[str], saves: Callable[[], tuple[int, int]]
) -> None:
    def hang_up(listening: socket.socket) -> None:
        while True:
            try:
                listening.accept()[0].close()
            except OSError:
                return

    with served(NO_AGENT, limits.AGENT_PORT, hang_up):
        response = admin.post(ADD, {**GOOD, "ip_address": NO_AGENT})
    found = refusals(response.content.decode())
    assert list(found) == ["ip_address"]
    assert NO_AGENT in found["ip_address"][0]
    assert saves() == (0, 0)


def test_the_form_keeps_what_was_typed_after_a_refusal_by_the_host(
    admin: Client, vault: Vault, worker: list[str]
) -> None:
    text = admin.post(ADD, {**GOOD, "ip_address": NOBODY_LISTENS, "active": ""}).content.decode()
    assert 'value="vault-3.example"' in text
    assert f'value="{NOBODY_LISTENS}"' in text
    active = re.search(r'<input[^>]*name="active"[^>]*>', text)
    assert active is not None
    assert "checked" not in active[0]


def test_without_redis_it_says_so_at_once_and_saves_nothing(
    admin: Client, vault: Vault, saves: Callable[[], tuple[int, int]], settings: Settings
) -> None:
    started = time.monotonic()
    response = admin.post(ADD, GOOD)
    assert time.monotonic() - started < settings.PREFLIGHT_WAIT
    assert response.status_code == 422
    assert refusals(response.content.decode()) == {
        "": ["The host could not be checked: the work queue (Redis) does not answer. Nothing was saved."]
    }
    assert saves() == (0, 0)
    assert Operation.objects.get().state == OperationState.FAILED


def test_when_nobody_takes_the_check_it_says_so_in_time_and_saves_nothing(
    admin: Client, vault: Vault, redis: None, saves: Callable[[], tuple[int, int]], settings: Settings
) -> None:
    started = time.monotonic()
    response = admin.post(ADD, GOOD)
    took = time.monotonic() - started
    assert settings.PREFLIGHT_WAIT <= took < settings.PREFLIGHT_WAIT + SLACK_SECONDS
    assert response.status_code == 422
    (sentence,) = refusals(response.content.decode())[""]
    assert sentence == (
        f"The host was not checked within {settings.PREFLIGHT_WAIT} s, so nothing was saved: no worker took the check. "
        "See that an ops worker runs, then press Save again."
    )
    assert saves() == (0, 0)
    operation = Operation.objects.get()
    assert operation.state == OperationState.CANCELLED
    # A worker that comes later finds it ended and leaves it so.
    preflight(operation.pk)
    assert Operation.objects.get().state == OperationState.CANCELLED


def test_while_the_form_waits_others_can_write(
    administrator: object, admin: Client, vault: Vault, redis: None, settings: Settings
) -> None:
    """No transaction stays open: one would keep the leader from renewing its lease."""
    settings.PREFLIGHT_WAIT = 1.5
    answers: list[int] = []

    def post() -> None:
        try:
            answers.append(admin.post(ADD, GOOD).status_code)
        finally:
            connection.close()

    thread = threading.Thread(target=post)
    thread.start()
    slowest = 0.0
    while thread.is_alive():
        before = time.monotonic()
        Vault.objects.filter(pk=vault.pk).update(reason=f"written at {before}")
        slowest = max(slowest, time.monotonic() - before)
        thread.join(0.05)
    assert answers == [422]
    assert slowest < settings.PREFLIGHT_WAIT / 2


def lines(text: str) -> list[tuple[str, str]]:
    """The checklist as a reader sees it: (word, title and sentence)."""
    found = re.findall(r'<li class="\w+"><span class="outcome">(.*?)</span> <span class="what">(.*?)</li>', text, re.S)
    return [(word, unescape(re.sub(r"<[^>]*>", "", rest))) for word, rest in found]


def test_check_tells_everything_in_a_list_and_saves_nothing(
    admin: Client, vault: Vault, worker: list[str], saves: Callable[[], tuple[int, int]]
) -> None:
    response = admin.post(CHECK, {**GOOD, "ip_address": NOBODY_LISTENS, "typing": "1"})
    text = response.content.decode()
    assert response.status_code == 200
    assert "<form" not in text, "no field may be touched while somebody types"
    told = lines(text)
    assert told[0][0] == "Error"
    assert told[0][1].startswith(f"Vault agent No vault agent answers on {NOBODY_LISTENS} port 5389")
    assert told[1:] == [("Not known", "The other 12 checks Not asked yet: the agent has to answer first.")]
    assert '<p id="checks-says" hx-swap-oob="innerHTML">' in text
    assert "1 error: this host cannot be added as it is." in text
    assert "help/" in text  # the page of F10
    assert saves() == (0, 0)
    kept = Operation.objects.get()
    assert kept.result["summary"].startswith("F10 · No vault agent answers")
    assert [step["name"] for step in kept.steps][:2] == ["agent", "database port"]


def test_save_shows_the_list_too(admin: Client, vault: Vault, worker: list[str]) -> None:
    text = admin.post(ADD, {**GOOD, "ip_address": NOBODY_LISTENS}).content.decode()
    assert list(refusals(text)) == ["ip_address"]
    assert [word for word, _ in lines(text)] == ["Error", "Not known"]


def test_without_javascript_check_is_a_page_with_the_form_and_the_list(
    plain: Client, vault: Vault, worker: list[str], saves: Callable[[], tuple[int, int]]
) -> None:
    empty = plain.get(ADD).content.decode()
    assert f'formaction="{CHECK}"' in empty
    assert "The host is checked when hostname, port and IP address are there." in empty
    response = plain.post(CHECK, {**GOOD, "ip_address": NOBODY_LISTENS})
    text = response.content.decode()
    assert response.status_code == 200
    assert "<html" in text
    assert f'method="post" action="{ADD}"' in text  # Save saves
    assert f'value="{NOBODY_LISTENS}"' in text
    assert lines(text)[0][0] == "Error"
    assert refusals(text) == {}
    assert saves() == (0, 0)


def test_while_typing_what_is_wrong_with_a_field_stands_in_the_list_and_nobody_is_asked(
    admin: Client, pair: object
) -> None:
    response = admin.post(CHECK, {**GOOD, "ip_address": "127.0.31.2", "hostname": "<b>", "typing": "1"})
    assert response.status_code == 200
    assert [says for _, says in lines(response.content.decode())] == [
        "Not checked yet Hostname: A hostname has letters, digits, dots and hyphens only, for example vault-2.example.net."
    ]
    response = admin.post(CHECK, {**GOOD, "ip_address": "127.0.31.2", "typing": "1"})
    assert [says for _, says in lines(response.content.decode())] == [
        "Not checked yet IP Address: 127.0.31.2 is already the address of beta.example."
    ]
    assert Operation.objects.count() == 0


def test_check_by_its_button_shows_what_is_wrong_at_the_field(admin: Client, vault: Vault) -> None:
    response = admin.post(CHECK, {**GOOD, "port": "0"})
    assert response.status_code == 422
    assert response["HX-Retarget"] == "#dialog-body"
    assert list(refusals(response.content.decode())) == ["port"]
    assert Operation.objects.count() == 0


def test_looking_at_the_address_of_check_shows_the_empty_form(plain: Client, vault: Vault) -> None:
    response = plain.get(CHECK)
    assert (response.status_code, response["Location"]) == (302, ADD)


@pytest.mark.parametrize("method", ["get", "post"])
def test_who_may_not_add_may_not_check(
    user: Callable[..., User], enter: Callable[..., Client], vault: Vault, method: str
) -> None:
    assert getattr(enter(user()), method)(CHECK, GOOD).status_code == 403
    assert Operation.objects.count() == 0


def test_check_needs_the_csrf_token(administrator: User, vault: Vault) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(administrator)
    assert client.post(CHECK, GOOD).status_code == 403
    assert Operation.objects.count() == 0


def test_without_redis_the_list_says_so(admin: Client, vault: Vault) -> None:
    text = admin.post(CHECK, {**GOOD, "typing": "1"}).content.decode()
    assert "the work queue (Redis) does not answer" in text
    assert lines(text) == []


def test_where_a_primary_is_the_form_proposes_fallback(admin: Client, pair: object) -> None:
    assert '<option value="fallback" selected>' in admin.get(ADD).content.decode()


def test_a_worker_that_is_busy_is_named_with_what_it_does(
    admin: Client, vault: Vault, redis: None, settings: Settings
) -> None:
    settings.PREFLIGHT_WAIT = 1
    Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=vault, state=OperationState.RUNNING)
    (sentence,) = refusals(admin.post(ADD, GOOD).content.decode())[""]
    assert "the ops worker is busy with “Re-synchronize Master”" in sentence


def test_a_check_that_was_begun_and_hangs_is_not_called_untaken(
    admin: Client, vault: Vault, redis: None, settings: Settings
) -> None:
    settings.PREFLIGHT_WAIT = 1
    begun = threading.Event()

    def begin() -> None:  # as a worker does, which then hangs
        while not begun.wait(0.02):
            for id in Operation.objects.filter(state=OperationState.QUEUED).values_list("pk", flat=True):
                operations.begin(id)
                begun.set()
        connection.close()

    thread = threading.Thread(target=begin)
    thread.start()
    (sentence,) = refusals(admin.post(ADD, GOOD).content.decode())[""]
    begun.set()
    thread.join(10)
    assert "took longer than 1 s" in sentence


def test_what_hosts_say_is_text_in_the_list(db: None) -> None:
    evil = "<script>alert(1)</script>"
    found = [{"name": "identity", "outcome": "warning", "says": evil, "rule": "F67", "field": "hostname"}]
    text = render_to_string("nodes/vault/_checks.html", {"checks": checklist(found, []), "alone": True})
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("outcomes", "says", "level"),
    [
        (["ok"] * 13, "Everything is in order: this host can be added.", "ok"),
        (["ok", "unknown"], "Nothing speaks against this host, but 1 thing is not known.", "unknown"),
        (["unknown", "warning", "ok", "warning"], "This host can be added, with 2 warnings.", "warning"),
        (["ok", "warning", "error"], "1 error: this host cannot be added as it is.", "error"),
    ],
)
def test_the_worst_decides_what_is_said_and_comes_first(outcomes: list[str], says: str, level: str) -> None:
    shown = checklist([{"name": "clock", "outcome": outcome, "says": "…"} for outcome in outcomes], [])
    assert (shown.says, shown.level) == (says, level)
    assert shown.lines[0].outcome == level


def asked(vault: Vault) -> Operation:
    """The check of a fallback at NO_AGENT, as the form asks for it."""
    arguments = {"hostname": "c.example", "ip": NO_AGENT, "port": 5389, "database_port": 3307}
    return Operation.objects.create(
        kind=OperationKind.PREFLIGHT,
        vault=vault,
        arguments={**arguments, "system_role": "fallback", "vault": vault.pk},
    )


@contextlib.contextmanager
def accepts_and_is_silent(*ips: str) -> Iterator[None]:
    """On both ports: connections are made, nothing ever comes back."""
    with contextlib.ExitStack() as stack:
        for ip in ips:
            for port in (limits.AGENT_PORT, limits.DATABASE_PORT):
                stack.enter_context(socket.create_server((ip, port)))
        yield


def test_a_check_ends_in_time_whoever_hangs(pair: tuple[VaultNode, VaultNode], vault: Vault) -> None:
    assert identity("controller") is not None
    hung = [node.ip_address for node in pair]
    operation = asked(vault)
    with accepts_and_is_silent(NO_AGENT, *hung):
        before = time.monotonic()
        preflight(operation.pk)
        took = time.monotonic() - before
    operation.refresh_from_db()
    assert took < limits.PREFLIGHT_DEADLINE.total_seconds() + SLACK_SECONDS
    assert operation.state == OperationState.SUCCEEDED
    assert operation.result["checks"][0]["rule"] == "F10"


@contextlib.contextmanager
def proving(ip: str, pki: Path) -> Iterator[None]:
    """A TLS server on the agent's port, with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "cert.pem", pki / "key.pem")

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                one = listening.accept()[0]
            except OSError:
                return
            with one, contextlib.suppress(OSError), context.wrap_socket(one, server_side=True) as secure:
                secure.recv(1)

    with served(ip, limits.AGENT_PORT, serve):
        yield


@pytest.mark.parametrize(
    ("rule", "address", "constant", "value"),
    [
        pytest.param("F76", NO_AGENT, "CERTIFICATE_LIFE", timedelta(hours=-1), id="expired"),
        pytest.param("F77", NO_AGENT, "CLOCK_SKEW", timedelta(hours=-1), id="not valid yet"),
        pytest.param("F78", NOBODY_LISTENS, "CLOCK_SKEW", certificates.CLOCK_SKEW, id="for another address"),
    ],
)
def test_a_certificate_that_does_not_count_is_told_by_what_is_wrong_with_it(
    vault: Vault,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rule: str,
    address: str,
    constant: str,
    value: timedelta,
) -> None:
    assert identity("controller") is not None
    monkeypatch.setattr(certificates, constant, value)
    certificates.issue(authority(), tmp_path, common_name="vault-9", role="node", addresses=[address])
    operation = asked(vault)
    with proving(NO_AGENT, tmp_path):
        preflight(operation.pk)
    operation.refresh_from_db()
    assert [one["rule"] for one in operation.result["checks"] if one["outcome"] == "error"] == [rule]


def test_clocks_may_differ_by_what_certificates_are_dated_back() -> None:
    assert limits.CLOCK_APART_MAX == certificates.CLOCK_SKEW


def test_a_check_is_over_before_the_form_gives_up(settings: Settings) -> None:
    assert limits.PREFLIGHT_DEADLINE.total_seconds() + 0.5 < settings.PREFLIGHT_WAIT


def test_a_check_that_breaks_still_ends_and_is_told(admin: Client, vault: Vault, worker: list[str]) -> None:
    """The worker cannot even read its certificate."""
    from django.conf import settings as real

    moved = real.PKI_DIR.rename(real.PKI_DIR.with_name("pki-away"))
    try:
        response = admin.post(ADD, {**GOOD, "ip_address": NOBODY_LISTENS})
    finally:
        moved.rename(real.PKI_DIR)
    assert response.status_code == 422
    assert unescape(response.content.decode()).count("The check itself failed; see the log of the ops worker.") == 1
    assert Operation.objects.get().state == OperationState.FAILED
