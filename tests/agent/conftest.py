"""Hosts for the agent's tests: one directory per file of tests, gone with everything that runs in it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vault_host import VaultHost, vault_hosts


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[..., VaultHost]]:
    """`make(ip, hostname)` gives a VaultHost that is not made on disk yet."""
    directory = Path(tempfile.mkdtemp(prefix="vha-"))  # short: it holds unix sockets
    with vault_hosts(directory) as make:
        yield make
    shutil.rmtree(directory, ignore_errors=True)
