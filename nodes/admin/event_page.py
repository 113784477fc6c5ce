"""What an event's page makes of its evidence: tables to read. What is missing in an old event, or strange, is left out.

Evidence is replication.core.evidence.evidence_of() below "seen", with the steps of the procedure and its own facts beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from nodes.models import Event, Operation
from nodes.sentences import said
from replication.core import diagnosis, plan, switchover

from .event_filter import Cursor

KNOWN: Final = frozenset({"seen", "why", "steps_ms", "operation", "traceback"})
"""Parts of the evidence that have a place of their own on the page."""


@cache
def _sentences() -> dict[str, str]:
    return {rule.id: rule.says for rule in (*diagnosis.RULES, *plan.RULES, *switchover.RULES)}


def rule_says(rule: str) -> str:
    """The sentence of a rule; "" when it differs from case to case, or is not known."""
    return said(_sentences().get(rule, ""))


@dataclass(frozen=True)
class Step:
    name: str
    ms: str
    """When it had ended, since the beginning."""
    took: str
    x: str
    width: str
    """Of a bar that is 100 wide; with a point whatever the language, for the picture."""


@dataclass(frozen=True)
class NodeSeen:
    name: str
    primary: bool
    link: str
    level: str
    silence: str
    database: str
    order: str
    epoch: str
    heard: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    name: str
    says: str
    rule: str = ""


@dataclass(frozen=True)
class EventShown:
    event: Event
    rule_says: str
    diagnosis: Fact | None
    choice: Fact | None
    witness: str
    steps: tuple[Step, ...]
    nodes: tuple[NodeSeen, ...]
    others: str
    row: tuple[Fact, ...]
    further: tuple[Fact, ...]
    traceback: str
    incomplete: str


def event_shown(event: Event) -> EventShown:
    evidence = _object(event.evidence)
    seen = _object(evidence.get("seen"))
    return EventShown(
        event=event,
        rule_says=rule_says(event.rule),
        diagnosis=_diagnosis(seen),
        choice=_choice(_object(seen.get("choice"))),
        witness=_witness(_object(seen.get("witness"))),
        steps=steps_of(evidence),
        nodes=tuple(_node(_object(told)) for told in _list(seen.get("nodes"))),
        others=", ".join(f"{count} × {_link(str(link))}" for link, count in _object(seen.get("others")).items()),
        row=_row(_object(seen.get("row"))),
        further=_further(evidence, seen),
        traceback=str(evidence.get("traceback") or ""),
        incomplete=str(seen.get("failed") or ""),
    )


def steps_of(evidence: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of the procedure in the order in which they ended, as bars from the end of the one before."""
    ends = [(str(name), float(ms)) for name, ms in _object(evidence.get("steps_ms")).items() if _is_number(ms)]
    ends.sort(key=lambda step: step[1])
    whole, before, steps = max((ms for _name, ms in ends), default=0.0) or 1.0, 0.0, []
    for name, ms in ends:
        x, width = 100 * before / whole, 100 * (ms - before) / whole
        steps.append(Step(name, _ms(ms), _ms(ms - before), f"{min(x, 99):.2f}", f"{max(width, 1):.2f}"))
        before = ms
    return tuple(steps)


def neighbours(event: Event) -> tuple[Event | None, Event | None]:
    """The events before and after it of the same operation."""
    if not event.operation:
        return None, None
    same, here = Event.objects.filter(operation=event.operation).defer("evidence"), Cursor(event.at, event.pk)
    return (
        same.filter(here.older).order_by("-at", "-pk").first(),
        same.filter(here.newer).order_by("at", "pk").first(),
    )


def operation_url(operation: str) -> str:
    """Address of an operation's page; "" when there is no such operation."""
    if not operation or not Operation.objects.filter(pk=operation).exists():
        return ""
    try:
        return reverse("admin:nodes_operation_detail", args=[operation])
    except NoReverseMatch:
        return ""


# --- parts


def _diagnosis(seen: Mapping[str, Any]) -> Fact | None:
    found = _object(seen.get("diagnosis"))
    if not found.get("rule"):
        return None
    return Fact(_("What was wrong"), said(str(found.get("says") or "")), str(found["rule"]))


def _choice(choice: Mapping[str, Any]) -> Fact | None:
    if choice.get("rule"):
        return Fact(
            _("Who might take over"),
            _("nobody: %(why)s") % {"why": said(str(choice.get("says", "")))},
            str(choice["rule"]),
        )
    if choice.get("node"):
        return Fact(_("Who might take over"), str(choice["node"]))
    return None


_WITNESS: Final = {
    "answers": gettext_lazy("The database port %(port)s of %(node)s greeted the controller."),
    "refused": gettext_lazy("The database port %(port)s of %(node)s refused the controller at once."),
    "silent": gettext_lazy("The database port %(port)s of %(node)s did not answer the controller."),
    "unknown": gettext_lazy("The database port %(port)s of %(node)s was not asked: there was no doubt."),
}


def _witness(witness: Mapping[str, Any]) -> str:
    words = _WITNESS.get(str(witness.get("says")))
    return str(words) % {"port": witness.get("port", ""), "node": witness.get("node", "")} if words else ""


_LINKS: Final = {
    "answers": (gettext_lazy("answers"), "ok"),
    "refused": (gettext_lazy("refused"), "bad"),
    "silent": (gettext_lazy("silent"), "bad"),
    "certificate": (gettext_lazy("wrong certificate"), "bad"),
    "protocol": (gettext_lazy("answers unintelligibly"), "bad"),
    "never": (gettext_lazy("never answered"), "off"),
}
_PROCESSES: Final = {
    "up": gettext_lazy("runs"),
    "down": gettext_lazy("is stopped"),
    "starting": gettext_lazy("is starting"),
    "hung": gettext_lazy("hangs"),
    "dead": gettext_lazy("is dead"),
}
_ORDERS: Final = {
    "none": gettext_lazy("none"),
    "lossless": gettext_lazy("Master, waits for its acker"),
    "solo": gettext_lazy("Master, solo"),
}


def _link(link: str) -> str:
    words = _LINKS.get(link)
    return str(words[0]) if words else link


def _node(told: Mapping[str, Any]) -> NodeSeen:
    link = str(told.get("link") or "")
    order = str(told.get("order") or "")
    known = _ORDERS.get(order)
    silence, epoch = told.get("silence_s"), told.get("epoch")
    silent = link != "answers" and isinstance(silence, int | float)
    return NodeSeen(
        name=str(told.get("node") or ""),
        primary=bool(told.get("primary")),
        link=_link(link),
        level=_LINKS[link][1] if link in _LINKS else "off",
        silence=_("for %(seconds)s") % {"seconds": _s(silence)} if silent else "",
        database=_database(told),
        order=str(known) if known else order or "–",
        epoch=str(epoch) if epoch is not None else "–",
        heard=_heard(told),
        notes=tuple(_notes(told)),
    )


def _database(told: Mapping[str, Any]) -> str:
    process = _PROCESSES.get(str(told.get("process")))
    if process is None:
        return "–"
    if "read_only" not in told:
        return str(process)
    closed = _("read-only") if told["read_only"] else _("writable")
    return _("%(process)s, %(closed)s") % {"process": process, "closed": closed}


def _heard(told: Mapping[str, Any]) -> str:
    """Whether it has heard the primary within the limit, and when last."""
    if told.get("primary"):
        return _("it is the primary")
    if "hears_primary" not in told:
        return "–"
    age = told.get("heard_s")
    when = _("%(seconds)s before") % {"seconds": _s(age)} if _is_number(age) else _("never")
    return (_("yes, %(when)s") if told["hears_primary"] else _("no, last %(when)s")) % {"when": when}


_FLAGS: Final = {
    "removed": gettext_lazy("deleted by an operator"),
    "detached": gettext_lazy("taken out of the vault"),
    "locked_out": gettext_lazy("locked out at the primary"),
    "blocked": gettext_lazy("left alone after a failure"),
    "resting": gettext_lazy("rests, commits had hung on it"),
    "tainted": gettext_lazy("may lack what it had acknowledged"),
    "closed_by_lease": gettext_lazy("closed itself, its lease was over"),
}
_TEXTS: Final = {
    "quarantine": gettext_lazy("held back: %(value)s"),
    "needs_rebuild": gettext_lazy("needs a full copy: %(value)s"),
    "disk_error": gettext_lazy("its disk takes no writes: %(value)s"),
    "verb": gettext_lazy("busy: %(value)s"),
    "error": gettext_lazy("error %(value)s"),
    "connections": gettext_lazy("connections: %(value)s"),
    "commits_stuck_s": gettext_lazy("commits had waited %(value)s s"),
    "ack_clients": gettext_lazy("acknowledging replicas: %(value)s"),
    "written": gettext_lazy("written %(value)s"),
    "received": gettext_lazy("received %(value)s"),
    "applied": gettext_lazy("applied %(value)s"),
    "lease_left_s": gettext_lazy("%(value)s s of its lease were left"),
}


def _notes(told: Mapping[str, Any]) -> list[str]:
    notes = [str(words) for flag, words in _FLAGS.items() if told.get(flag)]
    if told.get("active") is False:
        notes.append(_("inactive"))
    if told.get("receiver") not in (None, "", "Yes"):
        notes.append(_("receiver: %(state)s") % {"state": told["receiver"]})
    if told.get("applier") is False:
        notes.append(_("does not apply"))
    if told.get("acknowledges"):
        notes.append(_("acknowledges"))
    return notes + [
        str(words) % {"value": told[key]} for key, words in _TEXTS.items() if told.get(key) not in (None, "")
    ]


_STATES: Final = {
    "lossless": gettext_lazy("lossless"),
    "solo": gettext_lazy("solo"),
    "changing": gettext_lazy("changing"),
    "new": gettext_lazy("no primary yet"),
}


def _row(row: Mapping[str, Any]) -> tuple[Fact, ...]:
    if not row:
        return ()
    nobody = pgettext("no node", "nobody")
    state = str(row.get("state") or "")
    intent = _object(row.get("intent"))
    facts = [
        Fact(_("State"), str(_STATES.get(state, state))),
        Fact(_("Epoch"), str(row.get("epoch", ""))),
        Fact(_("Master"), str(row.get("primary") or nobody)),
        Fact(_("Would take over"), str(row.get("promotable") or nobody)),
        Fact(_("May acknowledge"), ", ".join(map(str, _list(row.get("may_ack")))) or nobody),
    ]
    if intent:
        words = _("%(kind)s from %(old)s to %(new)s; first must give up receiving: %(revoke)s")
        facts.append(
            Fact(
                _("Begun and not resolved"),
                words
                % {
                    "kind": intent.get("kind", ""),
                    "old": intent.get("former_primary") or nobody,
                    "new": intent.get("target") or nobody,
                    "revoke": ", ".join(map(str, _list(intent.get("must_revoke")))) or nobody,
                },
            )
        )
    return tuple(facts)


def _further(evidence: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[Fact, ...]:
    """What the procedure noted itself, and what was counted when it was decided."""
    labels = {
        "writable_after_ms": (_("Writable after"), "ms"),
        "fence": (_("Fence of the old Master"), ""),
        "silence_limit_s": (_("Counts as silent after"), "s"),
        "acker_missing_s": (_("The acker had been missing for"), "s"),
        "held_back_s": (_("A failover on silence was held back for"), "s"),
    }
    own = {key: value for key, value in evidence.items() if key not in KNOWN}
    counted = {key: seen[key] for key in labels if key in seen}
    facts = []
    for key, value in {**own, **counted}.items():
        label, unit = labels.get(key, (key.replace("_", " "), ""))
        if value not in (None, ""):
            facts.append(Fact(str(label), f"{_flat(value)} {unit}".strip()))
    return tuple(facts)


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_flat(each)}" for key, each in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(_flat, value)) or "–"
    return str(value)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _s(value: Any) -> str:
    return _("%(number)s s") % {"number": f"{value:.1f}" if value < 10 else f"{value:.0f}"}
