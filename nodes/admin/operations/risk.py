"""What a change of Master may have cost, with the reasons; and whether the former Master has come back. From recorded facts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.utils.translation import gettext as _

from nodes.choices import OperationKind, OperationState
from nodes.models import Operation
from nodes.sentences import said
from replication.core.errors import PositionsNotComparable
from replication.core.positions import parse
from replication.core.roles import VaultState

from . import words
from .facts import Facts, object_of

HANDED_OVER: Final = (OperationKind.FAILOVER, OperationKind.SWITCHOVER, OperationKind.ADOPT)


@dataclass(frozen=True)
class Risk:
    """rows: acknowledged rows that may be lost; None when that is not known."""

    rows: int | None
    level: str
    headline: str
    because: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """What would have to be recorded to say more."""


@dataclass(frozen=True)
class Former:
    """What became of the former Master. kind: "clean", "held", "away", "unchanged" or "unknown"."""

    kind: str
    says: str
    at: datetime | None = None


def risk_of(facts: Facts) -> Risk:
    operation = facts.operation
    if operation.kind == OperationKind.ADOPT:
        text = _(
            "The metadata database was older than what the agents knew, so they were asked who is Master. Nobody was promoted."
        )
        doubt = _("Writes that a server acknowledged which is not in the list of nodes are not known here.")
        return Risk(None, "warn", _("Rows at risk: not known"), (text, doubt))
    if operation.state != OperationState.SUCCEEDED:
        return _not_done(facts)
    return _switched(facts) if operation.kind == OperationKind.SWITCHOVER else _failed_over(facts)


def _not_done(facts: Facts) -> Risk:
    if facts.step("recorded") is not None:
        text = _("It ended before the new Master was seen open. What it had recorded stands; look at the events.")
        return Risk(None, "warn", _("Rows at risk: not known"), (text,))
    if facts.operation.state == OperationState.FAILED:
        text = _("No other Master was recorded: the former one keeps every write that it acknowledged.")
        return Risk(0, "ok", _("Rows at risk: 0"), (text,))
    text = _(
        "It has not come to an end: until a Master is open nothing is acknowledged, and nothing that was is thrown away."
    )
    return Risk(None, "warn", _("Rows at risk: not known yet"), (text,))


def _failed_over(facts: Facts) -> Risk:
    because, missing = [], []
    state, entitled = facts.row.get("state"), str(facts.row.get("promotable") or "")
    if state == VaultState.LOSSLESS and entitled:
        since = lossless_since(facts)
        name = {"name": entitled}
        because.append(
            _("The vault was lossless: a write was acknowledged only after %(name)s had it in its relay log.") % name
        )
        if since is not None:
            because.append(_("It had been lossless since %(at)s UTC.") % {"at": f"{since:%Y-%m-%d %H:%M:%S}"})
    elif state == VaultState.CHANGING and object_of(facts.row.get("intent")).get("target") == facts.new:
        because.append(
            _("An earlier leader had begun it, which only a lossless vault allows, on its acker %(name)s.")
            % {"name": facts.new}
        )
    else:
        missing.append(_("whether the vault was lossless"))
    _received(facts, because)
    _revoked(facts, because, missing)
    _drained(facts, because, missing)
    if entitled and entitled != facts.new:
        missing.append(_("why %(name)s was promoted, and not the acker") % {"name": facts.new})
    return _verdict(because, missing)


def _switched(facts: Facts) -> Risk:
    because, missing = [], []
    closed, drained = facts.step("close", facts.old), facts.step("drain", facts.new)
    if closed is not None and closed.position:
        because.append(
            _("%(name)s took no new write from position %(position)s on, before anybody else could.")
            % {"name": facts.old, "position": closed.position}
        )
    else:
        missing.append(_("where the former Master closed"))
    if facts.step("received", facts.new) is not None:
        because.append(_("%(name)s had received all of it.") % {"name": facts.new})
    else:
        missing.append(_("that the new Master had received everything"))
    _revoked(facts, because, missing)
    _drained(facts, because, missing)
    if closed is not None and drained is not None and closed.position and drained.position:
        if _covers(drained.position, closed.position):
            because.append(_("What it applied covers the position at which the former Master closed."))
        else:
            missing.append(_("that the new Master applied up to where the former one closed"))
    return _verdict(because, missing)


def _received(facts: Facts, because: list[str]) -> None:
    position = facts.node(facts.new).get("received")
    if position:
        because.append(
            _("%(name)s had received up to %(position)s by its last report before the decision.")
            % {"name": facts.new, "position": position}
        )


def _revoked(facts: Facts, because: list[str], missing: list[str]) -> None:
    """Every node that may have acknowledged for the former Master."""
    may_ack = facts.row.get("may_ack")
    named = {str(name) for name in may_ack} if isinstance(may_ack, list) else set()
    named |= {str(name) for name in object_of(facts.row.get("intent")).get("must_revoke") or ()}
    left = sorted(name for name in {*named, facts.new} if name and facts.step("revoke", name) is None)
    if left:
        missing.append(_("that %(names)s stopped receiving from the former Master") % {"names": ", ".join(left)})
        return
    text = _(
        "Before the new Master opened, %(names)s stopped receiving from %(old)s for good: from then on it could acknowledge nothing,"
        " whether it was dead, cut off or only slow."
    )
    names = ", ".join(sorted({*named, facts.new}))
    because.append(text % {"names": names, "old": facts.old or _("the former Master")})


def _drained(facts: Facts, because: list[str], missing: list[str]) -> None:
    drained = facts.step("drain", facts.new)
    if drained is None or not drained.position:
        missing.append(_("up to where the new Master applied before it opened"))
        return
    text = _("%(name)s applied everything that it had received, up to %(position)s, before it opened.")
    because.append(text % {"name": facts.new, "position": drained.position})


def _verdict(because: list[str], missing: list[str]) -> Risk:
    if missing:
        return Risk(
            None, "warn", _("Rows at risk: not known, for something was not recorded"), tuple(because), tuple(missing)
        )
    return Risk(0, "ok", _("Rows at risk: 0"), tuple(because))


def _covers(reached: str, wanted: str) -> bool:
    try:
        return parse(reached).covers(parse(wanted))
    except (ValueError, PositionsNotComparable):
        return False


def lossless_since(facts: Facts) -> datetime | None:
    """When the acker had been proven, by the last operation that did it; None when that is no longer kept."""
    proven = Operation.objects.filter(
        vault=facts.operation.vault_id, kind=OperationKind.BECOME_ACKER, state=OperationState.SUCCEEDED,
        finished_at__lte=facts.operation.created_at, node__hostname=facts.row.get("promotable"),
    ).order_by("-finished_at").first()  # fmt: skip
    return proven.finished_at if proven is not None else None


def former_of(facts: Facts) -> Former:
    """By the operations that followed, up to the next change of Master."""
    operation = facts.operation
    if operation.state != OperationState.SUCCEEDED or operation.kind == OperationKind.ADOPT:
        return Former("unchanged", _("The Master was not changed by this."))
    if not facts.old:
        return Former("unknown", _("not recorded"))
    later = Operation.objects.filter(vault=operation.vault_id, created_at__gt=operation.created_at)
    following = later.filter(kind=OperationKind.FOLLOW, node__hostname=facts.old).order_by("created_at")
    next_change = later.filter(kind__in=HANDED_OVER, state=OperationState.SUCCEEDED).order_by("created_at").first()
    if next_change is not None:
        following = following.filter(created_at__lt=next_change.created_at)
    name = {"name": facts.old, "new": facts.new}
    returned = following.filter(state=OperationState.SUCCEEDED).first()
    if returned is not None and returned.finished_at is not None:
        after = (returned.finished_at - (operation.finished_at or operation.created_at)).total_seconds()
        text = _(
            "%(name)s follows %(new)s again. It had no transactions of its own; it returned %(after)s after the end of this."
        )
        return Former("clean", text % {**name, "after": words.duration(max(0.0, after))}, returned.finished_at)
    held = following.filter(state=OperationState.NEEDS_PERSON).last()
    if held is not None:
        text = _("%(name)s is held closed and needs a person: %(why)s")
        return Former("held", text % {**name, "why": said(held.message)}, held.finished_at)
    if next_change is not None:
        return Former("away", _("%(name)s had not returned when the next change of Master began.") % name)
    return Former("away", _("%(name)s has not returned yet.") % name)
