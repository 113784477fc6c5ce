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


Table = Sequence[Sequence[object]]


def write(
    name: str,
    title: str,
    *,
    database: str,
    paragraphs: Sequence[str],
    table: Table,
    more: Sequence[tuple[str, Table]] = (),
) -> Path:
    """Write one page. table: the first row is the head. more: further tables, each below its heading."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines = [
        f"# {title}",
        "",
        f"Commit {commit()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.system()} {platform.release()}, "
        f"{os.cpu_count()} cores, load {load}, MariaDB {database}.",
        "",
        *(f"{paragraph}\n" for paragraph in paragraphs),
        *_lines(table),
    ]
    for heading, each in more:
        lines += ["", f"## {heading}", "", *_lines(each)]
    DIRECTORY.mkdir(exist_ok=True)
    file = DIRECTORY / f"{name}.md"
    file.write_text("\n".join([*lines, ""]))
    return file


def _lines(table: Table) -> list[str]:
    head, *rows = table
    return [
        "| " + " | ".join(map(str, head)) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
    ]
