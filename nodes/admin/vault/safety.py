"""The safety panel: whether the vault is safe now, what losing the Master would lead to, and how old each fact is.

Never green when not known: green needs a leader that looks, a fresh answer of the Master and of its fallback, and the
leader's own word that this fallback would take over.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext as _

from nodes.admin.watch import Watch
from nodes.models import Vault, VaultNode
from nodes.sentences import said
from replication.core import limits
from replication.core.foresight import Foresight, Loss
from replication.core.roles import IntentKind, NodeStatus, VaultState
from replication.core.view import Topology
from replication.stores.backups import OVERDUE, Overdue
from replication.stores.topology import topology_of
from replication.stores.verification import DIFFERS

from .drift import short

FOLLOWS = (NodeStatus.WAITING, NodeStatus.CATCHING_UP)


@dataclass(frozen=True)
class Says:
    """A sentence, and the rule that it rests on for the link to its help page; "" for none."""

    text: str
    rule: str = ""


@dataclass(frozen=True)
class Fact:
    """Something that somebody said, and the key of its age."""

    text: str
    key: str


@dataclass(frozen=True)
class Safety:
    level: str
    word: str
    why: tuple[str, ...]
    if_lost: tuple[Says, ...]
    """What would happen if the Master were lost this second; empty before there is one."""
    advice: str
    case: str = ""
    """What `if_lost` is about, as a heading."""
    screen: str = ""
    """Name of the URL where the advice can be followed; "" when it is this very screen, or nowhere."""
    known_until: datetime | None = field(default=None, repr=False)
    """When somebody looked last; None while somebody does, and when nobody ever did. Not part of the screen's stamp: it is
    computed anew with each renewal and differs by microseconds."""
    facts: tuple[Fact, ...] = ()

    @property
    def mark(self) -> str:
        """Says by its form what the level says by its colour."""
        return {"ok": "✓", "warn": "!", "bad": "!"}.get(self.level, "?")


@dataclass(frozen=True)
class _Seen:
    """What the panel looks at."""

    vault: Vault
    row: Topology
    nodes: dict[str, VaultNode]
    watch: Watch
    silence: timedelta

    def name(self, id: str) -> str:
        return self.nodes[id].hostname if id in self.nodes else _("a node that was deleted")

    def fresh(self, id: str) -> bool:
        """Whether it answered within the silence limit. The leader's word is as old as its last renewal on top of that."""
        age = self.watch.answer_age(id)
        return age is not None and age <= (self.silence + limits.LEADER_RENEWAL).total_seconds()

    def status(self, id: str) -> str:
        return self.nodes[id].status if id in self.nodes else NodeStatus.UNKNOWN

    def drifted(self, id: str) -> bool:
        return id in self.nodes and bool(self.nodes[id].drift)

    @property
    def if_lost(self) -> Foresight | None:
        """The leader's answer, as long as it is about the row as it is now."""
        seen = Foresight.from_json(self.vault.if_lost)
        return seen if seen is not None and self.watch.trusted and seen.holds_for(self.row) else None


def silence_limit(interval: float | None) -> timedelta:
    """How long a node may be silent, as the leader judges it. interval: the service's, in seconds."""
    return max(limits.SILENCE_LIMIT, 3 * timedelta(seconds=interval or 0))


def safety_of(
    vault: Vault,
    nodes: list[VaultNode],
    watch: Watch,
    *,
    silence: timedelta,
    known_until: datetime | None,
    keys: Any,
    late: Overdue | None = None,
) -> Safety:
    """keys: node id → key of the age of its last answer. known_until: the leader's last full pass. late: the last good backup is
    too old, which is no matter of losing the Master, but of losing all."""
    seen = _Seen(vault, topology_of(vault), {n.pk: n for n in nodes}, watch, silence)
    if not watch.trusted:
        return _unwatched(seen, known_until)
    state = seen.row.state
    if state is VaultState.NEW:
        text = _("nothing can be written yet")
        return Safety("off", _("No primary yet"), (text,), (), _new_advice(nodes), facts=_facts(seen, keys))
    if state is VaultState.CHANGING:
        return _changing(seen, keys)
    level, word, why, advice = _lossless(seen) if state is VaultState.LOSSLESS else _solo(seen)
    case = _("If the Master died this second")
    lost = _if_lost(seen)
    if late is not None:
        lost = (*lost, Says(late.says, OVERDUE))
        if level == "ok":
            level, advice = "warn", _("See Backups: why none was made stands in its operations.")
    return Safety(level, word, why, lost, advice, case, facts=_facts(seen, keys))


def _unwatched(seen: _Seen, known_until: datetime | None) -> Safety:
    nobody = Says(_("Nothing would fail over: nobody watches the vault."), "")
    lost = (nobody,) if seen.row.primary else ()
    case = _("If the Master died this second")
    services = "admin:nodes_appservice_changelist"
    if not seen.watch.wanted:
        why = _("SystemHighAvailabilityService is stopped, so nothing would fail over")
        advice = _("Start SystemHighAvailabilityService in App Services.")
        return Safety("off", _("Not watched"), (why,), lost, advice, case, services, known_until)
    why = _("no worker runs the service, so nothing is known and nothing would fail over")
    advice = _("Start the service worker on a controller host; App Services says which one led last.")
    return Safety("bad", _("Unknown"), (why,), lost, advice, case, services, known_until)


def _new_advice(nodes: list[VaultNode]) -> str:
    if any(n.system_role == "primary" for n in nodes):
        return _("It is opened as soon as the node with system role Primary answers: see its status below.")
    return _("Add a node with system role Primary.")


def _changing(seen: _Seen, keys: Any) -> Safety:
    kind = seen.row.intent.kind if seen.row.intent else IntentKind.FAILOVER
    word = {
        IntentKind.FAILOVER: _("Failing over"),
        IntentKind.SWITCHOVER: _("Switching over"),
        IntentKind.ADOPT: _("Asking the agents"),
    }[kind]
    advice = _(
        "Wait: this usually takes seconds and goes on by itself. If it stays, the sentence above says for whom it waits."
    )
    known = seen.if_lost
    to = known.candidate if known is not None else ""
    lost = (Says(_("Writes are held until %(name)s is open.") % {"name": seen.name(to)}),) if to else _if_lost(seen)
    case = _("Meanwhile") if to else _("If the Master died this second")
    return Safety("warn", word, (said(seen.vault.reason),), lost, advice, case, facts=_facts(seen, keys))


def _lossless(seen: _Seen) -> tuple[str, str, tuple[str, ...], str]:
    """Level, word, reasons, advice."""
    row, reason, known = seen.row, said(seen.vault.reason), seen.if_lost
    for id in (row.primary, row.promotable):
        if not seen.fresh(id) or seen.status(id) in (NodeStatus.UNREACHABLE, NodeStatus.UNKNOWN):
            why = _("%(name)s has not answered within %(limit)s, so nobody knows how it is")
            values = {"name": seen.name(id), "limit": seconds(seen.silence.total_seconds())}
            advice = _("Look at its host and network; see its row below.")
            if known is not None and "C05" in (known.died.rule, known.silent.rule):
                advice += " " + _("Resume automatic failover as soon as the work is done.")
            return "warn", _("Unknown"), (why % values, reason), advice
    if known is None:
        why = _("the service has not worked out yet what losing the Master would lead to")
        return "warn", _("Unknown"), (why, reason), _("Wait a few seconds.")
    if seen.status(row.primary) != NodeStatus.MASTER or seen.status(row.promotable) not in FOLLOWS:
        return "warn", _("Lossless"), (reason,), _("See the status of the Master and its fallback below.")
    if not known.candidate:
        if "C05" in (known.died.rule, known.silent.rule):
            advice = _("Resume automatic failover as soon as the work is done.")
        elif "C70" in (known.died.rule, known.silent.rule):
            advice = _("Find out why the last Master fell silent; the hold ends by itself, and can be cleared.")
        else:
            advice = _("See the status of the fallback below.")
        partly = known.died.node or known.silent.node
        but = _("but not in every case would it take over now") if partly else _("but nobody would take over now")
        return "warn", _("Lossless"), (reason, but), advice
    if seen.drifted(row.promotable):
        but = _("but the data of %(name)s differs from the Master's") % {"name": seen.name(row.promotable)}
        advice = _("Rebuild %(name)s: its row names the tables that differ.") % {"name": seen.name(row.promotable)}
        return "warn", _("Lossless"), (reason, but), advice
    return "ok", _("Lossless"), (reason,), _("Nothing to do.")


def _solo(seen: _Seen) -> tuple[str, str, tuple[str, ...], str]:
    fallbacks = [n for id, n in seen.nodes.items() if id != seen.row.primary]
    if not fallbacks:
        advice = _("Add a fallback.")
    elif not any(n.active for n in fallbacks):
        advice = _("Make a fallback active.")
    elif any(n.status in FOLLOWS for n in fallbacks):
        advice = _("Wait: it becomes lossless by itself as soon as a fallback keeps up.")
    else:
        advice = _(
            "Put a fallback in order: its row below says what is wrong. The vault then becomes lossless by itself."
        )
    return "warn", _("Solo"), (said(seen.vault.reason),), advice


def _if_lost(seen: _Seen) -> tuple[Says, ...]:
    known = seen.if_lost
    if known is None:
        return (Says(_("Not known yet: the service has not worked it out.")),)
    if known.candidate:
        return (Says(_takes_over(seen, known)), *_wrong_rows(seen, known.candidate), *_delays(known))
    if known.died == known.silent:
        nobody = Says(_("Nobody would be promoted, because %(why)s.") % {"why": said(known.died.says)}, known.died.rule)
        return (nobody, Says(_cost(seen)))
    return (
        _one(seen, known.died, _("When its database dies: %(what)s")),
        _one(seen, known.silent, _("When its host falls silent: %(what)s")),
        Says(_cost(seen)),
    )


def _takes_over(seen: _Seen, known: Foresight) -> str:
    values = {
        "name": seen.name(known.candidate),
        "died": seconds(known.died.seconds),
        "silent": seconds(known.silent.seconds),
    }
    if known.measured:
        text = _(
            "%(name)s takes over in about %(died)s when its database dies, about %(silent)s when its host falls silent;"
            " nothing acknowledged would be lost."
        )
    else:
        text = _(
            "%(name)s takes over at once when its database dies, and when its host has been silent for about %(silent)s;"
            " nothing acknowledged would be lost."
        )
    return text % values


def _wrong_rows(seen: _Seen, candidate: str) -> tuple[Says, ...]:
    """What would come with it when it takes over."""
    if not seen.drifted(candidate):
        return ()
    values = {"name": seen.name(candidate), "what": "; ".join(map(short, seen.nodes[candidate].drift))}
    return (Says(_("But what differs on %(name)s would be wrong then: %(what)s.") % values, DIFFERS),)


def _delays(known: Foresight) -> tuple[Says, ...]:
    """What the seconds rest on."""
    if known.measured:
        return ()
    return (Says(_("How long the take-over itself lasts is known after the first failover.")),)


def _one(seen: _Seen, loss: Loss, case: str) -> Says:
    if loss.node:
        values = {"name": seen.name(loss.node), "time": seconds(loss.seconds)}
        return Says(case % {"what": _("%(name)s takes over in about %(time)s, nothing acknowledged is lost.") % values})
    return Says(case % {"what": _("nobody would be promoted, because %(why)s.") % {"why": said(loss.says)}}, loss.rule)


def _cost(seen: _Seen) -> str:
    """What it would cost that nobody is promoted."""
    if seen.row.promotable:
        text = _(
            "Writes would stop until the Master is back, or %(name)s may take over. Nothing acknowledged is lost as long as one"
            " of the two disks is intact."
        )
        return text % {"name": seen.name(seen.row.promotable)}
    return _(
        "Writes would stop until the Master is back. If it comes back with its disk, nothing is lost; if not, every password"
        " changed since the fallbacks last heard of it is lost."
    )


def _facts(seen: _Seen, keys: Any) -> tuple[Fact, ...]:
    row, facts = seen.row, []
    if row.primary in keys:
        facts.append(Fact(_("Master %(name)s answered") % {"name": seen.name(row.primary)}, keys[row.primary]))
    if row.promotable in keys:
        name = {"name": seen.name(row.promotable)}
        facts.append(Fact(_("Fallback %(name)s answered") % name, keys[row.promotable]))
        facts.append(Fact(_("%(name)s heard the Master") % name, "heard"))
    return (*facts, Fact(_("Lease renewed"), "lease"))


def seconds(value: float | None) -> str:
    """ "0.1 s" with one digit below ten seconds, "12 s" above, "2 min" from two minutes on."""
    value = max(0.1, value or 0.0)
    if value >= 120:
        return _("%(minutes)d min") % {"minutes": round(value / 60)}
    return _("%(seconds)s s") % {"seconds": number_format(value, 1 if value < 9.95 else 0)}
