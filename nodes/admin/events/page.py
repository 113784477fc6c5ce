"""What an event's page makes of its evidence: tables to read. What is missing in an old event, or strange, is left out.

Evidence is replication.core.evidence.evidence_of() below "seen", with the steps of the procedure and its own facts beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from nodes.admin.operations.words import step_label
from nodes.models import Event, Operation
from nodes.sentences import said
from replication.core import diagnosis, plan, switchover

from .filter import ORDER
from .nodes import NodeSeen, is_number, link_word, list_of, ms_text, node_seen, object_of, value_text

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
    evidence = object_of(event.evidence)
    seen = object_of(evidence.get("seen"))
    return EventShown(
        event=event,
        rule_says=rule_says(event.rule),
        diagnosis=_diagnosis(seen),
        choice=_choice(object_of(seen.get("choice"))),
        witness=_witness(object_of(seen.get("witness"))),
        steps=steps_of(evidence),
        nodes=tuple(node_seen(object_of(told)) for told in list_of(seen.get("nodes"))),
        others=", ".join(f"{count} × {link_word(str(link))}" for link, count in object_of(seen.get("others")).items()),
        row=_row(object_of(seen.get("row"))),
        further=_further(evidence, seen),
        traceback=str(evidence.get("traceback") or ""),
        incomplete=str(seen.get("failed") or ""),
    )


def steps_of(evidence: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of the procedure in the order in which they ended, as bars from the end of the one before."""
    ends = [(str(name), float(ms)) for name, ms in object_of(evidence.get("steps_ms")).items() if is_number(ms)]
    ends.sort(key=lambda step: step[1])
    whole, before, steps = max((ms for _name, ms in ends), default=0.0) or 1.0, 0.0, []
    for name, ms in ends:
        x, width = 100 * before / whole, 100 * (ms - before) / whole
        steps.append(
            Step(step_label(name), ms_text(ms), ms_text(ms - before), f"{min(x, 99):.2f}", f"{max(width, 1):.2f}")
        )
        before = ms
    return tuple(steps)


def neighbours(event: Event) -> tuple[Event | None, Event | None]:
    """The events before and after it of the same operation."""
    if not event.operation:
        return None, None
    same, here = Event.objects.filter(operation=event.operation).defer("evidence"), ORDER.place(event)
    return ORDER.sort(same.filter(here.older)).first(), ORDER.upwards(same.filter(here.newer)).first()


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
    found = object_of(seen.get("diagnosis"))
    if not found.get("rule"):
        return None
    return Fact(_("Diagnosis"), said(str(found.get("says") or "")), str(found["rule"]))


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
    "unknown": gettext_lazy("The database port %(port)s of %(node)s was not asked, or had not answered yet."),
}


def _witness(witness: Mapping[str, Any]) -> str:
    words = _WITNESS.get(str(witness.get("says")))
    return str(words) % {"port": witness.get("port", ""), "node": witness.get("node", "")} if words else ""


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
    intent = object_of(row.get("intent"))
    facts = [
        Fact(_("State"), str(_STATES.get(state, state))),
        Fact(_("Epoch"), str(row.get("epoch", ""))),
        Fact(_("Master"), str(row.get("primary") or nobody)),
        Fact(_("Would take over"), str(row.get("promotable") or nobody)),
        Fact(_("May acknowledge"), ", ".join(map(str, list_of(row.get("may_ack")))) or nobody),
    ]
    if intent:
        words = _("%(kind)s from %(old)s to %(new)s; first must give up receiving: %(revoke)s")
        facts.append(
            Fact(
                _("Begun and not resolved"),
                words
                % {
                    "kind": said(str(intent.get("kind", ""))),
                    "old": intent.get("former_primary") or nobody,
                    "new": intent.get("target") or nobody,
                    "revoke": ", ".join(map(str, list_of(intent.get("must_revoke")))) or nobody,
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
    if object_of(seen.get("diagnosis")).get("verdict") == diagnosis.Verdict.HEALTHY:
        counted.pop("silence_limit_s", None)  # nobody was silent
    facts = []
    for key, value in {**own, **counted}.items():
        label, unit = labels.get(key, (key.replace("_", " "), ""))
        if value not in (None, ""):
            text = ms_text(value) if unit == "ms" and is_number(value) else _flat(value)
            facts.append(Fact(str(label), f"{text} {unit}".strip()))
    return tuple(facts)


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_flat(each)}" for key, each in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(_flat, value)) or "–"
    return value_text(value)
