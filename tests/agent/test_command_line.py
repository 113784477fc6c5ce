"""`vault-agent init|serve|status|purge` as an operator types them: what they make, and one line for everything they refuse.

Proves: init makes a private home or nothing; serve says in one line why it cannot, and leaves nothing running; one agent per
home; status works with and without an agent; purge wants the hostname, refuses inside a vault, and then leaves nothing.
"""

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replication import certificates
from replication.agent import cli
from replication.agent import config as agent_config
from replication.core import limits
from replication.core.commands import Verb
from replication.core.roles import ProcessState
from replication.core.version import VERSION
from tests.vault_host import PROGRAM, VaultHost, authority, vault_hosts


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vha-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def host(directory: Path) -> Iterator[VaultHost]:
    """A host of its own for each test, not made on disk yet."""
    with vault_hosts(directory) as make:
        host = make("127.0.22.21", "line-1")
        certificates.issue(authority(), host.pki, common_name=host.hostname, role="node", addresses=[host.ip])
        yield host


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line of a refusal."""
    assert done.returncode == 1, (done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("vault-agent: ")
    return lines[0].removeprefix("vault-agent: ")


def said_here(capsys: pytest.CaptureFixture[str], host: VaultHost, *arguments: str) -> str:
    """The refusal of the command line, called in this process: starting the program each time would take minutes."""
    code = cli.main([arguments[0], "--home", str(host.home), *arguments[1:]])
    assert code == cli.REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0].removeprefix("vault-agent: ")


def edit(host: VaultHost, **changes: Any) -> None:
    """Change the agent's settings on disk, as a person with an editor would."""
    file = host.config.config_file
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


# --- init ---------------------------------------------------------------------------------------------------------


def test_init_makes_a_private_home(host: VaultHost) -> None:
    host.init()
    config = host.config
    assert (config.hostname, config.ip, config.port) == (host.hostname, host.ip, limits.AGENT_PORT)
    assert config.client is not None
    assert config.client.password == host.client_password
    assert host.client_password not in repr(config)
    assert stat.S_IMODE(host.home.stat().st_mode) == 0o700
    for file in (config.config_file, config.pki_dir / "key.pem"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    certificates.check_node(config.pki_dir, ip=host.ip)


def test_every_node_gets_an_identity_of_its_own(host: VaultHost) -> None:
    first = host.init().config.agent_id
    shutil.rmtree(host.home)
    assert host.init().config.agent_id != first


def test_an_empty_home_may_be_there_already(host: VaultHost) -> None:
    host.home.mkdir(mode=0o755)
    host.init()
    assert stat.S_IMODE(host.home.stat().st_mode) == 0o700


def test_a_home_that_holds_something_is_left_alone(host: VaultHost) -> None:
    host.init()
    before = host.config.config_file.read_text()
    assert "holds an agent already" in refusal(host.run(*host.init_arguments()))
    assert host.config.config_file.read_text() == before
    shutil.rmtree(host.home)
    host.home.mkdir()
    (host.home / "precious").touch()
    assert "holds something already" in refusal(host.run(*host.init_arguments()))
    assert [file.name for file in host.home.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--hostname", "<b>x</b>"], "letters, digits, hyphens and dots", id="markup in the hostname"),
        pytest.param(["--hostname", "a'; DROP TABLE x"], "letters, digits, hyphens and dots", id="SQL in the hostname"),
        pytest.param(["--hostname", ""], "letters, digits, hyphens and dots", id="no hostname"),
        pytest.param(["--hostname", "another-1"], "not for the host another-1", id="a certificate for another name"),
        pytest.param(["--ip", "127.0.22.256"], "is not an IP address", id="no address"),
        pytest.param(["--ip", "0.0.0.0"], "no address of one host", id="any address"),
        pytest.param(["--ip", "127.0.22.99"], "not for 127.0.22.99", id="a certificate for another address"),
        pytest.param(["--port", "0"], "between 1 and 65535", id="port 0"),
        pytest.param(["--database-port", "70000"], "between 1 and 65535", id="port 70000"),
        pytest.param(["--port", "3307"], "need one each", id="the same port twice"),
        pytest.param(["--buffer-pool", "much"], "must be a size", id="a size that is none"),
        pytest.param(["--pki", "/nonexistent"], "cannot be read", id="no certificates"),
        pytest.param(["--mariadbd", "/nonexistent"], "is not a program", id="no mariadbd there"),
        pytest.param(["--install-db", "/etc/passwd"], "is not a program", id="not executable"),
        pytest.param(["--client-database", "mysql"], "is reserved", id="the server's own database"),
        pytest.param(["--client-user", "root"], "is reserved", id="the administrator's account"),
        pytest.param(["--client-user", "vha_x"], "is reserved", id="a name like a replication account"),
        pytest.param(["--client-user", "a`b"], "a letter, then letters", id="quotes in the user"),
        pytest.param(["--client-user", ""], "together, or none", id="half a client account"),
        pytest.param(["--client-password-file", "/nonexistent"], "No such file", id="no password file"),
        pytest.param(["--client-password-file", "/dev/null"], "one line of printable", id="empty password"),
        pytest.param(["--home", "/proc/nobody/agent"], "cannot be made", id="a home that cannot be made"),
    ],
)
def test_init_refuses_with_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], host: VaultHost, arguments: list[str], says: str
) -> None:
    assert says in said_here(capsys, host, *host.init_arguments(), *arguments)
    assert not host.home.exists()


def test_a_missing_mariadb_is_named_with_its_package(host: VaultHost, directory: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "init", "--home", host.home, *host.init_arguments()[1:], "--mariadbd", directory / "mariadbd"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "mariadb-server-core" in refusal(done)


@pytest.mark.parametrize("arguments", [[], ["promote"], ["serve"], ["init", "--home", "x"], ["status", "--port", "1"]])
def test_wrong_arguments_are_explained(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: vault-agent")


def test_the_program_works_from_anywhere_and_through_a_link(directory: Path) -> None:
    (directory / "replication").mkdir()
    (directory / "replication" / "__init__.py").write_text("raise SystemExit('the wrong replication')")
    link = directory / "agent"
    link.symlink_to(PROGRAM)
    done = subprocess.run([link, "--version"], cwd=directory, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout.strip()) == (0, VERSION)


# --- settings on disk ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("{", "not JSON", id="half a file"),
        pytest.param("[]", "an object was expected", id="a list"),
        pytest.param('{"hostname": "a"}', "agent_id is missing", id="too little"),
        pytest.param('{"agent_id": 1}', "agent_id must be a text", id="a number for a text"),
        pytest.param('{"port": "5389"}', "port must be a number", id="a text for a number"),
        pytest.param('{"prot": 1}', "no setting 'prot'", id="an unknown setting"),
    ],
)
def test_damaged_settings_are_explained(
    capsys: pytest.CaptureFixture[str], host: VaultHost, content: str, says: str
) -> None:
    host.home.mkdir()
    (host.home / "agent.json").write_text(content)
    for verb in ("serve", "status", "purge"):
        assert says in said_here(capsys, host, verb)


def test_a_long_home_gets_a_short_private_directory_for_its_sockets(host: VaultHost, directory: Path) -> None:
    host.home = directory / ("x" * agent_config.RUN_DIR_MAX) / "home"
    run_dir = host.init().config.run_dir
    assert len(os.fsencode(run_dir)) <= agent_config.RUN_DIR_MAX
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    host.start()
    assert host.report().process is ProcessState.UP
    assert host.run("status").returncode == 0
    host.run("purge", "--yes-i-mean", host.hostname)
    assert not run_dir.exists()


def test_a_socket_directory_that_others_can_enter_is_refused(host: VaultHost) -> None:
    host.init()
    host.config.run_dir.chmod(0o755)
    assert "mode 0700" in refusal(host.run("serve"))


# --- serve --------------------------------------------------------------------------------------------------------


def test_a_home_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], host: VaultHost) -> None:
    for verb in ("serve", "status", "purge"):
        assert "holds no vault agent" in said_here(capsys, host, verb)


@pytest.mark.parametrize(("port", "says"), [(limits.AGENT_PORT, "5389"), (limits.DATABASE_PORT, "3307")])
def test_a_taken_port_is_named(host: VaultHost, port: int, says: str) -> None:
    host.init()
    with socket.create_server((host.ip, port)):
        sentence = refusal_of_serve(host)
    assert host.ip in sentence
    assert says in sentence
    assert not host.processes()


def test_an_address_that_is_not_on_this_host_is_named(host: VaultHost) -> None:
    # 192.0.2.0/24 is kept for documentation: no host has it.
    certificates.issue(authority(), host.pki, common_name=host.hostname, role="node", addresses=["192.0.2.1"])
    assert host.run(*host.init_arguments(), "--ip", "192.0.2.1").returncode == 0
    assert "192.0.2.1" in refusal_of_serve(host)


def test_a_missing_mariadbd_is_named_before_anything_is_made(host: VaultHost) -> None:
    host.init()
    edit(host, mariadbd="/nonexistent/mariadbd")
    assert "/nonexistent/mariadbd" in refusal_of_serve(host)
    assert not host.config.data_dir.exists()


def test_certificates_that_do_not_fit_are_named(host: VaultHost, directory: Path) -> None:
    host.init()
    other = directory / "other"
    certificates.issue(authority(), other, common_name=host.hostname, role="node", addresses=[host.ip])
    key = host.config.pki_dir / "key.pem"
    key.write_bytes((other / "key.pem").read_bytes())
    assert "is not the key of" in refusal_of_serve(host)
    key.write_text("")
    assert "not an unencrypted private key" in refusal_of_serve(host)
    key.unlink()
    assert "cannot be read" in refusal_of_serve(host)
    assert not host.config.data_dir.exists()


def test_a_full_disk_is_one_line(host: VaultHost, directory: Path) -> None:
    small = directory / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    try:
        host.home = small / "home"
        host.init()
        sentence = refusal_of_serve(host)
        assert not host.processes()
    finally:
        subprocess.run(["umount", small], check=True)
    assert "space" in sentence or "disk" in sentence


def test_one_home_has_one_agent(host: VaultHost) -> None:
    host.init().start()
    assert host.agent is not None
    sentence = refusal(host.run("serve"))
    assert "one home, one agent" in sentence
    assert f"process {host.agent.pid}" in sentence
    assert host.report().process is ProcessState.UP
    host.kill_agent()
    host.start()  # a lock does not outlive its holder


# --- status -------------------------------------------------------------------------------------------------------


def test_status_tells_people_and_scripts_how_the_node_is(host: VaultHost) -> None:
    host.init().start()
    host.order(Verb.OPEN)
    host.wait_up()
    text = host.run("status").stdout
    for part in (host.hostname, "running", "writable", "solo", "as node", "CN=", "GiB free"):
        assert part in text, text
    told = json.loads(host.run("status", "--json").stdout)
    assert told["running"] is True
    assert {**host.report().to_json(), "running": True}.keys() == told.keys()
    host.stop()
    text = host.run("status").stdout
    for part in (host.hostname, "not running", "solo", "epoch 1"):
        assert part in text, text
    kept = json.loads(host.run("status", "--json").stdout)
    assert (kept["running"], kept["order_kind"], kept["epoch"]) == (False, "solo", 1)


def test_nobody_else_can_use_the_control_socket(host: VaultHost) -> None:
    host.init().start(ready=False)
    assert stat.S_IMODE(host.config.control_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(host.config.run_dir.stat().st_mode) == 0o700


# --- purge --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False], ids=["with an agent", "without an agent"])
def test_purge_refuses_in_a_vault_and_leaves_nothing_afterwards(host: VaultHost, running: bool) -> None:
    host.init().start()
    host.order(Verb.OPEN)
    if not running:
        host.stop()
    sentence = refusal(host.run("purge", "--yes-i-mean", host.hostname))
    assert "still belongs to vault" in sentence
    assert "delete it in" in sentence
    assert host.database_pid

    if not running:
        host.start()
    host.order(Verb.FENCE)
    host.order(Verb.DETACH, {"leave": True})
    if not running:
        host.stop()
    assert "is not the hostname" in refusal(host.run("purge", typed="yes\n"))
    assert "nobody typed" in refusal(host.run("purge"))
    assert "is not the hostname" in refusal(host.run("purge", "--yes-i-mean", "another-1"))
    assert host.home.exists()

    done = host.run("purge", typed=f"{host.hostname}\n")
    assert done.returncode == 0, done.stderr
    assert f"purged {host.hostname}" in done.stdout
    assert not host.home.exists()
    if running:
        host.wait_agent_ended()
    assert not host.processes()


def test_purge_stops_a_database_whose_agent_is_gone(host: VaultHost) -> None:
    host.init().start()
    host.kill_agent()
    assert host.database_pid
    assert host.run("purge", "--yes-i-mean", host.hostname).returncode == 0
    assert not host.home.exists()
    assert not host.processes()


def test_the_command_that_the_report_names_purges(host: VaultHost) -> None:
    command = host.init().start().report().purge_command
    done = subprocess.run(["sh", "-c", command], input=f"{host.hostname}\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not host.home.exists()
    host.wait_agent_ended()


def test_files_that_are_not_the_agents_and_backups_stay_and_are_named(host: VaultHost) -> None:
    host.init()
    (host.home / "notes.txt").write_text("mine")
    (host.home / "backups" / "one").write_text("the last that is left")
    done = host.run("purge", "--yes-i-mean", host.hostname)
    assert done.returncode == 0, done.stderr
    assert "notes.txt" in done.stdout
    assert "backups" in done.stdout
    assert sorted(file.name for file in host.home.iterdir()) == ["backups", "notes.txt"]


def refusal_of_serve(host: VaultHost) -> str:
    """Serve refuses: its log may hold lines before the one that says why."""
    done = host.run("serve")
    assert done.returncode == 1, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("vault-agent: ")]
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    with contextlib.suppress(agent_config.ConfigError):
        assert not host.config.control_socket.exists()
    return said[0].removeprefix("vault-agent: ")
