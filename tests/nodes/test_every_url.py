"""Every address of the console × everybody who may come: what each answers, that nothing changes for who may not, that
looking changes nothing at all, that no form works without its token, and that what others wrote is text everywhere.

The table of expectations is tests/nodes/addresses.py.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.test import Client
from django.utils import timezone

from nodes.choices import OperationKind, OperationState
from nodes.models import (
    ApplicationNode,
    AppService,
    Backup,
    Event,
    LagSample,
    LogLine,
    LossReport,
    Operation,
    Vault,
    VaultNode,
)
from nodes.roles import ROLES
from replication.core.roles import NodeStatus
from replication.stores import audit
from tests.nodes.addresses import DOORS, PUBLIC, STAFF, Address, addresses, url_of

Pair = tuple[VaultNode, VaultNode]
ANONYMOUS, NO_ROLE = "anonymous", "no role"
EVERYBODY = (ANONYMOUS, NO_ROLE, *(role.name for role in ROLES))
EVIL = "<img src=x onerror=alert(1)>'\"&"
ALL = [address for address in addresses() if address.key in DOORS]
"""Those without a row fail the first test, which names them."""


@pytest.fixture
def things(pair: Pair, service: AppService, held: datetime) -> dict[str, Any]:
    """What the samples of the addresses stand for, as primary keys."""
    someone = User.objects.create_user("someone", password=None, is_staff=True)
    host = ApplicationNode.objects.create(hostname="controller-9.example", ip_address="127.0.68.9")
    ApplicationNode.objects.create(
        hostname="controller-8.example", ip_address="127.0.68.8", service_seen=timezone.now(), last_seen=timezone.now()
    )
    event = Event.objects.create(vault=pair[0].vault, node_name="beta.example", text="something", evidence={})
    operation = Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=pair[0].vault, node=pair[1])
    failover = Operation.objects.create(
        kind=OperationKind.FAILOVER, vault=pair[0].vault, node=pair[1], state=OperationState.SUCCEEDED,
        started_at=timezone.now(), finished_at=timezone.now(), steps=[{"name": "claim", "state": "done", "ms": 3, "says": ""}],
    )  # fmt: skip
    backup = Backup.objects.create(
        vault=pair[0].vault, node=pair[1], hostname="beta.example", taken_at=timezone.now(), path="/home/b/backups/x"
    )
    loss = LossReport.objects.create(
        vault=pair[0].vault, node=pair[1], hostname=pair[1].hostname, path="/srv/vault/lost/x", transaction_count=1,
        transactions=[{"gtid": "0-1-6", "at": "2026-01-31T14:05:00+00:00", "changes": [{"table": "vault.t", "verb": "insert"}]}],
    )  # fmt: skip
    LogLine.objects.create(
        service=service.name, at=timezone.now(), host="controller-1", process="service-a", level=20, text="a line"
    )
    LagSample.objects.create(node=pair[1], at=timezone.now(), seconds=0.1, transactions=1)
    audit.record(pair[1], "something was done", {"active": (True, False)})
    return {
        "node": pair[1].pk,
        "vault": pair[0].vault_id,
        "host": host.pk,
        "service": service.pk,
        "user": someone.pk,
        "group": Group.objects.create(name="Somebody's").pk,
        "event": event.pk,
        "operation": operation.pk,
        "backup": backup.pk,
        "failover": failover.pk,
        "loss": loss.pk,
        "entry": LogEntry.objects.latest("pk").pk,
    }


def client_of(who: str) -> Client:
    client = Client(REMOTE_ADDR="127.0.68.1")
    if who != ANONYMOUS:
        user = User.objects.create_user(f"the {who}", password=None, is_staff=True)
        user.groups.set(Group.objects.filter(name=who))
        client.force_login(user)
    return client


def may(who: str, need: str) -> bool:
    if need == PUBLIC:
        return True
    if who == ANONYMOUS:
        return False
    return need == STAFF or any(role.name == who and need in role.permissions for role in ROLES)


def expected(who: str, address: Address, method: str) -> int:
    door = DOORS[address.key]
    if who in door.but:
        return door.but[who]
    if may(who, (method == "post" and door.to_post) or door.need):
        return door.get if method == "get" else door.post
    return 302 if who == ANONYMOUS else 403


def everything() -> dict[str, list[Any]]:
    """Every row of every table."""
    tables = [model for model in apps.get_models(include_auto_created=True) if model._meta.managed]
    return {model._meta.label: list(model._base_manager.order_by("pk").values_list()) for model in tables}


def changed(before: dict[str, list[Any]]) -> list[str]:
    return [name for name, rows in everything().items() if rows != before[name]]


def test_every_address_has_a_row_with_a_sample_for_everything_in_it() -> None:
    there = {address.key for address in addresses()}
    assert (there - set(DOORS), set(DOORS) - there) == (set(), set())
    without = {
        address.key: sorted(address.parameters - set(DOORS[address.key].arguments))
        for address in ALL
        if address.parameters - set(DOORS[address.key].arguments)
    }
    assert without == {}


@pytest.mark.parametrize("who", EVERYBODY)
def test_looking_answers_what_the_table_says_and_changes_nothing(things: dict[str, Any], who: str) -> None:
    client = client_of(who)
    before, found = everything(), {}
    for address in ALL:
        url = url_of(address, things)
        status = client.get(url).status_code
        if status != expected(who, address, "get"):
            found[address.key] = f"{status} in place of {expected(who, address, 'get')} at {url}"
    assert changed(before) == []
    assert not found, found


@pytest.mark.parametrize("who", EVERYBODY)
def test_acting_answers_what_the_table_says_and_changes_nothing_for_who_may_not(
    things: dict[str, Any], who: str
) -> None:
    client = client_of(who)
    before, found = everything(), {}
    closed = [address for address in ALL if not may(who, DOORS[address.key].to_post or DOORS[address.key].need)]
    for address in (*closed, *(address for address in ALL if address not in closed)):
        url = url_of(address, things)
        if address in closed:
            status = client.post(url).status_code
            if address is closed[-1]:
                assert changed(before) == []
        else:
            with undone(client):
                status = client.post(url).status_code
        if status != expected(who, address, "post"):
            found[address.key] = f"{status} in place of {expected(who, address, 'post')} at {url}"
    assert not found, found


class undone:  # noqa: N801  # reads as a word
    """What is done inside is taken back, also that somebody logged out."""

    def __init__(self, client: Client) -> None:
        self.client, self.cookies = client, client.cookies.copy()

    def __enter__(self) -> None:
        self.block = transaction.atomic()
        self.block.__enter__()

    def __exit__(self, *_: object) -> None:
        transaction.set_rollback(True)
        self.block.__exit__(None, None, None)
        self.client.cookies = self.cookies.copy()


def test_nobody_acts_without_the_token_of_his_own_page(things: dict[str, Any], administrator: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(administrator)
    before = everything()
    answers = {url_of(address, things): client.post(url_of(address, things)).status_code for address in ALL}
    assert {url: status for url, status in answers.items() if status != 403} == {}
    assert changed(before) == []


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_no_other_method_changes_anything(things: dict[str, Any], administrator: User, method: str) -> None:
    client = Client()
    client.force_login(administrator)
    before = everything()
    for address in ALL:
        response = getattr(client, method)(url_of(address, things))
        assert response.status_code < 500 or address.key == "readyz", address.key
    assert changed(before) == []


def test_an_object_that_is_not_there_is_404_and_no_error(things: dict[str, Any], administrator: User) -> None:
    client = Client()
    client.force_login(administrator)
    gone = {name: "z" * 32 if isinstance(value, str) else 987654321 for name, value in things.items()}
    for address in ALL:
        if any(isinstance(v, str) and v.startswith("{") for v in DOORS[address.key].arguments.values()):
            response = client.get(url_of(address, gone))
            # Django's own forms go back to the index with a message.
            assert response.status_code in (302, 404), address.key


# --- what others wrote


def evil_rows() -> Iterator[models.Model]:
    """Every row of ours and of the users, with markup in every text that no table of choices limits."""
    labels = ("nodes", "auth", "auditlog")
    for model in apps.get_models():
        if model._meta.app_label not in labels or model._meta.object_name in ("Permission", "RoleGrant"):
            continue
        texts = [
            f
            for f in model._meta.fields
            if isinstance(f, models.CharField | models.TextField)
            and not isinstance(f, models.GenericIPAddressField)
            and not (f.choices or f.primary_key or f.name in ("password", "object_pk", "service", "operation"))
        ]
        for number, row in enumerate(model._base_manager.all()):
            if isinstance(row, AppService | Group) and row.pk is None:
                continue
            values = {}
            for text in texts:
                if isinstance(row, AppService) and text.name == "name":
                    continue  # its name is how its log and lease are found
                evil = f"{EVIL}{number}"
                values[text.attname] = evil[: text.max_length] if text.max_length else evil
            model._base_manager.filter(pk=row.pk).update(**values)
            yield row


@pytest.mark.parametrize("htmx", [True, False])
def test_what_others_wrote_is_text_on_every_page(
    things: dict[str, Any], lead: Any, administrator: User, htmx: bool
) -> None:
    """Rows written past every form: by a restored database, an agent's error text, a colleague's name."""
    lead()
    Event.objects.update(evidence={EVIL: EVIL, "list": [EVIL], "view": {"nodes": [{"name": EVIL}]}}, rule="P30")
    Operation.objects.update(
        state=OperationState.FAILED, finished_at=timezone.now(), result={"summary": EVIL, EVIL: EVIL}, message=EVIL,
        steps=[{"name": EVIL, "state": "failed", "ms": 1, "says": EVIL}],
    )  # fmt: skip
    Vault.objects.update(if_lost={"says": EVIL, "fallback": EVIL, "rule": "C10", "outcome": EVIL})
    ApplicationNode.objects.update(addresses=[EVIL])
    AppService.objects.update(changed_at=timezone.now(), changed_by=administrator)
    LogEntry.objects.update(
        changes={EVIL: [EVIL, EVIL], "groups": {"type": "m2m", "operation": "add", "objects": [EVIL]}},
        additional_data={"what": EVIL, "reason": EVIL, "via": EVIL, "system_user": EVIL, "actor": EVIL},
    )
    assert list(evil_rows())
    VaultNode.objects.filter(pk=things["node"]).update(
        status=NodeStatus.ERROR, not_primary=f"R50 · {EVIL}", report={"purge_command": EVIL, "fences": [EVIL], "version": EVIL}
    )  # fmt: skip
    client = Client(headers={"HX-Request": "true"} if htmx else None)
    client.force_login(administrator)
    shown = set()
    for address in ALL:
        response = client.get(url_of(address, things))
        if not response.get("Content-Type", "").startswith("text/html") or response.status_code not in (200, 422):
            continue
        text = b"".join(response) if response.streaming else response.content
        assert b"<img src=x" not in text, address.key
        assert b"onerror=alert(1)>" not in text, address.key
        if b"&lt;img src=x" in text:
            shown.add(address.key)
    assert shown >= {
        "admin:nodes_vaultnode_changelist",
        "admin:nodes_appservice_changelist",
        "admin:nodes_applicationnode_changelist",
        "admin:nodes_event_changelist",
        "admin:nodes_event_detail",
        "admin:nodes_operation_changelist",
        "admin:nodes_operation_detail",
        "admin:auditlog_logentry_changelist",
        "admin:auditlog_logentry_entry",
        "admin:auth_user_changelist",
        "admin:auth_group_changelist",
        "admin:nodes_vaultnode_delete",
        "admin:nodes_vaultnode_change",
        "admin:nodes_vaultnode_resynchronize",
        "admin:nodes_vaultnode_switchover",
        "admin:nodes_appservice_setting",
    }
