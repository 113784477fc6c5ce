"""The rig's network does what it says: hosts reach each other, cuts are silent, one-way cuts have one way, nothing is left."""

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.network import Network, network
from tests.waiting import wait_for

PORT = 3307
SHORT = 0.3


@pytest.fixture
def net() -> Iterator[Network]:
    with network("n1", "n2", "n3") as net:
        yield net


@pytest.fixture
def echo(net: Network) -> Iterator[None]:
    """On every host, a server that gives back what it gets."""
    listeners = []
    for name in net.names:
        with net.inside(name):
            listeners.append(socket.create_server((net.address(name), PORT)))
        threading.Thread(target=serve, args=(listeners[-1],), daemon=True).start()
    yield
    for listener in listeners:
        listener.close()


def serve(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=give_back, args=(listener.accept()[0],), daemon=True).start()


def give_back(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection:
        while data := connection.recv(1024):
            connection.sendall(data)


def dial(net: Network, one: str, other: str) -> socket.socket:
    with net.inside(one):
        return socket.create_connection((net.address(other), PORT), timeout=SHORT)


def talks(connection: socket.socket) -> bool:
    connection.sendall(b"x")
    try:
        return connection.recv(1) == b"x"
    except TimeoutError:
        return False


def reaches(net: Network, one: str, other: str) -> bool:
    try:
        with dial(net, one, other) as connection:
            return talks(connection)
    except TimeoutError:
        return False


@pytest.mark.usefixtures("echo")
def test_hosts_reach_each_other_until_they_are_cut(net: Network) -> None:
    assert reaches(net, "n1", "n2")
    assert reaches(net, "n3", "n1")
    with dial(net, "n1", "n2") as old:
        net.cut("n1", "n2")
        assert not reaches(net, "n1", "n2")
        assert not reaches(net, "n2", "n1")
        assert not talks(old), "an open connection falls silent, it is not reset"
        assert reaches(net, "n1", "n3")
        assert reaches(net, "n3", "n2")
        net.heal()
        assert old.recv(1) == b"x", "what was lost is sent again"
    assert reaches(net, "n2", "n1")


@pytest.mark.usefixtures("echo")
def test_an_isolated_host_reaches_only_itself(net: Network) -> None:
    net.isolate("n1")
    assert not reaches(net, "n1", "n2")
    assert not reaches(net, "n3", "n1")
    assert reaches(net, "n1", "n1")
    assert reaches(net, "n2", "n3")


@pytest.mark.usefixtures("echo")
def test_a_one_way_cut_loses_what_goes_one_way(net: Network) -> None:
    assert reaches(net, "n1", "n2"), "and so they know each other's hardware address"
    net.cut_one_way("n2", "n1")
    with net.inside("n2"):
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with net.inside("n1"):
        mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with ear, mouth:
        ear.bind((net.address("n2"), PORT))
        ear.settimeout(SHORT)
        mouth.sendto(b"there", (net.address("n2"), PORT))
        said, speaker = ear.recvfrom(10)
        assert said == b"there"
        mouth.settimeout(SHORT)
        ear.sendto(b"back", speaker)
        with pytest.raises(TimeoutError):
            mouth.recv(10)
    assert not reaches(net, "n1", "n2"), "no answer comes back"


@pytest.mark.usefixtures("echo")
def test_a_cut_of_one_port_leaves_the_others(net: Network) -> None:
    net.cut("n1", "n2", port=PORT + 1)
    assert reaches(net, "n1", "n2")
    net.cut("n1", "n2", port=PORT)
    assert not reaches(net, "n1", "n2")
    assert not reaches(net, "n2", "n1")
    assert reaches(net, "n2", "n3")


def test_programs_started_on_a_host_are_on_it_and_end_with_it(net: Network) -> None:
    with net.inside("n2"):
        process = subprocess.Popen(["sleep", "60"])
    here = os.readlink("/proc/self/ns/net")
    assert os.readlink(f"/proc/{process.pid}/ns/net") != here
    assert os.readlink("/proc/thread-self/ns/net") == here
    net.kill_all("n1")
    assert process.poll() is None
    net.kill_all("n2")
    wait_for(lambda: process.poll() is not None, 5)


def test_nothing_is_left_of_it() -> None:
    with network("n1", "n2") as net:
        names = [net.namespace(name) for name in net.names]
        with net.inside("n1"):
            process = subprocess.Popen(["sleep", "60"])
        assert all(Path(f"/run/netns/{name}").exists() for name in names)
    assert process.wait(5) != 0
    assert not any(Path(f"/run/netns/{name}").exists() for name in names)


def test_what_a_killed_run_has_left_is_removed_by_the_next_one() -> None:
    code = (
        "import os, signal; from tests.rig.network import Network\n"
        "net = Network(('n1',)); net.build(); print(net.namespace('n1'), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([".venv/bin/python", "-c", code], capture_output=True, text=True, timeout=30)
    left = Path(f"/run/netns/{done.stdout.strip()}")
    with network("n1"):
        assert not left.exists()
