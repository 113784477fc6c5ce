"""A vault with a pair in a real database, users with chosen permissions, a leader as old as wanted, a real Redis."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from nodes.choices import DesiredState
from nodes.models import AppService, ServiceLease, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.core.foresight import Foresight, Loss
from replication.core.roles import NodeStatus, SystemRole
from replication.stores.wishes import default_vault
from tests.waiting import wait_for

STARTED_ON = timezone.now() - timedelta(hours=1)
VIEW = ("view_vaultnode", "view_appservice", "view_logline", "view_applicationnode")


@pytest.fixture(scope="session", autouse=True)
def collected_static_files() -> None:
    """Pages name their files by content hash, as in production: the manifest has to be there."""
    call_command("collectstatic", interactive=False, verbosity=0)


@pytest.fixture
def vault(db: None) -> Vault:
    """The vault that the migrations make, empty."""
    # A transactional test before this one has emptied every table.
    AppService.objects.get_or_create(name=SERVICE_NAME)
    return default_vault() or Vault.objects.create(name="Vault")


def add(vault: Vault, name: str, number: int, **changes: Any) -> VaultNode:
    """A node row. number: last part of the address, and the ordinal."""
    values: dict[str, Any] = {
        "id": name[0] * 32,
        "hostname": f"{name}.example",
        "ip_address": f"127.0.31.{number}",
        "system_role": SystemRole.FALLBACK,
        "ordinal": number,
        "joined": True,
        "agent_id": f"agent-{name}",
        "status": NodeStatus.WAITING,
        "current_role": f"Fallback-{number - 1}",
    }
    return VaultNode.objects.create(vault=vault, **{**values, **changes})


def if_lost(primary: VaultNode, acker: VaultNode, **changes: Any) -> Foresight:
    """What the leader says of a lossless pair at epoch 7 that has failed over three times."""
    died, silent = (Loss(node=acker.pk, seconds=seconds) for seconds in (0.11, 1.7))
    known = Foresight(epoch=7, primary=primary.pk, promotable=acker.pk, died=died, silent=silent, measured=3)
    return replace(known, **changes)


@pytest.fixture
def pair(vault: Vault) -> tuple[VaultNode, VaultNode]:
    """`alpha`, the primary, and `beta`, its acker."""
    alpha = add(vault, "alpha", 1, system_role=SystemRole.PRIMARY, status=NodeStatus.MASTER, current_role="Primary-1")
    beta = add(vault, "beta", 2)
    vault.primary, vault.promotable, vault.may_ack, vault.epoch = alpha, beta, [beta.pk], 7
    vault.reason = "beta.example has every acknowledged write and would take over"
    vault.if_lost = if_lost(alpha, beta).to_json()
    vault.save()
    return alpha, beta


@pytest.fixture
def service(vault: Vault) -> AppService:
    return AppService.objects.get(name=SERVICE_NAME)


@pytest.fixture
def lead(service: AppService) -> Callable[..., None]:
    """The service is started and led: `lead(age=3)` by a leader that was heard of 3 s ago."""

    def set_lease(*, age: float = 0, answers: dict[str, float | None] | None = None) -> None:
        AppService.objects.filter(pk=service.pk).update(desired_state=DesiredState.STARTED, started_on=STARTED_ON)
        ServiceLease.objects.update_or_create(
            name=SERVICE_NAME,
            defaults={
                "holder": "h" * 32,
                "term": 3,
                "host": "controller-1",
                "process": "service-a (pid 4711)",
                "expires_at": timezone.now() + timedelta(seconds=1.2 - age),
                "renewed_at": timezone.now() - timedelta(seconds=age),
                "last_pass_at": timezone.now() - timedelta(seconds=age),
                "answers": answers or {},
            },
        )

    return set_lease


@pytest.fixture
def user(db: None) -> Callable[..., User]:
    """`user("add_vaultnode")`: a member of staff who may see all screens, and this."""

    def make(*codenames: str, view: bool = True) -> User:
        made = User.objects.create_user(f"user-{User.objects.count()}", password=None, is_staff=True)
        wanted = [*codenames, *(VIEW if view else ())]
        found = list(Permission.objects.filter(codename__in=wanted, content_type__app_label="nodes"))
        assert len(found) == len(set(wanted)), f"one of these permissions does not exist: {wanted}"
        made.user_permissions.set(found)
        return made

    return make


@pytest.fixture
def enter() -> Callable[..., Client]:
    """A browser in which this user has logged in. `htmx=True`: with the header that htmx sends."""

    def log_in(user: User, *, htmx: bool = False) -> Client:
        client = Client(headers={"HX-Request": "true"} if htmx else None)
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def held(pair: tuple[VaultNode, VaultNode]) -> datetime:
    """A failover on silence happened half a minute ago; answers until when the next one is held back."""
    now = timezone.now()
    Vault.objects.update(
        silence_failover_at=now - timedelta(seconds=30),
        silence_hold_seconds=60,
        lossless_since=now - timedelta(seconds=20),
    )
    return now + timedelta(seconds=40)


@pytest.fixture
def administrator(db: None) -> User:
    return User.objects.create_superuser("root-of-all", password=None)


@pytest.fixture
def admin(administrator: User, enter: Callable[..., Client]) -> Client:
    """The administrator, with htmx."""
    return enter(administrator, htmx=True)


@pytest.fixture
def plain(administrator: User, enter: Callable[..., Client]) -> Client:
    """The administrator, without JavaScript."""
    return enter(administrator)


@pytest.fixture
def redis() -> Iterator[None]:
    """A real Redis where the settings look for it."""
    program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    assert program, "redis-server is missing: run script/test"
    path = settings.VAR_DIR / "redis.sock"
    process = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(settings.VAR_DIR)],
        executable=program,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(path.is_socket, 20, "Redis listens")
        yield
    finally:
        process.terminate()
        process.wait(20)
        path.unlink(missing_ok=True)
