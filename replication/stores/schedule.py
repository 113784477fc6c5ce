"""What the service asks for by itself: comparisons, backups and exports that are due, rebuilds by policy, old data to be removed.

`due` is a pure reckoning over rows; the dispatcher (jobs/dispatch.py) asks it, and makes each as a wish like any other, with the
same refusals. Nothing loops: what has failed is tried again only after a while that doubles with every failure, what a person
has cancelled or undone is left to a person, and what succeeded is due again only when there is a new cause.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils.dateparse import parse_datetime

from nodes.choices import OperationKind, OperationState, RebuildPolicy
from nodes.models import Backup, Operation, Vault, VaultNode
from nodes.models.operation import DATA_KINDS, OPEN_STATES
from replication.core.preflight import engine_of
from replication.core.roles import NodeStatus

from . import losses
from .data_wishes import FOLLOWS, kept_of

LOOKED_BACK: Final = 200
"""Operations of a vault that are looked through for what came of the last ones."""
RETRY_COPY: Final = timedelta(minutes=10)
RETRY_ROUTINE: Final = timedelta(hours=1)
"""After a first failure; doubled with each further one, up to RETRY_LONGEST. A copy brings a copy of the data back, so it waits less."""
RETRY_LONGEST: Final = timedelta(hours=24)
REPLACES: Final = (OperationKind.REBUILD, OperationKind.UNDO, OperationKind.RESYNCHRONIZE)


@dataclass(frozen=True, kw_only=True)
class Due:
    kind: str
    node: VaultNode | None
    """None: the vault as a whole."""
    by: str
    """By what it is wanted, for its event."""
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Past:
    """What has been done already, the newest first."""

    operations: Sequence[Operation] = ()
    last_backup: datetime | None = None
    lists: frozenset[tuple[str, str]] = frozenset()
    """Node id and reason of every list of lost transactions that is of the node's present data."""
    partial: frozenset[tuple[str, str]] = frozenset()
    """Those of them that do not name everything."""
    open_lists: frozenset[str] = frozenset()
    """Ids of nodes with a list that nobody has dealt with."""

    def of(self, kind: str, node: VaultNode | None) -> list[Operation]:
        return [o for o in self.operations if o.kind == kind and o.node_id == (node.pk if node is not None else None)]


def past_of(vault: Vault) -> Past:
    """Five queries."""
    rows = Operation.objects.filter(vault=vault, kind__in=DATA_KINDS).order_by("-created_at")
    lists = losses.of_present_data(vault.pk)
    return Past(
        operations=list(rows.defer("steps")[:LOOKED_BACK]),
        last_backup=Backup.objects.filter(vault=vault, fault="")
        .values_list("taken_at", flat=True)
        .order_by("-taken_at")
        .first(),
        lists=frozenset((one.node_id, one.why) for one in lists),
        partial=frozenset((one.node_id, one.why) for one in lists if not losses.is_whole(one.notes)),
        open_lists=frozenset(losses.open_reports(vault.pk).filter(node__isnull=False).values_list("node", flat=True)),
    )


def due(vault: Vault, nodes: Sequence[VaultNode], past: Past, now: datetime) -> list[Due]:
    """What is due at this moment, the most urgent first. nodes: all present ones of the vault. Pure."""
    if vault.primary_id is None or vault.intent is not None:
        return []
    fallbacks = [node for node in nodes if node.active and node.pk != vault.primary_id]
    found: list[Due] = []
    for node in fallbacks:
        found += _export(node, past, now)
        found += _rebuild(vault, node, past, now)
    for node in fallbacks:
        found += _compare(vault, node, past, now)
        found += _remove(vault, node, past, now)
    return [*found, *_backup(vault, fallbacks, past, now)]


def _export(node: VaultNode, past: Past, now: datetime) -> Iterator[Due]:
    """Whatever the policy is: what only this node has is to be in a file and a list before anybody decides."""
    cause = _held(node, "quarantine")
    if (
        cause
        and (node.pk, cause) not in past.lists
        and _may(past.of(OperationKind.EXPORT, node), now, RETRY_COPY, cause)
    ):
        yield Due(
            kind=OperationKind.EXPORT.value, node=node, by=f"it is held back: {cause}", arguments={"cause": cause}
        )


def _rebuild(vault: Vault, node: VaultNode, past: Past, now: datetime) -> Iterator[Due]:
    if vault.rebuild_policy == RebuildPolicy.NEVER:
        return
    diverged, lacking = _held(node, "quarantine"), _held(node, "needs_rebuild")
    cause = diverged or lacking
    if not cause:
        return
    if diverged and (vault.rebuild_policy != RebuildPolicy.ALWAYS or (node.pk, diverged) not in past.lists):
        return  # nothing is replaced before there is a list of what would be lost
    if diverged and (node.pk, diverged) in past.partial:
        return  # what stands in no list may be nowhere else: perhaps it is the primary that has lost its data
    if _without_list(node, past):
        return  # the next copy would take the place of what is kept, and that is on no list
    last = next((o for o in past.operations if o.kind in REPLACES and o.node_id == node.pk), None)
    if last is not None and last.kind == OperationKind.UNDO and last.state == OperationState.SUCCEEDED:
        return  # a person wanted this data back
    if _may(_copies(vault, node, past), now, RETRY_COPY, cause):
        says = f"by the vault's setting (rebuild without asking), because {cause}"
        yield Due(kind=OperationKind.REBUILD.value, node=node, by=says, arguments={"cause": cause})


def _copies(vault: Vault, node: VaultNode, past: Past) -> list[Operation]:
    """Its rebuilds, and the re-synchronizations since which it was in order: what failed before one of those counts no more."""
    return [
        o
        for o in past.operations
        if (o.kind == OperationKind.REBUILD and o.node_id == node.pk)
        or (
            o.kind == OperationKind.RESYNCHRONIZE
            and o.state == OperationState.SUCCEEDED
            and o.node_id in (node.pk, vault.primary_id)
        )
    ]


def _compare(vault: Vault, node: VaultNode, past: Past, now: datetime) -> Iterator[Due]:
    hours = vault.verify_every_hours
    if not hours or node.status not in FOLLOWS or _on_mysql(node):
        return
    last = node.verified_at or node.created_at
    both = [*past.of(OperationKind.VERIFY, node), *past.of(OperationKind.VERIFY, None)]
    tried = sorted(both, key=lambda o: o.created_at, reverse=True)
    if now - last >= timedelta(hours=hours) and _may(tried, now, RETRY_ROUTINE):
        yield Due(kind=OperationKind.VERIFY.value, node=node, by=f"every {hours} h, by the vault's setting")


def _remove(vault: Vault, node: VaultNode, past: Past, now: datetime) -> Iterator[Due]:
    """Old data goes only after a comparison found the new data equal, and some time later. Never by itself while nobody has dealt with
    the list of what only it had, or when there is none because somebody did not want to wait for one."""
    kept = kept_of(node)
    since = _time(kept.get("since")) if kept is not None else None
    if kept is None or since is None or node.drift or node.verified_at is None or node.pk in past.open_lists:
        return
    if _without_list(node, past):
        return
    made = _copies_of(node, past)
    since = max([since, *(o.started_at for o in made if o.started_at is not None)])  # the host's clock may be behind
    if node.verified_at <= since:
        return
    compared = [
        o.finished_at
        for o in past.operations
        if o.finished_at is not None and o.finished_at > since and _found_equal(o, node, vault)
    ]
    equal_since = min([*compared, node.verified_at])
    if now - equal_since < timedelta(hours=vault.keep_old_hours):
        return
    if _may(past.of(OperationKind.REMOVE_KEPT, node), now, RETRY_ROUTINE, str(kept.get("operation", ""))):
        says = f"{vault.keep_old_hours} h after a comparison found it equal, by the vault's setting"
        arguments = {"cause": str(kept.get("operation", ""))}
        yield Due(kind=OperationKind.REMOVE_KEPT.value, node=node, by=says, arguments=arguments)


def _copies_of(node: VaultNode, past: Past) -> list[Operation]:
    """The operation in which the kept data of this node was replaced; one of several copies shares half of its id with it."""
    kept = str((kept_of(node) or {}).get("operation") or "")[:16]
    return [o for o in past.operations if kept and o.kind in REPLACES and o.pk[:16] == kept]


def _without_list(node: VaultNode, past: Past) -> bool:
    """Whether what is kept there was replaced by somebody who did not want to wait for a list of what only it had."""
    return any(o.arguments.get("without_list") for o in _copies_of(node, past))


def _found_equal(operation: Operation, node: VaultNode, vault: Vault) -> bool:
    """Whether this has compared the node with the primary, and found nothing. A copy may be made without a comparison."""
    if operation.state != OperationState.SUCCEEDED or operation.node_id not in (node.pk, None, vault.primary_id):
        return False
    if operation.kind == OperationKind.VERIFY:
        return True
    told = operation.result.get("nodes", []) if operation.kind in REPLACES else []
    return any(one.get("hostname") == node.hostname and one.get("differences") == [] for one in told)


def _backup(vault: Vault, fallbacks: Sequence[VaultNode], past: Past, now: datetime) -> Iterator[Due]:
    hours = vault.backup_every_hours
    if not hours or not any(node.status in FOLLOWS and not _on_mysql(node) for node in fallbacks):
        return
    last = past.last_backup or min(node.created_at for node in fallbacks)
    tried = [o for o in past.operations if o.kind == OperationKind.BACKUP and not o.arguments.get("action")]
    if now - last >= timedelta(hours=hours) and _may(tried, now, RETRY_ROUTINE):
        yield Due(kind=OperationKind.BACKUP.value, node=None, by=f"every {hours} h, by the vault's setting")


def _on_mysql(node: VaultNode) -> bool:
    """Whose agent refuses comparisons and backups in this version: asking for them every day would be an alarm every day."""
    version = str(((node.report or {}).get("database") or {}).get("version") or "")
    return bool(version) and engine_of(version) == "MySQL"


def _held(node: VaultNode, why: str) -> str:
    """What its agent says holds it, when it answers."""
    if node.status not in (NodeStatus.DIVERGED, NodeStatus.ERROR):
        return ""
    return str((node.report or {}).get(why) or "")[: losses.TEXT_MAX]


def _may(before: Sequence[Operation], now: datetime, first: timedelta, cause: str | None = None) -> bool:
    """Whether another try is allowed now. before: the same kind on the same node, the newest first. cause: None when every try
    counts; else only those for this very reason, and a person's."""
    if any(o.state in OPEN_STATES for o in before):
        return False
    failures = 0
    for one in before:
        if cause is not None and one.arguments.get("cause", cause) != cause:
            break
        if one.state == OperationState.CANCELLED and cause is not None:
            return False
        if one.state == OperationState.SUCCEEDED:
            break
        failures += 1
    if not failures:
        return True
    ended = before[0].finished_at or before[0].created_at
    return now - ended >= min(first * 2 ** min(failures - 1, 20), RETRY_LONGEST)


def _time(text: Any) -> datetime | None:
    try:
        at = parse_datetime(str(text or ""))
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None else None
