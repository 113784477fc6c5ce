"""What the Operations screen is asked for in its address."""

from collections.abc import Mapping
from typing import Final

from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from nodes.admin.filtering import Filter, Reader, Unusable, one_of, read, short
from nodes.admin.paging import HEX, Order
from nodes.choices import OperationKind, OperationState
from nodes.models import VaultNode
from nodes.models.operation import OPEN_STATES

from .shown import ROUTINE

ORDER: Final = Order("created_at", HEX)
PAGE: Final = 50
OPEN, TROUBLE = "open", "trouble"
STATES: Final = (
    (OPEN, gettext_lazy("Queued or running")),
    (TROUBLE, gettext_lazy("Failed or needs a person")),
    *OperationState.choices,
)
_SETS: Final = {OPEN: OPEN_STATES, TROUBLE: [OperationState.FAILED, OperationState.NEEDS_PERSON]}
_NO_ROUTINE: Final = ~Q(kind__in=ROUTINE) | Q(state__in=[*OPEN_STATES, OperationState.NEEDS_PERSON])
"""One that is open, or needs a person, is no routine."""


def read_filter(asked: Mapping[str, str]) -> Filter:
    """kind, state, node (its id), all=1 (also routine ones). A kind that is asked for is shown, routine or not."""
    chosen = read(asked, READERS)
    if "all" in chosen.values or "kind" in chosen.values:
        return chosen
    return Filter(chosen.values, chosen.where & _NO_ROUTINE, chosen.problems)


def _node(text: str) -> tuple[str, Q]:
    if not VaultNode.objects.present().filter(pk=text).exists():
        raise Unusable(_("There is no node %(id)s: operations of all nodes are shown.") % {"id": short(text)})
    return text, Q(node=text)


READERS: Final[dict[str, Reader]] = {
    "kind": one_of({kind: Q(kind=kind) for kind in OperationKind.values}),
    "state": one_of({str(state): Q(state__in=_SETS.get(str(state), [state])) for state, _label in STATES}),
    "node": _node,
    "all": one_of({"1": Q()}),
}
