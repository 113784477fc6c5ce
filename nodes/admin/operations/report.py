"""The report of a change of Master, from what was recorded and nothing else: each figure has a source, or is "not recorded".

Sources: the steps and the result of the operation's row, and the evidence of its first event, which holds what was seen
when it was decided (replication/core/evidence.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.utils.translation import gettext as _

from nodes.choices import OperationKind
from nodes.models import Event, Operation
from nodes.sentences import said
from replication.core.steps import Step, StepState

from . import words
from .facts import Facts, facts_of, object_of
from .risk import Former, Risk, former_of, risk_of

AGENTS_WORD: Final = frozenset({"D10", "D15", "D20"})
"""Diagnoses by which the Master's own agent said that it is lost: nobody had to wait for silence."""


@dataclass(frozen=True)
class Phase:
    name: str
    label: str
    began_ms: float | None
    """Since the operation began; negative for what came before it."""
    ended_ms: float | None
    says: str = ""
    latest: bool = False
    """It ended then at the latest: it was seen in a report."""

    @property
    def recorded(self) -> bool:
        return self.ended_ms is not None

    @property
    def took_ms(self) -> float | None:
        return None if self.began_ms is None or self.ended_ms is None else max(0.0, self.ended_ms - self.began_ms)


@dataclass(frozen=True)
class Report:
    facts: Facts
    rule: str
    rule_says: str
    witness: str
    detect_ms: float | None
    detect_says: str
    phases: tuple[Phase, ...]
    whole_ms: float | None
    """From the last sign of life, or the beginning, to the first write at the latest."""
    risk: Risk
    former: Former
    fence: str
    first_event: Event | None
    epoch_before: int | None
    epoch_after: int | None


def report_of(operation: Operation) -> Report:
    """Of a failover, a switchover or an adoption that has ended."""
    facts = facts_of(operation)
    diagnosis, row = object_of(facts.seen.get("diagnosis")), object_of(facts.seen.get("row"))
    rule = str(diagnosis.get("rule") or "")
    detect_ms, detect_says = _detect(facts, rule)
    phases = _phases(facts, detect_ms)
    ends = [p.ended_ms for p in phases if p.ended_ms is not None]
    return Report(
        facts=facts,
        rule=rule,
        rule_says=said(str(diagnosis.get("says") or "")),
        witness=_witness(object_of(facts.seen.get("witness"))),
        detect_ms=detect_ms,
        detect_says=detect_says,
        phases=phases,
        whole_ms=max(ends) + (detect_ms or 0.0) if ends else None,
        risk=risk_of(facts),
        former=former_of(facts),
        fence=_fence(facts),
        first_event=facts.decided,
        epoch_before=_number(row.get("epoch")),
        epoch_after=facts.ended.epoch if facts.ended is not None else None,
    )


def _detect(facts: Facts, rule: str) -> tuple[float | None, str]:
    """Milliseconds between the last sign of life and the decision, as far as it is known, and how it is known."""
    if facts.operation.kind == OperationKind.SWITCHOVER:
        return None, _("Nothing had to be detected: an operator asked for it.")
    silence = facts.node(facts.old).get("silence_s")
    if facts.operation.kind != OperationKind.FAILOVER or not isinstance(silence, int | float):
        return None, _("not recorded")
    if rule in AGENTS_WORD:
        text = _(
            "Its own agent said so. Its word was %(ms)s old when the failover was decided; the agent itself looks every 10 ms."
        )
        return 1000 * silence, text % {"ms": words.milliseconds(1000 * silence)}
    text = _("Its last answer was %(ms)s old when the failover was decided; silence is counted in ticks of 25 ms.")
    return 1000 * silence, text % {"ms": words.milliseconds(1000 * silence)}


def _phases(facts: Facts, detect_ms: float | None) -> tuple[Phase, ...]:
    kind, old, new = facts.operation.kind, facts.old, facts.new
    phases = []
    if kind == OperationKind.FAILOVER:
        label = _("Detected")
        phases.append(
            Phase("detected", label, None if detect_ms is None else -detect_ms, None if detect_ms is None else 0.0)
        )
    if kind == OperationKind.ADOPT:
        return (*phases, _phase("claimed", _("A new epoch, nobody promotable"), facts.step("claimed")))
    phases.append(_phase("claimed", _("Claimed: a new epoch, nobody else promotable"), facts.step("claimed")))
    if kind == OperationKind.SWITCHOVER:
        phases.append(_phase("closed", _("%(name)s closed to new writes") % {"name": old}, facts.step("close", old)))
        received = facts.step("received", new)
        phases.append(_phase("received", _("%(name)s has received everything") % {"name": new}, received))
    phases.append(_revoked(facts))
    phases.append(_phase("drained", _("%(name)s applied all of it") % {"name": new}, facts.step("drain", new)))
    phases.append(_phase("recorded", _("Recorded as Master"), facts.step("recorded")))
    opened = facts.step("open", new)
    phases.append(_phase("opened", _("%(name)s open for writes") % {"name": new}, opened))
    phases.append(_first_write(facts, opened))
    return tuple(phases)


def _phase(name: str, label: str, step: Step | None) -> Phase:
    if step is None or step.ms is None:
        return Phase(name, label, None, None, _("not recorded"))
    position = _("position %(position)s") % {"position": step.position} if step.position else ""
    return Phase(name, label, step.began_ms, step.ms, position)


def _revoked(facts: Facts) -> Phase:
    """All of them: the last counts."""
    done = [s for s in facts.steps if s.name.startswith("revoke ") and s.state is StepState.DONE and s.ms is not None]
    names = {s.name.removeprefix("revoke ") for s in done}
    label = _("Revoked: nobody receives from %(name)s any more") % {"name": facts.old or _("the former Master")}
    if not done:
        return Phase("revoked", label, None, None, _("not recorded"))
    last = {name: [s for s in done if s.name == f"revoke {name}"][-1] for name in names}
    began = min(s.began_ms or 0.0 for s in last.values())
    return Phase("revoked", label, began, max(s.ms or 0.0 for s in last.values()), ", ".join(sorted(names)))


def _first_write(facts: Facts, opened: Step | None) -> Phase:
    label = _("First write seen")
    first = object_of(facts.operation.result.get("first_write"))
    after = first.get("after_open_ms")
    if not isinstance(after, int | float):
        return Phase(
            "first-write",
            label,
            None,
            None,
            _("not recorded: none was seen within ten minutes, or another leader took over"),
        )
    text = _("at the latest %(ms)s after it was open: it stood in the next report of its agent") % {
        "ms": words.milliseconds(after)
    }
    if opened is None or opened.ms is None:
        return Phase("first-write", label, None, None, text)
    return Phase("first-write", label, opened.ms, opened.ms + after, text, latest=True)


def _fence(facts: Facts) -> str:
    fence = facts.told.get("fence")
    if facts.operation.kind != OperationKind.FAILOVER:
        return ""
    if fence == "fenced":
        return _("%(name)s confirmed that its database was ended.") % {"name": facts.old}
    if isinstance(fence, str) and fence:
        return _("%(name)s did not confirm the fence (%(why)s). Safety does not rest on it.") % {
            "name": facts.old,
            "why": said(fence),
        }
    return _("not recorded")


def _witness(told: Mapping[str, Any]) -> str:
    if not told:
        return ""
    words_of = {
        "answers": _("the database port of %(name)s answered"),
        "refused": _("the database port of %(name)s refused the connection"),
        "silent": _("the database port of %(name)s did not answer"),
        "unknown": _("the database port of %(name)s was not asked"),
    }
    return words_of.get(str(told.get("says")), "") % {"name": told.get("node")}


def moment_of(operation: Operation) -> datetime:
    return operation.started_at or operation.created_at


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_json(report: Report) -> dict[str, Any]:
    """Everything of the report, for a machine; what is not recorded is null."""
    operation = report.facts.operation
    return {
        "operation": operation.pk,
        "kind": operation.kind,
        "state": operation.state,
        "vault": operation.vault.name if operation.vault is not None else None,
        "former_primary": report.facts.old or None,
        "primary": report.facts.new or None,
        "began_at": moment_of(operation).isoformat(),
        "ended_at": operation.finished_at.isoformat() if operation.finished_at else None,
        "epoch_before": report.epoch_before,
        "epoch_after": report.epoch_after,
        "rule": report.rule or None,
        "detect_ms": report.detect_ms,
        "phases": [
            {"name": p.name, "began_ms": p.began_ms, "ended_ms": p.ended_ms, "at_the_latest": p.latest, "says": p.says}
            for p in report.phases
        ],
        "whole_ms": report.whole_ms,
        "fence": report.facts.told.get("fence") if operation.kind == OperationKind.FAILOVER else None,
        "rows_at_risk": report.risk.rows,
        "because": list(report.risk.because),
        "former_returned": report.former.kind,
        "former_returned_at": report.former.at.isoformat() if report.former.at else None,
        "seen": dict(report.facts.seen),
        "steps": [step.to_json() for step in report.facts.steps],
    }
