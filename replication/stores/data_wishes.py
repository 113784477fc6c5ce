"""Wishes for work on data: full copies and their undoing, comparisons, exports, backups, removal of what was kept.

Each is one row of Operation, made under the lock of its vault, whoever asks: a person, a schedule or a policy. An ops worker
carries it out (replication/jobs). While Redis does not answer, the row waits as queued: the leading service hands it over as soon
as it does (jobs/dispatch.py). Where nobody leads either, nothing would begin it, and it is refused.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from nodes.choices import OperationKind, OperationState
from nodes.models import Event, Operation, Vault, VaultNode
from nodes.models.operation import OPEN_STATES, REPLACING_KINDS
from nodes.sentences import written
from replication.core.roles import NodeStatus

from . import audit
from .wishes import QueueUnavailable, RefusedWish, finish_operation, is_watched

Enqueue = Callable[[Operation], None]
"""Hands an operation to the ops workers; raises QueueUnavailable."""

ON_THE_VAULT: Final = (OperationKind.VERIFY, OperationKind.BACKUP)
"""May be asked for on the vault as a whole, or on its Master: all fallbacks are compared, and a good one makes the backup."""
NEED_THE_LEADER: Final = (OperationKind.REBUILD, OperationKind.UNDO)
"""Only the leading service gives the orders that they need."""
FOLLOWS: Final = frozenset(
    {NodeStatus.WAITING, NodeStatus.CATCHING_UP, NodeStatus.CONNECTING, NodeStatus.NOT_FOLLOWING}
)
"""Statuses of a fallback that follows the Master, or will by itself."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a wish depends on beside the rows of its vault and node."""

    watched: bool
    """See wishes.is_watched."""
    open: Collection[tuple[str, str]]
    """Kind and node id ("" for none) of the operations of this vault that are queued or running."""

    def has(self, *kinds: str, node: str | None = None) -> bool:
        return any(kind in kinds and (node is None or on == node) for kind, on in self.open)


def around(vault: Vault) -> Around:
    """At this moment. Three queries."""
    return Around(watched=is_watched(), open=open_operations(vault))


def open_operations(vault: Vault) -> frozenset[tuple[str, str]]:
    """Kind and node id, "" for none, of what is queued or running. One query."""
    rows = Operation.objects.filter(vault=vault, state__in=OPEN_STATES).values_list("kind", "node")
    return frozenset((kind, node or "") for kind, node in rows)


def kept_of(node: VaultNode) -> Mapping[str, Any] | None:
    """The data of before its last full copy (core.tasks.KeptData), as its agent said last."""
    kept = (node.report or {}).get("kept")
    return kept if isinstance(kept, Mapping) else None


def has_diverged(node: VaultNode) -> bool:
    return node.status == NodeStatus.DIVERGED or bool((node.report or {}).get("quarantine"))


def why_not(kind: str, vault: Vault, node: VaultNode | None, now: Around) -> RefusedWish | None:
    """Why this cannot be asked for at this moment, as far as the rows tell. Pure. node: None for the vault as a whole."""
    if vault.primary_id is None:
        return RefusedWish("W100", _("The vault has no Master yet: there is nothing to copy or to compare."))
    on_master = node is not None and node.pk == vault.primary_id
    if node is not None and not on_master and (refused := _why_not_this_node(kind, node)):
        return refused
    if on_master and kind not in ON_THE_VAULT and kind != OperationKind.REMOVE_KEPT:
        return _why_not_the_master(kind)
    if kind in NEED_THE_LEADER and not now.watched:
        text = _("SystemHighAvailabilityService is stopped, or no worker runs it: start it first.")
        return RefusedWish("W106", text)
    if kind in NEED_THE_LEADER and vault.intent is not None:
        return RefusedWish("W105", _("A change of Master is under way: wait until it is over."))
    if node is not None and (refused := _why_nothing_to_do(kind, node)):
        return refused
    return _why_not_beside(kind, node, now)


def _why_not_this_node(kind: str, node: VaultNode) -> RefusedWish | None:
    name = {"name": node.hostname}
    if node.removed_at is not None:
        return RefusedWish("W32", _("%(name)s has been deleted meanwhile.") % name)
    if not node.active and kind != OperationKind.EXPORT:
        return RefusedWish("W101", _("%(name)s is inactive: make it active first.") % name)
    if node.status in (NodeStatus.UNREACHABLE, NodeStatus.UNKNOWN) and node.report is None:
        text = _("The agent of %(name)s has never answered: nothing is known of its data.")
        return RefusedWish("W102", text % name)
    if node.status == NodeStatus.UNREACHABLE:
        return RefusedWish("W102", _("The agent of %(name)s does not answer: bring its host back first.") % name)
    return None


def _why_not_the_master(kind: str) -> RefusedWish:
    if kind == OperationKind.EXPORT:
        return RefusedWish("W107", _("Nothing is lost here: it is the Master."))
    return RefusedWish("W103", _("It is the Master: the other nodes are copies of it, so its data is never replaced."))


def _why_nothing_to_do(kind: str, node: VaultNode) -> RefusedWish | None:
    if kind in (OperationKind.UNDO, OperationKind.REMOVE_KEPT) and kept_of(node) is None:
        return RefusedWish("W104", _("No old data is kept there: it was not rebuilt, or the old data was removed."))
    if kind == OperationKind.EXPORT and not has_diverged(node):
        if node.status in FOLLOWS:
            return RefusedWish("W107", _("Nothing is lost here: it follows the Master."))
        text = _("Whether it has any is not known: it has to answer and to follow the Master first.")
        return RefusedWish("W107", text)
    return None


def _why_not_beside(kind: str, node: VaultNode | None, now: Around) -> RefusedWish | None:
    """What is open already, and cannot be beside this."""
    if kind in REPLACING_KINDS and now.has(*REPLACING_KINDS):
        text = _("A node of this vault is being re-synchronized or rebuilt: wait until that has ended.")
        return RefusedWish("W108", text)
    if kind in ON_THE_VAULT and now.has(kind):
        return RefusedWish("W108", _("The same is under way already: wait until it has ended."))
    if node is None:
        return None
    if kind in (OperationKind.EXPORT, OperationKind.REMOVE_KEPT) and now.has(kind, node=node.pk):
        return RefusedWish("W108", _("The same is under way already: wait until it has ended."))
    if kind in (OperationKind.EXPORT, OperationKind.REMOVE_KEPT) and now.has(*REPLACING_KINDS, node=node.pk):
        return RefusedWish("W108", _("This node is being rebuilt: wait until that has ended."))
    if kind in NEED_THE_LEADER and now.has(OperationKind.EXPORT, OperationKind.REMOVE_KEPT, node=node.pk):
        text = _("The data of this node is being exported or removed: wait until that has ended.")
        return RefusedWish("W108", text)
    return None


def needs_hostname(kind: str, node: VaultNode | None) -> bool:
    """Whether the hostname has to be typed: something could be lost, or what works well would be replaced."""
    if node is None or kind not in (OperationKind.REBUILD, OperationKind.UNDO, OperationKind.REMOVE_KEPT):
        return False
    if kind != OperationKind.REBUILD:
        return True
    return has_diverged(node) or node.status in FOLLOWS


def request(
    kind: str,
    node_or_vault: VaultNode | Vault,
    actor: Any,
    *,
    reason: str = "",
    arguments: Mapping[str, Any] | None = None,
    enqueue: Enqueue,
    typed: str | None = None,
    by: str = "",
) -> Operation | RefusedWish:
    """Make the operation, or say why not. Nothing is half written.

    arguments: of REBUILD: source (node id, "" to choose), mib_per_second (None: no limit), without_list, compare.
    typed: what a person typed to confirm; None where nobody is asked (a command with --yes, a policy).
    by: why the service asks for it, as the end of a sentence; "" when a person does.
    """
    reason = " ".join(reason.split())
    arguments = dict(arguments or {})
    if refused := _why_not_so(arguments):
        return refused
    operation: Operation | None = None
    try:
        with transaction.atomic():
            vault_id = node_or_vault.vault_id if isinstance(node_or_vault, VaultNode) else node_or_vault.pk
            vault = Vault.objects.select_for_update().get(pk=vault_id)
            node = None
            if isinstance(node_or_vault, VaultNode):
                node = VaultNode.objects.filter(pk=node_or_vault.pk).first()
                if node is None:
                    text = _("%(name)s has been deleted meanwhile.")
                    return RefusedWish("W32", text % {"name": node_or_vault.hostname})
            if refused := why_not(kind, vault, node, around(vault)):
                return refused
            if refused := _not_confirmed(kind, node, typed, reason) or _bad_source(node, arguments):
                return refused
            operation = Operation.objects.create(
                kind=kind, vault=vault, node=node, requested_by=actor, message="waiting", reason=reason[:200],
                arguments=arguments,
            )  # fmt: skip
            _tell(operation, actor, reason, by)
            transaction.on_commit(partial(enqueue, operation))
    except IntegrityError:
        return RefusedWish("W108", _("The same is under way already: wait until it has ended."))
    except QueueUnavailable:
        return _without_queue(operation)
    return operation


def _why_not_so(arguments: Mapping[str, Any]) -> RefusedWish | None:
    rate = arguments.get("mib_per_second")
    if rate is not None and rate < 1:
        text = _("At %(rate)d MiB a second it would never end: leave it empty for no limit.")
        return RefusedWish("W109", text % {"rate": rate}, "mib_per_second")
    return None


def _bad_source(node: VaultNode | None, arguments: Mapping[str, Any]) -> RefusedWish | None:
    source = arguments.get("source")
    if not source or node is None:
        return None
    found = VaultNode.objects.present().filter(pk=source, vault=node.vault_id, active=True).exclude(pk=node.pk)
    if not found.exists():
        return RefusedWish("W109", _("The source has to be another active node of this vault."), "source")
    return None


def _not_confirmed(kind: str, node: VaultNode | None, typed: str | None, reason: str) -> RefusedWish | None:
    if typed is None or node is None or not needs_hostname(kind, node):
        return None
    if typed.strip().lower() != node.hostname.lower():
        text = _("Type %(name)s here to confirm that you mean this node.")
        return RefusedWish("W62", text % {"name": node.hostname}, "confirm")
    if not reason:
        return RefusedWish("W63", _("Say why: it is kept with the event and in the audit log."), "reason")
    return None


def _without_queue(operation: Operation | None) -> Operation | RefusedWish:
    """The row is there, the work queue is not: the leading service hands it over later, or nobody does."""
    if operation is not None and is_watched():
        text = "waiting for the work queue (Redis), which does not answer; it begins by itself when that is back"
        Operation.objects.filter(pk=operation.pk, state=OperationState.QUEUED).update(message=text)
        operation.message = text
        return operation
    if operation is not None:
        finish_operation(operation.pk, OperationState.FAILED, {"summary": "The work queue (Redis) did not answer."})
    text = _("The work queue (Redis) does not answer, so nothing was started. Try again when it is back.")
    return RefusedWish("W43", text)


def _tell(operation: Operation, actor: Any, reason: str, by: str) -> None:
    vault, node, kind = operation.vault, operation.node, written(operation.get_kind_display)
    assert vault is not None
    facts = {
        "vault": vault, "node_name": node.hostname if node is not None else "", "epoch": vault.epoch,
        "operation": operation.pk,
    }  # fmt: skip
    if by:
        Event.objects.create(text=f"{kind} begun by the service: {by}"[: audit.EVENT_MAX], **facts)
        return
    audit.tell(node or vault, f"{kind} requested", {}, actor=actor, reason=reason, **facts)


def withdraw(copy: str) -> bool:
    """Take the wish for a full copy back. False when it is gone: the leader has taken it, or it was refused and read.

    copy: what the wish carries as its operation.
    """
    held = VaultNode.objects.filter(rebuild_wish__operation=copy)
    return bool(held.update(rebuild_wish=None))


def withdraw_of(operation: Operation) -> None:
    """Take back every wish for a copy that an operation has left and nobody has taken: it has ended, however that came."""
    arguments = Operation.objects.filter(pk=operation.pk).values_list("arguments", flat=True).first() or {}
    for copy in {operation.pk, *arguments.get("wished", [])}:
        withdraw(copy)
