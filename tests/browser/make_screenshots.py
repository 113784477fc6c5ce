"""The pictures of README and documentation, from a real pair: `script/screenshots` runs this.

Writes vault.png, vault-dark.png, add-node.png and app-services.png into the directory that is given.
"""

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect

import tests.conftest as environment  # before anything reads the settings
from tests.browser.chromium import WAIT_MS, browser, log_in
from tests.stack import ADMINISTRATOR, controller
from tests.vault_host import VaultHost, vault_hosts
from tests.writers import create_table

SIZE = {"width": 1360, "height": 720}
MOST_BYTES = 200_000
"""A picture in version control: larger ones make every clone slower."""


def take(directory: Path) -> list[Path]:
    """Bring up the pair, work with it, take the pictures; answers their files."""
    place = Path(tempfile.mkdtemp(prefix="vha-"))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "Chromium is missing: run script/screenshots, or apt install chromium."
    try:
        with contextlib.ExitStack() as stack:
            make = stack.enter_context(vault_hosts(place))
            hosts = [make(f"127.0.33.{n}", f"vault-{n}").init().start() for n in (1, 2)]
            control = stack.enter_context(controller(place))
            url = control.web()
            control.service("a")
            control.service("b")
            control.ops()
            control.add_pair(*hosts)
            control.wait_vault(primary="vault-1", acker="vault-2")
            context = stack.enter_context(browser(chromium)).new_context(viewport=SIZE, reduced_motion="reduce")
            page = context.new_page()
            log_in(page, url, ADMINISTRATOR, control.password)
            return _walk(page, hosts[0], directory)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _walk(page: Page, primary: VaultHost, directory: Path) -> list[Path]:
    made: list[Path] = []

    def shot(name: str) -> None:
        file = directory / f"{name}.png"
        page.screenshot(path=file)
        made.append(file)

    create_table(primary)
    page.locator("tr[data-node=vault-1] summary").click()
    page.get_by_role("link", name="Re-synchronize Master").click()
    page.get_by_role("dialog").get_by_role("button", name="Yes").click()
    expect(page.get_by_role("status", name="Operation")).to_contain_text("Synchronized", timeout=WAIT_MS)
    # The notice at the bottom is about the click, the picture about what came of it.
    page.locator("[data-close-notice]").first.click()
    expect(page.locator("[data-notice]")).to_have_count(0)
    expect(page.get_by_role("region", name="Safety")).to_contain_text("Lossless")
    shot("vault")
    page.emulate_media(color_scheme="dark")
    shot("vault-dark")
    page.emulate_media(color_scheme="light")
    page.get_by_role("link", name="Add Node").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Hostname").fill("vault-3")
    dialog.get_by_label("System Role").select_option("fallback")
    dialog.get_by_label("IP Address").fill("127.0.33.3")
    shot("add-node")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="App Services").click()
    expect(page.locator("[data-light=started]")).to_be_visible(timeout=WAIT_MS)
    shot("app-services")
    return made


def main(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        made = take(directory)
    finally:
        shutil.rmtree(environment.VAR, ignore_errors=True)
    for file in made:
        size = file.stat().st_size
        print(f"{file}: {size // 1000} kB")
        if size > MOST_BYTES:
            print(f"{file} is larger than {MOST_BYTES // 1000} kB: show less in it.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
