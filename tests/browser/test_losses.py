"""Lost transactions in a real browser: from the notice on the Vault screen to the checklist, on paper, and closed with a note."""

from playwright.sync_api import expect

from tests.browser.inventory import LOSS, Site

LIST, VAULT = "/admin/nodes/lossreport/", "/admin/nodes/vaultnode/"


def test_from_the_notice_to_dealt_with(busy: Site) -> None:
    with busy.page() as page:
        page.goto(VAULT)
        page.get_by_role("link", name="What to rotate").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Lost transactions of delta.vault.example")
        rotate = page.locator("#rotate")
        expect(rotate).to_contain_text("Rotate these first (4)")
        expect(rotate.get_by_role("row")).to_have_count(2)
        expect(page.locator("#changes")).to_contain_text("•••")
        with page.expect_download() as download:
            page.get_by_role("button", name="CSV").click()
        assert download.value.suggested_filename.startswith("lost-transactions-delta.vault.example-")
        page.emulate_media(media="print")
        expect(page.locator(".no-print").first).to_be_hidden()
        assert page.pdf(prefer_css_page_size=True).count(b"/Type /Page\n") in (1, 2), "a page or two"
        page.emulate_media(media="screen")
        page.get_by_role("link", name="Dealt with").click()
        dialog = page.locator("#dialog[open]")
        dialog.get_by_label("What was done").fill("rotated root@db1")
        dialog.get_by_role("button", name="Yes").click()
        expect(dialog).to_have_count(0)
        expect(page.locator(".loss")).to_contain_text("rotated root@db1")
        page.goto(LIST)
        expect(page.locator("#open-losses")).to_have_count(0)
        expect(page.locator(f'#losses [data-loss="{LOSS}"]')).to_contain_text("rotated root@db1")
        page.goto(VAULT)
        expect(page.get_by_role("link", name="What to rotate")).to_have_count(0)
