"""`manage.py vault_status [--json]`: what the console knows, for a shell and for monitoring."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from replication.stores.status import vault_status


class Command(BaseCommand):
    help = "Show the state of every vault and its nodes; with --json in a stable form."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object on one line")

    def handle(self, *args: Any, **options: Any) -> None:
        status = vault_status()
        if options["json"]:
            self.stdout.write(json.dumps(status))
            return
        for vault in status["vaults"]:
            self.stdout.write(f"{vault['name']}: {vault['state']}, epoch {vault['epoch']}: {vault['reason']}")
            for node in vault["nodes"]:
                age = "never answered" if node["age_seconds"] is None else f"{node['age_seconds']:.1f} s ago"
                role = node["current_role"] or node["system_role"]
                self.stdout.write(f"  {node['hostname']:<24} {node['ip']:<16} {role:<12} {node['status']:<24} {age}")
