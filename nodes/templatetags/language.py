"""The language switch, and what a page needs to speak its reader's language in its scripts too."""

from typing import Any

from django import template
from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language

from nodes import language, sentences

register = template.Library()


@register.inclusion_tag("nodes/language.html", takes_context=True)
def language_switch(context: Any) -> dict[str, Any]:
    """A button for each other language. Nothing where a form would not work: on a page that was made without its request."""
    request = context.get("request")
    others = [(code, name) for code, name in settings.LANGUAGES if code != get_language()]
    return {
        "others": others if context.get("csrf_token") else [],
        "csrf_token": context.get("csrf_token"),
        "here": request.get_full_path() if request is not None else "",
    }


@register.simple_tag
def language_words() -> SafeString | str:
    """The words of the scripts, before the scripts."""
    url = language.words_url(get_language() or "en")
    return format_html('<script src="{}" defer></script>', url) if url else ""


@register.filter
def quoted(text: object) -> SafeString | str:
    """What was said, as |said; marked as English where the reader's language has no words for it, a server's error for instance."""
    words = str(text)
    if sentences.is_known(words):
        return sentences.said(words)
    return format_html('<span lang="en">{}</span>', words)
