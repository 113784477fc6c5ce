"""How the screens write ages and times. static/nodes/console.js writes them the same way once it has loaded."""

from collections.abc import Mapping
from datetime import UTC, datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from nodes.sentences import said as in_readers_language

register = template.Library()

MINUTE, HOUR, DAY = 60, 3600, 86400


def age_text(seconds: float | None) -> str:
    """ "3 s ago", "4 min ago"; "never" for None."""
    if seconds is None:
        return _("never")
    if seconds < 2:
        return _("just now")
    if seconds < 2 * MINUTE:
        return _("%d s ago") % seconds
    if seconds < 2 * HOUR:
        return _("%d min ago") % (seconds // MINUTE)
    if seconds < 2 * DAY:
        return _("%d h ago") % (seconds // HOUR)
    return _("%d days ago") % (seconds // DAY)


@register.simple_tag
def age(ages: Mapping[str, float | None], key: str) -> SafeString:
    """An age that counts on in the browser."""
    seconds = ages.get(key)
    return format_html(
        '<span class="age" data-age-key="{}" data-age="{}">{}</span>',
        key,
        "" if seconds is None else f"{seconds:.1f}",
        age_text(seconds),
    )


@register.filter
def moment(at: datetime | None) -> SafeString | str:
    """A time in UTC; the browser turns it into the reader's own zone."""
    if at is None:
        return "–"
    utc = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{} UTC</time>',
        utc.isoformat(),
        f"{utc:%Y-%m-%d %H:%M:%S}",
        f"{utc:%Y-%m-%d %H:%M:%S}",
    )


@register.filter
def said(text: object) -> str:
    """What a decision or an agent said, in the reader's language."""
    return in_readers_language(str(text))
