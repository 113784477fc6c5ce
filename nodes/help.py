"""The help pages of the console: the project's own docs, read from files once per process, rendered without any HTML of theirs.

A page is found by its name in a fixed list, never by a path. `docs/runbook/diagnosis.md` is the page `diagnosis`;
`docs/design/fences.md` is `design-fences`, because other folders may use a name again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import override
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from nodes.choices import STATUS_LABELS
from replication.core.roles import NodeStatus

INDEX: Final = "README"
FOLDERS: Final = ("runbook", "design", "reference")
"""Below docs/. A link to anything else is plain text: it is not in the image."""
STATUS: Final = "status"
_RULE = re.compile(r"([A-Z]\d{2,3}) · ")


@dataclass(frozen=True)
class Section:
    """A heading and the text below it, up to the next heading."""

    level: int
    anchor: str
    title: str
    text: str
    """Without markup, for the search."""


@dataclass(frozen=True)
class Page:
    name: str
    folder: str
    title: str
    sections: tuple[Section, ...]
    html: SafeString


def github_anchor(heading: str) -> str:
    """The fragment that GitHub gives a heading, so that links between pages work in both places."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def files() -> dict[str, Path]:
    """Page name → file. Empty when the docs are not installed."""
    docs = settings.BASE_DIR / "docs"
    return {
        file.stem if folder == "runbook" else f"{folder}-{file.stem}": file
        for folder in FOLDERS
        for file in sorted((docs / folder).glob("*.md"))
    }


@cache
def page(name: str) -> Page | None:
    """A page with its HTML; None when there is none of this name."""
    file = files().get(name)
    return _render(name, file) if file is not None else None


def pages() -> list[Page]:
    return [found for name in files() if (found := page(name)) is not None]


def page_url(name: str) -> str:
    return reverse("help-index") if name == INDEX else reverse("help-page", args=[name])


@cache
def _rules() -> dict[str, str]:
    """Rule id → page: read from the headings, so that a new family needs no entry here."""
    heading = re.compile(r"^## ([A-Z]\d{2,3}) · ", re.MULTILINE)
    runbook = {name: file for name, file in files().items() if file.parent.name == "runbook"}
    return {rule: name for name, file in runbook.items() for rule in heading.findall(file.read_text("utf-8"))}


def help_url(rule: str) -> str:
    """Where a rule id is explained; "" for one that has no heading. "R40 · its replication …" will do, too."""
    rule = rule.partition(" ")[0].upper()
    name = _rules().get(rule)
    return f"{page_url(name)}#{rule.lower()}" if name else ""


@cache
def _status_anchors() -> frozenset[str]:
    found = page(STATUS)
    return frozenset(section.anchor for section in found.sections) if found else frozenset()


def status_url(group: str, word: str) -> str:
    """Where a word of the screens is explained; "" if nowhere. group: node, vault, service or host. word: in English, or its anchor."""
    anchor = f"{group}-{github_anchor(word)}"
    return f"{page_url(STATUS)}#{anchor}" if anchor in _status_anchors() else ""


def node_status_heading(status: str) -> str:
    """The heading of a NodeStatus: its label in English, with … for what differs from case to case."""
    with override(None):
        return str(STATUS_LABELS[NodeStatus(status)]) % {"detail": "…"}


# --- from Markdown to HTML


def _render(name: str, file: Path) -> Page:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("table_open", _table_open)
    markdown.add_render_rule("table_close", _table_close)
    tokens = _without_pictures(markdown.parse(file.read_text("utf-8")))
    sections = _number_headings(tokens, name)
    for index, token in enumerate(tokens):
        if token.children and tokens[index - 1].type != "heading_open":
            token.children = _links(token.children, file)
        if (
            align := token.attrs.pop("style", None)
        ) is not None:  # the content security policy knows no style attribute
            token.attrSet("class", "right" if "right" in str(align) else "left")
    html = markdown.renderer.render(tokens, markdown.options, {})
    title = next((section.title for section in sections if section.level == 1), name)
    return Page(name, file.parent.name, title, tuple(sections), mark_safe(html))  # noqa: S308 - our own files, their HTML escaped


def _without_pictures(tokens: list[Token]) -> list[Token]:
    """Paragraphs that are a picture are left out: it shows the very screens that the reader has, and is not in the image."""
    pictures = {
        place
        for index, token in enumerate(tokens)
        if token.type == "inline" and token.children and all(child.type == "image" for child in token.children)
        for place in range(index - 1, index + 2)
    }
    return [token for index, token in enumerate(tokens) if index not in pictures]


def _table_open(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return '<div class="help-table"><table>\n'


def _table_close(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return "</table></div>\n"


def _number_headings(tokens: list[Token], name: str) -> list[Section]:
    """Give every heading its id, and return the sections of the page."""
    sections: list[Section] = []
    text: list[str] = []
    group = ""
    heading: tuple[int, str, str] | None = None
    seen: dict[str, int] = {}

    def close() -> None:
        if heading is not None:
            sections.append(Section(*heading, " ".join(" ".join(text).split())))
        text.clear()

    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            close()
            inline = tokens[index + 1]
            title, level = _plain(inline), int(token.tag[1])
            github = github_anchor(title)
            seen[github] = seen.get(github, -1) + 1
            github += f"-{seen[github]}" if seen[github] else ""
            anchor = github
            if rule := _RULE.match(title):
                anchor = rule[1].lower()
            elif name == STATUS and level == 2:
                group = github_anchor(title.split(":")[0])
            elif name == STATUS and level == 3:
                # "Unknown" is a word for a node and for a vault.
                anchor = f"{group}-{github_anchor(title)}"
            token.attrSet("id", anchor)
            if anchor != github and inline.children is not None:
                inline.children[:0] = [
                    Token("span_open", "span", 1, attrs={"id": github}),
                    Token("span_close", "span", -1),
                ]
            heading = (level, anchor, title)
        elif token.type == "inline" and (index == 0 or tokens[index - 1].type != "heading_open"):
            text.append(_plain(token))
        elif token.type in ("fence", "code_block"):
            text.append(token.content)
    close()
    return sections


def _plain(token: Token) -> str:
    """The text of an inline token without its markup."""
    return "".join(
        child.content if child.type in ("text", "code_inline") else " " if child.type.endswith("break") else ""
        for child in token.children or ()
    )


def _links(children: list[Token], file: Path) -> list[Token]:
    """Links to other pages lead to their help page, links to the web stay, everything else becomes plain text.

    A rule id in the text becomes a link to its section, and the name of a file the title of its page.
    """
    kept: list[Token] = []
    dropped = 0
    linked: str | None = None
    for child in children:
        if child.type == "image":
            kept.append(Token("text", "", 0, content=child.content))
        elif child.type == "link_open":
            target = _target(str(child.attrGet("href") or ""), file)
            if target is None:
                dropped += 1
                continue
            child.attrSet("href", target)
            if re.match(r"https?:", target):
                child.attrSet("rel", "noopener noreferrer")
            linked = target
            kept.append(child)
        elif child.type == "link_close":
            if dropped:
                dropped -= 1  # links do not nest
                continue
            linked = None
            kept.append(child)
        elif child.type == "text" and linked is not None:
            name = next((name for name in files() if page_url(name) == linked), "")
            if re.fullmatch(r"[\w-]+\.md", child.content) and name:
                child.content = _title(files()[name])
            kept.append(child)
        elif child.type == "text":
            kept.extend(_rule_links(child))
        else:
            kept.append(child)
    return kept


def _title(file: Path) -> str:
    found = re.search(r"^# (.+)$", file.read_text("utf-8"), re.MULTILINE)
    return found[1] if found else file.stem


def _rule_links(text: Token) -> list[Token]:
    parts: list[Token] = []
    for part in re.split(r"\b([A-Z]\d{2,3})\b", text.content):
        words = Token("text", "", 0, content=part)
        if url := _rules().get(part) and help_url(part):
            parts += [Token("link_open", "a", 1, attrs={"href": url}), words, Token("link_close", "a", -1)]
        elif part:
            parts.append(words)
    return parts


def _target(href: str, file: Path) -> str | None:
    if re.match(r"https?:", href):
        return href
    if re.match(r"[a-z][a-z0-9+.-]*:", href, re.IGNORECASE):
        return None
    path, _hash, fragment = href.partition("#")
    if not path:
        return f"#{fragment}"
    wanted = (file.parent / path).resolve()
    name = next((name for name, found in files().items() if found.resolve() == wanted), None)
    if name is None:
        return None
    return page_url(name) + (f"#{fragment}" if fragment else "")
