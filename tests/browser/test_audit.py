"""Audit log, work queues, users, the page without a role and the lockout in a real browser: policy, contrast, narrow."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import complaints
from tests.browser.inventory import Site, site
from tests.browser.test_screens import LISTENS_FOR_VIOLATIONS, TOO_FAINT

LOG, QUEUES = "/admin/auditlog/logentry/", "/admin/django_rq/dashboard/"
ADDRESSES = (LOG, f"{LOG}?via=post", f"{LOG}1/", QUEUES, f"{QUEUES}queue/ops/failed/", f"{QUEUES}job/failed-job/",
             f"{QUEUES}job/failed-job/delete/", f"{QUEUES}queue/ops/empty/", "/admin/auth/user/add/",
             "/admin/auth/user/2/change/", "/admin/auth/user/")  # fmt: skip
# A user without a role, a wish with a reason, and a job that has failed.
MORE = """
import django_rq
from django.contrib.auth.models import User
from nodes.models import *
from replication.jobs import preflight
from replication.stores import wishes
from rq.job import JobStatus
from rq.registry import FailedJobRegistry
from rq.results import Result
User.objects.create_user("newcomer", password="a long password", is_staff=True)
node = VaultNode.objects.get(hostname="delta.vault.example")
wishes.set_active(node, True, User.objects.get(username="admin"), reason="the new disk is in")
queue = django_rq.get_queue("ops")
job = queue.enqueue(preflight, "0" * 32, job_id="failed-job")
queue.connection.lrem(queue.key, 0, job.id)
job.set_status(JobStatus.FAILED)
FailedJobRegistry(queue=queue).add(job)
Result.create_failure(job, ttl=3600, exc_string="Traceback: " + "a very long line " * 20)
"""


@pytest.fixture(scope="module")
def console(chromium_path: str) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="vha-"))
    try:
        with site(directory, chromium_path) as made:
            made.control.manage("shell", "-v0", "-c", MORE)
            yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def log_in(page: Page, username: str, password: str) -> None:
    page.goto("/admin/login/")
    page.locator("#id_username").fill(username)
    page.locator("#id_password").fill(password)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1360])
def test_no_page_complains_is_too_wide_or_too_faint(console: Site, scheme: str, width: int) -> None:
    with console.page(color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        page.add_init_script(LISTENS_FOR_VIOLATIONS)
        heard = complaints(page)
        for address in ADDRESSES:
            response = page.goto(address)
            assert response is not None
            assert response.status == 200, address
            page.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
            assert heard == [], address
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
            assert page.evaluate(TOO_FAINT) == [], address


def test_an_entry_is_found_by_its_reason_and_read(console: Site) -> None:
    with console.page() as page:
        page.goto(LOG)
        page.get_by_label("Text").fill("new disk")
        page.get_by_role("button", name="Filter").click()
        row = page.get_by_role("row").filter(has_text="Node made active")
        expect(row).to_have_count(1)
        expect(row).to_contain_text("Reason: the new disk is in")
        row.get_by_role("link").first.click()
        expect(page.get_by_role("heading", name="Node made active")).to_be_visible()
        expect(page.get_by_role("row").filter(has_text="active")).to_contain_text("yes")


def test_a_failed_job_is_deleted_after_a_question(console: Site) -> None:
    with console.page() as page:
        page.goto(QUEUES)
        page.get_by_role("link", name="1", exact=True).click()
        page.get_by_role("link", name="failed-job").click()
        expect(page.get_by_text("a very long line").first).to_be_visible()
        page.get_by_role("link", name="Queue again").click()
        page.get_by_role("button", name="Yes").click()
        expect(page.get_by_text("The job was queued again.")).to_be_visible()


def test_who_has_no_role_reads_whom_to_ask(console: Site) -> None:
    with console.page(logged_in=False) as page:
        page.add_init_script(LISTENS_FOR_VIOLATIONS)
        heard = complaints(page)
        log_in(page, "newcomer", "a long password")
        expect(page.get_by_role("heading", name="You may see nothing yet")).to_be_visible()
        expect(page.get_by_text("Ask one of these administrators")).to_contain_text("admin")
        assert page.evaluate(TOO_FAINT) == []
        assert heard == []


def test_the_fifth_failure_shows_the_page_of_the_lock(console: Site) -> None:
    with console.page(logged_in=False, viewport={"width": 360, "height": 800}) as page:
        page.add_init_script(LISTENS_FOR_VIOLATIONS)
        heard = complaints(page)
        for _ in range(5):
            log_in(page, "attacked", "wrong")
        expect(page.get_by_role("heading", name="Locked for a while")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate(TOO_FAINT) == []
        assert [text for text in heard if " 429 " not in text] == []
