"""Makes the certificate of a vault host or of a controller, and the authority with the first one."""

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, OperationalError, connection

from nodes.models import ApplicationNode, VaultNode
from replication import certificates
from replication.stores import audit


class Command(BaseCommand):
    help = (
        "Issue ca.pem, cert.pem and key.pem for a vault host (--role node) or a controller host (--role controller). "
        "Makes the authority when there is none yet. Keep the authority's directory on one controller host, and back it up."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--authority", type=Path, required=True, help="directory of ca.pem and ca.key")
        parser.add_argument("--out", type=Path, required=True, help="directory to write into; must not hold a key yet")
        parser.add_argument("--role", choices=["node", "controller"], required=True)
        parser.add_argument("--name", required=True, help="host name")
        parser.add_argument(
            "--address", action="append", default=[], help="IP address that others dial; again for each further one"
        )
        parser.add_argument("--replace", action="store_true", help="replace what --out holds, as a renewal does")

    def handle(self, *args: Any, **options: Any) -> None:
        out: Path = options["out"]
        if (out / "key.pem").exists() and not options["replace"]:
            raise CommandError(f"{out} already holds a key: give --replace to renew it, or another directory.")
        if options["role"] == "node" and not options["address"]:
            raise CommandError("A node's certificate needs --address: controllers and the other databases dial it.")
        try:
            certificates.create_authority(options["authority"])
            certificates.issue(
                options["authority"],
                out,
                common_name=options["name"],
                role=options["role"],
                addresses=options["address"],
            )
            made = certificates.load(out / "cert.pem")
        except certificates.CertificateError as error:
            raise CommandError(f"{error}.") from error
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be written: {error.strerror}.") from error
        until = certificates.expires(made).date().isoformat()
        self._record(options, until)
        self.stdout.write(f"{out / 'cert.pem'}: {certificates.subject_oneline(made)}, valid until {until}")

    def _record(self, options: dict[str, Any], until: str) -> None:
        """An entry of the audit log; without a metadata database, which comes later on a first host, only a line that says so."""
        node = options["role"] == "node"
        kind = VaultNode if node else ApplicationNode
        thing = kind(hostname=options["name"])
        changes = {
            "role": (None, options["role"]),
            "addresses": (None, ", ".join(options["address"])),
            "valid_until": (None, until),
            "directory": (None, options["out"]),
        }
        try:
            if not _is_there():
                raise OperationalError("there is no metadata database yet")
            with audit.command_line("issue_certificate"):
                thing = kind.objects.filter(hostname__iexact=options["name"]).first() or thing
                text = "certificate renewed" if options["replace"] else "certificate issued"
                audit.record(thing, text, changes, name=options["name"], action=audit.CREATED)
        except DatabaseError as error:
            self.stderr.write(f"Not in the audit log: {error}.")


def _is_there() -> bool:
    """SQLite would make an empty file where there is none."""
    settings = connection.settings_dict
    return not settings["ENGINE"].endswith("sqlite3") or Path(str(settings["NAME"])).is_file()
