"""The child process that writes a backup: starts mariadb-backup, compresses what it streams, and counts.

`python -m replication.agent.backup_writer`, with the order as JSON on stdin; one JSON object a line on stdout: {"read", "written"}
while it works, then {"done": …} or {"failed": sentence}. A process of its own, so that no compressing disturbs the agent's loop,
and with low priority. It ends, and mariadb-backup with it, when it is told to or when nobody reads what it says any more; a file
that is not complete is removed by whoever started it.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from replication.agent.mariabackup import Words, reason
from replication.core.throttle import full, piece, take

LEVEL: Final = 1
"""Of gzip. Rows with random secrets: 99 MiB of input a second on one core, to 60 %; what cannot be compressed 57 MiB. zstd is four
times as fast, and one more program that a restore would need."""
GZIP: Final = 31
"""zlib's window for a gzip header and trailer."""
NICE: Final = 10
"""Not more: while mariadb-backup holds commits back for its last look, it must still get its turn."""
TELL_EVERY: Final = 0.25
ROOM_EVERY: Final = 1.0
LAST_WORDS_SECONDS: Final = 5


class Failed(Exception):
    """One sentence."""


class Output:
    """The file: compressed, counted, its checksum on the way."""

    def __init__(self, file: Path, out: BinaryIO) -> None:
        self._file, self._out = file, out
        self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        self._checksum = hashlib.sha256()
        self.written = 0

    def take(self, chunk: bytes) -> None:
        self._write(self._packer.compress(chunk))

    def end(self) -> str:
        """Its checksum, when everything is on the disk."""
        self._write(self._packer.flush())
        try:
            os.fsync(self._out.fileno())
        except OSError as error:
            raise Failed(of_disk(self._file.parent, error)) from error
        return self._checksum.hexdigest()

    def _write(self, packed: bytes) -> None:
        self._checksum.update(packed)
        self.written += len(packed)
        left = memoryview(packed)
        try:
            while left:  # a disk that is nearly full takes a part of it
                left = left[self._out.write(left) :]
        except OSError as error:
            raise Failed(of_disk(self._file.parent, error)) from error


def of_disk(directory: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {directory} is full: make room there, or keep fewer backups"
    return f"{directory} cannot be written: {error.strerror}"


def _mind_room(directory: Path, reserve: int) -> None:
    if reserve and (free := shutil.disk_usage(directory).free) < reserve:
        raise Failed(
            f"only {free // 2**20} MiB are left on the disk of {directory}, which the database writes to as well: it was "
            "stopped before that runs full"
        )


def _tell(**facts: Any) -> None:
    """Raises BrokenPipeError when nobody listens any more."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _pump(order: dict[str, Any], source: BinaryIO, words: Words, output: Output) -> int:
    """Everything that mariadb-backup streams; how many bytes that were."""
    directory, rate = Path(order["file"]).parent, int(order["bytes_per_second"])
    bucket, size = full(rate, time.monotonic()), piece(rate)
    read, told, looked = 0, 0.0, 0.0
    while chunk := source.read(size):
        read += len(chunk)
        output.take(chunk)
        now = time.monotonic()
        if now - looked >= ROOM_EVERY:
            looked = now
            _mind_room(directory, int(order["reserve"]))
        if now - told >= TELL_EVERY:
            told = now
            _tell(read=read, written=output.written)
        bucket, pause = take(bucket, len(chunk), now)
        if pause and not words.hurry:
            time.sleep(pause)
    return read


def _work(order: dict[str, Any]) -> dict[str, Any]:
    file = Path(order["file"])
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Failed(of_disk(file.parent, error)) from error
    with open(descriptor, "wb", buffering=0) as out:
        try:
            program = subprocess.Popen(
                order["command"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise Failed(f"{order['command'][0]} cannot be started: {error.strerror}") from error

        def give_up(*_: object) -> None:
            program.kill()
            os._exit(1)

        signal.signal(signal.SIGTERM, give_up)
        source, said = cast(BinaryIO, program.stdout), cast(BinaryIO, program.stderr)
        words, output = Words(said, time.monotonic), Output(file, cast(BinaryIO, out))
        try:
            read = _pump(order, source, words, output)
            code = program.wait()
        finally:
            program.kill()
            program.wait()
        words.end(LAST_WORDS_SECONDS)
        if code or not words.completed:
            raise Failed(reason(list(words.lines), code))
        checksum = output.end()
    return {"read": read, "written": output.written, "sha256": checksum, "position": words.position}


def _stand_back() -> None:
    """Behind everybody else, for the processor and for the disk. mariadb-backup inherits it."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    if (program := shutil.which("ionice")) is not None:
        subprocess.run([program, "-c", "2", "-n", "7", "-p", str(os.getpid())], check=False, capture_output=True)


def main() -> int:
    order = json.loads(sys.stdin.read())
    _stand_back()
    try:
        done = _work(order)
        _tell(done=done)
    except Failed as error:
        with contextlib.suppress(BrokenPipeError):
            _tell(failed=str(error))
        return 1
    except BrokenPipeError:  # the agent has ended
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
