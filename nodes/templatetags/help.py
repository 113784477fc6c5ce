"""Links from what a screen says to the help page that explains it. What has no page gets no link."""

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, override

from nodes.help import help_url, node_status_heading, status_url
from replication.core.roles import NodeStatus

register = template.Library()

STATUSES = frozenset(NodeStatus)
VAULT_WORDS = (
    gettext_lazy("Lossless"), gettext_lazy("Solo"), gettext_lazy("Failing over"), gettext_lazy("Switching over"), gettext_lazy("Asking the agents"),
    gettext_lazy("Unknown"), gettext_lazy("Not watched"), gettext_lazy("No primary yet"),
)  # fmt: skip
"""What the safety panel may say."""
SERVICE_WORDS = (
    gettext_lazy("Started"),
    gettext_lazy("Triggered"),
    gettext_lazy("Stopping"),
    gettext_lazy("Stopped"),
    gettext_lazy("No worker"),
)
"""What the light of a service may say."""


@register.simple_tag
def help_link(rule: Any, text: str = "") -> SafeString | str:
    """To the section of a rule id: a small question mark, or a text of yours. Nothing for an id without a section."""
    rule = str(rule or "")
    return _link(help_url(rule), text, _("Help on %(what)s") % {"what": rule.partition(" ")[0]})


@register.simple_tag
def status_help(word: Any, group: str = "node", shown: Any = "") -> SafeString | str:
    """To the section of a NodeStatus value; with the group "vault" or "service" to that of a word of theirs, as it is shown.

    With another group of the page (host) the word is the section's anchor, and `shown` what stands on the screen.
    """
    word = str(word or "")
    if group == "node":
        if word not in STATUSES:
            return ""
        heading = node_status_heading(word)
        shown = shown or heading
    elif group not in ("vault", "service"):
        heading = word
    else:
        words = VAULT_WORDS if group == "vault" else SERVICE_WORDS
        found = next((each for each in words if str(each) == word), word)
        with override(None):
            heading = str(found)
    return _link(status_url(group, heading), "", _("Help on %(what)s") % {"what": shown or word})


def _link(url: str, text: str, name: str) -> SafeString | str:
    """In a tab of its own, so that a half-filled form or a screen that one watches stays."""
    if not url:
        return ""
    if text:
        return format_html('<a class="help-text" href="{}" target="help">{}</a>', url, text)
    return format_html(
        '<a class="help-mark" href="{}" target="help" title="{}"><span aria-hidden="true">?</span>'
        '<span class="hidden-text">{}</span></a>',
        url,
        name,
        name,
    )
