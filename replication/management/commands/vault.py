"""`manage.py vault ACTION …`: every wish of the screens, for emergencies and scripts. The same refusals, the same records."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import django_rq
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis.exceptions import RedisError

from nodes.models import AppService, Operation, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.jobs import resynchronize
from replication.stores import audit, cancelling, leaving, logins, pausing, policy, wishes
from replication.stores.wishes import QueueUnavailable, RefusedWish

_NODE: Final = "hostname of the node, as the Vault screen shows it"
_SERVICE: Final = "name of the service"
_ASKS: Final = "yes, do it: where a screen asks before it acts, this command refuses without"
POLICIES: Final = ("stay-writable", "block")
_FLAGS: Final = {"confirm": "--confirm HOSTNAME", "reason": "--reason TEXT"}
"""How the fields of a form are given here."""
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
        options.update(actor=_actor(options["as_user"]), reason=reason)
        with audit.command_line(f"vault {options['action']}", reason=reason):
            said = does(options)
        self.stdout.write(said)


def _start(o: dict[str, Any]) -> str:
    service = _service(o["service"])
    wishes.start_service(service, o["actor"])
    return f"{service.name} is asked to start."


def _stop(o: dict[str, Any]) -> str:
    service = _service(o["service"])
    _confirmed(o, f"While {service.name} is stopped nothing fails over.")
    wishes.stop_service(service, o["actor"])
    return f"{service.name} is asked to stop."


def _run(o: dict[str, Any]) -> str:
    service = _service(o["service"])
    _granted(wishes.run_service_now(service, o["actor"]))
    return f"{service.name} runs once more now."


def _activate(o: dict[str, Any]) -> str:
    node = _node(o["node"])
    _granted(wishes.set_active(node, True, o["actor"]))
    return f"{node.hostname} is to be active."


def _deactivate(o: dict[str, Any]) -> str:
    node = _node(o["node"])
    _granted(leaving.make_inactive(node, o["actor"], typed=o["confirm"], reason=o["reason"]))
    return f"{node.hostname} is to be inactive."


def _delete(o: dict[str, Any]) -> str:
    node = _node(o["node"])
    if o["confirm"] != node.hostname:
        text = f"Replication to {node.hostname} stops for good. To confirm, add --confirm {node.hostname}"
        _granted(RefusedWish("W44", f"{text}."))
    _granted(leaving.delete(node, o["actor"], typed=o["confirm"], reason=o["reason"]))
    command = (node.report or {}).get("purge_command") or "vault-agent purge --home …"
    return f"{node.hostname} is deleted. To remove its data as well, type on it: {command}"


def _switch_over(o: dict[str, Any]) -> str:
    node = _node(o["node"])
    _confirmed(o, "Writes pause for about a tenth of a second, and open transactions get an error.")
    operation = _granted(wishes.request_switchover(node, o["actor"], reason=o["reason"]))
    return f"{node.hostname} is to become Master: operation {operation.pk}."


def _resynchronize(o: dict[str, Any]) -> str:
    node = _node(o["node"]) if o["node"] else _vault().primary
    if node is None:
        _granted(RefusedWish("W41", "The vault has no primary yet: there is nothing to synchronize with."))
    operation = _granted(wishes.request_resynchronize(node, o["actor"], _enqueue))
    return f"Re-synchronization has been started: operation {operation.pk}."


def _clear_hold(o: dict[str, Any]) -> str:
    _confirmed(o, "If the Master falls silent again, its fallback takes over at once.")
    wishes.clear_silence_hold(_vault(), o["actor"])
    return "The next failover on silence is no longer held back."


def _pause(o: dict[str, Any]) -> str:
    span = None if o["until_resumed"] else timedelta(minutes=o["minutes"])
    _confirmed(o, "While it is paused, a lost Master is not replaced.")
    _granted(pausing.pause_failover(_vault(), span, o["actor"], reason=o["reason"]))
    end = f"for {o['minutes']} min" if span is not None else "until it is resumed"
    return f"Automatic failover is paused {end}."


def _resume(o: dict[str, Any]) -> str:
    pausing.resume_failover(_vault(), o["actor"])
    return "Automatic failover is no longer paused."


def _policy(o: dict[str, Any]) -> str:
    writable = o["policy"] == POLICIES[0]
    says = "Without its acker the vault stays writable, solo." if writable else "Without its acker all writes wait."
    _confirmed(o, says)
    policy.set_stay_writable(_vault(), writable, o["actor"], reason=o["reason"])
    return says


def _cancel(o: dict[str, Any]) -> str:
    operation = Operation.objects.filter(pk=o["operation"]).first()
    if operation is None:
        _granted(RefusedWish("W48", f"There is no operation {o['operation']}: vault_status --json shows its id."))
    done = _granted(cancelling.request_cancel(operation, o["actor"], reason=o["reason"]))
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


def _granted(answer: Any) -> Any:
    """The answer, unless it is a refusal: that is the command's end."""
    if isinstance(answer, RefusedWish):
        flag = f" (here: {_FLAGS[answer.field]})" if answer.field in _FLAGS else ""
        raise CommandError(f"{answer.rule} · {answer.says}{flag}")
    return answer


def _confirmed(options: dict[str, Any], says: str) -> None:
    if not options["yes"]:
        _granted(RefusedWish("W44", f"{says} To confirm, add --yes."))


def _actor(username: str) -> Any:
    if not username:
        return None
    user = get_user_model().objects.filter(username=username, is_active=True).first()
    if user is None:
        _granted(RefusedWish("W46", f"There is no active user {username}: leave --as out, or name another one."))
    return user


def _vault() -> Vault:
    vault = wishes.default_vault()
    if vault is None:
        raise CommandError("There is no vault: run manage.py migrate.")
    return vault


def _node(hostname: str) -> VaultNode:
    found = VaultNode.objects.present().filter(hostname__iexact=hostname).select_related("vault").first()
    if found is None:
        there = ", ".join(VaultNode.objects.present().order_by("ordinal").values_list("hostname", flat=True))
        _granted(RefusedWish("W45", f"There is no node {hostname}. There are: {there or 'none yet'}."))
    assert found is not None
    return found


def _service(name: str) -> AppService:
    found = AppService.objects.filter(name__iexact=name).first()
    if found is None:
        there = ", ".join(AppService.objects.values_list("name", flat=True))
        _granted(RefusedWish("W47", f"There is no service {name}. There are: {there}."))
    assert found is not None
    return found


def _enqueue(operation_id: str) -> None:
    """To the ops queue, as the screens do (nodes/admin/queues.py, which a command may not import)."""
    try:
        django_rq.get_queue("ops").enqueue(resynchronize, operation_id, result_ttl=0)
    except (RedisError, OSError) as error:
        raise QueueUnavailable(str(error)) from error
