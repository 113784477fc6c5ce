"""`manage.py vault ACTION …`: every wish of the screens, for emergencies and scripts. The same refusals, the same records."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandParser

from nodes.choices import OperationKind
from nodes.models import Operation
from nodes.models.service import SERVICE_NAME
from replication.jobs import queueing
from replication.management import data_actions
from replication.management.asking import actor_named, confirmed, granted, node_named, only_vault, service_named
from replication.stores import audit, cancelling, leaving, logins, pausing, policy, wishes
from replication.stores.wishes import RefusedWish

_NODE: Final = "hostname of the node, as the Vault screen shows it"
_SERVICE: Final = "name of the service"
_ASKS: Final = "yes, do it: where a screen asks before it acts, this command refuses without"
POLICIES: Final = ("stay-writable", "block")
_LONGEST: Final = int(pausing.LONGEST.total_seconds() // 60)


class Command(BaseCommand):
    help = (
        "Do what the screens can do: start and stop services, hand the Master over, take nodes in and out, pause. "
        "Refused with the rule and a sentence, exit status 1. Everything goes into the events and the audit log."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for name, (says, _does, arguments) in ACTIONS.items():
            one = actions.add_parser(name, help=says, description=says)
            for names, options in arguments:
                one.add_argument(*names, **options)
            # Also where nothing is asked: a script may always give it.
            one.add_argument("--yes", action="store_true", help=_ASKS)
            one.add_argument("--reason", default="", help="why, in your own words; kept in the audit log")
            one.add_argument(
                "--as", dest="as_user", default="", metavar="USER", help="the console's user who asks for it"
            )

    def handle(self, *args: Any, **options: Any) -> None:
        _says, does, _arguments = ACTIONS[options["action"]]
        reason = " ".join(options["reason"].split())
        options.update(actor=actor_named(options["as_user"]), reason=reason)
        with audit.command_line(f"vault {options['action']}", reason=reason):
            said = does(options)
        self.stdout.write(said)


def _start(o: dict[str, Any]) -> str:
    service = service_named(o["service"])
    wishes.start_service(service, o["actor"])
    return f"{service.name} is asked to start."


def _stop(o: dict[str, Any]) -> str:
    service = service_named(o["service"])
    confirmed(o, f"While {service.name} is stopped nothing fails over.")
    wishes.stop_service(service, o["actor"])
    return f"{service.name} is asked to stop."


def _run(o: dict[str, Any]) -> str:
    service = service_named(o["service"])
    granted(wishes.run_service_now(service, o["actor"]))
    return f"{service.name} runs once more now."


def _activate(o: dict[str, Any]) -> str:
    node = node_named(o["node"])
    granted(wishes.set_active(node, True, o["actor"]))
    return f"{node.hostname} is to be active."


def _deactivate(o: dict[str, Any]) -> str:
    node = node_named(o["node"])
    granted(leaving.make_inactive(node, o["actor"], typed=o["confirm"], reason=o["reason"]))
    return f"{node.hostname} is to be inactive."


def _delete(o: dict[str, Any]) -> str:
    node = node_named(o["node"])
    if o["confirm"] != node.hostname:
        text = f"Replication to {node.hostname} stops for good. To confirm, add --confirm {node.hostname}"
        granted(RefusedWish("W44", f"{text}."))
    granted(leaving.delete(node, o["actor"], typed=o["confirm"], reason=o["reason"]))
    command = (node.report or {}).get("purge_command") or "vault-agent purge --home …"
    return f"{node.hostname} is deleted. To remove its data as well, type on it: {command}"


def _switch_over(o: dict[str, Any]) -> str:
    node = node_named(o["node"])
    confirmed(o, "Writes pause for about a tenth of a second, and open transactions get an error.")
    operation = granted(wishes.request_switchover(node, o["actor"], reason=o["reason"]))
    return f"{node.hostname} is to become Master: operation {operation.pk}."


def _resynchronize(o: dict[str, Any]) -> str:
    node = node_named(o["node"]) if o["node"] else only_vault().primary
    if node is None:
        granted(RefusedWish("W41", "The vault has no primary yet: there is nothing to synchronize with."))
    replace = data_actions.replaced_by(node)
    if replace:
        names = ", ".join(one.hostname for one in replace)
        confirmed(o, f"{names} would be rebuilt by a full copy: what only it has is exported first, its old data kept.")
    enqueue = partial(queueing.enqueue, kind=OperationKind.RESYNCHRONIZE.value)
    operation = granted(wishes.request_resynchronize(node, o["actor"], enqueue, replace=replace, reason=o["reason"]))
    return f"Re-synchronization has been started: operation {operation.pk}."


def _clear_hold(o: dict[str, Any]) -> str:
    confirmed(o, "If the Master falls silent again, its fallback takes over at once.")
    wishes.clear_silence_hold(only_vault(), o["actor"])
    return "The next failover on silence is no longer held back."


def _pause(o: dict[str, Any]) -> str:
    span = None if o["until_resumed"] else timedelta(minutes=o["minutes"])
    confirmed(o, "While it is paused, a lost Master is not replaced.")
    granted(pausing.pause_failover(only_vault(), span, o["actor"], reason=o["reason"]))
    end = f"for {o['minutes']} min" if span is not None else "until it is resumed"
    return f"Automatic failover is paused {end}."


def _resume(o: dict[str, Any]) -> str:
    pausing.resume_failover(only_vault(), o["actor"])
    return "Automatic failover is no longer paused."


def _policy(o: dict[str, Any]) -> str:
    writable = o["policy"] == POLICIES[0]
    says = "Without its acker the vault stays writable, solo." if writable else "Without its acker all writes wait."
    confirmed(o, says)
    policy.set_stay_writable(only_vault(), writable, o["actor"], reason=o["reason"])
    return says


def _cancel(o: dict[str, Any]) -> str:
    operation = Operation.objects.filter(pk=o["operation"]).first()
    if operation is None:
        granted(RefusedWish("W48", f"There is no operation {o['operation']}: vault_status --json shows its id."))
    done = granted(cancelling.request_cancel(operation, o["actor"], reason=o["reason"]))
    return "The operation is cancelled." if done.ended else "The operation is asked to end."


def _unlock(o: dict[str, Any]) -> str:
    """Names that no user has are locked as well, so any name is taken."""
    count = logins.unlock(o["username"], o["actor"])
    if not count:
        return f"{o['username']} is not locked."
    return f"{o['username']} may log in again."


_on_service = ((("service",), {"nargs": "?", "default": SERVICE_NAME, "help": _SERVICE}),)
_on_node = ((("node",), {"help": _NODE}),)
_typed = (
    (("--confirm",), {"default": "", "metavar": "HOSTNAME", "help": "its hostname once more, where that is asked"}),
)
_Action = tuple[str, Callable[[dict[str, Any]], str], tuple[tuple[tuple[str, ...], dict[str, Any]], ...]]
ACTIONS: Final[dict[str, _Action]] = {
    "start": ("Start a service.", _start, _on_service),
    "stop": ("Stop a service: nothing fails over while it is stopped.", _stop, _on_service),
    "run": ("One full pass of a started service, at once.", _run, _on_service),
    "activate": ("Let a node take part.", _activate, _on_node),
    "deactivate": ("Take a node out of replication.", _deactivate, (*_on_node, *_typed)),
    "delete": ("Delete a node.", _delete, (*_on_node, *_typed)),
    "switch-over": ("Make a node the Master while both live.", _switch_over, _on_node),
    "resynchronize": (
        "Bring the fallbacks to the Master's position.",
        _resynchronize,
        ((("node",), {"nargs": "?", "default": "", "help": f"{_NODE}; all fallbacks without"}),),
    ),
    **data_actions.ACTIONS,
    "clear-hold": ("Do not hold back the next failover on silence.", _clear_hold, ()),
    "pause": (
        "Pause automatic failover; needs --reason.",
        _pause,
        (
            (("--minutes",), {"type": int, "default": 60, "help": f"how long, at most {_LONGEST}; 60 without"}),
            (("--until-resumed",), {"action": "store_true", "help": "without an end of its own"}),
        ),
    ),
    "resume": ("End the pause.", _resume, ()),
    "policy": (
        "What a vault does without its acker.",
        _policy,
        ((("policy",), {"choices": POLICIES, "help": "stay writable (solo), or block writes until it is back"}),),
    ),
    "cancel": ("Cancel an operation.", _cancel, ((("operation",), {"help": "its id, from vault_status --json"}),)),
    "unlock": (
        "Let a user log in again who is locked after failed logins.",
        _unlock,
        ((("username",), {"help": "the name as it was typed at the login"}),),
    ),
}
