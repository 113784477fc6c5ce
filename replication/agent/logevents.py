"""Reading the files of a binary or a relay log: one event after the other, as far as transactions have to be told apart.

Only what that takes is understood of an event: its header, its checksum, the GTID, and what ends a transaction.
Source: MariaDB manual, "Replication Protocol": event header, Gtid_log_event, Query_log_event, Format_description_log_event.
"""

import mmap
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from replication.core.positions import Gtid
from replication.core.vault_ports import ProcessError

MAGIC: Final = b"\xfebin"
HEADER: Final = struct.Struct("<IBIIIH")
"""Timestamp, type, server_id, size, position in the source's log, flags."""
CHECKSUM: Final = struct.Struct("<I")
CRC32: Final = 1
IN_USE_FLAG_AT: Final = 17
"""Of a format description: the lowest bit of its flags is cleared when the file is closed, without a new checksum."""

QUERY, STOP, ROTATE, FORMAT, XID, TABLE_MAP, XA_PREPARE = 2, 3, 4, 15, 16, 19, 38
ANNOTATE, CHECKPOINT, GTID, GTID_LIST, ENCRYPTED, QUERY_COMPRESSED = 160, 161, 162, 163, 164, 165
BETWEEN: Final = frozenset({ROTATE, CHECKPOINT, GTID_LIST})
"""They stand between transactions and are none."""
LOOKED_INTO: Final = frozenset({QUERY, QUERY_COMPRESSED, CHECKPOINT, GTID, GTID_LIST})
STANDALONE, XA_COMPLETED = 1, 128
"""Flags of a GTID event: the next statement is the whole transaction."""
QUERY_BODY: Final = struct.Struct("<IIBHH")
"""Session, duration, length of the database's name, error, length of the status variables."""


@dataclass(frozen=True)
class Event:
    kind: int
    server: int
    at: int
    """Seconds since 1970: when its statement began."""
    offset: int
    end: int
    body: bytes
    """Without header and checksum; only of those kinds that are looked into."""


class Torn(Exception):
    """The rest of this file is no event."""


def events(path: Path, *, wanted: Collection[int] | None = None) -> Iterator[Event]:
    """The events of one file. Raises Torn, OSError, and ProcessError for what is no log.

    wanted: only these kinds; the others are stepped over without a look at their checksums, which is ten times as fast. A file
    that grows is read as far as it went when it was opened.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if size < len(MAGIC):
            raise Torn
        with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as content, memoryview(content) as view:
            if bytes(view[: len(MAGIC)]) != MAGIC:
                raise ProcessError(f"{path.name} is no log of MariaDB")
            offset, checked, header = len(MAGIC), False, HEADER.unpack_from
            while offset < size:
                if size - offset < HEADER.size:
                    raise Torn
                at, kind, server, length, _, _ = header(view, offset)
                end = offset + length
                if length < HEADER.size + CHECKSUM.size or end > size:
                    raise Torn
                if kind == FORMAT:
                    checked = view[end - CHECKSUM.size - 1] == CRC32
                elif kind == ENCRYPTED:
                    raise ProcessError(f"{path.name} is encrypted")
                if wanted is None or kind in wanted:
                    if checked and not _sound(view[offset:end], kind):
                        raise Torn
                    tail = CHECKSUM.size if checked or kind == FORMAT else 0
                    body = bytes(view[offset + HEADER.size : end - tail]) if kind in LOOKED_INTO else b""
                    yield Event(kind, server, at, offset, end, body)
                offset = end


def gtid_of(event: Event) -> Gtid:
    sequence, domain = struct.unpack_from("<QI", event.body)
    return Gtid(domain, event.server, sequence)


def gtid_flags(event: Event) -> int:
    return event.body[12]


def ends(event: Event, flags: int) -> bool:
    """Whether it is the last event of a transaction that began with these flags."""
    if event.kind in (XID, XA_PREPARE):
        return True
    if event.kind not in (QUERY, QUERY_COMPRESSED):
        return False
    return bool(flags & (STANDALONE | XA_COMPLETED)) or statement(event)[1] in (b"COMMIT", b"ROLLBACK")


def statement(event: Event) -> tuple[bytes, bytes]:
    """Of a query: its database and its text. Raises ProcessError for a compressed one that cannot be read."""
    _, _, name_length, _, variables_length = QUERY_BODY.unpack_from(event.body)
    begin = QUERY_BODY.size + variables_length
    name, text = event.body[begin : begin + name_length], event.body[begin + name_length + 1 :]
    if event.kind == QUERY_COMPRESSED:
        # One byte: 0x80, the algorithm, and how many bytes of the length follow.
        try:
            text = zlib.decompress(text[1 + (text[0] & 0x07) :])
        except (zlib.error, IndexError) as error:
            raise ProcessError("a compressed statement cannot be read") from error
    return name, text


def gtid_list(event: Event) -> tuple[Gtid, ...]:
    """Of a Gtid_list event: the last transaction of each domain and server that stands in earlier files."""
    (count,) = struct.unpack_from("<I", event.body)
    entries = (struct.unpack_from("<IIQ", event.body, 4 + 16 * n) for n in range(count & 0x0FFFFFFF))
    return tuple(Gtid(domain, server, sequence) for domain, server, sequence in entries)


def checkpoint(event: Event) -> str:
    """Of a checkpoint: the oldest file that a recovery needs."""
    (length,) = struct.unpack_from("<I", event.body)
    return event.body[4 : 4 + length].decode(errors="replace")


def _sound(raw: memoryview, kind: int) -> bool:
    (wanted,) = CHECKSUM.unpack_from(raw, len(raw) - CHECKSUM.size)
    content: bytes | memoryview = raw[: -CHECKSUM.size]
    if kind == FORMAT:
        copy = bytearray(content)
        copy[IN_USE_FLAG_AT] &= 0xFE
        content = bytes(copy)
    return bool(zlib.crc32(content) == wanted)
