"""How a host got its address: a vault's may not change by itself.

Proves, on this machine and in a network namespace of its own: loopback, static, expiring (as DHCP leaves them) and missing
addresses are told apart; PPP from what `ip -j addr` prints on such a host.
"""

import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replication.agent.address import address_kind, judge_address

ROOT = Path(__file__).resolve().parents[2]
PPP: list[dict[str, Any]] = [
    {"ifname": "lo", "link_type": "loopback", "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}]},
    {
        "ifname": "ppp0",
        "flags": ["POINTOPOINT", "MULTICAST", "NOARP", "UP", "LOWER_UP"],
        "link_type": "ppp",
        "addr_info": [
            {"family": "inet", "local": "198.51.100.7", "address": "198.51.100.1", "prefixlen": 32, "scope": "global"}
        ],
    },
]


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    name = f"vha-{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "addr", "add", "192.0.2.10/24", "dev", "lo")
        run("ip", "-n", name, "addr", "add", "192.0.2.20/24", "dev", "lo", "valid_lft", "600", "preferred_lft", "600")
        run("ip", "-n", name, "addr", "add", "2001:db8::20/64", "dev", "lo", "valid_lft", "600", "preferred_lft", "600")
        yield name
    finally:
        run("ip", "netns", "del", name)


def run(*command: str) -> str:
    environment = {**os.environ, "PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("ip", "kind"),
    [
        pytest.param("192.0.2.10", "static", id="set by hand"),
        pytest.param("192.0.2.20", "dynamic", id="as a DHCP client sets it"),
        pytest.param("2001:db8::20", "dynamic", id="an expiring IPv6 address"),
        pytest.param("2001:DB8:0::20", "dynamic", id="the same in another spelling"),
        pytest.param("192.0.2.30", "missing", id="not on this host"),
    ],
)
def test_addresses_of_a_host(namespace: str, ip: str, kind: str) -> None:
    asks = "import sys; from replication.agent.address import address_kind; print(address_kind(sys.argv[1]))"
    assert run("ip", "netns", "exec", namespace, sys.executable, "-c", asks, ip) == kind


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.0.21.99", "::1"])
def test_loopback_addresses_do_not_change(ip: str) -> None:
    assert address_kind(ip) == "loopback"


def test_an_address_of_a_ppp_link_is_called_so() -> None:
    assert judge_address(ipaddress.ip_address("198.51.100.7"), PPP) == "ppp"
    assert judge_address(ipaddress.ip_address("198.51.100.8"), PPP) == "missing"


def test_what_ip_prints_in_a_shape_we_do_not_know_is_no_error() -> None:
    assert (
        judge_address(ipaddress.ip_address("198.51.100.7"), [{}, {"addr_info": None}, {"addr_info": ["?"]}])
        == "missing"
    )
