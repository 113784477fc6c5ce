"""The rows of the Vault screen as HTML. Made in Python: 200 rows with their menus cost Django's template language 150 ms.

Everything that comes from a row goes through format_html, which escapes it. A row is made once per process for all that it
shows (the facts of the version stamp), user's permissions and language; only its age is new with every answer.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import Final

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from nodes.choices import SystemRoleChoices
from nodes.templatetags.console import age
from nodes.templatetags.help import status_help

from .menu import Entry, MenuFacts, menu_of
from .rows import Row

NOTHING: Final = SafeString()
_BEFORE: Final = (
    '<tr data-node="{name}">{delete}<th scope="row" class="host">{host}</th>'
    '<td data-label="{ip_label}" class="tabular">{ip}</td><td data-label="{port_label}" class="tabular">{port}</td>'
    '<td data-label="{system_label}">{system}</td><td data-label="{role_label}" class="current-role">{role}</td>'
    '<td data-label="{status_label}" class="status"><span class="word"><span class="badge {level}">{status}</span>{help}</span>{notes}</td>'
    '<td data-label="{age_label}">'
)
_BEHIND: Final = '</td><td data-label="{label}">{active}</td>{menu}</tr>\n'
_DELETE: Final = (
    '<td class="icon"><a id="delete-{pk}" class="icon-button" href="{url}" hx-get="{url}" title="{says}" '
    'aria-label="{says}"><svg aria-hidden="true"><use href="#icon-delete"/></svg></a></td>'
)
_EDIT: Final = '<a id="edit-{pk}" href="{url}" hx-get="{url}">{name}</a>'
_MENU: Final = (
    '<td class="actions"><details class="menu"><summary id="action-{pk}" class="button small">{label}'
    '<span class="hidden-text"> {name}</span></summary><ul>{entries}</ul></details></td>'
)
_POPUP: Final = '<li{group}><a id="{name}-{pk}" href="{url}" hx-get="{url}">{label}</a></li>'
_LINK: Final = '<li{group}><a href="{url}" target="help">{label}</a></li>'
_BEGINS: Final = mark_safe(' class="begins"')
_REFUSED: Final = '<li{group}><span class="impossible" aria-disabled="true">{label}<small>{says}</small></span></li>'


MOST_KEPT: Final = 2000
"""Rows whose HTML is kept: some 6 MB. More than that begins anew."""
_kept: dict[tuple[Hashable, ...], tuple[SafeString, SafeString]] = {}


def rendered(rows: Iterable[Row], facts: MenuFacts, ages: Mapping[str, float | None]) -> list[SafeString]:
    """The pieces of the <tr>s, in order, with what this user may do."""
    table, common = _Table(facts), (get_language(), facts.key)
    pieces: list[SafeString] = []
    for row in rows:
        key = (row.facts, common)
        made = _kept.get(key)
        if made is None:
            if len(_kept) >= MOST_KEPT:
                _kept.clear()
            made = _kept[key] = table.row(row)
        pieces += (made[0], age(ages, row.age_key), made[1])
    return pieces


class _Table:
    def __init__(self, facts: MenuFacts) -> None:
        self._facts = facts
        self._labels = {
            "ip_label": _("IP address"),
            "port_label": _("Port"),
            "system_label": _("System Role"),
            "role_label": _("Current Role"),
            "status_label": _("Status"),
            "age_label": _("Last answer"),
        }
        self._active = _("Active")
        self._system = {str(value): str(label) for value, label in SystemRoleChoices.choices}
        self._yes, self._no, self._action, self._help = _("Yes"), _("No"), _("Action"), _("What to do")
        self._delete_says, self._last_seen = _("Delete %(name)s"), _("last seen: %(status)s")
        self._refused: dict[tuple[str, str, bool], SafeString] = {}

    def row(self, row: Row) -> tuple[SafeString, SafeString]:
        """What stands before its age, and what stands behind."""
        node, may = row.node, self._facts.may
        place = f"{self._facts.base}{node.pk}/"
        host: SafeString | str = node.hostname
        delete = NOTHING
        if may["change"]:
            host = format_html(_EDIT, pk=node.pk, url=place + "change/", name=node.hostname)
        if may["delete"]:
            says = self._delete_says % {"name": node.hostname}
            delete = format_html(_DELETE, pk=node.pk, url=place + "delete/", says=says)
        before = format_html(
            _BEFORE,
            name=node.hostname,
            delete=delete,
            host=host,
            ip=node.ip_address,
            port=node.port,
            system=self._system.get(node.system_role, node.system_role),
            role=row.role or "–",
            level=row.level,
            status=row.status,
            help=status_help(row.shown),
            notes=self._notes(row),
            **self._labels,
        )
        active = self._yes if node.active else self._no
        return before, format_html(_BEHIND, label=self._active, active=active, menu=self._menu(row))

    def _notes(self, row: Row) -> SafeString:
        said = [text for text in (row.detail, row.differs) if text]
        if row.last_seen:
            said.append(self._last_seen % {"status": row.last_seen})
        return mark_safe("".join(format_html("<small>{}</small>", text) for text in said)) if said else NOTHING  # noqa: S308 - escaped pieces

    def _menu(self, row: Row) -> SafeString:
        entries = menu_of(row, self._facts)
        if not entries:
            return mark_safe('<td class="actions"></td>')
        items = mark_safe("".join(self._item(row.node.pk, entry) for entry in entries))  # noqa: S308 - escaped pieces
        return format_html(_MENU, pk=row.node.pk, label=self._action, name=row.node.hostname, entries=items)

    def _item(self, pk: str, entry: Entry) -> SafeString:
        group = _BEGINS if entry.begins else NOTHING
        if entry.refused is None:
            if entry.popup:
                return format_html(_POPUP, group=group, name=entry.name, pk=pk, url=entry.url, label=entry.label)
            return format_html(_LINK, group=group, url=entry.url, label=entry.label)
        key = (entry.label, entry.refused.says, entry.begins)
        if key not in self._refused:  # many rows are refused the same thing in the same words
            self._refused[key] = format_html(_REFUSED, group=group, label=entry.label, says=entry.refused.says)
        return self._refused[key]
