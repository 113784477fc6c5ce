"""One real MariaDB server for the tests of its dialect, made and configured by the agent as in the product."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication.core.commands import Verb
from tests.vault_host import VaultHost, vault_hosts


@pytest.fixture(scope="module")
def host() -> Iterator[VaultHost]:
    """A writable primary that acknowledges alone."""
    directory = Path(tempfile.mkdtemp(prefix="vha-"))  # short: it holds unix sockets
    with vault_hosts(directory) as make:
        host = make("127.0.21.41", "dialect-1").init().start()
        host.order(Verb.OPEN)
        yield host
    shutil.rmtree(directory, ignore_errors=True)
