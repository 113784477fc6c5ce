"""Help, Application, login and error pages in a browser: readable on a phone, accessible, and no click that ends in nothing."""

from playwright.sync_api import expect

from tests.browser.inventory import Site

HOSTS = "/admin/nodes/applicationnode/"


def test_a_question_mark_leads_to_the_section_and_leaves_the_screen_alone(console: Site) -> None:
    with console.page() as page:
        page.goto(HOSTS)
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Help on Not seen lately").first.click()
        assert opened.value.url.endswith("/admin/help/status/#host-not-seen-lately")
        expect(opened.value.locator("#host-not-seen-lately")).to_be_in_viewport()
        assert page.url.endswith(HOSTS)


def test_a_form_whose_token_is_old_keeps_what_was_typed_and_says_what_to_do(console: Site) -> None:
    with console.page() as page:
        page.goto(HOSTS)
        page.locator("#add-node").click()
        page.get_by_label("Hostname").fill("controller-9")
        page.get_by_label("IP Address").fill("192.0.2.9")
        page.context.clear_cookies(name="csrftoken")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("dialog[open] [role=alert]")).to_contain_text("Nothing was changed")
        expect(page.get_by_label("Hostname")).to_have_value("controller-9")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("dialog[open] [data-problem]")).to_have_count(1)


def test_what_has_been_deleted_or_broken_is_a_notice_that_stays(console: Site) -> None:
    with console.page() as page:
        page.goto(HOSTS)
        expect(page.locator("#application-hosts")).to_be_visible()
        host = page.locator("[data-host^='controller-2'] a[id^=edit-]")
        console.control.execute("ALTER TABLE nodes_applicationnode RENAME TO away")
        try:
            host.click()
            notice = page.locator("#notices [data-problem]")
            expect(notice).to_contain_text("Reference for its log: ")
            assert notice.inner_text().split("log: ")[1][:8] in console.control.full_log("web")
            page.goto(HOSTS)
            expect(page.locator(".error-page h1")).to_have_text("Something went wrong in the console")
        finally:
            console.control.execute("ALTER TABLE away RENAME TO nodes_applicationnode")


def test_a_click_that_nobody_answers_says_so(console: Site) -> None:
    with console.page() as page:
        page.goto(HOSTS)
        page.route("**/change/", lambda route: route.abort())
        page.locator("[data-host^='controller-2'] a[id^=edit-]").click()
        expect(page.locator("#notices [data-problem]")).to_contain_text("The console does not answer")
        page.locator("#notices [data-problem] .close").click()
        expect(page.locator("#notices [data-problem]")).to_have_count(0)
