"""Actions of `manage.py vault` that work on data: copies, comparisons, exports, backups. Each is the wish of the screen."""

from collections.abc import Callable
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from nodes.choices import OperationKind, RebuildPolicy
from nodes.models import Operation, Vault, VaultNode
from replication.jobs import queueing
from replication.stores import data_wishes, policy

from .asking import confirmed, granted, node_named, only_vault

NEVER: Final = "none"
"""No limit, or no schedule."""


def _request(
    o: dict[str, Any], kind: str, on: VaultNode | Vault, typed: str | None = None, **arguments: Any
) -> Operation:
    made: Operation = granted(
        data_wishes.request(
            kind, on, o["actor"], reason=o["reason"], arguments=arguments, typed=typed,
            enqueue=lambda operation: queueing.enqueue(operation.pk, operation.kind),
        )
    )  # fmt: skip
    return made


def replaced_by(node: VaultNode) -> list[VaultNode]:
    """Diverged nodes whose data a Re-synchronize Master on this row would replace."""
    fallbacks = VaultNode.objects.present().filter(vault=node.vault_id, active=True).exclude(pk=node.vault.primary_id)
    meant = fallbacks if node.pk == node.vault.primary_id else fallbacks.filter(pk=node.pk)
    return [one for one in meant if data_wishes.has_diverged(one)]


def _rebuild(o: dict[str, Any]) -> str:
    node = node_named(o["node"])
    arguments: dict[str, Any] = {"without_list": o["without_list"], "compare": not o["do_not_compare"]}
    if o["source"]:
        arguments["source"] = node_named(o["source"]).pk
    if o["rate"] is not None or o["no_limit"]:
        arguments["mib_per_second"] = None if o["no_limit"] else o["rate"]
    operation = _request(o, OperationKind.REBUILD.value, node, o["confirm"], **arguments)
    return f"{node.hostname} is to be rebuilt by a full copy: operation {operation.pk}."


def _undo(o: dict[str, Any]) -> str:
    node = node_named(o["node"])
    operation = _request(o, OperationKind.UNDO.value, node, o["confirm"])
    return f"The old data of {node.hostname} is to be put back: operation {operation.pk}."


def _remove_kept(o: dict[str, Any]) -> str:
    node = node_named(o["node"])
    operation = _request(o, OperationKind.REMOVE_KEPT.value, node, o["confirm"])
    return f"The old data of {node.hostname} is to be removed: operation {operation.pk}."


def _compare(o: dict[str, Any]) -> str:
    on = node_named(o["node"]) if o["node"] else only_vault()
    operation = _request(o, OperationKind.VERIFY.value, on)
    return f"The comparison with the Master has been started: operation {operation.pk}."


def _export(o: dict[str, Any]) -> str:
    node = node_named(o["node"])
    operation = _request(o, OperationKind.EXPORT.value, node)
    return f"What only {node.hostname} has is exported: operation {operation.pk}."


def _back_up(o: dict[str, Any]) -> str:
    confirmed(o, "A backup reads the whole data of a fallback, at the rate of the vault's setting.")
    operation = _request(o, OperationKind.BACKUP.value, node_named(o["node"]) if o["node"] else only_vault())
    return f"The backup has been started: operation {operation.pk}."


def _data_policy(o: dict[str, Any]) -> str:
    given = {name: o[name] for name in policy.DATA_POLICY if o[name] is not None}
    values = {name: None if value == NEVER else value for name, value in given.items()}
    vault = only_vault()
    for name, value in values.items():
        _check(name, value)
    if not policy.set_data_policy(vault, values, o["actor"], reason=o["reason"]):
        return "The setting is as it was."
    return "The setting of copies and backups is changed."


def _check(name: str, value: Any) -> None:
    """As a form would: by the validators of the field."""
    try:
        Vault._meta.get_field(name).clean(value, None)
    except ValidationError as error:
        raise CommandError(f"{name}: {' '.join(error.messages)}") from error


def _number(word: str) -> int | str:
    """A whole number, or "none". Raises ValueError, which argparse says in words."""
    return NEVER if word == NEVER else int(word)


_node = (("node",), {"help": "hostname of the node, as the Vault screen shows it"})
_any_node = (("node",), {"nargs": "?", "default": "", "help": "hostname of the node; the vault as a whole without"})
_typed = (("--confirm",), {"default": "", "metavar": "HOSTNAME", "help": "its hostname once more, where that is asked"})


def _amount(field: str) -> dict[str, Any]:
    return {"dest": field, "type": _number, "metavar": "NUMBER"}


_Arguments = tuple[tuple[tuple[str, ...], dict[str, Any]], ...]
ACTIONS: Final[dict[str, tuple[str, Callable[[dict[str, Any]], str], _Arguments]]] = {
    "rebuild": (
        "Replace a node's data by a full copy; its old data is kept for a while.",
        _rebuild,
        (
            _node,
            _typed,
            (("--source",), {"default": "", "metavar": "HOSTNAME", "help": "whom to copy; a good fallback without"}),
            (("--rate",), {"type": int, "default": None, "metavar": "MIB", "help": "MiB a second; the vault's without"}),
            (("--no-limit",), {"action": "store_true", "help": "as fast as it goes"}),
            (
                ("--without-list",),
                {"action": "store_true", "help": "also when what only this node has cannot be exported; its old data is kept"},
            ),
            (("--do-not-compare",), {"action": "store_true", "help": "do not compare it with the Master afterwards"}),
        ),
    ),
    "undo-rebuild": ("Put the data of before the last rebuild back.", _undo, (_node, _typed)),
    "remove-old-data": ("Throw away the data of before the last rebuild.", _remove_kept, (_node, _typed)),
    "compare": ("Compare a fallback, or all, with the Master.", _compare, (_any_node,)),
    "export": ("Write the transactions that only a diverged node has to a file, and list them.", _export, (_node,)),
    "data-policy": (
        "Change the setting of copies and backups; what is not given stays as it is.",
        _data_policy,
        (
            (
                ("--rebuild",),
                {"dest": "rebuild_policy", "choices": RebuildPolicy.values, "help": "when a node is rebuilt without asking"},
            ),
            (("--rate",), {**_amount("copy_mib_per_second"), "help": "MiB a second of copies and backups, or none"}),
            (("--keep-old",), {**_amount("keep_old_hours"), "help": "hours that old data is kept after a good comparison"}),
            (("--compare-every",), {**_amount("verify_every_hours"), "help": "hours, or none"}),
            (("--backup-every",), {**_amount("backup_every_hours"), "help": "hours, or none"}),
            (("--backups-kept",), {**_amount("backups_kept"), "help": "how many"}),
        ),
    ),
    "back-up": ("Make a backup now.", _back_up, (_any_node,)),
}  # fmt: skip
