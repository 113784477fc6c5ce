"""What the Operations screen is asked for in its address. What cannot be understood is left out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from nodes.choices import OperationKind, OperationState
from nodes.models import Operation, VaultNode
from nodes.models.operation import OPEN_STATES

from .operation_shown import ROUTINE

PAGE: Final = 50
OPEN, TROUBLE = "open", "trouble"
STATES: Final = (
    (OPEN, _("Queued or running")),
    (TROUBLE, _("Failed or needs a person")),
    *OperationState.choices,
)
_SETS: Final = {OPEN: OPEN_STATES, TROUBLE: [OperationState.FAILED, OperationState.NEEDS_PERSON]}


@dataclass(frozen=True)
class Chosen:
    values: Mapping[str, str]
    """Name → as it is written in the address; only what is used."""
    where: Q

    @property
    def query(self) -> str:
        return urlencode(self.values)


def read_filter(asked: Mapping[str, str]) -> Chosen:
    """kind, state, node (its id), all=1 (also routine ones). A kind that is asked for is shown, routine or not."""
    values: dict[str, str] = {}
    where = Q()
    kind, state, node = (asked.get(name, "").strip() for name in ("kind", "state", "node"))
    if kind in OperationKind.values:
        values["kind"], where = kind, where & Q(kind=kind)
    if state in dict(STATES):
        values["state"], where = state, where & Q(state__in=_SETS.get(state, [state]))
    if node and VaultNode.objects.present().filter(pk=node).exists():
        values["node"], where = node, where & Q(node=node)
    if asked.get("all") == "1":
        values["all"] = "1"
    elif "kind" not in values:
        # One that is open, or went wrong, is no routine.
        where &= ~Q(kind__in=ROUTINE) | Q(state__in=[*OPEN_STATES, OperationState.NEEDS_PERSON])
    return Chosen(values, where)


@dataclass(frozen=True)
class Cursor:
    """A place between two operations, newest first: several may have begun at the same moment."""

    at: datetime
    pk: str

    def __str__(self) -> str:
        return f"{self.at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{self.pk}"

    @classmethod
    def read(cls, text: str) -> "Cursor | None":
        """None for what is no place in the list: then it begins at its beginning."""
        time, _dash, pk = text.partition("-")
        if not re.fullmatch(r"[0-9a-f]{1,32}", pk, re.ASCII):
            return None
        try:
            return cls(datetime.strptime(time, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC), pk)
        except ValueError:
            return None

    @property
    def older(self) -> Q:
        # In this form the index on the time is used: `a < x OR (a = x AND …)` is not.
        return Q(created_at__lte=self.at) & (Q(created_at__lt=self.at) | Q(pk__lt=self.pk))


@dataclass(frozen=True)
class Page:
    rows: list[Operation]
    older: str
    """Cursor of the page that follows; "" on the last."""


def page_of(rows: "QuerySet[Operation]", before: Cursor | None) -> Page:
    if before is not None:
        rows = rows.filter(before.older)
    found: list[Any] = list(rows.order_by("-created_at", "-pk")[: PAGE + 1])
    older = str(Cursor(found[PAGE - 1].created_at, found[PAGE - 1].pk)) if len(found) > PAGE else ""
    return Page(found[:PAGE], older)
