"""Evidence files under docs/evidence/: what was measured, with commit, date and machine. Written by `script/test --long` only."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIRECTORY = ROOT / "docs" / "evidence"


def commit() -> str:
    """The commit that is measured; says so when the tree differs from it."""
    head = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", ":!docs/evidence"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return head.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def write(
    name: str, title: str, *, database: str, paragraphs: Sequence[str], table: Sequence[Sequence[object]]
) -> Path:
    """Write one page. table: the first row is the head."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    head, *rows = table
    lines = [
        f"# {title}",
        "",
        f"Commit {commit()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.system()} {platform.release()}, "
        f"{os.cpu_count()} cores, load {load}, MariaDB {database}.",
        "",
        *(f"{paragraph}\n" for paragraph in paragraphs),
        "| " + " | ".join(map(str, head)) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
        "",
    ]
    DIRECTORY.mkdir(exist_ok=True)
    file = DIRECTORY / f"{name}.md"
    file.write_text("\n".join(lines))
    return file
