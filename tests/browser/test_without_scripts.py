"""Without JavaScript: what an operator must be able to do in any browser, as plain pages that lead back to the list."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.inventory import DIVERGED, LOSS, RUNNING, Site
from tests.browser.test_looks import NOTHING_RUNS

VAULT, SERVICES, HOSTS = "/admin/nodes/vaultnode/", "/admin/nodes/appservice/", "/admin/nodes/applicationnode/"
B, D = "b" * 32, "d" * 32


@pytest.fixture
def page(busy: Site) -> Iterator[Page]:
    with busy.page(java_script_enabled=False, viewport={"width": 1360, "height": 900}) as made:
        yield made


def test_a_node_that_cannot_be_added_is_told_and_keeps_what_was_typed(page: Page) -> None:
    page.goto(VAULT)
    page.get_by_role("link", name="Add Node").click()
    expect(page.get_by_role("heading", name="Add Node")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Enter the hostname")).to_be_visible()
    page.get_by_label("Hostname").fill("epsilon.vault.example")
    page.get_by_label("IP Address").fill("127.0.32.5")
    page.get_by_role("button", name="Save").click()
    # Nobody checks a host in this site: tests/browser/test_add_node.py has one. What was typed is kept.
    expect(page.get_by_role("alert")).to_contain_text("nothing was saved")
    expect(page.get_by_label("Hostname")).to_have_value("epsilon.vault.example")


def test_a_console_host_is_added_updated_and_deleted(page: Page) -> None:
    page.goto(HOSTS)
    page.get_by_role("link", name="Add Node").click()
    page.get_by_label("Hostname").fill("controller-9.example")
    page.get_by_label("IP Address").fill("127.0.32.90")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#notices")).to_contain_text("controller-9.example was added")
    page.get_by_role("link", name="controller-9.example", exact=True).click()
    page.get_by_label("IP Address").fill("127.0.32.91")
    page.get_by_role("button", name="Update").click()
    row = page.locator("[data-host='controller-9.example']")
    expect(row).to_contain_text("127.0.32.91")
    row.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Yes").click()
    expect(row).to_have_count(0)


def test_a_node_is_updated(page: Page) -> None:
    page.goto(VAULT)
    page.get_by_role("link", name="delta.vault.example", exact=True).click()
    page.get_by_label("Active").uncheck()
    page.get_by_role("button", name="Update").click()
    expect(page.locator("#notices")).to_contain_text("delta.vault.example")
    expect(page.locator(f"#action-{D}")).to_be_visible()


def test_a_node_is_deleted(page: Page) -> None:
    page.goto(VAULT)
    page.locator(f"#delete-{D}").click()
    expect(page.get_by_role("heading", name="Delete delta.vault.example?")).to_be_visible()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("#notices")).to_contain_text("vault-agent purge")
    expect(page.locator(f"#delete-{D}")).to_have_count(0)


def test_a_service_is_stopped_and_started(page: Page) -> None:
    page.goto(SERVICES)
    row = page.locator('tr[data-service="SystemHighAvailabilityService"]')
    row.get_by_role("link", name="Stop").click()
    page.get_by_role("button", name="Yes").click()
    expect(row.get_by_role("link", name="Start")).to_be_visible()
    row.get_by_role("link", name="Start").click()
    page.get_by_role("button", name="Yes").click()
    expect(row.get_by_role("link", name="Stop")).to_be_visible()


def test_an_operation_is_cancelled(page: Page) -> None:
    page.goto(VAULT)
    page.locator(f"#cancel-{RUNNING}").click()
    page.get_by_label("Reason").fill("not tonight")
    page.get_by_role("button", name="Yes, cancel it").click()
    page.goto(f"/admin/nodes/operation/{RUNNING}/")
    expect(page.locator("#live")).to_contain_text("asked to end")


def test_a_node_is_rebuilt_once_its_hostname_is_typed(busy: Site, page: Page) -> None:
    busy.control.execute(NOTHING_RUNS)
    page.goto(VAULT)
    page.locator(f"#action-{DIVERGED}").click()
    page.locator(f"#rebuild-{DIVERGED}").click()
    expect(page.get_by_text("Its old data is kept beside the copy")).to_be_visible()
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_role("alert")).to_contain_text("Type zeta.vault.example here")
    page.get_by_label("Hostname").fill("zeta.vault.example")
    page.get_by_label("Reason").fill("it was written by mistake")
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("#notices")).to_contain_text("zeta.vault.example is to be rebuilt.")
    page.get_by_role("link", name="Rebuild (full copy): zeta.vault.example", exact=True).click()
    expect(page.locator("#live")).to_contain_text("it was written by mistake")


def test_lost_transactions_are_read_downloaded_and_dealt_with(page: Page) -> None:
    page.goto(VAULT)
    page.get_by_role("link", name="What to rotate").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename.endswith(".csv")
    page.get_by_role("link", name="Dealt with").click()
    page.get_by_label("What was done").fill("rotated root@db1")
    page.get_by_role("button", name="Yes").click()
    page.goto(f"/admin/nodes/lossreport/{LOSS}/")
    expect(page.locator(".loss")).to_contain_text("rotated root@db1")


def test_a_backup_is_asked_for(page: Page) -> None:
    page.goto("/admin/nodes/backup/")
    page.get_by_role("link", name="Back up now").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("#notices")).to_contain_text("The backup has been started.")
    expect(page.locator("#live .op-line")).to_be_visible()


def test_events_are_filtered(page: Page) -> None:
    page.goto("/admin/nodes/event/")
    page.get_by_label("Text").fill("acker was lost")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tr[data-event]")).to_have_count(1)
    expect(page.locator("tr[data-event]")).to_contain_text("the acker was lost")


def test_the_language_is_switched_and_back(page: Page) -> None:
    page.goto(SERVICES)
    page.get_by_role("button", name="Deutsch").click()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page).to_have_url(re.compile(f"{SERVICES}$"))
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
