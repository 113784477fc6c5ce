"""What operators wish, written as rows: one short transaction each, with its event. The service reads and carries out.

Nothing here talks to a vault. A wish that cannot be granted is a `RefusedWish`, whose rule id names its runbook page. What is
written down is English, for every reader; a refusal is said at once, in the language of who asked.
Every change of the inventory holds the lock of the vault's row and looks again before it writes: the partial unique
constraints of SQLite do not exist in MariaDB, and two administrators may press Save in the same second.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from auditlog.models import LogEntry
from django.db import IntegrityError, transaction
from django.db.models import DateTimeField, Max
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.choices import DesiredState, OperationKind, OperationState, SystemRoleChoices
from nodes.models import AppService, Operation, ServiceLease, Vault, VaultNode
from nodes.models.operation import OPEN_STATES, REPLACING_KINDS
from nodes.models.service import SERVICE_NAME
from nodes.sentences import said, written
from replication.core import limits

from . import audit


class QueueUnavailable(Exception):
    """The work queue does not answer; raised by the `enqueue` that a caller hands in."""


@dataclass(frozen=True)
class RefusedWish:
    rule: str
    says: str
    field: str = ""
    """The form field it belongs to; "" for the wish as a whole."""


@dataclass(frozen=True, kw_only=True)
class NewNode:
    """A node as an operator described it, already normalised (nodes/forms.py), and what the check of it found."""

    hostname: str
    port: int
    database_port: int
    system_role: str
    ip_address: str
    active: bool = True
    agent_id: str = ""


def default_vault() -> Vault | None:
    """The vault that the screens show: the oldest row, made by the migrations."""
    return Vault.objects.order_by("created_at", "pk").first()


def start_service(service: AppService, actor: Any) -> None:
    _set_service(
        service,
        actor,
        f"{service.name}: start requested",
        desired_state=DesiredState.STARTED,
    )


def stop_service(service: AppService, actor: Any) -> None:
    _set_service(service, actor, f"{service.name}: stop requested", desired_state=DesiredState.STOPPED)


def run_service_now(service: AppService, actor: Any) -> RefusedWish | None:
    """Ask for one full pass at once. A stopped service makes none: it must not act behind the back of who stopped it."""
    if service.desired_state != DesiredState.STARTED:
        return RefusedWish("W10", _("%(service)s is stopped: start it first, then run it.") % {"service": service.name})
    _set_service(service, actor, f"{service.name}: run requested", run_requested_at=timezone.now())
    return None


def check_new_node(vault: Vault, new: NewNode) -> list[RefusedWish]:
    """Why this node may not be added now: every reason at once, so that a form can show each at its field."""
    present = VaultNode.objects.present()
    found: list[RefusedWish] = []
    if twin := present.filter(hostname__iexact=new.hostname).first():
        found.append(RefusedWish("W20", _("%(name)s is already a node.") % {"name": twin.hostname}, "hostname"))
    if twin := present.filter(ip_address=new.ip_address).first():
        text = _("%(address)s is already the address of %(name)s.")
        found.append(RefusedWish("W21", text % {"address": new.ip_address, "name": twin.hostname}, "ip_address"))
    if new.agent_id and (twin := present.filter(agent_id=new.agent_id).first()):
        text = _("This is the same server as %(name)s: a server can be in a vault once only.")
        found.append(RefusedWish("W22", text % {"name": twin.hostname}, "ip_address"))
    if new.system_role == SystemRoleChoices.PRIMARY and (
        twin := present.filter(vault=vault, system_role=SystemRoleChoices.PRIMARY).first()
    ):
        text = _("%(name)s is already the Primary of this vault: choose Fallback.")
        found.append(RefusedWish("W23", text % {"name": twin.hostname}, "system_role"))
    return found


def add_node(vault: Vault, new: NewNode, actor: Any) -> VaultNode | list[RefusedWish]:
    """Put a node into the inventory, or say at which fields it collides with another one. Nothing is half saved."""
    try:
        with transaction.atomic():
            _lock(vault.pk)
            if refused := check_new_node(vault, new):
                return refused
            last = VaultNode.objects.filter(vault=vault).aggregate(last=Max("ordinal"))["last"] or 0
            node = VaultNode.objects.create(
                vault=vault,
                hostname=new.hostname,
                port=new.port,
                database_port=new.database_port,
                system_role=new.system_role,
                ip_address=new.ip_address,
                active=new.active,
                agent_id=new.agent_id,
                ordinal=last + 1,
            )
            text = f"node added as {written(node.get_system_role_display)}, {node.ip_address}"
            shown = ("hostname", "ip_address", "port", "database_port", "system_role", "active")
            made = {name: (None, getattr(node, name)) for name in shown}
            _event(vault, node, actor, text, made, action=LogEntry.Action.CREATE)
            return node
    except IntegrityError:
        # Another process got there first; the database refused in time. Say it in the same words.
        text = _("Another change came in between: look at the list and try again.")
        return check_new_node(vault, new) or [RefusedWish("W24", text)]


def why_not_take_out(vault: Vault, node: VaultNode) -> RefusedWish | None:
    """Why a node may neither be deactivated nor deleted at this moment."""
    if vault.primary_id == node.pk:
        text = _("%(name)s is the current primary: only a node that is not the primary can be deactivated or deleted.")
        return RefusedWish("W30", text % {"name": node.hostname})
    if vault.intent and vault.intent.get("target") == node.pk:
        text = _("A failover to %(name)s is under way: wait until it is over and try again.")
        return RefusedWish("W31", text % {"name": node.hostname})
    return None


def set_active(node: VaultNode, active: bool, actor: Any, *, reason: str = "") -> RefusedWish | None:
    """Wish a node in or out of replication. Saying the same again changes nothing and is no event."""
    with transaction.atomic():
        vault = _lock(node.vault_id)
        if not active and (refused := why_not_take_out(vault, node)):
            return refused
        changed = (
            VaultNode.objects.present()
            .filter(pk=node.pk)
            .exclude(active=active)
            .update(active=active, changed_at=timezone.now())
        )
        if changed:
            text = "node made active" if active else "node made inactive"
            _event(vault, node, actor, text, {"active": (not active, active)}, reason=reason)
        elif not VaultNode.objects.present().filter(pk=node.pk).exists():
            return RefusedWish("W32", _("%(name)s has been deleted meanwhile.") % {"name": node.hostname})
    return None


def remove_node(node: VaultNode, actor: Any, *, reason: str = "") -> RefusedWish | None:
    """Wish a node away: it leaves the list now, the service takes it out of the vault and removes the row.

    reason: why, in the operator's words; kept with the event.
    """
    with transaction.atomic():
        vault = _lock(node.vault_id)
        if refused := why_not_take_out(vault, node):
            return refused
        now = timezone.now()
        changed = VaultNode.objects.present().filter(pk=node.pk).update(removed_at=now, active=False, changed_at=now)
        if changed:
            _event(vault, node, actor, "node deleted", reason=reason, action=LogEntry.Action.DELETE)
    return None


def why_not_resynchronize(vault: Vault, node: VaultNode, *, running: bool) -> RefusedWish | None:
    """Why Re-synchronize Master is impossible on this row. running: one of this vault, or a rebuild, is open already."""
    if not node.active:
        return RefusedWish("W40", _("%(name)s is inactive: make it active first.") % {"name": node.hostname})
    if vault.primary_id is None:
        return RefusedWish("W41", _("The vault has no primary yet: there is nothing to synchronize with."))
    if running:
        return RefusedWish("W42", _("A re-synchronization or rebuild is already running: wait until it has ended."))
    return None


def request_resynchronize(
    node: VaultNode,
    actor: Any,
    enqueue: Callable[[str], None],
    *,
    replace: Collection[VaultNode] = (),
    reason: str = "",
) -> Operation | RefusedWish:
    """Bring every active fallback to the primary's position of this moment, as an operation of its own.

    replace: diverged nodes whose data may be replaced by a full copy, as a person has confirmed.
    enqueue: hands the operation's id to the ops queue, after the commit; raises QueueUnavailable.
    """
    operation: Operation | None = None
    try:
        with transaction.atomic():
            vault = _lock(node.vault_id)
            node = VaultNode.objects.get(pk=node.pk)
            if refused := why_not_resynchronize(vault, node, running=is_replacing(open_kinds(vault))):
                return refused
            operation = Operation.objects.create(
                kind=OperationKind.RESYNCHRONIZE,
                vault=vault,
                node=node,
                requested_by=actor,
                message="waiting",
                reason=reason[:200],
                arguments={"replace": [one.pk for one in replace]},
            )
            _event(vault, node, actor, "Re-synchronize Master requested", reason=reason, operation=operation.pk)
            transaction.on_commit(partial(enqueue, operation.pk))
    except IntegrityError:
        return RefusedWish("W42", _("A re-synchronization or rebuild is already running: wait until it has ended."))
    except QueueUnavailable:
        if operation is not None:
            finish_operation(operation.pk, OperationState.FAILED, {"summary": "The work queue (Redis) did not answer."})
        text = _("The work queue (Redis) does not answer, so nothing was started. Try again when it is back.")
        return RefusedWish("W43", text)
    return operation


def why_not_switch_over(vault: Vault, node: VaultNode, *, watched: bool, running: bool) -> RefusedWish | None:
    """Why this node cannot be made Master at this moment, as far as the rows tell.

    watched: see `is_watched`. running: a switchover of this vault is open already.
    """
    name = {"name": node.hostname}
    if not watched:
        return RefusedWish("W50", _("SystemHighAvailabilityService is stopped, or no worker runs it: start it first."))
    if vault.primary_id is None:
        return RefusedWish("W51", _("The vault has no Master yet: there is nobody to take over from."))
    if vault.primary_id == node.pk:
        return RefusedWish("W52", _("%(name)s is the Master already.") % name)
    if node.removed_at is not None:
        return RefusedWish("W32", _("%(name)s has been deleted meanwhile.") % name)
    if not node.active:
        return RefusedWish("W53", _("%(name)s is inactive: make it active first.") % name)
    if vault.intent is not None:
        return RefusedWish("W54", _("A change of Master is under way: wait until it is over."))
    if running:
        return RefusedWish("W55", _("Another switchover is open: wait until it has ended."))
    if node.not_primary:
        rule, _dot, says = node.not_primary.partition(" · ")
        text = _("%(name)s cannot become Master now: %(says)s (%(rule)s).")
        return RefusedWish("W56", text % {**name, "says": said(says or rule), "rule": rule})
    return None


def is_watched() -> bool:
    """Whether the service is to run and a leader has given a sign of life: else nobody would carry out a wish in time."""
    if not AppService.objects.filter(name=SERVICE_NAME, desired_state=DesiredState.STARTED).exists():
        return False
    led = ServiceLease.objects.filter(name=SERVICE_NAME).exclude(holder="")
    lease = led.annotate(database_now=Now(output_field=DateTimeField())).first()
    return lease is not None and bool(
        lease.renewed_at and lease.database_now - lease.renewed_at <= limits.LEASE_SILENCE
    )


def is_replacing(kinds: Collection[str]) -> bool:
    """Whether one of these open operations may replace a node's data: another one has to wait."""
    return any(kind in REPLACING_KINDS for kind in kinds)


def open_kinds(vault: Vault) -> set[str]:
    """The kinds of operation that are queued or running on a vault."""
    return set(Operation.objects.filter(vault=vault, state__in=OPEN_STATES).values_list("kind", flat=True))


def request_switchover(node: VaultNode, actor: Any, *, reason: str = "") -> Operation | RefusedWish:
    """Ask the leading service to make this node the Master while both live. It looks again itself before it touches anything.

    reason: why, in the operator's words; kept with the event. Not begun within limits.SWITCHOVER_BEGIN, it fails.
    """
    try:
        with transaction.atomic():
            vault = _lock(node.vault_id)
            found = VaultNode.objects.filter(pk=node.pk).first()
            if found is None:
                return RefusedWish("W32", _("%(name)s has been deleted meanwhile.") % {"name": node.hostname})
            running = OperationKind.SWITCHOVER in open_kinds(vault)
            if refused := why_not_switch_over(vault, found, watched=is_watched(), running=running):
                return refused
            operation = Operation.objects.create(
                kind=OperationKind.SWITCHOVER,
                vault=vault,
                node=found,
                requested_by=actor,
                message="waiting for the service",
                reason=reason[:200],
            )
            _event(vault, found, actor, "Make Master requested", reason=reason, operation=operation.pk)
            return operation
    except IntegrityError:
        return RefusedWish("W55", _("Another switchover is open: wait until it has ended."))


def clear_silence_hold(vault: Vault, actor: Any) -> None:
    """Let the next failover on silence happen at once. Saying it again changes nothing and is no event."""
    with transaction.atomic():
        locked = _lock(vault.pk)
        held = Vault.objects.filter(pk=vault.pk, silence_failover_at__isnull=False)
        if held.update(silence_failover_at=None, silence_hold_seconds=0):
            text = "the hold after the last failover on silence was cleared"
            changes = {"silence_hold_seconds": (locked.silence_hold_seconds, 0)}
            audit.tell(locked, text, changes, actor=actor, vault=locked, epoch=locked.epoch)


def finish_operation(operation_id: str, state: OperationState, result: dict[str, Any]) -> bool:
    """End an operation from here, if nothing ended it before. Answers whether this call did."""
    now = timezone.now()
    return bool(
        Operation.objects.filter(pk=operation_id, state__in=OPEN_STATES).update(
            state=state, result=result, finished_at=now, changed_at=now
        )
    )


def _lock(vault_id: str) -> Vault:
    """The vault's row, locked until the transaction ends (SQLite: the transaction itself is the lock)."""
    return Vault.objects.select_for_update().get(pk=vault_id)


def _set_service(service: AppService, actor: Any, text: str, **changes: Any) -> None:
    with transaction.atomic():
        before = AppService.objects.select_for_update().get(pk=service.pk)
        AppService.objects.filter(pk=service.pk).update(**changes)
        shown = {name: (getattr(before, name), value) for name, value in changes.items() if name not in _WHO_AND_WHEN}
        audit.tell(before, text, shown, actor=actor)


_WHO_AND_WHEN = ("changed_at", "changed_by")


def _event(
    vault: Vault,
    node: VaultNode,
    actor: Any,
    text: str,
    changes: Mapping[str, tuple[Any, Any]] | None = None,
    *,
    reason: str = "",
    action: int = LogEntry.Action.UPDATE,
    operation: str = "",
) -> None:
    """The event for everybody, and the entry of the audit log. changes: field → (before, after)."""
    audit.tell(
        node, text, changes or {}, actor=actor, reason=reason, action=action,
        vault=vault, node_name=node.hostname, epoch=vault.epoch, operation=operation,
    )  # fmt: skip
