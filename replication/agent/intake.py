"""The door through which a full copy comes in: `POST /copy/{operation}`, from the loop of the server to the pipe of mbstream.

The task's thread opens the door, hands over a pipe, and is told how it went; the loop never waits for a disk: a pipe that is full
holds up the connection, and with it the source.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from typing import Any, Final

USER, BYTES, VERSION, STATE = "X-Copy-User", "X-Copy-Bytes", "X-Copy-Version", "X-Copy-Binlog-State"
SAYS_WHY_SECONDS: Final = 2.0
"""After a stream that broke off: the source's own word may come a moment later."""
ANSWER_SECONDS: Final = 120
"""After its last byte: for mbstream to end, which writes what it holds."""


MBSTREAM_ENDED: Final = "mbstream has ended"
STOPPED: Final = "the agent was stopped while the copy came in"


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Incoming:
    """One stream. Its first half belongs to the loop, its second to the task's thread."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.received = 0
        self.moved_at = time.monotonic()
        """When the last bytes were taken; also by the pipe, so that a slow disk counts as silence."""
        self._pipe: Future[int] = Future()
        self._ended: Future[str] = Future()
        self._answer: Future[Refused | None] = Future()

    # --- the loop's side ----------------------------------------------------------------------------------------------

    async def run(self, body: AsyncIterator[bytes]) -> int:
        """Take the whole body. Returns how many bytes that were, once mbstream has them; raises Refused."""
        taking, answered = asyncio.ensure_future(self._take(body)), asyncio.wrap_future(self._answer)
        both: set[asyncio.Future[Any]] = {taking, answered}
        try:
            # The task may know better than the stream: one that waits in vain is not waited for.
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                self._settle(self._why(taking))
            refused = await answered
        except asyncio.CancelledError:
            self._settle(STOPPED)
            raise
        finally:
            taking.cancel()
            with suppress(BaseException):
                await taking
        if refused is not None:
            raise refused
        return self.received

    def _why(self, taking: "asyncio.Future[str]") -> str:
        error = taking.exception()
        if error is None:
            return taking.result()
        # aiohttp has several for a body that does not end as it should.
        return f"the stream broke off after {self.received} bytes ({str(error) or error.__class__.__name__})"

    async def _take(self, body: AsyncIterator[bytes]) -> str:
        pipe = await asyncio.wrap_future(self._pipe)
        try:
            async for piece in body:
                await self._write(pipe, piece)
                self.received += len(piece)
                self.moved_at = time.monotonic()
        except BrokenPipeError:
            return MBSTREAM_ENDED
        finally:
            os.close(pipe)
        return ""

    async def _write(self, pipe: int, piece: bytes) -> None:
        loop, rest = asyncio.get_running_loop(), memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                writable = loop.create_future()
                loop.add_writer(pipe, _wake, writable)
                try:
                    await writable
                finally:
                    loop.remove_writer(pipe)

    def _settle(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)

    # --- the task's side ----------------------------------------------------------------------------------------------

    def begin(self, pipe: int) -> None:
        """Where to write to; the loop closes it at the end."""
        os.set_blocking(pipe, False)
        try:
            self._pipe.set_result(pipe)
        except InvalidStateError:  # the loop has given up waiting for it
            os.close(pipe)

    def ended(self, seconds: float) -> str | None:
        """Why it ended, as a clause, "" for its whole length; None when it has not within the time."""
        try:
            return self._ended.result(seconds)
        except NotYet:
            return None

    def answer(self, refused: Refused | None) -> None:
        """Of None: it has arrived. Idempotent: the first counts."""
        with suppress(InvalidStateError):
            self._answer.set_result(refused)


def _wake(writable: "asyncio.Future[None]") -> None:
    if not writable.done():
        writable.set_result(None)


class Intake:
    """Open for one copy at a time: for the operation and the certificate that were ordered."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._operation = self._subject = ""
        self._incoming: Incoming | None = None
        self._failed = ""

    # --- the loop's side ----------------------------------------------------------------------------------------------

    def enter(self, operation: str, subject: str, headers: Mapping[str, str]) -> Incoming:
        """Raises Refused."""
        with self._turn:
            self._check(operation, subject)
            if self._incoming is not None:
                raise Refused(409, "this copy is being received already")
            incoming = self._incoming = Incoming(headers)
            self._turn.notify_all()
        return incoming

    def source_failed(self, operation: str, subject: str, text: str) -> None:
        """The source says why it cannot go on. Raises Refused."""
        with self._turn:
            self._check(operation, subject)
            self._failed = text or "it gave no reason"
            self._turn.notify_all()

    def _check(self, operation: str, subject: str) -> None:
        if not self._operation or operation != self._operation:
            raise Refused(404, "no copy of this operation is waited for here")
        if subject != self._subject:
            raise Refused(403, f"this copy is waited for from {self._subject}, not from {subject}")

    # --- the task's side ----------------------------------------------------------------------------------------------

    def open(self, operation: str, subject: str) -> None:
        with self._turn:
            self._operation, self._subject, self._incoming, self._failed = operation, subject, None, ""

    def close(self, why: Refused) -> None:
        """Nobody is let in any more; who is in, and was not answered, is told why."""
        with self._turn:
            self._operation = self._subject = ""
            incoming = self._incoming
        if incoming is not None:
            incoming.answer(why)

    def wait(self, seconds: float) -> Incoming | None:
        """The stream; None when it, and word of its failure, has not come within the time."""
        with self._turn:
            self._turn.wait_for(lambda: self._incoming is not None or bool(self._failed), seconds)
            return self._incoming

    @property
    def failed(self) -> str:
        """The source's own word for why no more comes; "" while it has said nothing."""
        return self._failed

    def why_it_broke(self, broke: str, source_name: str) -> str:
        """The source's word when it comes, or what was seen here."""
        with self._turn:
            self._turn.wait_for(lambda: bool(self._failed), SAYS_WHY_SECONDS)
            return f"the source {source_name} says: {self._failed}" if self._failed else broke
