"""Carries a program's output from its pipe to whoever sends it, in buffers that are used again, at the rate that is allowed.

Reading and sending are two threads, so one encrypts while the other waits for the disk. When commits wait for the end of the copy, the
reader neither keeps to the rate nor waits for a slow target: up to HURRIED_BUFFERS are taken in ahead of it.
"""

import fcntl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO, Final

from replication.core import throttle

BUFFERS: Final = 32
"""mariadb-backup reads ten megabytes and then writes them, mbstream takes in ten and then writes them to its disk: with less room than
both together each would wait for the other. Measured on two busy cores: 4 buffers 3.5 s, 32 buffers 2.9 s for a GiB."""
HURRIED_BUFFERS: Final = 64
"""64 MiB at most: what is still to come when commits wait is the tail of the redo log and some system tables."""
PIPE_BYTES: Final = 1024 * 1024


class Conveyor:
    """head, tail: bytes kept free around the content of every buffer. hurry: whether somebody waits for the end."""

    def __init__(self, pipe: IO[bytes], *, rate: int, hurry: Callable[[], bool], head: int, tail: int) -> None:
        self._pipe, self._rate, self._hurry, self._head, self._tail = pipe, rate, hurry, head, tail
        self._full: deque[tuple[bytearray, int]] = deque()
        self._empty: deque[bytearray] = deque()
        self._turn = threading.Condition()
        self._over = self._ending = False
        try:
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:  # beyond the limit for this user: it works with the size that it has
            pass
        self._thread = threading.Thread(target=self._read, name="conveyor", daemon=True)
        self._thread.start()

    def next(self, seconds: float) -> tuple[bytearray, int] | None:
        """The next buffer and the length of its content, which begins after `head`. None when there is none yet."""
        with self._turn:
            self._turn.wait_for(lambda: self._full or self._over, seconds)
            if not self._full:
                return None
            item = self._full.popleft()
            self._turn.notify_all()
            return item

    @property
    def over(self) -> bool:
        """The pipe has ended and everything was taken."""
        with self._turn:
            return self._over and not self._full

    def give_back(self, buffer: bytearray) -> None:
        self._empty.append(buffer)

    def end(self) -> None:
        """Stop reading; for a copy that is broken off."""
        with self._turn:
            self._ending = True
            self._turn.notify_all()

    def _read(self) -> None:
        bucket = throttle.full(self._rate, time.monotonic())
        piece = throttle.piece(self._rate)
        try:
            while True:
                buffer = self._empty.popleft() if self._empty else self._new()
                slowed = self._rate and not self._hurry()
                room = memoryview(buffer)[self._head : self._head + (piece if slowed else throttle.LARGEST_PIECE)]
                size = self._pipe.readinto(room)  # type: ignore[attr-defined]  # a raw pipe has it
                room.release()
                if not size or not self._put(buffer, size):
                    return
                if slowed:
                    bucket, pause = throttle.take(bucket, size, time.monotonic())
                    self._pause(pause)
        finally:
            with self._turn:
                self._over = True
                self._turn.notify_all()

    def _put(self, buffer: bytearray, size: int) -> bool:
        with self._turn:
            # With a time-out, because nobody tells when the hurry begins.
            while len(self._full) >= (HURRIED_BUFFERS if self._hurry() else BUFFERS) and not self._ending:
                self._turn.wait(0.05)
            self._full.append((buffer, size))
            self._turn.notify_all()
            return not self._ending

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._turn:
            while (left := until - time.monotonic()) > 0 and not self._ending and not self._hurry():
                self._turn.wait(min(left, 0.05))

    def _new(self) -> bytearray:
        return bytearray(self._head + throttle.LARGEST_PIECE + self._tail)
