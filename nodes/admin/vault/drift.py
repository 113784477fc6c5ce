"""What the screens say of a node whose data differs from the Master's: named, and when it was found."""

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.models import VaultNode
from nodes.sentences import said

NAMED = 2
"""Differences that a row has room for; the popup of the node has all."""


def short(difference: str) -> str:
    """Without the keys: "vault.accounts: 3 rows differ"."""
    return said(difference).split(" (", 1)[0]


def differs(node: VaultNode, *, is_primary: bool) -> str:
    """A sentence for its row; "" when the last comparison found nothing, or there was none."""
    if not node.drift:
        return ""
    what = "; ".join(short(str(one)) for one in node.drift[:NAMED])
    more = len(node.drift) - NAMED
    if more > 0:
        what += " " + ngettext("and %(more)d more", "and %(more)d more", more) % {"more": more}
    if is_primary:
        return _("Became Master although it differed from the last one: %(what)s") % {"what": what}
    return _("Differs from the Master: %(what)s") % {"what": what}
