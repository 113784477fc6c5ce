"""Before a node is saved: an ops worker asks the host itself whether it can be one, and the form waits for the answer.

The web process holds no key to a vault host, hence the detour. It runs outside any transaction: an open one would keep
the leader from renewing its lease for as long as the host takes to answer.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings
from django.utils.translation import gettext as _

from nodes.admin.queues import enqueue_preflight
from nodes.choices import OperationKind, OperationState
from nodes.models import Operation
from nodes.models.operation import JOB_KINDS, OPEN_STATES
from nodes.sentences import said
from replication.core.checks import Outcome
from replication.stores.wishes import NewNode, QueueUnavailable, finish_operation

from .checklist import Checklist, checklist

PAUSE_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Verdict:
    errors: tuple[tuple[str, str], ...] = ()
    """(form field or "", sentence)"""
    warnings: tuple[str, ...] = ()
    agent_id: str = ""
    checks: tuple[Mapping[str, str], ...] = ()
    """As they stand in the operation's row; empty when the host could not be checked."""

    @property
    def shown(self) -> Checklist:
        return checklist(self.checks, [text for _field, text in self.errors])


@dataclass(frozen=True)
class _Ended:
    state: str
    result: Mapping[str, Any] = field(default_factory=dict)


def check(new: NewNode, vault_id: str, user: Any) -> Verdict:
    """Ask the host; at most settings.PREFLIGHT_WAIT seconds. No answer is an error too: nothing unchecked is saved."""
    operation = Operation.objects.create(
        kind=OperationKind.PREFLIGHT,
        vault_id=vault_id,
        requested_by=user,
        arguments={
            "hostname": new.hostname,
            "ip": new.ip_address,
            "port": new.port,
            "database_port": new.database_port,
            "system_role": new.system_role,
            "vault": vault_id,
        },
    )
    try:
        enqueue_preflight(operation.pk)
    except QueueUnavailable:
        finish_operation(operation.pk, OperationState.FAILED, {"summary": "the work queue did not answer"})
        text = _("The host could not be checked: the work queue (Redis) does not answer. Nothing was saved.")
        return Verdict(errors=(("", text),))
    ended = _wait(operation.pk)
    if ended is None:
        return Verdict(errors=(("", _why_late(operation.pk)),))
    return _read(ended)


def _wait(operation_id: str) -> _Ended | None:
    deadline = time.monotonic() + settings.PREFLIGHT_WAIT
    while True:
        ended = Operation.objects.filter(pk=operation_id).exclude(state__in=OPEN_STATES).first()
        if ended is not None:
            return _Ended(ended.state, ended.result or {})
        if time.monotonic() >= deadline:
            # Whoever takes it later finds it ended; if a worker was quicker than this line, its word counts.
            if finish_operation(operation_id, OperationState.CANCELLED, {"summary": "nobody waits for it any more"}):
                return None
            continue
        time.sleep(PAUSE_SECONDS)


def _why_late(operation_id: str) -> str:
    """Nobody took it, or who could is busy, or it was begun and hung."""
    wait = {"seconds": settings.PREFLIGHT_WAIT}
    if Operation.objects.filter(pk=operation_id, started_at__isnull=False).exists():
        text = _(
            "The check of the host took longer than %(seconds)d s, so nothing was saved: see the log of the ops worker, "
            "then try again."
        )
        return text % wait
    busy = Operation.objects.filter(kind__in=JOB_KINDS, state=OperationState.RUNNING).exclude(pk=operation_id).first()
    if busy is not None:
        text = _(
            "The host was not checked within %(seconds)d s, so nothing was saved: the ops worker is busy with “%(kind)s”. "
            "Try again when that is over, or start one more ops worker."
        )
        return text % {**wait, "kind": busy.get_kind_display()}
    text = _(
        "The host was not checked within %(seconds)d s, so nothing was saved: no worker took the check. "
        "See that an ops worker runs, then press Save again."
    )
    return text % wait


def _read(ended: _Ended) -> Verdict:
    result = ended.result
    checks = tuple(result.get("checks", ()))
    failed = [one for one in checks if one["outcome"] == Outcome.ERROR]
    errors = tuple((str(e.get("field", "")), said(str(e["text"]))) for e in result.get("errors", ()))
    errors += tuple((one["field"], said(one["says"])) for one in failed)
    if not errors and ended.state != OperationState.SUCCEEDED:
        summary = said(str(result.get("summary", ""))) or _("no reason was given")
        errors = (("", _("The check of the host failed: %(summary)s. Nothing was saved.") % {"summary": summary}),)
    return Verdict(
        errors=errors,
        warnings=tuple(said(one["says"]) for one in checks if one["outcome"] == Outcome.WARNING),
        agent_id=str(result.get("agent_id", "")),
        checks=checks,
    )
