"""`script/run`, as a newcomer types it: it comes up, says where, stops without a trace, and continues where it was.

What cannot work is refused with one clear line, a non-zero status and nothing left running: a port that is taken, a
second run, mariadbd missing, a full disk. Ctrl-C counts at every moment, also in the middle of the start.
"""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from tests.script_run import ROOT, SCRIPT, ScriptRun, connect, script_run
from tests.waiting import wait_for

ADDRESSES = ("127.0.41.1", "127.0.41.2")
OTHER_ADDRESSES = ("127.0.41.3", "127.0.41.4")
STOP_SECONDS = 60
SMALL_DISK = "64m"


@pytest.fixture(scope="module")
def run() -> Iterator[ScriptRun]:
    """One state directory for the story below, in the order of the tests."""
    with script_run(ADDRESSES) as run:
        yield run


def _log_in(run_json: dict[str, Any]) -> str:
    """Log in with what run.json says; returns the page after that."""
    console = run_json["console"]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar := CookieJar()))
    with opener.open(console["url"], timeout=10) as page:
        login = page.geturl()
    token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
    form = {"username": console["username"], "password": console["password"], "csrfmiddlewaretoken": token}
    request = urllib.request.Request(login, urllib.parse.urlencode(form).encode(), {"Referer": login})
    with opener.open(request, timeout=10) as page:
        text: str = page.read().decode()
    return text


# --- the story of one state directory ---------------------------------------------------------------------------------


def test_ctrl_c_in_the_middle_of_the_start_leaves_nothing(run: ScriptRun) -> None:
    run.start().wait_said("Starting the databases")
    assert run.stop(signal.SIGINT) == 0, run.said()
    assert "Traceback" not in run.said()
    assert run.nothing_runs()


def test_started_again_it_comes_up_lossless_and_says_where(run: ScriptRun) -> None:
    found = run.start().wait_ready()
    assert stat.S_IMODE(run.run_file.stat().st_mode) == 0o600
    assert set(found) == {"console", "nodes", "client"}
    assert found["console"]["url"] == f"http://127.0.0.1:{run.web_port}/"
    assert set(found["console"]) == {"url", "username", "password"}
    assert set(found["client"]) == {"user", "password", "database"}
    assert [(node["hostname"], node["ip"]) for node in found["nodes"]] == list(
        zip(("vault-1", "vault-2"), ADDRESSES, strict=True)
    )
    for node in found["nodes"]:
        assert set(node) == {"hostname", "ip", "agent_port", "db_port", "data_dir", "pid_file"}
        assert (node["agent_port"], node["db_port"]) == (5389, 3307)
        assert Path(node["data_dir"], "ibdata1").is_file()
        pid = int(Path(node["pid_file"]).read_text())
        assert Path(f"/proc/{pid}/comm").read_text() == "mariadbd\n"
    vault = run.vault()
    assert (vault["state"], vault["primary"], vault["acker"]) == ("lossless", "vault-1", "vault-2")
    assert f"Console   {found['console']['url']}" in run.said()
    assert found["console"]["password"] in run.said()
    assert "Log out" in _log_in(found)


def test_a_second_one_in_the_same_directory_is_refused(run: ScriptRun) -> None:
    second = ScriptRun(run.var, ADDRESSES, {})
    assert f"it is already running here (process {run.process.pid})" in second.refusal()
    assert run.vault()["state"] == "lossless"


def test_a_taken_web_port_is_refused(run: ScriptRun) -> None:
    with script_run(OTHER_ADDRESSES, VAULT_HA_WEB_PORT=str(run.web_port)) as other:
        line = other.refusal()
        assert f"port {run.web_port} on 127.0.0.1 is taken by another program" in line
        assert "set VAULT_HA_WEB_PORT to a free port" in line
        assert not other.processes()


def test_a_taken_agent_port_is_refused(run: ScriptRun) -> None:
    with script_run((OTHER_ADDRESSES[0], ADDRESSES[1])) as other:
        line = other.refusal()
        assert f"port 5389 on {ADDRESSES[1]} is taken by another program" in line
        assert "VAULT_HA_DEMO_ADDRESSES" in line
        assert not other.processes()
    assert run.vault()["state"] == "lossless"


def test_sigterm_stops_all_of_it_and_the_next_run_has_the_same_data(run: ScriptRun) -> None:
    before = run.wait_ready()
    with contextlib.closing(connect(before, ADDRESSES[0])) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (id INT PRIMARY KEY)")
        cursor.execute("INSERT INTO kept VALUES (42)")
    everything = run.processes()
    assert len(everything) > 10, everything
    assert run.stop() == 0, run.said()
    assert "Stopped. The data is kept" in run.said()
    assert not [pid for pid in everything if Path(f"/proc/{pid}").exists()]
    assert run.nothing_runs()

    after = run.start().wait_ready()
    assert after == before
    assert run.vault()["state"] == "lossless"
    for ip in ADDRESSES:
        with contextlib.closing(connect(after, ip)) as client, client.cursor() as cursor:
            assert cursor.execute("SELECT id FROM kept WHERE id = 42") == 1


def test_killed_with_9_its_parts_stop_by_themselves(run: ScriptRun) -> None:
    run.send(signal.SIGKILL)
    run.wait_ended()
    run.run_file.unlink()  # a killed program removes nothing; the next start does
    wait_for(run.nothing_runs, STOP_SECONDS, "everything ends")


def test_what_a_killed_run_and_its_killed_supervisor_left_is_stopped_by_the_next_start(run: ScriptRun) -> None:
    run.start().wait_ready()
    supervisor = int((run.var / "supervisord.pid").read_text())
    run.send(signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    run.wait_ended()
    assert any("redis-server" in command for command in run.processes().values())
    run.start().wait_said(r"Stopped \d+ processes that an earlier run .* had left behind")
    run.wait_said("Starting the databases")  # nothing holds a port or a file any more
    assert run.stop() == 0, run.said()
    assert run.nothing_runs()


def test_manage_before_the_first_run_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "script" / "manage", "vault_status"],
        env={**os.environ, "VAULT_HA_VAR": str(tmp_path / "var")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"script/manage: {tmp_path / 'var'} holds nothing yet: start script/run once, or set VAULT_HA_VAR as it was then.\n"
    )


# --- what cannot work -------------------------------------------------------------------------------------------------


def test_wrong_settings_are_refused_in_one_line() -> None:
    for name, value in (
        ("VAULT_HA_WEB_PORT", "70000"),
        ("VAULT_HA_DEMO_ADDRESSES", "10.0.0.1 10.0.0.2"),
        ("VAULT_HA_DEMO_ADDRESSES", "127.0.41.3"),
    ):
        with script_run(OTHER_ADDRESSES) as run:
            run.environment[name] = value
            assert f"{name} is {value!r}: give " in run.refusal()


def test_without_mariadbd_it_says_which_package_brings_it(tmp_path: Path) -> None:
    """The programs on PATH are the machine's own, all but the databases'; script/run's shell part would look further."""
    for directory in os.environ["PATH"].split(os.pathsep):
        for program in Path(directory).glob("*"):
            if not program.name.startswith(("mariadb", "mysql")) and not (tmp_path / program.name).exists():
                (tmp_path / program.name).symlink_to(program)
    with script_run(OTHER_ADDRESSES, PATH=str(tmp_path)) as run:
        run.environment["PYTHONPATH"] = str(ROOT)
        line = run.refusal([str(ROOT / ".venv/bin/python"), "-m", "script.demo"])
        assert "mariadbd is missing" in line
        assert "install mariadb-server-core" in line
        assert run.nothing_runs()


def test_where_nothing_can_be_installed_it_names_the_package() -> None:
    """The machine without mariadbd and apt-get, for this one process: both are covered in a mount namespace of its own."""
    hidden = [path for path in map(shutil.which, ("mariadbd", "apt-get")) if path]
    cover = "; ".join(f"mount --bind /dev/null {path}" for path in hidden)
    namespace = ["unshare", "--mount", "sh", "-ec"]
    if subprocess.run([*namespace, cover], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount: mariadbd cannot be hidden from the shell part of script/run")
    with script_run(OTHER_ADDRESSES) as run:
        line = run.refusal([*namespace, f"{cover}; exec {SCRIPT}"])
        assert "lacks what these Debian packages bring: mariadb-server-core." in line
        assert run.nothing_runs()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"this machine lets nobody mount a small disk: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_small_disk_is_refused_before_anything_is_made(small_disk: Path) -> None:
    run = ScriptRun(small_disk / "var", OTHER_ADDRESSES, {})
    line = run.refusal()
    assert "MiB free, and two databases need 1024 MiB: make room, or set VAULT_HA_VAR to another disk" in line
    assert run.nothing_runs()


def test_a_full_disk_is_refused_in_one_line(small_disk: Path) -> None:
    with contextlib.suppress(OSError), (small_disk / "everything").open("wb") as file:
        while True:
            file.write(bytes(65536))
    run = ScriptRun(small_disk / "var", OTHER_ADDRESSES, {})
    assert "full" in run.refusal() or "free" in run.refusal()
    assert run.nothing_runs()
