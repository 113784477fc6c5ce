"""What the Events screen is asked for in its address, as conditions that an index answers."""

import re
from collections.abc import Mapping
from typing import Final

from django.db.models import Q
from django.utils.translation import gettext as _

from nodes.admin.filtering import Filter, Reader, Unusable, read, short, since, text_in, until
from nodes.admin.paging import Order
from nodes.choices import EventLevel
from nodes.models import Vault, VaultNode

ORDER: Final = Order("at")
PROBLEMS: Final = "problems"
"""Level: warnings and errors."""
PEOPLE, SERVICE = "people", "service"
DIAGNOSIS: Final = "D"
"""Its rules say what was wrong; those of every other family say what was done, see Event.rule."""


def read_filter(asked: Mapping[str, str]) -> Filter:
    return read(asked, READERS, between=("from", "to"))


def _vault(text: str) -> tuple[str, Q]:
    if not Vault.objects.filter(pk=text).exists():
        raise Unusable(_("There is no vault %(id)s: events of all vaults are shown.") % {"id": short(text)})
    return text, Q(vault=text)


def _node(text: str) -> tuple[str, Q]:
    """As it is spelled in the list or in the events: an index finds exact names only."""
    listed = VaultNode.objects.filter(hostname__iexact=text).values_list("hostname", flat=True)
    return text, Q(node_name__in=sorted({text, text.lower(), *listed}))


def _level(text: str) -> tuple[str, Q]:
    if text == PROBLEMS:
        return text, Q(level__in=(EventLevel.WARNING, EventLevel.ERROR))
    if text not in EventLevel.values:
        raise Unusable(_("There is no level “%(text)s”: choose one of the list.") % {"text": short(text)})
    return text, Q(level=text)


def _rule(text: str) -> tuple[str, Q]:
    """A family ("P") or a rule ("P30"); of D what was wrong, of all others what was done."""
    rule = text.upper()
    if not re.fullmatch(r"[A-Z]\d{0,3}", rule, re.ASCII):
        raise Unusable(
            _("“%(text)s” is no rule: enter a letter for a family such as P, or one rule such as P30.")
            % {"text": short(text)}
        )
    column = "diagnosis" if rule.startswith(DIAGNOSIS) else "rule"
    return rule, Q(**{column if len(rule) > 1 else f"{column}__startswith": rule})


def _by(text: str) -> tuple[str, Q]:
    if text not in (PEOPLE, SERVICE):
        raise Unusable(_("“%(text)s” is nobody: choose people or the service.") % {"text": short(text)})
    return text, ~Q(actor="") if text == PEOPLE else Q(actor="")


def _actor(text: str) -> tuple[str, Q]:
    return text, Q(actor__iexact=text)


def _operation(text: str) -> tuple[str, Q]:
    if not re.fullmatch(r"[\w -]{1,32}", text, re.ASCII):
        raise Unusable(
            _("“%(text)s” is no operation: copy its id from an event or from its page.") % {"text": short(text)}
        )
    return text, Q(operation=text)


READERS: Final[dict[str, Reader]] = {
    "vault": _vault,
    "node": _node,
    "level": _level,
    "rule": _rule,
    "by": _by,
    "actor": _actor,
    "operation": _operation,
    "text": text_in("text"),
    "from": since("at"),
    "to": until("at"),
}
"""In the order of the form, which is that of the address."""
