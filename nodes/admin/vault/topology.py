"""The topology picture: who leads, who is Master, who follows and how. Boxes and lines for an SVG that needs no script.

Laid out twice, for a wide and for a narrow place; the style sheet shows the one that fits. Names are cut to what a box holds,
in full they are its title.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from django.db.models import Count, Max, QuerySet, Subquery
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from nodes.admin.watch import Watch
from nodes.models import ServiceWorker, Vault
from replication.core import limits
from replication.core.roles import NodeStatus

from .rows import Row

MOST: Final = 12
"""Most fallbacks that are drawn one by one: who acknowledges, who is in trouble, then the others; in the order of adding."""
MOST_CONTROLLERS: Final = 3
BOX: Final = 72
SMALL: Final = 52
"""Height of a node's box, and of a controller's."""
GAP: Final = 50
STUB: Final = 16
"""Height of the space above a box in which its link is named, and of the part of it above the rail."""
WIDE: Final = 9.3
NARROW: Final = 7.4
"""Width of a letter of a name, and of the text below it, in the broadest of the fonts that a browser may take."""
COLUMN: Final = 292
SPACE: Final = 28
EDGE: Final = 5
INDENT: Final = 26

LINKS: Final = {
    NodeStatus.WAITING: "streams",
    NodeStatus.CATCHING_UP: "slow",
    NodeStatus.CONNECTING: "slow",
    NodeStatus.RESYNCHRONIZING: "slow",
    NodeStatus.ERROR: "broken",
    NodeStatus.NOT_FOLLOWING: "broken",
    NodeStatus.DIVERGED: "broken",
    NodeStatus.DATABASE_DOWN: "broken",
    NodeStatus.DISK_ERROR: "broken",
    NodeStatus.UNREACHABLE: "broken",
}
"""How the link of a fallback is drawn; anything else is unknown."""
URGENCY: Final = {"bad": 0, "warn": 1, "off": 2, "ok2": 3, "ok": 3}


WORDS: Final = {
    NodeStatus.WAITING: gettext_lazy("streams"),
    NodeStatus.CATCHING_UP: gettext_lazy("catching up"),
    NodeStatus.CONNECTING: gettext_lazy("connecting"),
    NodeStatus.RESYNCHRONIZING: gettext_lazy("re-synchronizing"),
    NodeStatus.NOT_FOLLOWING: gettext_lazy("not following"),
    NodeStatus.INACTIVE: gettext_lazy("inactive"),
    NodeStatus.UNKNOWN: gettext_lazy("unknown"),
}
BROKEN: Final = gettext_lazy("broken")


def _link_words(status: NodeStatus) -> str:
    return str(WORDS.get(status, BROKEN))


@dataclass(frozen=True)
class Controller:
    """A process that leads the service or stands by for it."""

    host: str
    process: str
    leads: bool

    @property
    def full_name(self) -> str:
        return f"{self.host} {self.process}"

    @property
    def words(self) -> str:
        return _("leads") if self.leads else _("stands by")


@dataclass(frozen=True)
class Box:
    """All in the units of the drawing, one of which is a pixel at full size."""

    x: int
    y: int
    width: int
    height: int
    level: str
    name: str
    full_name: str
    lines: tuple[tuple[int, str], ...]
    """Text below the name, each with the place of its base line."""
    link: str = ""
    """How the line that leads to it is drawn; "" for none."""
    path: str = ""
    words: str = ""
    """What is written at that line, at words_x and words_y."""
    words_x: int = 0
    words_y: int = 0

    @property
    def middle(self) -> int:
        return self.x + self.width // 2

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def text_x(self) -> int:
        return self.x + 14

    @property
    def name_y(self) -> int:
        return self.y + 22


@dataclass(frozen=True)
class Drawing:
    """One of the two layouts, from -1 to the right with room for the edges. rails: (class, path), what connects links."""

    kind: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    rails: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Picture:
    drawings: tuple[Drawing, ...]
    says: str
    """The whole picture in words."""
    rest: str
    """How many more there are and how they are; "" when all are drawn."""


def picture_of(vault: Vault, rows: Sequence[Row], watch: Watch, workers: Sequence[tuple[str, str]]) -> Picture | None:
    """None for a vault without nodes. workers: (host, process) of those that lead or stand by."""
    if not rows:
        return None
    controllers = _controllers_of(watch, workers)
    master = next((row for row in rows if row.is_primary), None)
    others = sorted((row for row in rows if row is not master), key=lambda row: _weight(vault, row))
    drawn, left = sorted(others[:MOST], key=lambda row: row.node.ordinal), others[MOST:]
    rest = _rest(left)
    drawings = tuple(
        _draw(kind, width, columns, vault, master, drawn, controllers, watch)
        for kind, width, columns in (("wide", 960, 3), ("narrow", 312, 1))
    )
    return Picture(drawings, _in_words(vault, master, drawn, rest, controllers), rest)


def _weight(vault: Vault, row: Row) -> Any:
    return (row.node.pk != vault.promotable_id, URGENCY.get(row.level, 2), row.node.ordinal)


def _rest(left: Sequence[Row]) -> str:
    if not left:
        return ""
    kinds = Counter(_link_words(row.shown) for row in left)
    parts = ", ".join(_("%(count)d %(state)s") % {"count": n, "state": state} for state, n in kinds.most_common())
    text = ngettext("and %(count)d more: %(parts)s", "and %(count)d more: %(parts)s", len(left))
    return text % {"count": len(left), "parts": parts}


def _draw(
    kind: str,
    width: int,
    columns: int,
    vault: Vault,
    master: Row | None,
    drawn: Sequence[Row],
    controllers: Sequence[Controller],
    watch: Watch,
) -> Drawing:
    room = width if columns == 1 else COLUMN
    boxes = _controllers(controllers, width, columns, watch)
    rails: list[tuple[str, str]] = []
    y = boxes[0].bottom if boxes else 1
    if master is None:
        boxes = [replace(box, link="") for box in boxes]
    if master is not None:
        link = words = path = ""
        if boxes:
            link, words = ("hello", _("watches")) if watch.trusted else ("unknown", _("does not watch"))
            rail = y + STUB
            ends = [box.middle for box in boxes]
            rails.append((link, f"M{min(ends)} {rail}H{max(ends)}"))
            rails.extend((box.link, f"M{box.middle} {y}V{rail}") for box in boxes)
            path = f"M{width // 2} {rail}V{y + GAP}"
            boxes = [replace(box, link="") for box in boxes]  # theirs are drawn as rails
            y += GAP
        place = (width - room) // 2
        boxes.append(_box(place, y, room, master, _("Master"), link, path, words, width // 2 + 10))
        y += BOX
    below = _below if columns > 1 else _beside
    more, lines, y = below(vault, drawn, width, columns, y, linked=master is not None)
    return Drawing(kind, width + 3, y + 1, (*boxes, *more), (*rails, *lines))


def _controllers(controllers: Sequence[Controller], width: int, columns: int, watch: Watch) -> list[Box]:
    shown = controllers[: MOST_CONTROLLERS if columns > 1 else 2]
    boxes = []
    for number, each in enumerate(shown):
        size = COLUMN if columns > 1 else (width - 12 * (len(shown) - 1)) // len(shown)
        x = _centred(number, len(shown), width) if columns > 1 else number * (size + 12)
        leads = each.leads and watch.led
        words = ((41, each.words),)
        link = "hello" if leads and watch.trusted else "unknown"
        name = _cut(each.host, (size - 28) // WIDE)
        boxes.append(Box(x, 1, size, SMALL, "ok2" if leads else "off", name, each.full_name, _at(1, words), link))
    return boxes


def _centred(number: int, count: int, width: int) -> int:
    return (width - count * COLUMN - (count - 1) * SPACE) // 2 + number * (COLUMN + SPACE)


def _below(
    vault: Vault, drawn: Sequence[Row], width: int, columns: int, y: int, *, linked: bool
) -> tuple[list[Box], list[tuple[str, str]], int]:
    """Rows of fallbacks, a rail above each; the rails of later rows begin at the left edge."""
    boxes: list[Box] = []
    rails: list[tuple[str, str]] = []
    middle, first_rail = width // 2, y + STUB
    if drawn and linked:
        rails.append(("rail", f"M{middle} {y}V{first_rail}"))
    for start in range(0, len(drawn), columns):
        rail, y = y + STUB, y + GAP
        row = drawn[start : start + columns]
        count = len(row) if len(drawn) <= columns else columns
        for number, each in enumerate(row):
            x = _centred(number, count, width)
            path = f"M{x + COLUMN // 2} {rail}V{y}"
            boxes.append(_fallback(vault, each, x, y, COLUMN, path, x + COLUMN // 2 + 10, linked=linked))
        if linked:
            ends = [box.middle for box in boxes[start:]] + [middle if start == 0 else EDGE]
            rails.append(("rail", f"M{min(ends)} {rail}H{max(ends)}"))
            if start:
                rails.append(("rail", f"M{middle} {first_rail}H{EDGE}V{rail}"))
        y += BOX
    return boxes, rails, y


def _beside(
    vault: Vault, drawn: Sequence[Row], width: int, columns: int, y: int, *, linked: bool
) -> tuple[list[Box], list[tuple[str, str]], int]:
    """One fallback below the other, all on a rail at the left."""
    boxes: list[Box] = []
    began = y
    x = INDENT if linked else 0
    for each in drawn:
        y += GAP - STUB
        path = f"M{EDGE} {y + BOX // 2}H{x}"
        boxes.append(_fallback(vault, each, x, y, width - x, path, x + 2, linked=linked))
        y += BOX
    ends = f"M{EDGE} {began}V{y - BOX // 2}"
    return boxes, [("rail", ends)] if boxes and linked else [], y


def _fallback(vault: Vault, row: Row, x: int, y: int, width: int, path: str, words_x: int, *, linked: bool) -> Box:
    link = LINKS.get(row.shown, "unknown")
    words = _link_words(row.shown)
    if row.node.pk == vault.promotable_id and link in ("streams", "slow"):
        link, words = f"{link} acknowledges", _("%(state)s, acknowledges") % {"state": words}
    if not linked:
        link = words = path = ""
    return _box(x, y, width, row, _("Fallback"), link, path, words, words_x)


def _box(x: int, y: int, width: int, row: Row, kind: str, link: str, path: str, words: str, words_x: int) -> Box:
    node = row.node
    lines = (
        (41, _cut(f"{row.role or kind} · {node.ip_address}", (width - 28) // NARROW)),
        (59, _cut(str(row.status), (width - 28) // NARROW)),
    )
    name = _cut(node.hostname, (width - 28) // WIDE)
    return Box(x, y, width, BOX, row.level, name, node.hostname, _at(y, lines), link, path, words, words_x, y - 9)


def _at(y: int, lines: Sequence[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
    return tuple((y + down, text) for down, text in lines)


def _cut(text: str, most: float) -> str:
    return text if len(text) <= most else f"{text[: int(most) - 1]}…"


def _in_words(
    vault: Vault, master: Row | None, drawn: Sequence[Row], rest: str, controllers: Sequence[Controller]
) -> str:
    said = [_("%(host)s %(does)s.") % {"host": c.host, "does": c.words} for c in controllers]
    if master is None:
        said.append(_("There is no Master."))
    else:
        said.append(_("%(name)s is Master: %(status)s.") % {"name": master.node.hostname, "status": master.status})
    for row in drawn:
        if master is None:
            said.append(_("%(name)s: %(status)s.") % {"name": row.node.hostname, "status": row.status})
            continue
        values = {"name": row.node.hostname, "state": _link_words(row.shown)}
        acks = row.node.pk == vault.promotable_id
        text = _("%(name)s: link %(state)s, acknowledges.") if acks else _("%(name)s: link %(state)s.")
        said.append(text % values)
    return " ".join([*said, *([rest] if rest else [])])


def _controllers_of(watch: Watch, workers: Sequence[tuple[str, str]]) -> list[Controller]:
    """The leader first, then who stands by."""
    leader = [(watch.host, watch.process)] if watch.led and watch.host else []
    standbys = [worker for worker in workers if worker not in leader]
    return [Controller(*each, leads=each in leader) for each in (*leader, *standbys)]


def _alive(service: str) -> QuerySet[ServiceWorker]:
    return ServiceWorker.objects.filter(service=service, seen_at__gt=Now() - limits.WORKER_SILENCE).order_by()


def workers_annotations(service: str) -> dict[str, Any]:
    """What tells whether the controllers of the picture have changed: for the screen's one query of the vault."""
    alive = _alive(service).values("service")
    return {
        "workers": Subquery(alive.annotate(n=Count("pk")).values("n")),
        "workers_since": Subquery(alive.annotate(last=Max("started_at")).values("last")),
    }


def workers_of(service: str) -> list[tuple[str, str]]:
    """(host, process) of those that gave a sign of life lately."""
    return list(_alive(service).order_by("host", "process").values_list("host", "process")[: MOST_CONTROLLERS + 1])
