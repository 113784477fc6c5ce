"""Operations in a real browser: figures move by themselves, Cancel keeps the keyboard's place, the report fits on paper."""

from playwright.sync_api import Page, expect

from tests.browser.inventory import FAILED_OVER, RUNNING, Site

LIST, VAULT = "/admin/nodes/operation/", "/admin/nodes/vaultnode/"
POLL_MS = 2100

MORE = "UPDATE nodes_operation SET done = 3000, changed_at = datetime('now', '+2 hours') WHERE id = ?"


def test_figures_move_and_cancel_keeps_the_place(busy: Site) -> None:
    with busy.page() as page:
        page.goto(VAULT)
        line = page.locator(f'[data-running="{RUNNING}"]')
        expect(line).to_contain_text("25 %")
        expect(line).to_contain_text("about 30 s left")
        announcer = page.locator("#announcer")
        expect(announcer).to_be_empty()
        cancel = page.locator(f"#cancel-{RUNNING}")
        cancel.focus()
        busy.control.execute(MORE, RUNNING)
        expect(line).to_contain_text("75 %", timeout=2 * POLL_MS)
        expect(announcer).to_have_text("Re-synchronize Master: Running, beta catches up, 70 %")
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


def test_the_report_is_for_paper(busy: Site) -> None:
    with busy.page() as page:
        page.goto(f"{LIST}{FAILED_OVER}/report/")
        expect(page.get_by_role("button", name="Print")).to_be_visible()
        page.emulate_media(media="print")
        for hidden in ("#header", "#nav-sidebar", ".no-print"):
            expect(page.locator(hidden)).to_be_hidden()
        expect(page.get_by_text("Rows at risk: 0")).to_be_visible()
        printed = page.pdf(prefer_css_page_size=True)
        assert printed.count(b"/Type /Page\n") in (1, 2), "a page or two"
