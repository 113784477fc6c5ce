"""Tests on a real mysqld, where there is one: script/mysql fetches it, script/test --long runs that first."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mysql.host import MySqlHost, find_mysqld, mysql_hosts


@pytest.fixture(scope="session")
def mysqld() -> str:
    program, why_not = find_mysqld()
    if not program:
        pytest.skip(f"NOT TESTED ON MYSQL: {why_not}")
    return program


@pytest.fixture(scope="module")
def make(mysqld: str) -> Iterator[Callable[..., MySqlHost]]:
    """`make(ip, hostname)` gives a host that is not made on disk yet."""
    directory = Path(tempfile.mkdtemp(prefix="vha-"))  # short: it holds unix sockets
    with mysql_hosts(mysqld, directory) as make:
        yield make
    shutil.rmtree(directory, ignore_errors=True)
