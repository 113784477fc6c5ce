"""A vault with two nodes in a real database, and threads that are closed again.

Every test of these modules runs twice: on SQLite, and on a real MariaDB server over TCP, as several controller hosts use it;
a module that says `METADATA = ("mariadb",)` on that alone.
"""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import environ
import pytest
from django.core.management import call_command
from django.db import connections

from nodes.models import AppService, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.core.roles import SystemRole
from replication.stores.highwater import HighWater
from replication.stores.leases import Holder, RenewingLease
from replication.stores.threads import DatabaseThread
from tests.rig.metadata import MetadataServer, metadata_server

LEASE = "tests"
METADATA_IP = "127.0.64.1"


def holder(name: str) -> Holder:
    return Holder(id=name, host=f"{name}.example", process=f"{name} (pid 1)")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MetadataServer]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with metadata_server(directory, METADATA_IP) as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kinds = getattr(metafunc.module, "METADATA", ("sqlite", "mariadb"))
    metafunc.parametrize("metadata", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def metadata(request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """Which database Django's `default` is. Of module scope, so that it is settled before pytest-django's fixtures."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    server: MetadataServer = request.getfixturevalue("mariadb")
    sqlite, settings = connections["default"], connections.settings["default"]
    with django_db_blocker.unblock():
        connections.settings["default"] = mariadb_settings(server.create("console"), settings)
        del connections["default"]
        try:
            with warnings.catch_warnings():
                # Partial unique constraints do not exist there: stores/wishes.py holds a lock and looks instead.
                warnings.simplefilter("ignore")
                call_command("migrate", verbosity=0, interactive=False)
            yield "mariadb"
        finally:
            connections["default"].close()
            connections.settings["default"], connections["default"] = settings, sqlite


def mariadb_settings(url: str, like: dict[str, Any]) -> dict[str, Any]:
    """A database of DATABASES as sectona_ha/settings.py makes it of VAULT_HA_DATABASE."""
    from sectona_ha.settings import mariadb_options

    return {**like, **environ.Env.db_url_config(url), "OPTIONS": mariadb_options()}


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
