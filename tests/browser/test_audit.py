"""Audit log, work queues, users, the page without a role and the lockout in a real browser."""

from playwright.sync_api import Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site
from tests.browser.test_looks import LISTENS_FOR_VIOLATIONS, barriers

LOG, QUEUES = "/admin/auditlog/logentry/", "/admin/django_rq/dashboard/"


def log_in(page: Page, username: str, password: str) -> None:
    page.goto("/admin/login/")
    page.locator("#id_username").fill(username)
    page.locator("#id_password").fill(password)
    page.get_by_role("button", name="Log in").click()


def test_an_entry_is_found_by_its_reason_and_read(busy: Site) -> None:
    with busy.page() as page:
        page.goto(LOG)
        page.get_by_label("Text").fill("new disk")
        page.get_by_role("button", name="Show").click()
        row = page.get_by_role("row").filter(has_text="Node made active")
        expect(row).to_have_count(1)
        expect(row).to_contain_text("Reason: the new disk is in")
        row.get_by_role("link").first.click()
        expect(page.get_by_role("heading", name="Node made active")).to_be_visible()
        expect(page.get_by_role("row").filter(has_text="active")).to_contain_text("yes")


def test_a_failed_job_is_deleted_after_a_question(busy: Site) -> None:
    with busy.page() as page:
        page.goto(QUEUES)
        page.get_by_role("link", name="2", exact=True).click()
        page.get_by_role("link", name="failed-job", exact=True).click()
        expect(page.get_by_text("a very long line").first).to_be_visible()
        page.get_by_role("link", name="Queue again").click()
        page.get_by_role("button", name="Yes").click()
        expect(page.get_by_text("The job was queued again.")).to_be_visible()


def test_who_has_no_role_reads_whom_to_ask(busy: Site) -> None:
    with busy.page(logged_in=False) as page:
        page.add_init_script(LISTENS_FOR_VIOLATIONS)
        heard = complaints(page)
        log_in(page, "newcomer", "a long password")
        expect(page.get_by_role("heading", name="You may see nothing yet")).to_be_visible()
        expect(page.get_by_text("Ask one of these administrators")).to_contain_text("admin")
        assert barriers(page) == []
        assert heard == []


def test_the_fifth_failure_shows_the_page_of_the_lock(busy: Site) -> None:
    with busy.page(logged_in=False, viewport={"width": 360, "height": 800}) as page:
        page.add_init_script(LISTENS_FOR_VIOLATIONS)
        heard = complaints(page)
        for _ in range(5):
            log_in(page, "attacked", "wrong")
        expect(page.get_by_role("heading", name="Locked for a while")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert barriers(page) == []
        assert [text for text in heard if " 429 " not in text] == []
