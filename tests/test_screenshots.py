"""The pictures of the documentation: each is shown somewhere, each that is shown is there, and none makes a clone slow.

That they are true is up to `script/screenshots`, which takes them from a real pair.
"""

import re
from pathlib import Path

from tests.browser.make_screenshots import MOST_BYTES

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "screenshots"
TEXTS = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


def test_pictures_and_pages_know_each_other() -> None:
    shown = set()
    for text in TEXTS:
        for target in re.findall(r"\]\(([^)]+\.png)\)", text.read_text()):
            file = (text.parent / target).resolve()
            assert file.is_file(), f"{text}: {target}"
            shown.add(file)
    assert {file.resolve() for file in PICTURES.iterdir()} == shown


def test_no_picture_is_large() -> None:
    for file in PICTURES.glob("*.png"):
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size <= MOST_BYTES, file
