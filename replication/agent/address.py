"""How this host got its address: a vault's may not change by itself."""

import ipaddress
import json
import shutil
import subprocess
from typing import Final

IP_SECONDS: Final = 2
SEARCH_PATH: Final = "/usr/sbin:/sbin:/usr/bin:/bin"


def address_kind(ip: str) -> str:
    """ "static", "loopback", "dynamic" (DHCP, or an expiring IPv6 address), "ppp", or "missing" when no interface has it.

    Loopback addresses are static by nature. Without iproute2 nothing can be known, and "static" is said.
    """
    address = ipaddress.ip_address(ip)
    if address.is_loopback:
        return "loopback"
    program = shutil.which("ip", path=SEARCH_PATH)
    if program is None:
        return "static"
    try:
        done = subprocess.run(
            [program, "-j", "addr"], stdin=subprocess.DEVNULL, capture_output=True, timeout=IP_SECONDS, check=True
        )
        return judge_address(address, json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return "static"


def judge_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address, links: list[dict[str, object]]) -> str:
    """Find the address in what `ip -j addr` printed."""
    for link in links:
        known = link.get("addr_info")
        for info in known if isinstance(known, list) else []:
            if isinstance(info, dict) and info.get("local") == str(address):
                if link.get("link_type") == "ppp":
                    return "ppp"
                return "dynamic" if info.get("dynamic") else "static"
    return "missing"
