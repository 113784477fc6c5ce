"""Finds what the code says and keeps the translations in step with it: `script/translations` runs this.

Three domains: django (screens), djangojs (scripts), sentences (what decisions, procedures and agents say in English and
nodes/sentences.py looks up). GNU gettext does the work; only the sentences are found here, in the syntax trees of the rooms that
may not know Django.
"""

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "locale"
ROOMS = ("core", "procedures", "jobs", "stores/operations.py", "stores/inventory.py", "agent")
DOMAINS = ("django", "djangojs", "sentences")
LEAST_WORDS = 3
"""A text with fewer is a name, a format or a key; what is shorter and said nevertheless is listed."""
SHORT = frozenset({"nothing", "never", "already killed", "no answer yet", "by DHCP"})
FORMAT = re.compile(r"\{(\w+)\}")


def _name(part: ast.expr) -> str:
    match part:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=called):
            return _name(called)
        case ast.Subscript(value=value):
            return _name(value)
    return "value"


def _template(text: ast.JoinedStr) -> str:
    """An f-string with its gaps as %(name)s; names that come again are numbered."""
    names: dict[str, int] = {}
    parts = []
    for part in text.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        elif isinstance(part, ast.FormattedValue):
            name = _name(part.value).strip("_") or "value"
            names[name] = names.get(name, 0) + 1
            parts.append(f"%({name if names[name] == 1 else name + str(names[name])})s")
    return "".join(parts)


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Texts of a module that are no docstring and no part of an f-string, and every f-string as a template."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and _name(node.func.value) in ("log", "parser")
        ):
            skipped.update(id(part) for part in ast.walk(node))
        if isinstance(node, ast.JoinedStr):
            skipped.update(
                id(part) for part in ast.walk(node) if part is not node and not isinstance(part, ast.JoinedStr)
            )
            # Pieces that are chosen inside a gap are sentences of their own.
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    skipped.difference_update(id(inner) for inner in ast.walk(part.value))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, _template(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, FORMAT.sub(r"%(\1)s", node.value)


def _is_sentence(text: str) -> bool:
    words = re.sub(r"%\(\w+\)s", "", text)
    if text in SHORT:
        return True
    return len(text.split()) >= LEAST_WORDS and len(re.findall(r"[a-z]{2,}", words)) >= 2 and "SELECT" not in text


def sentences() -> dict[str, str]:
    """Sentence → where it is said, for the rooms that know no languages."""
    found: dict[str, str] = {}
    for room in ROOMS:
        place = ROOT / "replication" / room
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            for line, text in _strings(ast.parse(file.read_text())):
                if _is_sentence(text):
                    found.setdefault(text, f"{file.relative_to(ROOT)}:{line}")
    return found


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def pot() -> str:
    """The sentences as a .pot file."""
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n'
    entries = [
        f"#: {where.rpartition(':')[0]}\n"
        + ("#, python-format\n" if "%(" in text else "")
        + f'msgid {_quoted(text)}\nmsgstr ""\n'
        for text, where in sorted(sentences().items(), key=lambda pair: (pair[1].rpartition(":")[0], pair[0]))
    ]
    return "\n".join([head, *entries])


def run(*arguments: str) -> None:
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"script/translations: {' '.join(arguments[:3])} failed: {done.stderr.strip()}")


def merge(language: str, place: Path = LOCALE) -> None:
    """Bring the .po files of one language up to date. What is no longer said goes; what is new is empty."""
    directory = place / language / "LC_MESSAGES"
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".pot") as template:
        template.write(pot())
        template.flush()
        file = directory / "sentences.po"
        if not file.exists():
            run("msginit", "--no-translator", "-l", language, "-i", template.name, "-o", str(file))
        run(
            "msgmerge",
            "--quiet",
            "--update",
            "--backup=none",
            "--no-fuzzy-matching",
            "--no-wrap",
            str(file),
            template.name,
        )
    run("msgattrib", "--no-obsolete", "--no-wrap", "-o", str(file), str(file))
    environment = {"VAULT_HA_SECRET_KEY": "x", "VAULT_HA_VAR": tempfile.gettempdir(), "VAULT_HA_INSECURE_HTTP": "true"}
    for domain in ("django", "djangojs"):
        ignored = [f"--ignore={name}" for name in (".venv", "var", "tests", "docs", "script", "node_modules")]
        done = subprocess.run(
            [sys.executable, "manage.py", "makemessages", "-d", domain, "-l", language, "--no-obsolete", "--no-wrap",
             "--add-location", "file", *ignored],
            cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"script/translations: makemessages failed: {done.stderr.strip()}")


def compile_all(place: Path = LOCALE) -> None:
    for file in sorted(place.glob("*/LC_MESSAGES/*.po")):
        run("msgfmt", "--check", "-o", str(file.with_suffix(".mo")), str(file))


def main() -> int:
    for language in sorted(path.name for path in LOCALE.iterdir() if path.is_dir()):
        merge(language)
    compile_all()
    for file in sorted(LOCALE.glob("*/LC_MESSAGES/*.po")):
        said = subprocess.run(["msgfmt", "--statistics", "-o", os.devnull, str(file)], capture_output=True, text=True)
        print(f"{file.relative_to(ROOT)}: {said.stderr.strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
