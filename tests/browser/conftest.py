"""One console and one Chromium for all tests of this directory: to bring them up takes longer than most tests.

Package, not session: while Playwright runs, Django refuses its ORM to the tests of other directories in this thread.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.inventory import BUSY, Site, site


@pytest.fixture(scope="package")
def shared_site(chromium_path: str) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with site(directory, chromium_path) as made:
            made.save("plain")
            made.add(BUSY)
            made.save("busy")
            yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def console(shared_site: Site) -> Site:
    """A vault with four nodes, and nothing going on."""
    shared_site.restore("plain")
    return shared_site


@pytest.fixture
def busy(shared_site: Site) -> Site:
    """The same, and everything that a screen can show."""
    shared_site.restore("busy")
    return shared_site
