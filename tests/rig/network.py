"""A network of hosts for tests: namespaces on a switch of their own, in which packets can vanish without a word.

    with network("n1", "n2", "ctl1") as net:
        with net.inside("n1"): …            # what this thread opens or starts now is on that host
        net.cut("ctl1", "n1")               # both ways; no reset, no answer
        net.heal()

Faults are rules of the switch: no host can tell them from a pulled cable. Needs root; without it the test is skipped.
"""

import contextlib
import ctypes
import itertools
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.waiting import wait_for

Inside = Callable[[], AbstractContextManager[None]]
PREFIX = "vhr"
CLONE_NEWNET = 0x40000000
END_SECONDS = 20
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Why this process cannot make such a network; "" when it can."""
    if os.geteuid() != 0:
        return "hosts as network namespaces need root"
    try:
        for program in ("ip", "nft"):
            _run(program, "-V" if program == "ip" else "--version")
    except (OSError, AssertionError) as error:
        return f"hosts as network namespaces need ip and nft: {error}"
    return ""


@contextlib.contextmanager
def network(*names: str) -> Iterator["Network"]:
    """Hosts with these names, all reaching each other. Everything that runs on them is killed at the end."""
    if reason := why_not():
        pytest.skip(reason)
    net = Network(names)
    try:
        net.build()
        yield net
    finally:
        net.end()


class Network:
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._mark = f"{PREFIX}{os.getpid()}x{next(_numbers)}"
        self._switch = f"{self._mark}-switch"
        self._isolated: set[str] = set()
        self._cuts: set[tuple[str, str, int]] = set()

    def address(self, name: str) -> str:
        return f"10.213.64.{self.names.index(name) + 1}"

    def namespace(self, name: str) -> str:
        return f"{self._mark}-{name}"

    def _port(self, name: str) -> str:
        return f"p{self.names.index(name) + 1}"

    def build(self) -> None:
        remove_leftovers()
        _run("ip", "netns", "add", self._switch)
        _run("ip", "-n", self._switch, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", "br0", "up")
        for name in self.names:
            namespace, port = self.namespace(name), self._port(name)
            _run("ip", "netns", "add", namespace)
            peer = ("peer", "name", "eth0", "netns", namespace)
            _run("ip", "link", "add", port, "netns", self._switch, "type", "veth", *peer)
            _run("ip", "-n", self._switch, "link", "set", port, "master", "br0", "up")
            _run("ip", "-n", namespace, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _run("ip", "-n", namespace, "link", "set", device, "up")

    def end(self) -> None:
        wait_for(lambda: not kill_all(self._mark), END_SECONDS, "everything on the hosts has ended")
        for namespace in (*map(self.namespace, self.names), self._switch):
            if Path(f"/run/netns/{namespace}").exists():
                _run("ip", "netns", "del", namespace)

    # --- being on a host

    def on(self, name: str) -> Inside:
        """`inside(name)` to be handed on."""
        return lambda: self.inside(name)

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """This thread is on that host: the sockets that it opens and the programs that it starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(f"/run/netns/{self.namespace(name)}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _enter(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def kill_all(self, name: str) -> None:
        """kill -9 of every program on this host, at once."""
        kill_all(self.namespace(name))

    # --- faults

    def isolate(self, *names: str) -> None:
        """No packet gets to or from these hosts, not even from one of them to the other."""
        self._isolated |= set(names)
        self._apply()

    def cut(self, one: str, other: str, *, port: int = 0) -> None:
        """Between two hosts, both ways. port: only traffic to or from this TCP port."""
        self._cuts |= {(one, other, port), (other, one, port)}
        self._apply()

    def cut_one_way(self, source: str, to: str, *, port: int = 0) -> None:
        """Only packets from `source` to `to` are lost."""
        self._cuts.add((source, to, port))
        self._apply()

    def heal(self) -> None:
        self._isolated, self._cuts = set(), set()
        self._apply()

    def _apply(self) -> None:
        rules = [f"{way} {self._port(name)} drop" for name in sorted(self._isolated) for way in ("iifname", "oifname")]
        for source, to, port in sorted(self._cuts):
            link = f"iifname {self._port(source)} oifname {self._port(to)}"
            if port:
                rules += [f"{link} tcp dport {port} drop", f"{link} tcp sport {port} drop"]
            else:
                rules.append(f"{link} drop")
        text = "add table bridge faults\n"
        text += "add chain bridge faults forward { type filter hook forward priority 0; }\n"
        text += "flush chain bridge faults forward\n"
        text += "".join(f"add rule bridge faults forward {rule}\n" for rule in rules)
        _run("ip", "netns", "exec", self._switch, "nft", "-f", "-", typed=text)


def kill_all(mark: str) -> list[int]:
    """Kill -9 every process in namespaces whose name begins with `mark`; returns those it found."""
    found = []
    for namespace in Path("/run/netns").glob(f"{mark}*"):
        for pid in map(int, _run("ip", "netns", "pids", namespace.name).split()):
            if pid != os.getpid():
                found.append(pid)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def remove_leftovers() -> None:
    """Namespaces of test runs that were killed themselves. Their number is the process id of that run."""
    for path in Path("/run/netns").glob(f"{PREFIX}*"):
        run = re.fullmatch(rf"({PREFIX}(\d+)x\d+)-.*", path.name)
        if run and not Path(f"/proc/{run[2]}").exists() and path.exists():
            wait_for(lambda mark=run[1]: not kill_all(mark), END_SECONDS, f"the rests of {run[1]} end")
            _run("ip", "netns", "del", path.name)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _run(*command: str, typed: str | None = None) -> str:
    environment = {**os.environ, "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    done = subprocess.run(command, input=typed, capture_output=True, text=True, env=environment, timeout=30)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout
