"""`manage.py vault_status` from outside: the agreed structure, and what nobody looks at is Unknown."""

import json
import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from nodes.models import AppService, Operation, ServiceLease, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.core import limits
from replication.core.roles import NodeStatus
from replication.core.version import VERSION
from replication.stores.applications import OwnAddresses, note_application
from replication.stores.leases import acquire
from replication.stores.status import vault_status
from replication.stores.threads import DatabaseThread
from tests.stores.conftest import holder
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
A, B = "a" * 32, "b" * 32


def watched(vault: Vault) -> None:
    """A leader looks, and the vault is lossless."""
    acquire(SERVICE_NAME, holder("one"), answers={A: 0.1, B: 0.3})
    AppService.objects.filter(name=SERVICE_NAME).update(started_on=timezone.now())
    Vault.objects.filter(pk=vault.pk).update(epoch=7, primary=A, promotable=B, reason="every write is also on b")
    report = {"fences": ["sigkill"]}
    VaultNode.objects.filter(pk=A).update(status=NodeStatus.MASTER, current_role="Primary-1", report=report)
    VaultNode.objects.filter(pk=B).update(status=NodeStatus.CATCHING_UP, status_detail="7 s", current_role="Fallback-1")


def seen_of_it(now: Any = None) -> dict[str, Any]:
    return next(v for v in vault_status(now)["vaults"] if v["name"] == "Tested vault")


def test_the_agreed_structure(vault: Vault) -> None:
    watched(vault)
    seen = seen_of_it()
    assert {k: v for k, v in seen.items() if k != "nodes"} == {
        "name": "Tested vault",
        "state": "lossless",
        "primary": "a.example",
        "epoch": 7,
        "acker": "b.example",
        "reason": "every write is also on b",
        "operation": None,
        "hold": None,
        "pause": None,
        "backup": {"hostname": None, "taken_at": None, "position": None, "late": False},
        "fences": {"armed": ["sigkill"], "not_armed": ["lease", "kernel-lease", "nftables-cut", "admin-port"]},
    }
    a, b = seen["nodes"]
    assert 0.1 <= a.pop("age_seconds") < 60
    assert a == {
        "hostname": "a.example",
        "ip": "127.0.31.1",
        "system_role": "Primary",
        "current_role": "Primary-1",
        "status": "Master",
        "active": True,
        "compared_at": None,
        "differences": [],
    }
    assert b["status"] == "Slave – Catching up (7 s behind)"


def test_what_differs_is_told_and_printed(vault: Vault, capsys: pytest.CaptureFixture[str]) -> None:
    watched(vault)
    VaultNode.objects.filter(pk=B).update(drift=["vault.accounts: 1 row differs"], verified_at=timezone.now())
    assert seen_of_it()["nodes"][1]["differences"] == ["vault.accounts: 1 row differs"]
    assert seen_of_it()["nodes"][1]["compared_at"]
    call_command("vault_status")
    assert "differs from the Master: vault.accounts: 1 row differs" in capsys.readouterr().out


def test_a_new_vault(vault: Vault) -> None:
    seen = seen_of_it()
    assert (seen["state"], seen["primary"], seen["acker"]) == ("new", None, None)


def test_what_nobody_looks_at_is_unknown(vault: Vault) -> None:
    watched(vault)
    later = timezone.now() + limits.LEASE_SILENCE + timedelta(seconds=1)
    seen = seen_of_it(later)
    assert {n["status"] for n in seen["nodes"]} == {"Unknown"}
    assert {n["age_seconds"] for n in seen["nodes"]} == {None}
    assert seen["fences"] is None
    assert "no service worker runs" in seen["reason"]


def test_a_stopped_service_looks_at_nothing_but_knows_who_is_inactive(vault: Vault) -> None:
    watched(vault)
    AppService.objects.filter(name=SERVICE_NAME).update(started_on=None)
    VaultNode.objects.filter(pk=B).update(status=NodeStatus.INACTIVE, active=False)
    seen = seen_of_it()
    assert seen["reason"] == "the service is stopped"
    assert [n["status"] for n in seen["nodes"]] == ["Unknown", "Inactive"]


def test_a_deleted_node_is_not_shown(vault: Vault) -> None:
    VaultNode.objects.filter(pk=B).update(removed_at=timezone.now())
    assert [n["hostname"] for n in seen_of_it()["nodes"]] == ["a.example"]


def test_the_structure_is_plain_json(vault: Vault) -> None:
    watched(vault)
    out = StringIO()
    call_command("vault_status", "--json", stdout=out)
    assert "Tested vault" in {v["name"] for v in json.loads(out.getvalue())["vaults"]}


def test_an_open_operation_comes_before_one_that_ended(vault: Vault) -> None:
    watched(vault)
    now = timezone.now()
    Operation.objects.create(kind="switchover", vault=vault, node_id=B, state="running", message="it catches up")
    Operation.objects.create(kind="failover", vault=vault, state="failed", finished_at=now, result={"summary": "no"})
    seen = seen_of_it()["operation"]
    assert (seen["kind"], seen["state"], seen["node"]) == ("switchover", "running", "b.example")
    assert (seen["message"], seen["finished_at"]) == ("it catches up", None)
    Operation.objects.filter(state="running").delete()
    seen = seen_of_it()["operation"]
    assert (seen["kind"], seen["state"], seen["message"]) == ("failover", "failed", "no")
    assert seen["finished_at"] == now.isoformat()


def test_a_hold_is_told_with_its_end(vault: Vault) -> None:
    watched(vault)
    now = timezone.now()
    Vault.objects.filter(pk=vault.pk).update(
        silence_failover_at=now, silence_hold_seconds=60, lossless_since=now - timedelta(seconds=20)
    )
    assert seen_of_it(now)["hold"] == {"seconds_left": 40.0, "until": (now + timedelta(seconds=40)).isoformat()}
    Vault.objects.filter(pk=vault.pk).update(lossless_since=None)
    assert seen_of_it(now)["hold"] == {"seconds_left": 60.0, "until": None}


def test_the_shell_reads_the_same_in_sentences(vault: Vault) -> None:
    watched(vault)
    Operation.objects.create(kind="switchover", vault=vault, node_id=B, state="running", message="it catches up")
    Vault.objects.filter(pk=vault.pk).update(silence_failover_at=timezone.now(), silence_hold_seconds=60)
    out = StringIO()
    call_command("vault_status", stdout=out)
    assert "switchover (b.example) running: it catches up" in out.getvalue()
    assert "a failover on silence is held back until it is lossless again, and for the time after" in out.getvalue()
    assert "fences armed on a.example: sigkill; not armed: lease, kernel-lease" in out.getvalue()


def test_this_host_registers_itself_once(thread: DatabaseThread, vault: Vault) -> None:
    import asyncio

    from django.conf import settings

    from nodes.models import ApplicationNode

    addresses = OwnAddresses("localhost")
    wait_for(lambda: addresses.known, 10, "localhost resolves")
    for _ in range(2):
        asyncio.run(note_application(thread, addresses))
    (row,) = ApplicationNode.objects.filter(hostname=settings.HOST_NAME)
    assert row.version == VERSION
    assert "127.0.0.1" in row.addresses
    assert ServiceLease.objects.count() == 0


def test_a_silent_name_server_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()

    def silent(*_: object) -> list[object]:
        asked.set()
        answer.wait(30)
        raise OSError("the name server never answered")

    monkeypatch.setattr("socket.getaddrinfo", silent)
    addresses = OwnAddresses("controller-1")
    assert asked.wait(10)
    assert addresses.known == []  # we are here although the look-up is not back
    answer.set()
