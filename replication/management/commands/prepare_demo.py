"""Enters what script/run has made: the administrator and the embedded pair. Once; what an administrator changes stays."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from nodes.choices import DesiredState, SystemRoleChoices
from nodes.models import AppService, Event, Vault, VaultNode
from nodes.models.service import SERVICE_NAME
from replication.stores import audit

ACTOR = "script/run"
RULE = "DEMO"
"""The event with this rule and actor is the memory that the pair was entered, also after its nodes are deleted."""


@dataclass(frozen=True, kw_only=True)
class DemoNode:
    hostname: str
    ip: str
    port: int
    database_port: int
    agent_id: str


def demo_node(text: str) -> DemoNode:
    try:
        hostname, ip, port, database_port, agent_id = text.split(",")
        return DemoNode(hostname=hostname, ip=ip, port=int(port), database_port=int(database_port), agent_id=agent_id)
    except ValueError as error:
        raise argparse.ArgumentTypeError("give hostname,ip,port,database port,agent id") from error


class Command(BaseCommand):
    help = "Enter the administrator and the embedded vault pair of script/run, once. Prints JSON."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--password-file", type=Path, required=True, help="holds the administrator's first password"
        )
        parser.add_argument(
            "--node",
            type=demo_node,
            action="append",
            required=True,
            help="hostname,ip,port,database port,agent id; the first becomes Primary, the others Fallback",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            password = options["password_file"].read_text()
        except OSError as error:
            raise CommandError(f"{options['password_file']} cannot be read: {error.strerror}.") from error
        with audit.command_line("prepare_demo"), transaction.atomic():
            entered = self._enter(options["node"], password)
        self.stdout.write(json.dumps({"entered": entered, "expect_lossless": expect_lossless()}))

    def _enter(self, nodes: list[DemoNode], password: str) -> bool:
        if Event.objects.filter(rule=RULE, actor=ACTOR).exists():
            return False
        users = get_user_model().objects
        if not users.filter(username="admin").exists():
            users.create_superuser(username="admin", password=password)
        vault = Vault.objects.first() or Vault.objects.create(name="Vault")
        for number, node in enumerate(nodes):
            role = SystemRoleChoices.FALLBACK if number else SystemRoleChoices.PRIMARY
            made = VaultNode.objects.create(
                vault=vault,
                hostname=node.hostname,
                ip_address=node.ip,
                port=node.port,
                database_port=node.database_port,
                agent_id=node.agent_id,
                system_role=role,
                ordinal=number or 1,
            )
            text = f"node entered as {made.get_system_role_display()}, {node.ip}"
            values = {name: (None, getattr(made, name)) for name in ("hostname", "ip_address", "port", "system_role")}
            audit.record(made, text, values, action=audit.CREATED)
        service, _ = AppService.objects.get_or_create(name=SERVICE_NAME)
        before, service.desired_state = service.desired_state, DesiredState.STARTED
        service.changed_at = timezone.now()
        service.save()
        audit.record(service, f"{service.name}: start requested", {"desired_state": (before, service.desired_state)})
        hostnames = " and ".join(node.hostname for node in nodes)
        Event.objects.create(rule=RULE, actor=ACTOR, text=f"{hostnames} were entered as the embedded pair.")
        return True


def expect_lossless() -> bool:
    """Whether the wishes as they stand now lead to a lossless vault: the service started, and two active nodes."""
    started = AppService.objects.filter(name=SERVICE_NAME, desired_state=DesiredState.STARTED).exists()
    return started and VaultNode.objects.present().filter(active=True).count() > 1
