"""Looking around for a controller: can this host reach those ports, what time is it here, how much data is there?

Thought of as an attacker would: only a controller's certificate may ask; addresses are numbers; only the ports of a vault are
looked at; few at a time and not often; nothing is sent but the beginning of a TLS session, without our certificate; and each
question is in the log. Nothing here is waited for by anything that keeps the vault: threads that hang with a disk are let go.
"""

import asyncio
import contextlib
import logging
import os
import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from replication.agent.config import AgentConfig
from replication.core import limits
from replication.core.probe import Door, Reach, Target

log = logging.getLogger("vault_agent.probe")

TIMES_MAX: Final = 20
PER_SECONDS: Final = 10.0
"""So many questions in so many seconds: people who type, at several screens at once."""
FILES_MAX: Final = 200_000
"""A data directory with more files than this is not counted to its end."""
GREETING_VERSION: Final = 10
ERROR_PACKET: Final = 255
"""First byte of what a MariaDB says that turns us away, because its connections are used up for instance: it is there."""


class AskedTooOften(Exception):
    """The text is for the one who asks."""


class Probes:
    """One per agent. All on its event loop, except the counting of bytes."""

    def __init__(self, config: AgentConfig) -> None:
        self._pki, self._data_dir = config.pki_dir, config.data_dir
        self._ports = {limits.AGENT_PORT, limits.DATABASE_PORT, config.port, config.database_port}
        self._context: ssl.SSLContext | None = None
        self._asked: deque[float] = deque(maxlen=TIMES_MAX)
        self._counting = threading.Lock()

    async def look(self, targets: Sequence[Target], asker: str) -> tuple[tuple[Reach, ...], int | None]:
        """How each target is reached, and the size of the data in bytes. Raises AskedTooOften."""
        now = time.monotonic()
        if len(self._asked) == TIMES_MAX and now - self._asked[0] < PER_SECONDS:
            raise AskedTooOften(f"asked to look around more than {TIMES_MAX} times in {PER_SECONDS:.0f} s")
        self._asked.append(now)
        *reached, size = await asyncio.gather(*map(self._reach, targets), self._size())
        seen = ", ".join(f"{t.ip} port {t.port}: {how}" for t, how in zip(targets, reached, strict=True))
        log.info("%s asked to look around: %s", asker or "a controller", seen or "no targets")
        return tuple(how for how in reached if isinstance(how, Reach)), size if isinstance(size, int) else None

    async def _reach(self, target: Target) -> Reach:
        if target.port not in self._ports:
            return Reach.NOT_ALLOWED
        looks = self._greets if target.door is Door.DATABASE else self._proves
        try:
            async with asyncio.timeout(limits.PROBE_DEADLINE.total_seconds()):
                return await looks(target)
        except ssl.SSLCertVerificationError:
            return Reach.CERTIFICATE
        except ssl.SSLError:
            return Reach.STRANGE
        except ConnectionRefusedError:
            return Reach.REFUSED
        except ConnectionError:  # it was there, and hung up
            return Reach.STRANGE
        except OSError:  # also TimeoutError, and no route
            return Reach.SILENT

    @staticmethod
    async def _greets(target: Target) -> Reach:
        """Sends nothing: a database speaks first."""
        reader, writer = await asyncio.open_connection(target.ip, target.port)
        try:
            first = await reader.readexactly(5)  # length (3), number, and the first byte of the packet
        except asyncio.IncompleteReadError:
            return Reach.STRANGE
        finally:
            writer.close()
        return Reach.ANSWERS if first[4] in (GREETING_VERSION, ERROR_PACKET) else Reach.STRANGE

    async def _proves(self, target: Target) -> Reach:
        """A TLS handshake, checked as this host's own requests for grants are, and nothing after it."""
        if self._context is None:
            self._context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self._pki / "ca.pem"))
            self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        _reader, writer = await asyncio.open_connection(
            target.ip, target.port, ssl=self._context, server_hostname=target.ip
        )
        writer.close()
        return Reach.ANSWERS

    async def _size(self) -> int | None:
        """None when it takes too long, or an earlier count still hangs."""
        if not self._counting.acquire(blocking=False):
            return None
        loop = asyncio.get_running_loop()
        counted: asyncio.Future[int | None] = loop.create_future()

        def count() -> None:
            size = None
            try:
                size = size_of(self._data_dir)
            except OSError as error:
                log.warning("the size of %s cannot be told: %s", self._data_dir, error.strerror)
            finally:
                self._counting.release()
                with contextlib.suppress(RuntimeError):  # the loop is gone when the agent ends
                    loop.call_soon_threadsafe(_settle, counted, size)

        threading.Thread(target=count, name="data-size", daemon=True).start()
        done, _late = await asyncio.wait([counted], timeout=limits.PROBE_DEADLINE.total_seconds())
        return counted.result() if done else None


def _settle(future: "asyncio.Future[int | None]", value: int | None) -> None:
    if not future.done():
        future.set_result(value)


def size_of(directory: Path) -> int | None:
    """Bytes that everything below takes up on its disk (files of InnoDB may have holes); None beyond FILES_MAX files."""
    size = files = 0
    waiting = [os.fspath(directory)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                files += 1
                if files > FILES_MAX:
                    return None
                with contextlib.suppress(FileNotFoundError):  # a database goes on dropping tables
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
    return size
