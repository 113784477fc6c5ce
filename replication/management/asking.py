"""What every action of `manage.py vault` shares: who is meant, what is refused, what has to be confirmed."""

from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

from nodes.models import AppService, Vault, VaultNode
from replication.stores import wishes
from replication.stores.wishes import RefusedWish

FLAGS: Final = {
    "confirm": "--confirm HOSTNAME", "reason": "--reason TEXT", "source": "--source HOSTNAME", "mib_per_second": "--rate MIB"
}  # fmt: skip
"""How the fields of a form are given here."""


def granted(answer: Any) -> Any:
    """The answer, unless it is a refusal: that is the command's end."""
    if isinstance(answer, RefusedWish):
        flag = f" (here: {FLAGS[answer.field]})" if answer.field in FLAGS else ""
        raise CommandError(f"{answer.rule} · {answer.says}{flag}")
    return answer


def confirmed(options: dict[str, Any], says: str) -> None:
    if not options["yes"]:
        granted(RefusedWish("W44", f"{says} To confirm, add --yes."))


def actor_named(username: str) -> Any:
    if not username:
        return None
    user = get_user_model().objects.filter(username=username, is_active=True).first()
    if user is None:
        granted(RefusedWish("W46", f"There is no active user {username}: leave --as out, or name another one."))
    return user


def only_vault() -> Vault:
    vault = wishes.default_vault()
    if vault is None:
        raise CommandError("There is no vault: run manage.py migrate.")
    return vault


def node_named(hostname: str) -> VaultNode:
    found = VaultNode.objects.present().filter(hostname__iexact=hostname).select_related("vault").first()
    if found is None:
        there = ", ".join(VaultNode.objects.present().order_by("ordinal").values_list("hostname", flat=True))
        granted(RefusedWish("W45", f"There is no node {hostname}. There are: {there or 'none yet'}."))
    assert found is not None
    return found


def service_named(name: str) -> AppService:
    found = AppService.objects.filter(name__iexact=name).first()
    if found is None:
        there = ", ".join(AppService.objects.values_list("name", flat=True))
        granted(RefusedWish("W47", f"There is no service {name}. There are: {there}."))
    assert found is not None
    return found
