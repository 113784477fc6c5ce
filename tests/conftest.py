"""The environment of the tests: settings, a database file that other processes can share, a browser.

It is made when this file is imported, which is before pytest-django reads the settings; programs that tests start
inherit it.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import django
import pytest

# A short path: unix sockets below it have at most 107 bytes.
VAR = Path(tempfile.mkdtemp(prefix="vault-ha-test-"))

for name in [name for name in os.environ if name.startswith("VAULT_HA_")]:
    del os.environ[name]
os.environ.update(
    DJANGO_SETTINGS_MODULE="sectona_ha.settings",
    VAULT_HA_VAR=str(VAR),
    VAULT_HA_SECRET_KEY="only-for-tests-" + os.urandom(24).hex(),
    VAULT_HA_INSECURE_HTTP="true",
    VAULT_HA_ALLOWED_HOSTS="127.0.0.1,localhost,testserver",
    VAULT_HA_DATABASE=f"sqlite:///{VAR / 'metadata.sqlite3'}",
)
django.setup()


def pytest_configure() -> None:
    """A test run that is told to end (SIGTERM, a time limit) tidies up as one that is interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_unconfigure() -> None:
    shutil.rmtree(VAR, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `-m`, leave out what only `script/test --long` is for. Deselected, not skipped: a skip would look like a gap."""
    if config.getoption("markexpr") or any("::" in argument for argument in config.args):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """A file, so that threads and other processes see it: an in-memory database is invisible to them.

    It has the same name as the database of the settings, which lives in a temporary directory: programs started by a
    test open the same one. Tests that let others write need `transactional_db`: transactions are IMMEDIATE here.
    """
    from django.db import connections

    settings = connections["default"].settings_dict
    settings["TEST"]["NAME"] = settings["NAME"]


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The Chromium of the distribution; script/test installs it."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "Chromium is missing: run script/test, or apt install chromium."
    return path


@pytest.fixture
def clean_directory() -> Iterator[Path]:
    """A directory with a short path of its own: pytest's tmp_path can be too long for unix sockets."""
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
