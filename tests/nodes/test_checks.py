"""Misconfigurations have an id and say what to do; what is deployed as documented passes `check --deploy` silently."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core import checks
from django.utils import timezone
from pytest_django.fixtures import Settings

from nodes.models import ApplicationNode

ROOT = Path(__file__).resolve().parent.parent.parent
SECRET = "s3cret-" + "abcdefghijklmnop" * 4

Check = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """`manage.py check --deploy` as a program, in an environment of its own."""

    def run(**environment: str | None) -> "subprocess.CompletedProcess[str]":
        base = {name: value for name, value in os.environ.items() if not name.startswith("VAULT_HA_")}
        own = {"VAULT_HA_VAR": str(tmp_path), "VAULT_HA_SECRET_KEY": SECRET, **environment}
        given = {name: value for name, value in own.items() if value is not None}
        return subprocess.run(
            [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
            cwd=ROOT, env={**base, **given}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    return run


def test_as_deployed_there_is_nothing_to_say(check: Check) -> None:
    done = check()
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_plain_http_is_complained_about(check: Check) -> None:
    done = check(VAULT_HA_INSECURE_HTTP="true")
    assert done.returncode == 1
    assert "SESSION_COOKIE_SECURE" in done.stderr


def test_a_redis_without_a_password_is_complained_about_over_tcp_only(check: Check) -> None:
    done = check(VAULT_HA_REDIS_URL="redis://127.0.31.250:6379/0")
    assert done.returncode == 1
    assert "sectona_ha.W001" in done.stderr
    assert "VAULT_HA_REDIS_PASSWORD" in done.stderr
    assert check(VAULT_HA_REDIS_URL="redis://127.0.31.250:6379/0", VAULT_HA_REDIS_PASSWORD="p@ss/word").returncode == 0


def test_without_a_secret_key_nothing_starts(check: Check) -> None:
    done = check(VAULT_HA_SECRET_KEY="")
    assert done.returncode != 0
    assert "SECRET_KEY" in done.stderr


def test_a_secret_may_come_from_a_file(check: Check, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    done = check(VAULT_HA_SECRET_KEY=None, VAULT_HA_SECRET_KEY_FILE=str(file))
    assert done.returncode == 0, done.stderr
    assert check(VAULT_HA_SECRET_KEY=None).returncode != 0


def found(id: str) -> list[checks.CheckMessage]:
    return [message for message in checks.run_checks() if message.id == id]


@pytest.mark.parametrize("on", [True, False])
def test_debug_is_warned_about(settings: Settings, on: bool) -> None:
    settings.DEBUG = on
    assert bool(found("sectona_ha.W002")) is on


@pytest.mark.parametrize(("command", "warned"), [("rqworker", True), ("runservice", True), ("check", False)])
def test_a_worker_without_its_certificate_is_warned_and_the_web_process_is_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, warned: bool
) -> None:
    settings.PKI_DIR = tmp_path
    (tmp_path / "ca.pem").touch()
    monkeypatch.setattr(sys, "argv", ["manage.py", command, "ops"])
    messages = found("sectona_ha.W003")
    assert bool(messages) is warned
    assert all("cert.pem, key.pem missing" in message.msg for message in messages)
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).touch()
    assert found("sectona_ha.W003") == []


def database_errors() -> list[checks.CheckMessage]:
    return [m for m in checks.run_checks(databases=["default"]) if m.id == "sectona_ha.E001"]


def test_sqlite_for_two_hosts_is_an_error_that_says_what_to_use(db: None) -> None:
    ApplicationNode.objects.create(hostname="another-host", version="1", last_seen=timezone.now())
    (error,) = database_errors()
    assert "another-host" in error.msg
    assert "VAULT_HA_DATABASE=mysql://" in (error.hint or "")


def test_sqlite_for_this_host_alone_is_fine(db: None) -> None:
    now = timezone.now()
    ApplicationNode.objects.create(hostname=settings.HOST_NAME, version="1", last_seen=now)
    ApplicationNode.objects.create(hostname="long-gone", version="1", last_seen=now - timedelta(days=1))
    assert database_errors() == []
