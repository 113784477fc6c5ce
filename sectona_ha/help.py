"""The help pages, for everybody who may log in: what docs/runbook says, and the pages that it leads to."""

import re
from dataclasses import dataclass

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from nodes import help as pages

QUERY_MAX = 100
RESULTS_MAX = 30
AROUND = 90
"""Characters of text that are shown on each side of the first word found."""


@dataclass(frozen=True)
class Found:
    url: str
    title: str
    page: str
    """Title of its page; "" where the section is the page."""
    excerpt: SafeString


def index(request: HttpRequest) -> HttpResponse:
    """The first page; with ?q=… what was found instead."""
    query = " ".join(request.GET.get("q", "")[:QUERY_MAX].split())
    known = pages.pages()
    return TemplateResponse(
        request,
        "help/index.html",
        {
            **admin.site.each_context(request),
            "title": _("Help"),
            "query": query,
            "results": search(query) if query else None,
            "results_max": RESULTS_MAX,
            "page": pages.page(pages.INDEX),
            "groups": [
                (title, [(page.title, pages.page_url(page.name)) for page in known if page.folder == folder])
                for folder, title in (("reference", _("Reference")), ("design", _("How it works, and why")))
            ],
        },
    )


def page(request: HttpRequest, page: str) -> HttpResponse:
    found = pages.page(page) if page != pages.INDEX else None
    if found is None:
        raise Http404(_("There is no such help page."))
    top = [section for section in found.sections if section.level > 1]
    context = {**admin.site.each_context(request), "title": found.title, "page": found, "sections": top}
    return TemplateResponse(request, "help/page.html", context)


def search(query: str) -> list[Found]:
    """Sections that contain every word, those whose heading does first, a rule id before all others."""
    words = [word.lower() for word in query.split()]
    ranked: list[tuple[int, int, Found]] = []
    for page in pages.pages():
        for section in page.sections:
            title, text = section.title.lower(), section.text.lower()
            if not all(word in title or word in text for word in words):
                continue
            in_title = sum(word in title for word in words)
            rank = (
                0 if title.startswith(f"{query.lower()} ·") else 1 if in_title == len(words) else 2 if in_title else 3
            )
            url = pages.page_url(page.name) + f"#{section.anchor}"
            found = Found(url, section.title, page.title if section.level > 1 else "", _excerpt(section.text, words))
            ranked.append((rank, pages.FOLDERS.index(page.folder), found))
    ranked.sort(key=lambda entry: entry[:2])
    return [found for _rank, _folder, found in ranked[:RESULTS_MAX]]


def _excerpt(text: str, words: list[str]) -> SafeString:
    """Some text around the first word found, with the words marked."""
    pattern = re.compile("|".join(re.escape(word) for word in words), re.IGNORECASE)
    first = pattern.search(text)
    middle = first.start() if first else 0
    start, end = max(0, middle - AROUND), min(len(text), middle + AROUND)
    start = min(text.find(" ", start) + 1, middle) if start else 0
    end = max(text.rfind(" ", 0, end), first.end() if first else 0) if end < len(text) else end
    cut = text[start:end]
    parts: list[tuple[str, str]] = []
    at = 0
    for match in pattern.finditer(cut):
        parts.append((cut[at : match.start()], match.group()))
        at = match.end()
    marked = format_html_join("", "{}<mark>{}</mark>", parts)
    return format_html_join(
        "", "{}", (("… " if start else "",), (marked,), (cut[at:],), (" …" if end < len(text) else "",))
    )
