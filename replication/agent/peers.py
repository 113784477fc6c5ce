"""Asking the other agents of the vault for grants: `POST /grant` with this node's own certificate."""

import asyncio
import json
import logging
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Final

import aiohttp

from replication.procedures.vault.lease import GrantRequest

log = logging.getLogger(__name__)

LARGEST_ANSWER: Final = 4096


def peers_of(given: object) -> tuple[str, ...]:
    """The `peers` of a command. Raises ValueError when they are not a list of "ip:port"."""
    if not isinstance(given, list) or not all(isinstance(peer, str) and _is_address(peer) for peer in given):
        raise ValueError('peers must be a list of texts "ip:port"')
    return tuple(given)


def _is_address(peer: str) -> bool:
    host, _, port = peer.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536 and not set(host) & set("/@?# ")


def client_context(pki: Path) -> ssl.SSLContext:
    """This node as a client of other nodes. Raises OSError when a file is missing."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(pki / "ca.pem"))
    context.load_cert_chain(pki / "cert.pem", pki / "key.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def ask(context: ssl.SSLContext, peers: tuple[str, ...], request: GrantRequest, within: timedelta) -> dict[str, str]:
    """What each of them says against it, "" for a grant. Blocks for `within` at most; whoever is silent says so."""
    return asyncio.run(_ask_all(context, peers, request, within))


async def _ask_all(
    context: ssl.SSLContext, peers: tuple[str, ...], request: GrantRequest, within: timedelta
) -> dict[str, str]:
    connector = aiohttp.TCPConnector(ssl=context, limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=within.total_seconds())
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        said = await asyncio.gather(*(_ask_one(http, peer, request) for peer in peers))
    return dict(zip(peers, said, strict=True))


async def _ask_one(http: aiohttp.ClientSession, peer: str, request: GrantRequest) -> str:
    try:
        async with http.post(f"https://{peer}/grant", json=request.to_json()) as response:
            content = json.loads(await response.content.read(LARGEST_ANSWER))
    except TimeoutError:  # first: aiohttp's are client errors as well
        return "it does not answer"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return f"it cannot be asked: {error}"
    if not isinstance(content, dict):
        return "its answer makes no sense"
    if response.status == 200 and content.get("granted") is True:
        return ""
    return str(content.get("text") or f"it answered with status {response.status}")
