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
from collections.abc import Iterator, Mapping
from pathlib import Path

from replication.core.plan import ActionKind
from replication.core.roles import NodeStatus

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "locale"
ROOMS = ("core", "procedures", "jobs", "stores", "agent")
IN_TERMINALS = frozenset(
    {"cli.py", "config.py", "init.py", "mycnf.py", "mysqld_cnf.py", "purge.py", "restore.py", "status.py", "unpack.py"}
)
"""Parts of the agent that only somebody at a shell on its host reads."""
LABELS = ("nodes/choices.py",)
"""Their words stand in sentences that are written down."""
WRITERS = (
    "nodes/admin/vault/preflight.py",
    "nodes/admin/work_queues/screen.py",
    "nodes/migrations/0002_default_vault_and_service.py",
    "nodes/migrations/0006_housekeeping_service.py",
    "replication/management/commands/issue_certificate.py",
    "replication/management/commands/prepare_demo.py",
)
"""Elsewhere only what is handed to the audit log or an event is written down."""
DOMAINS = ("django", "djangojs", "sentences")
LEAST_WORDS = 3
"""A text with fewer is a name, a format or a key, unless it stands where something is said."""
SHORT = frozenset(
    {"nothing", "never", "already killed", "no answer yet", "by DHCP", "until resumed", "command line"}
    | {"failover", "switchover", "ahead of", "behind", "closed", "closed again", "lossless", "solo", "no answer"}
    | {"silent", "refused", "dead", "down", "hung", "starting", "another vault", "no vault", "the beginning"}
    | {"both ports", "(database)", "(agent)", "port %(port)s", "port %(port)s %(what)s: %(HOW)s"}
    | {"Port %(database_port)s of %(ip)s", "%(hostname)s follows %(hostname2)s", "%(to_do)s transactions"}
    | {"%(n)s (%(n2)s transactions, %(n3)s s)", "%(size)s free."}
)
STATUSES = tuple(f"%(hostname)s is {status.removeprefix('slave-')}%(value)s" for status in NodeStatus)
"""What replication/core/status.py says of each fallback: as a template for all statuses it would fit anything."""
PHASES = ("transferring", "preparing", "swapping", "done", "failed", "cancelled")
TASKS = ("receive", "send", "export", "backup")
STEPS = ("begin", "transfer", "prepare", "swap", "start")
COPIED = (
    "%(hostname)s was rebuilt.", "%(hostname)s was rebuilt (%(figures)s).",
    "%(hostname)s was rebuilt from %(host)s.", "%(hostname)s was rebuilt from %(host)s (%(figures)s).",
    *STEPS, *(f"{step} %(number)s s" for step in STEPS), "copying", "the source", "nobody", "nothing was begun",
)  # fmt: skip
ROWS = (
    *(f"{many}{more}" for more in ("", " (%(which)s)")
      for many in ("1 row differs", "%(number)s rows differ", "at least %(number)s rows differ")),
    "other content", "missing", "extra", "%(shown)s and %(number)s more",
)  # fmt: skip
TABLES = (
    "view", "sequence", "trigger", "routine", "event", "role", "account", "all its columns are computed",
    "engine %(engine)s, only InnoDB shows one state of a table while others write", "the type of %(names)s is not known",
    "it has no key to go by and about %(number)s rows: give it a primary key",
)  # fmt: skip
WORDS = {
    "and": "replication/core/surroundings.py",
    **dict.fromkeys((*PHASES, *TASKS), "replication/core/tasks.py"),
    **dict.fromkeys(COPIED, "replication/jobs/rebuilding.py"),
    **dict.fromkeys(ROWS, "replication/core/comparison.py"),
    **dict.fromkeys(TABLES, "replication/dialects/mariadb_checksums.py"),
    "no table": "replication/stores/losses.py",
    "%(hostname)s is not rebuilt: %(says)s": "replication/procedures/controller/rebuilding.py",
    "%(hostname)s does not go back to its data of before: %(says)s": "replication/procedures/controller/rebuilding.py",
    **{f"%(number)s {unit}": "replication/core/surroundings.py" for unit in ("days", "hours", "minutes")},
    "%(setting)s is %(found)s, must be %(wanted)s": "replication/dialects/mariadb_settings.py",
    "%(hostname)s is deleted: %(how)s": "replication/procedures/controller/following.py",
    **{kind.value: "replication/core/plan.py" for kind in ActionKind},
}
"""What no rule below finds: made of pieces, or in a room that else says nothing."""
LEFT_OUT = frozenset({"%(hostname)s was rebuilt%(source)s%(text)s."})
"""What would fit more than it says: a template of WORDS stands for it."""
SAYING = frozenset({"DESCRIPTION", "text", "says", "message", "summary", "what", "label"})
"""Names of variables and arguments that hold sentences."""
RECORDING = frozenset({"record", "tell", "_record", "_event", "_note", "_set_service"})
MARKS_AT_ONCE, MARKS_LATER = ("gettext", "ngettext", "pgettext"), ("gettext_lazy", "ngettext_lazy", "gettext_noop")
FORMAT = re.compile(r"\{(\w+)\}")
CODE = re.compile(
    r"SELECT|^(add|delete|flush) \w+ |^\{ | \| None$|Future\[|daddr|=%\(|^[a-z]+\.[a-z]+$"
    r"|\w\|\w|\(\[\^|^INSTALL |^All tables unlocked|^Was only able|^No space left$|^words of |^check of a |^id ids |^name names |^pass pwd "
)
"""Statements for other programs, what is looked for in their output or in names, and types."""


def _name(part: ast.expr) -> str:
    match part:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=called):
            return _name(called)
        case ast.Subscript(value=value):
            return _name(value)
    return "value"


def _constants(tree: ast.Module) -> dict[str, str]:
    """The texts that the module has names for."""
    found = {}
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text)))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(text)))
            ):
                found[name] = text
    return found


def _template(text: ast.JoinedStr, constants: Mapping[str, str]) -> str:
    """An f-string with its gaps as %(name)s; names that come again are numbered, and texts of the module put in."""
    names: dict[str, int] = {}
    parts = []
    for part in text.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        elif isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name) and part.value.id in constants:
            parts.append(constants[part.value.id])
        elif isinstance(part, ast.FormattedValue):
            name = _name(part.value).strip("_") or "value"
            names[name] = names.get(name, 0) + 1
            parts.append(f"%({name if names[name] == 1 else name + str(names[name])})s")
    return "".join(parts)


def _marks(tree: ast.Module, kinds: tuple[str, ...]) -> set[str]:
    """What the module calls Django's marks of these kinds."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation":
            found |= {alias.asname or alias.name for alias in node.names if alias.name in kinds}
    return found


def _texts_in(part: ast.AST) -> Iterator[ast.expr]:
    """The constants and f-strings that this expression may become."""
    match part:
        case ast.Constant(value=str()) | ast.JoinedStr():
            yield part
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts_in(body)
            yield from _texts_in(orelse)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _texts_in(value)


def _said(tree: ast.Module) -> set[int]:
    """Texts that stand where something is said, however short they are."""
    found: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in SAYING:
                parts = [value]
            case ast.Assign(targets=[ast.Tuple(elts=[*names])], value=ast.Tuple(elts=[*values])):
                parts = [v for n, v in zip(names, values, strict=False) if isinstance(n, ast.Name) and n.id in SAYING]
            case ast.Dict(keys=keys, values=values):
                parts = [
                    v for k, v in zip(keys, values, strict=True) if isinstance(k, ast.Constant) and k.value in SAYING
                ]
            case ast.Call(func=called, args=arguments, keywords=keywords):
                parts = [keyword.value for keyword in keywords if keyword.arg in SAYING]
                if _name(called) in RECORDING:
                    parts += arguments
        found.update(id(text) for part in parts for text in _texts_in(part))
    return found


def _labels(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What is marked to be translated later."""
    marks = _marks(tree, MARKS_LATER)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in marks:
            for part in node.args[:1]:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield node.lineno, part.value


def _strings(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Texts of a module that are no docstring and no part of an f-string, and every f-string as a template; and whether it stands
    where something is said. What is marked for Django belongs to the screens."""
    skipped: set[int] = set()
    said, constants = _said(tree), _constants(tree)
    marks = _marks(tree, MARKS_AT_ONCE + MARKS_LATER)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in marks:
            skipped.update(id(part) for argument in node.args for part in ast.walk(argument))
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
            yield node.lineno, _template(node, constants), id(node) in said
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, FORMAT.sub(r"%(\1)s", node.value), id(node) in said


def _is_sentence(text: str, *, said: bool) -> bool:
    if text in SHORT:
        return True
    written = re.sub(r"%\(\w+\)s", " ", text)
    words = re.findall(r"\b[A-Za-z]?[a-z]{2,}", written)
    if text in LEFT_OUT or CODE.search(text) or not words:
        return False
    if len(words) < LEAST_WORDS and re.search(r"\w[_/]\w", written):
        return False
    return said or (len(text.split()) >= LEAST_WORDS and len(words) >= 2)


def sentences() -> dict[str, str]:
    """Sentence → where it is said, for the rooms that know no languages."""
    found: dict[str, str] = {}
    for room in ROOMS:
        place = ROOT / "replication" / room
        for file in sorted(place.rglob("*.py")):
            if file.name in IN_TERMINALS and room == "agent":
                continue
            tree = ast.parse(file.read_text())
            pairs = [(line, text) for line, text, said in _strings(tree) if _is_sentence(text, said=said)]
            for line, text in [*pairs, *_labels(tree)]:
                found.setdefault(text, f"{file.relative_to(ROOT)}:{line}")
    for text in STATUSES:
        found[text] = "replication/core/status.py:0"
    for text, where in WORDS.items():
        found.setdefault(text, f"{where}:0")
    for name in LABELS:
        for line, text in _labels(ast.parse((ROOT / name).read_text())):
            found.setdefault(text, f"{name}:{line}")
    for name in WRITERS:
        for line, text, said in _strings(ast.parse((ROOT / name).read_text())):
            if said and _is_sentence(text, said=True):
                found.setdefault(text, f"{name}:{line}")
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
        _forget_the_date(directory / f"{domain}.po")


def _forget_the_date(file: Path) -> None:
    """It would make every run a change."""
    text = re.sub(r'"(POT-Creation-Date|Report-Msgid-Bugs-To):[^"]*"\n', "", file.read_text(), count=2)
    file.write_text(text)


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
