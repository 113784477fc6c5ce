"""What the Audit log is asked for in its address."""

from collections.abc import Mapping
from typing import Final

from django.db.models import Q
from django.utils.translation import gettext as _

from nodes.admin.filtering import Filter, Reader, Unusable, one_of, read, short, since, until
from nodes.admin.paging import Order

ORDER: Final = Order()
"""By key: entries are written one after the other, and their times may be set."""
WEB, COMMAND = "web", "command"


def read_filter(asked: Mapping[str, str]) -> Filter:
    return read(asked, READERS, between=("from", "to"))


def _who(text: str) -> tuple[str, Q]:
    """Also who is deleted, and the system's user of a command."""
    known = Q(actor__username__iexact=text) | Q(additional_data__actor__iexact=text)
    return text, known | Q(additional_data__system_user__iexact=text)


def _kind(text: str) -> tuple[str, Q]:
    app, dot, model = text.partition(".")
    if not dot:
        raise Unusable(_("There is no kind of object “%(text)s”: choose one of the list.") % {"text": short(text)})
    return text, Q(content_type__app_label=app, content_type__model=model)


def _object(text: str) -> tuple[str, Q]:
    return text, Q(object_repr__icontains=text) | Q(object_pk=text)


def _text(text: str) -> tuple[str, Q]:
    said = Q(additional_data__what__icontains=text) | Q(additional_data__reason__icontains=text)
    return text, said | Q(object_repr__icontains=text) | Q(remote_addr__startswith=text)


READERS: Final[dict[str, Reader]] = {
    "who": _who,
    "kind": _kind,
    "object": _object,
    "text": _text,
    "via": one_of({WEB: Q(additional_data__via__isnull=True), COMMAND: Q(additional_data__via__isnull=False)}),
    "from": since("timestamp"),
    "to": until("timestamp"),
}
