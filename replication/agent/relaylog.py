"""Reading the relay log's files: which transactions stand in them, where each begins, and where it ends.

Only what that takes is understood of an event: its header, its checksum, the GTID, and what ends a transaction.
Source: MariaDB manual, "Replication Protocol": event header, Gtid_log_event, Query_log_event, Format_description_log_event.
"""

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from replication.core.positions import Gtid
from replication.core.vault_ports import ProcessError, RelayPlace, RelayTransaction

INDEX: Final = "relay.index"
MAGIC: Final = b"\xfebin"
HEADER: Final = struct.Struct("<IBIIIH")
"""Timestamp, type, server_id, size, position in the source's log, flags."""
CHECKSUM: Final = struct.Struct("<I")
CRC32: Final = 1
IN_USE_FLAG_AT: Final = 17
"""Of a format description: the lowest bit of its flags is cleared when the file is closed, without a new checksum."""

QUERY, FORMAT, XID, XA_PREPARE, GTID, ENCRYPTED, QUERY_COMPRESSED = 2, 15, 16, 38, 162, 164, 165
ROWS_FOR_NOBODY: Final = frozenset({4, 161, 163})
"""Rotation, checkpoint, list of GTIDs: they stand between transactions and are none."""
STANDALONE, XA_COMPLETED = 1, 128
"""Flags of a GTID event: the next statement is the whole transaction."""
QUERY_BODY: Final = struct.Struct("<IIBHH")
"""Session, duration, length of the database's name, error, length of the status variables."""


@dataclass(frozen=True)
class Event:
    kind: int
    server: int
    offset: int
    end: int
    body: bytes
    """Without header and checksum; only of those kinds that are looked into."""


class _Torn(Exception):
    """The rest of this file is no event."""


def transactions(data_dir: Path) -> Iterator[RelayTransaction]:
    """Everything in the relay log, oldest first. Raises ProcessError when its files make no sense.

    A file may end in the middle of an event or of a transaction when nothing follows in a later one: the receiver was
    killed while it wrote.
    """
    begun: tuple[Gtid, RelayPlace, int] | None = None
    torn = ""
    for name in _names(data_dir):
        try:
            for event in _events(data_dir / name):
                if event.kind == FORMAT or event.kind in ROWS_FOR_NOBODY:
                    continue
                if torn:
                    raise ProcessError(f"the relay log is damaged: {torn} is torn, and {name} goes on behind it")
                if event.kind == GTID:
                    if begun is not None:
                        yield RelayTransaction(begun[0], begun[1], None)
                    begun = (*_gtid(event, name), event.body[12])
                elif begun is not None and _ends(event, begun[2]):
                    yield RelayTransaction(begun[0], begun[1], RelayPlace(name, event.end))
                    begun = None
        except _Torn:
            torn = name
        except OSError as error:
            raise ProcessError(f"the relay log cannot be read: {error.strerror} ({name})") from error
    if begun is not None:
        yield RelayTransaction(begun[0], begun[1], None)


def _names(data_dir: Path) -> list[str]:
    try:
        lines = (data_dir / INDEX).read_text().splitlines()
    except OSError as error:
        raise ProcessError(f"the relay log has no list of its files: {error.strerror}") from error
    return [Path(line).name for line in lines if line.strip()]


def _gtid(event: Event, name: str) -> tuple[Gtid, RelayPlace]:
    sequence, domain = struct.unpack_from("<QI", event.body)
    return Gtid(domain, event.server, sequence), RelayPlace(name, event.offset)


def _ends(event: Event, flags: int) -> bool:
    if event.kind in (XID, XA_PREPARE):
        return True
    if event.kind not in (QUERY, QUERY_COMPRESSED):
        return False
    return bool(flags & (STANDALONE | XA_COMPLETED)) or _statement(event) in (b"COMMIT", b"ROLLBACK")


def _statement(event: Event) -> bytes:
    _, _, name_length, _, variables_length = QUERY_BODY.unpack_from(event.body)
    return event.body[QUERY_BODY.size + variables_length + name_length + 1 :]


def _events(path: Path) -> Iterator[Event]:
    """Raises _Torn, OSError, ProcessError."""
    with path.open("rb") as file:
        size = path.stat().st_size
        if size < len(MAGIC):
            raise _Torn
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content, memoryview(content) as view:
            if bytes(view[: len(MAGIC)]) != MAGIC:
                raise ProcessError(f"{path.name} is no relay log")
            offset, checked = len(MAGIC), False
            while offset < size:
                event, checked = _event(view, offset, size, checked)
                if event.kind == ENCRYPTED:
                    raise ProcessError("the relay log is encrypted")
                yield event
                offset = event.end


def _event(view: memoryview, offset: int, size: int, checked: bool) -> tuple[Event, bool]:
    """The event at this place, and whether those after it carry a checksum."""
    if size - offset < HEADER.size:
        raise _Torn
    _, kind, server, length, _, _ = HEADER.unpack_from(view, offset)
    end = offset + length
    if length < HEADER.size + CHECKSUM.size or end > size:
        raise _Torn
    if kind == FORMAT:
        checked = view[end - CHECKSUM.size - 1] == CRC32
    tail = CHECKSUM.size if checked or kind == FORMAT else 0
    if checked and not _sound(view[offset:end], kind):
        raise _Torn
    looked_into = kind in (GTID, QUERY, QUERY_COMPRESSED)
    body = bytes(view[offset + HEADER.size : end - tail]) if looked_into else b""
    return Event(kind, server, offset, end, body), checked


def _sound(raw: memoryview, kind: int) -> bool:
    (wanted,) = CHECKSUM.unpack_from(raw, len(raw) - CHECKSUM.size)
    content: bytes | memoryview = raw[: -CHECKSUM.size]
    if kind == FORMAT:
        copy = bytearray(content)
        copy[IN_USE_FLAG_AT] &= 0xFE
        content = bytes(copy)
    return bool(zlib.crc32(content) == wanted)
