"""manage.py vault: the wishes of the screens from a shell, with the same refusals, and recorded with who and how."""

import getpass
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from nodes.choices import DesiredState, OperationKind, OperationState
from nodes.models import AppService, Event, Operation, Vault, VaultNode
from replication.management.commands.vault import ACTIONS

Pair = tuple[VaultNode, VaultNode]
ME = pwd.getpwuid(os.getuid()).pw_name


def vault_command(*words: str) -> str:
    from io import StringIO

    out = StringIO()
    call_command("vault", *words, stdout=out)
    return out.getvalue().strip()


def refusal(*words: str) -> str:
    with pytest.raises(CommandError) as caught:
        vault_command(*words)
    assert caught.value.returncode == 1
    return str(caught.value)


def last_entry() -> LogEntry:
    return LogEntry.objects.latest("pk")


class TestWhatItDoes:
    def test_start_and_stop(self, service: AppService) -> None:
        vault_command("start")
        assert AppService.objects.get(pk=service.pk).desired_state == DesiredState.STARTED
        vault_command("stop", "--yes")
        assert AppService.objects.get(pk=service.pk).desired_state == DesiredState.STOPPED

    def test_yes_is_allowed_where_nothing_is_asked_and_confirms_no_name(
        self, service: AppService, pair: Pair, lead: Callable[..., None]
    ) -> None:
        lead()
        vault_command("start", "--yes")
        assert AppService.objects.get(pk=service.pk).desired_state == DesiredState.STARTED
        assert refusal("delete", "beta.example", "--yes").startswith("W44")
        assert VaultNode.objects.present().filter(hostname="beta.example").exists()

    def test_a_service_by_its_name(self, service: AppService) -> None:
        housekeeping = AppService.objects.exclude(pk=service.pk).first()
        if housekeeping is None:
            housekeeping = AppService.objects.create(name="SystemHousekeepingService")
        vault_command("stop", housekeeping.name.lower(), "--yes")
        assert AppService.objects.get(pk=housekeeping.pk).desired_state == DesiredState.STOPPED

    def test_switch_over(self, pair: Pair, lead: Callable[..., None]) -> None:
        lead()
        said = vault_command("switch-over", "beta.example", "--yes", "--reason", "patches  of\ntonight")
        operation = Operation.objects.get(kind=OperationKind.SWITCHOVER)
        assert operation.pk in said
        assert (operation.node_id, operation.reason) == (pair[1].pk, "patches of tonight")

    def test_pause_and_resume(self, pair: Pair) -> None:
        vault_command("pause", "--minutes", "30", "--reason", "a look at the network", "--yes")
        vault = Vault.objects.get()
        assert vault.paused_until is not None
        assert vault.paused_reason == "a look at the network"
        vault_command("resume")
        assert Vault.objects.get().paused_at is None

    def test_cancel(self, pair: Pair) -> None:
        operation = Operation.objects.create(kind=OperationKind.RESYNCHRONIZE, vault=pair[0].vault, node=pair[0])
        assert vault_command("cancel", operation.pk) == "The operation is cancelled."
        assert Operation.objects.get().state == OperationState.CANCELLED

    def test_unlock(self, administrator: User, client: Client) -> None:
        for _ in range(5):
            answer = client.post("/admin/login/", {"username": administrator.username, "password": "wrong"})
        assert answer.status_code == 429
        assert vault_command("unlock", administrator.username) == f"{administrator.username} may log in again."
        answer = client.post("/admin/login/", {"username": administrator.username, "password": "wrong"})
        assert answer.status_code == 200
        assert "not locked" in vault_command("unlock", "nobody")

    def test_the_rest(self, pair: Pair, held: Any, redis: None) -> None:
        vault_command("clear-hold", "--yes")
        assert Vault.objects.get().silence_failover_at is None
        vault_command("policy", "block", "--yes")
        assert not Vault.objects.get().stay_writable
        vault_command("resynchronize")
        assert Operation.objects.get(kind=OperationKind.RESYNCHRONIZE).node_id == pair[0].pk
        beta = {"--confirm": "beta.example", "--reason": "a new disk"}
        vault_command("deactivate", "beta.example", *(word for both in beta.items() for word in both))
        assert not VaultNode.objects.get(pk=pair[1].pk).active
        vault_command("activate", "BETA.example")
        assert VaultNode.objects.get(pk=pair[1].pk).active
        said = vault_command("delete", "beta.example", *(word for both in beta.items() for word in both))
        assert "purge" in said
        assert not VaultNode.objects.present().filter(pk=pair[1].pk).exists()

    def test_the_setting_of_copies_and_backups(self, pair: Pair) -> None:
        assert "is changed" in vault_command(
            "data-policy", "--rate", "20", "--compare-every", "none", "--rebuild", "never"
        )
        vault = Vault.objects.get()
        assert (vault.copy_mib_per_second, vault.verify_every_hours, vault.rebuild_policy) == (20, None, "never")
        assert (vault.backup_every_hours, vault.backups_kept) == (24, 7), "what was not given stays as it was"
        assert "as it was" in vault_command("data-policy", "--rate", "20")
        assert "leave it empty for no limit" in refusal("data-policy", "--rate", "0")


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "rule"),
        [
            pytest.param(("stop",), "W44", id="stop asks"),
            pytest.param(("switch-over", "beta.example"), "W44", id="switch-over asks"),
            pytest.param(("delete", "beta.example"), "W44", id="delete wants the hostname"),
            pytest.param(("delete", "beta.example", "--confirm", "alpha.example"), "W44", id="the right one"),
            pytest.param(("deactivate", "beta.example"), "W62", id="the acker wants it too"),
            pytest.param(("deactivate", "beta.example", "--confirm", "beta.example"), "W63", id="and a reason"),
            pytest.param(("deactivate", "gamma.example"), "W45", id="no such node"),
            pytest.param(("start", "--as", "nobody"), "W46", id="no such user"),
            pytest.param(("start", "SystemTeaService"), "W47", id="no such service"),
            pytest.param(("cancel", "0" * 32), "W48", id="no such operation"),
            pytest.param(("run",), "W10", id="the screens' own: a stopped service"),
            pytest.param(("switch-over", "beta.example", "--yes"), "W50", id="the screens' own: nobody watches"),
            pytest.param(("deactivate", "alpha.example"), "W30", id="the screens' own: the primary"),
            pytest.param(("rebuild", "alpha.example"), "W103", id="the Master is not rebuilt"),
            pytest.param(("rebuild", "beta.example", "--rate", "0"), "W109", id="a rate of 0 would never end"),
            pytest.param(("rebuild", "beta.example"), "W106", id="nobody would order a rebuild"),
            pytest.param(("undo-rebuild", "beta.example"), "W106", id="nor its undoing"),
            pytest.param(("remove-old-data", "beta.example"), "W104", id="nothing is kept"),
            pytest.param(("export", "beta.example"), "W107", id="nothing is lost"),
            pytest.param(("back-up",), "W44", id="a backup asks"),
            pytest.param(("pause", "--yes"), "W60", id="the screens' own: a pause without a reason"),
        ],
    )
    def test_is_the_rule_and_a_sentence_and_changes_nothing(
        self, pair: Pair, service: AppService, words: tuple[str, ...], rule: str
    ) -> None:
        before = (list(Vault.objects.values()), list(VaultNode.objects.values()), list(AppService.objects.values()))
        said = refusal(*words)
        assert said.startswith(f"{rule} · ")
        assert len(said) > 20
        assert before == (
            list(Vault.objects.values()), list(VaultNode.objects.values()), list(AppService.objects.values())
        )  # fmt: skip
        assert not Event.objects.exists()
        assert not LogEntry.objects.exists()
        assert not Operation.objects.exists()

    def test_an_inactive_user_asks_for_nothing(self, service: AppService) -> None:
        User.objects.create_user("gone", password=None, is_active=False)
        assert refusal("start", "--as", "gone").startswith("W46")

    def test_without_redis_a_re_synchronization_is_refused_in_words(self, pair: Pair, transactional_db: None) -> None:
        assert refusal("resynchronize").startswith("W43")


class TestRecords:
    def test_who_is_the_user_of_the_system_and_how_is_the_command(self, service: AppService, monkeypatch: Any) -> None:
        monkeypatch.setenv("LOGNAME", "somebody-else")
        assert getpass.getuser() == "somebody-else"
        vault_command("start", "--reason", "the night shift asked")
        data = last_entry().additional_data
        assert data["system_user"].split()[0] == ME
        assert data["via"] == "command line: vault start"
        assert data["reason"] == "the night shift asked"
        assert (last_entry().actor, last_entry().remote_addr) == (None, None)

    def test_as_names_a_user_of_the_console_beside_that(self, service: AppService, administrator: User) -> None:
        vault_command("start", "--as", administrator.username)
        entry = last_entry()
        assert entry.actor == administrator
        assert entry.additional_data["actor"] == administrator.username
        assert entry.additional_data["system_user"].split()[0] == ME
        assert Event.objects.latest("pk").actor == administrator.username

    def test_users_made_in_a_shell_are_recorded_as_made_there(self, db: None) -> None:
        call_command("createsuperuser", interactive=False, username="root2", email="root@example.org", verbosity=0)
        entry = last_entry()
        assert entry.object_repr == "root2"
        assert entry.additional_data["via"].startswith("command line: ")
        assert entry.additional_data["system_user"].split()[0] == ME

    @pytest.mark.parametrize("role", ["node", "controller"])
    def test_certificates_are_recorded(self, db: None, clean_directory: Path, role: str) -> None:
        call_command(
            "issue_certificate", authority=clean_directory / "ca", out=clean_directory / "one", role=role,
            name="vault-9", address=["127.0.68.9"], verbosity=0,
        )  # fmt: skip
        entry = last_entry()
        assert (entry.object_repr, entry.additional_data["what"]) == ("vault-9", "certificate issued")
        assert entry.changes["addresses"] == ["", "127.0.68.9"]
        assert entry.additional_data["via"] == "command line: issue_certificate"

    def test_the_demo_is_recorded_and_no_password_is(self, db: None, clean_directory: Path) -> None:
        file = clean_directory / "password"
        file.write_text("the demo's password")
        nodes = [f"--node=demo-{n},127.0.68.1{n},5389,3307,agent-{n}" for n in (1, 2)]
        call_command("prepare_demo", f"--password-file={file}", *nodes, verbosity=0)
        made = LogEntry.objects.exclude(content_type__model="user")
        assert [entry.object_repr for entry in made.order_by("pk")] == [
            "demo-1", "demo-2", "SystemHighAvailabilityService"
        ]  # fmt: skip
        assert {entry.additional_data["via"] for entry in LogEntry.objects.all()} == {"command line: prepare_demo"}
        assert "password" not in str([entry.changes.get("password") for entry in LogEntry.objects.all()])


def test_every_action_explains_itself() -> None:
    for name, (says, _does, arguments) in ACTIONS.items():
        assert says.endswith("."), name
        assert all(options.get("help") for _names, options in arguments), name
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "commands.md").read_text()
    section = page.split("### manage.py vault\n")[1].split("\n### ")[0]
    assert not [name for name in ACTIONS if f"`{name}" not in section]
