"""What is looked for in a service's log."""

from collections.abc import Mapping
from typing import Final

from django.db.models import Q
from django.utils.translation import gettext_lazy

from nodes.admin.filtering import Filter, Reader, one_of, read, since, text_in, until
from nodes.admin.paging import Order

ORDER: Final = Order()
"""By key, so that a page stays the same while new lines come."""
LEVELS: Final = (("30", gettext_lazy("Warnings and errors")), ("40", gettext_lazy("Errors")))
ALL_LEVELS: Final = "20"


def read_filter(asked: Mapping[str, str]) -> Filter:
    return read(asked, READERS, between=("since", "until"))


def _host(text: str) -> tuple[str, Q]:
    return text, Q(host=text)


READERS: Final[dict[str, Reader]] = {
    "q": text_in("text"),
    "level": one_of({ALL_LEVELS: Q(), **{level: Q(level__gte=int(level)) for level, _label in LEVELS}}),
    "host": _host,
    "since": since("at"),
    "until": until("at"),
}
