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
            self._guards(vault)
            for node in vault["nodes"]:
                age = "never answered" if node["age_seconds"] is None else f"{node['age_seconds']:.1f} s ago"
                role = node["current_role"] or node["system_role"]
                self.stdout.write(f"  {node['hostname']:<24} {node['ip']:<16} {role:<12} {node['status']:<24} {age}")
                for difference in node["differences"]:
                    self.stdout.write(f"    differs from the Master: {difference}")

    def _guards(self, vault: dict[str, Any]) -> None:
        """What goes on, and what is held back or armed: only what there is to say."""
        if operation := vault["operation"]:
            on = f" ({operation['node']})" if operation["node"] else ""
            said = f": {operation['message']}" if operation["message"] else ""
            self.stdout.write(f"  {operation['kind']}{on} {operation['state']}{said}")
        if pause := vault["pause"]:
            until = f"until {pause['until']}" if pause["until"] else "until somebody resumes it"
            self.stdout.write(
                f"  automatic failover is paused {until}, by {pause['by'] or 'the command line'}: {pause['reason']}"
            )
        if hold := vault["hold"]:
            until = f"until {hold['until']}" if hold["until"] else "until it is lossless again, and for the time after"
            self.stdout.write(f"  a failover on silence is held back {until} ({hold['seconds_left']:g} s left)")
        if (backup := vault["backup"])["late"]:
            last = f"the last good one is of {backup['taken_at']}" if backup["taken_at"] else "there is none"
            self.stdout.write(f"  backups are late: {last}")
        if fences := vault["fences"]:
            missing = f"; not armed: {', '.join(fences['not_armed'])}" if fences["not_armed"] else ""
            self.stdout.write(f"  fences armed on {vault['primary']}: {', '.join(fences['armed']) or 'none'}{missing}")
