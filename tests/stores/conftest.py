"""A vault with two nodes in a real database, and threads that are closed again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodes.models import AppService, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.core.roles import SystemRole
from replication.stores.highwater import HighWater
from replication.stores.leases import Holder, RenewingLease
from replication.stores.threads import DatabaseThread

LEASE = "tests"


def holder(name: str) -> Holder:
    return Holder(id=name, host=f"{name}.example", process=f"{name} (pid 1)")


@pytest.fixture
def vault(transactional_db: None) -> Vault:
    made = Vault.objects.create(name="Tested vault")
    for ordinal, name in enumerate("ab", start=1):
        VaultNode.objects.create(
            id=name * 32,
            vault=made,
            hostname=f"{name}.example",
            ip_address=f"127.0.31.{ordinal}",
            system_role=SystemRole.PRIMARY if name == "a" else SystemRole.FALLBACK,
            ordinal=ordinal,
        )
    AppService.objects.get_or_create(name=SERVICE_NAME)
    return made


@pytest.fixture
def leases() -> Iterator[Callable[[str], RenewingLease]]:
    """Start renewing leases; all are stopped at the end."""
    started: list[RenewingLease] = []

    def start(name: str) -> RenewingLease:
        lease = RenewingLease(LEASE, holder(name))
        started.append(lease)
        lease.start()
        return lease

    yield start
    for lease in started:
        lease.stop()


@pytest.fixture
def thread() -> Iterator[DatabaseThread]:
    made = DatabaseThread("tests")
    yield made
    made.close()


@pytest.fixture
def marks(tmp_path: Path) -> HighWater:
    return HighWater(tmp_path)
