"""Operations in a real browser: figures move by themselves, Cancel keeps the keyboard's place, the report fits on paper.

Nothing that the content policy forbids, nothing that axe finds, nothing wider than a phone.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site, site

LIST, VAULT = "/admin/nodes/operation/", "/admin/nodes/vaultnode/"
RUNNING, FAILED, ENDED = "e" * 32, "5" * 32, "f" * 32
PAGES = (LIST, f"{LIST}?all=1&state=open", f"{LIST}{RUNNING}/", f"{LIST}{FAILED}/", f"{LIST}{ENDED}/report/", VAULT)
POLL_MS = 2100

ROWS = """
import json
from datetime import timedelta
from django.utils import timezone
from nodes.models import Event, Operation, Vault, VaultNode
from tests.nodes.test_report import FAILOVER, FIRST_WRITE, SEEN, SWITCHOVER
now, vault = timezone.now(), Vault.objects.get()
alpha, beta = VaultNode.objects.get(pk="a" * 32), VaultNode.objects.get(pk="b" * 32)
def named(what):
    return json.loads(json.dumps(what).replace("alpha.example", alpha.hostname).replace("beta.example", beta.hostname))
common = {"vault": vault, "node": beta, "started_at": now}
Operation.objects.create(pk="f" * 32, kind="failover", state="succeeded", finished_at=now, steps=named(FAILOVER),
    result={"summary": "beta is Master now", **FIRST_WRITE}, **common)
Event.objects.create(vault=vault, text="beta is Master now", operation="f" * 32, rule="P30", epoch=8,
    evidence={"seen": named(SEEN), "operation": "f" * 32, "fence": "fenced"})
Operation.objects.create(pk="5" * 32, kind="switchover", state="failed", finished_at=now, message="it did not close in time",
    steps=[*named(SWITCHOVER[:1]), {"name": "close alpha", "state": "failed", "began_ms": 6, "ms": 2006, "says": "commits hang"},
           {"name": "open beta", "state": "waiting"}], **common)
Operation.objects.create(pk="e" * 32, kind="resynchronize", state="running", done=1000, total=4000, unit="transactions",
    steps=[{"name": "catch-up beta", "state": "running", "began_ms": 5, "ms": 9000}],
    result={"samples": [[0, 0], [5, 500], [10, 1000]]}, **common)
Operation.objects.filter(pk="e" * 32).update(changed_at=now + timedelta(hours=1))
"""
MORE = """
from datetime import timedelta
from django.utils import timezone
from nodes.models import Operation
Operation.objects.filter(pk="e" * 32).update(done=3000, changed_at=timezone.now() + timedelta(hours=2))
"""


@pytest.fixture(scope="module")
def console(chromium_path: str) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with site(directory, chromium_path) as made:
            made.control.manage("shell", "-v0", "-c", ROWS)
            yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_clean_and_fits(console: Site, scheme: str) -> None:
    with console.page(color_scheme=scheme, viewport={"width": 360, "height": 740}) as page:
        heard = complaints(page)
        for url in PAGES:
            page.goto(url)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, url
            found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]})
            assert found.violations_count == 0, f"{url}: {found.generate_report()}"
        assert heard == []


def test_figures_move_and_cancel_keeps_the_place(console: Site) -> None:
    with console.page() as page:
        page.goto(VAULT)
        line = page.locator(f'[data-running="{RUNNING}"]')
        expect(line).to_contain_text("25 %")
        expect(line).to_contain_text("about 30 s left")
        cancel = page.locator(f"#cancel-{RUNNING}")
        cancel.focus()
        console.control.manage("shell", "-v0", "-c", MORE)
        expect(line).to_contain_text("75 %", timeout=2 * POLL_MS)
        expect(cancel).to_be_focused()
        page.keyboard.press("Enter")
        dialog = page.locator("#dialog[open]")
        expect(dialog).to_contain_text("Only the watching ends")
        expect(dialog.get_by_role("link", name="No, let it go on")).to_be_focused()
        page.keyboard.press("Escape")
        expect(cancel).to_be_focused()
        _cancel(page)
        expect(line).to_contain_text("asked to end")


def _cancel(page: Page) -> None:
    page.keyboard.press("Enter")
    page.get_by_label("Reason").fill("not tonight")
    page.get_by_role("button", name="Yes, cancel it").click()
    expect(page.locator("#dialog[open]")).to_have_count(0)


def test_the_report_is_for_paper(console: Site) -> None:
    with console.page() as page:
        page.goto(f"{LIST}{ENDED}/report/")
        expect(page.get_by_role("button", name="Print")).to_be_visible()
        page.emulate_media(media="print")
        for hidden in ("#header", "#nav-sidebar", ".no-print"):
            expect(page.locator(hidden)).to_be_hidden()
        expect(page.get_by_text("Rows at risk: 0")).to_be_visible()
        printed = page.pdf(prefer_css_page_size=True)
        assert printed.count(b"/Type /Page\n") in (1, 2), "a page or two"
