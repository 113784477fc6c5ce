"""What the list of lost transactions is asked for in its address."""

from collections.abc import Mapping
from typing import Final

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from nodes.admin.filtering import Filter, Reader, one_of, read, since, text_in, until
from nodes.admin.paging import HEX, Order

ORDER: Final = Order("made_at", HEX)
OPEN, DEALT = "open", "dealt-with"
STATES: Final = ((OPEN, _("open")), (DEALT, _("dealt with")))

READERS: Final[dict[str, Reader]] = {
    "state": one_of({OPEN: Q(handled_at__isnull=True), DEALT: Q(handled_at__isnull=False)}),
    "node": text_in("hostname"),
    "from": since("made_at"),
    "to": until("made_at"),
}


def read_filter(asked: Mapping[str, str]) -> Filter:
    return read(asked, READERS, between=("from", "to"))
