"""Writes the transactions that a primary lacks to files, and lists them: the program behind the task EXPORT.

    python -m replication.agent.extract DIRECTORY

reads what to do (Job) from its standard input, as JSON; the directory is Job.to, for who looks at the processes of this host.

It prints lines of JSON: {"done", "total"} in bytes while it works, and at its end {"result"}, or {"failed"} with one sentence. A
program of its own, at low priority: reading and decoding logs takes a processor, and the agent has to answer meanwhile.

1 every log is looked through for transactions that the primary lacks; 2 the logs that hold one are copied; 3 out of the copies
come files with just these transactions; 4 `mariadb-binlog` makes SQL of them, and text to read; 5 the list, masked.
"""

import ctypes
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from replication.agent.binlogs import NICE, Logged, before, gtids, names, transactions
from replication.agent.logevents import ANNOTATE, FORMAT, MAGIC, QUERY, QUERY_COMPRESSED, events, statement
from replication.agent.rowtext import Definition, rows
from replication.agent.salvage import copy_durably
from replication.core.gtid_ranges import GtidRanges, Inventory, Standing
from replication.core.losses import CHANGES_MAX, Change, Rotations, change_by_statement, change_of
from replication.core.positions import Gtid
from replication.core.vault_ports import ProcessError

SPARE_BYTES: Final = 256 * 1024 * 1024
"""What the export leaves free on the disk that the database lives on."""
DECODED: Final = 12
"""How much larger than in the log a transaction may be as SQL and as text together."""
PIECE: Final = 1024 * 1024
LISTED_BYTES: Final = 8 * 1024 * 1024
"""Of the list, as JSON: tables may have hundreds of columns, and a controller takes no answer beyond 16 MiB."""
MANIFEST: Final = "manifest.json"
KINDS: Final = ("transactions", "never-acknowledged")
"""What stands in the logs of the data directory, and what a start has cut off them."""
_PR_SET_PDEATHSIG: Final = 1
_BY_CLIENTS: Final = frozenset({QUERY, QUERY_COMPRESSED, ANNOTATE})
_SET_BY_LOG: Final = re.compile(rb"/\*M?!\d{6} SET @@session\.(gtid_seq_no|server_id)=\d+\*//\*!\*/;\n?")


@dataclass(frozen=True, kw_only=True)
class Job:
    have: Mapping[str, Any]
    """Inventory of the primary."""
    data: str
    salvage: Sequence[str]
    """Copies of logs made before starts that may have cut them, newest first."""
    exported: Mapping[str, Any]
    """GtidRanges of earlier exports: what stands in a copy only is not exported again."""
    done: Sequence[str]
    """Those of the copies that an export has had as a whole; its files may have been removed since."""
    to: str
    """A directory that does not exist yet; what it holds is complete when this program has said so."""
    tables: Mapping[str, Any]
    """`database.table` → {"columns", "key"}: for logs that do not name the columns."""
    mariadb_binlog: str
    about: Mapping[str, Any]
    """For the manifest."""


class ExportFailed(Exception):
    """The text is one sentence."""


@dataclass
class _Log:
    """A file with transactions that the primary lacks."""

    path: Path
    source: str
    """"data", or the name of the copy."""
    kind: int
    """Index in KINDS."""
    lost: GtidRanges = field(default_factory=GtidRanges)
    bytes: int = 0


@dataclass
class _Found:
    logs: list[_Log] = field(default_factory=list)
    lost: GtidRanges = field(default_factory=GtidRanges)
    cut: GtidRanges = field(default_factory=GtidRanges)
    """Those that stand in a copy only: a start has cut them off."""
    unknown: GtidRanges = field(default_factory=GtidRanges)
    before: GtidRanges = field(default_factory=GtidRanges)
    """In copies only, and exported earlier."""
    traceless: GtidRanges = field(default_factory=GtidRanges)
    """What nothing shows that the primary ever had, and that is not exported: see `_traceless`."""
    first: int = 0
    last: int = 0
    position: str = ""


def extract(job: Job, tell: "Telling") -> dict[str, Any]:
    """Raises ExportFailed, OSError, ProcessError."""
    found = _look(job, tell)
    if not found.lost and not found.cut:
        return _summary(job, found, [], [], Rotations(), {}, 0)
    to = Path(job.to)
    _need_room(found, to.parent)
    to.mkdir(mode=0o700)
    os.umask(0o077)
    pieces, listed, statements = _pieces(found, to, tell)
    for kind in KINDS:
        _decode(job, [path for path, of in pieces if of == kind], to, kind)
    entries, rotations, more, unnamed = _list(job, listed, statements, to)
    shutil.rmtree(to / "pieces")
    files = _manifest(job, found, to)
    return _summary(job, found, list(entries.values()), files, rotations, {"unnamed": sorted(unnamed)}, more)


def _look(job: Job, tell: "Telling") -> _Found:
    have, exported = Inventory.from_json(job.have), GtidRanges.from_json(job.exported)
    done = {Path(copy).name for copy in job.done}
    found, seen = _Found(), GtidRanges()
    sources = [("data", Path(job.data)), *((Path(copy).name, Path(copy)) for copy in job.salvage)]
    files = [(name, directory / log) for name, directory in sources for log in names(directory)]
    files = [(name, path) for name, path in files if path.exists()]
    tell.total = sum(path.stat().st_size for _name, path in files)
    for name, path in files:
        log = _Log(path, name, 0 if name == "data" else 1)
        for gtid, at in gtids(path):
            if gtid in seen:
                continue
            seen.add(gtid)
            standing = have.standing(gtid)
            if standing is Standing.HAS:
                continue
            if standing is Standing.UNKNOWN:
                found.unknown.add(gtid)
                if not have.before:  # it was emptied, or made from a copy that says nothing of what came before
                    found.traceless.add(gtid)
            elif log.kind and (gtid in exported or name in done):
                found.before.add(gtid)
            else:
                log.lost.add(gtid)
                (found.cut if log.kind else found.lost).add(gtid)
                found.first = min(found.first or at, at)
                found.last, found.position = max(found.last, at), str(gtid)
        if log.lost:
            found.logs.append(log)
        tell.more(path.stat().st_size)
    found.traceless.update(_traceless(job, have, seen, exported))
    return found


def _traceless(job: Job, have: Inventory, seen: GtidRanges, exported: GtidRanges) -> GtidRanges:
    """What this node had when its oldest log began, and the primary has not: only the data hold it. So it is when a primary was
    emptied or went back to a backup, and this node was made from a copy since, or has purged its logs."""
    old = (gtid for gtid in before(Path(job.data)) if gtid not in seen and gtid not in exported)
    shown = (Standing.HAS, Standing.UNKNOWN) if have.before else (Standing.HAS,)
    return GtidRanges.of(gtid for gtid in old if have.standing(gtid) not in shown)


def _need_room(found: _Found, directory: Path) -> None:
    need = (1 + DECODED) * sum(log.path.stat().st_size for log in found.logs if len(log.lost) > 1000)
    need += sum(log.path.stat().st_size for log in found.logs) + SPARE_BYTES
    free = shutil.disk_usage(directory).free
    if free < need:
        raise ExportFailed(
            f"{directory} has {free // 2**20} MiB free, the export may need {need // 2**20}: make room, then export again"
        )


def _pieces(
    found: _Found, to: Path, tell: "Telling"
) -> tuple[list[tuple[Path, str]], list[Logged], dict[Gtid, list[Change]]]:
    """Copies the logs, and writes beside them what they hold of lost transactions: whole, and the rows alone."""
    pieces: list[tuple[Path, str]] = []
    listed: list[Logged] = []
    statements: dict[Gtid, list[Change]] = {}
    (to / "pieces").mkdir()
    tell.total += sum(log.path.stat().st_size for log in found.logs)
    for number, log in enumerate(found.logs, 1):
        copy = to / "binlogs" / log.source / log.path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy_durably(log.path, copy)
        tell.more(copy.stat().st_size)
        kind = KINDS[log.kind]
        whole, only = (to / "pieces" / f"{what}-{kind}-{number:04}" for what in ("whole", "rows"))
        missing = GtidRanges()
        missing.update(log.lost)
        with copy.open("rb") as raw, whole.open("wb") as out, only.open("wb") as rows_:
            for file in (out, rows_):
                file.write(MAGIC)
                first = next(events(copy, wanted={FORMAT}))
                _append(file, raw, first.offset, first.end)
            for logged in transactions(copy):
                if logged.gtid not in log.lost:
                    continue
                missing = missing.difference(GtidRanges.of([logged.gtid]))
                _append(out, raw, logged.begin, logged.end)
                for event in logged.events:
                    if event.kind not in _BY_CLIENTS:
                        _append(rows_, raw, event.offset, event.end)
                if len(listed) < CHANGES_MAX:
                    listed.append(Logged(logged.gtid, logged.at, 0, 0, (), logged.whole))
                told = [change_by_statement(*words) for words in _statements(logged)]
                if told:
                    statements[logged.gtid] = told
        if missing:
            raise ExportFailed(
                f"{log.path.name} was changed while it was read: {missing} is gone from it; export again"
            )
        pieces.append((whole, kind))
    return pieces, listed, statements


def _statements(logged: Logged) -> Iterator[tuple[str, str]]:
    for event in logged.events:
        if event.kind in (QUERY, QUERY_COMPRESSED):
            database, text = (part.decode("utf-8", "backslashreplace") for part in statement(event))
            if text.upper() not in ("BEGIN", "COMMIT", "ROLLBACK") and not text.upper().startswith("SAVEPOINT"):
                yield database, text


def _append(out: BinaryIO, log: BinaryIO, begin: int, end: int) -> None:
    log.seek(begin)
    while begin < end:
        piece = log.read(min(PIECE, end - begin))
        if not piece:
            raise ExportFailed("a log became shorter while it was read; export again")
        out.write(piece)
        begin += len(piece)


def _decode(job: Job, pieces: Sequence[Path], to: Path, kind: str) -> None:
    """`kind`.sql, which can be played again, and `kind`.txt, which can be read."""
    if not pieces:
        return
    with (to / f"{kind}.sql").open("wb") as out:
        out.write(
            b"-- Transactions that only this node had. They change rows by their old content: read them before you play\n"
            b"-- them, and look at each row as it is now. Numbers and origin of the transactions are left out, so that the\n"
            b"-- server that they are played on gives them new ones: mariadb --binary-mode < this file\n"
        )
        for line in _mariadb_binlog(job, pieces):
            if not _SET_BY_LOG.fullmatch(line):
                out.write(line)
    with (to / f"{kind}.txt").open("wb") as out:
        out.writelines(_mariadb_binlog(job, pieces, "-vv", "--base64-output=decode-rows"))


def _mariadb_binlog(job: Job, files: Sequence[Path], *options: str) -> Iterator[bytes]:
    """The lines that it prints. Raises ExportFailed when it fails."""
    arguments = [job.mariadb_binlog, "--no-defaults", "--skip-gtid-strict-mode", *options, *map(str, files)]
    try:
        running = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # this program has one thread
        )
    except OSError as error:
        raise ExportFailed(
            f"{job.mariadb_binlog} cannot be started ({error.strerror}): install the MariaDB client (on Debian: apt install"
            " mariadb-client)"
        ) from error
    with running:
        assert running.stdout is not None
        assert running.stderr is not None
        yield from running.stdout
        said = running.stderr.read().decode(errors="replace").strip()
    if running.returncode:
        raise ExportFailed(f"mariadb-binlog cannot read the log: {said[-300:] or running.returncode}")


def _list(
    job: Job, listed: Iterable[Logged], statements: Mapping[Gtid, Sequence[Change]], to: Path
) -> tuple[dict[Gtid, dict[str, Any]], Rotations, int, set[str]]:
    """The transactions in order; what to rotate; how many changes are not listed; tables whose columns have no names."""
    entries = {
        logged.gtid: {"gtid": str(logged.gtid), "at": moment(logged.at), "whole": logged.whole, "changes": []}
        for logged in listed
    }
    known = {name: Definition(tuple(told["columns"]), frozenset(told["key"])) for name, told in job.tables.items()}
    rotations, count, size, more, unnamed = Rotations(), 0, 0, 0, set[str]()

    def note(gtid: Gtid, change: Change) -> None:
        nonlocal count, size, more
        entry = entries.get(gtid)
        rotations.add(change, str(entry["at"]) if entry else "")
        if entry is None or count >= CHANGES_MAX or size >= LISTED_BYTES:
            more += 1
            return
        count, told = count + 1, change.to_json()
        size += len(json.dumps(told))
        entry["changes"].append(told)  # type: ignore[attr-defined]  # a list, made above

    for gtid, told in statements.items():
        for change in told:
            note(gtid, change)
    pieces = sorted((to / "pieces").glob("rows-*"), key=lambda path: path.name.rpartition("-")[2])
    options = ("-vv", "--base64-output=decode-rows", "--print-table-metadata")
    for gtid, row in rows(_mariadb_binlog(job, pieces, *options), known):
        if not row.columns:
            unnamed.add(row.table)
        note(gtid, change_of(row))
    return entries, rotations, more, unnamed


def _manifest(job: Job, found: _Found, to: Path) -> list[dict[str, Any]]:
    files = []
    for path in sorted(path for path in to.rglob("*") if path.is_file()):
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            os.fsync(content.fileno())
        path.chmod(0o600)
        files.append({"name": str(path.relative_to(to)), "bytes": path.stat().st_size, "sha256": digest})
    written = {
        **job.about,
        "transactions": found.lost.to_json(),
        "never_acknowledged": found.cut.to_json(),
        "not_known": found.unknown.to_json(),
        "files": files,
    }
    with (to / MANIFEST).open("w") as out:
        json.dump(written, out, indent=2)
        out.flush()
        os.fsync(out.fileno())
    return files


def _summary(
    job: Job, found: _Found, entries: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]], rotations: Rotations,
    extra: Mapping[str, Any], more: int,
) -> dict[str, Any]:  # fmt: skip
    cut = {
        str(Gtid(*key, n))
        for key, first, last in found.cut.runs()
        for n in range(first, min(last, first + CHANGES_MAX) + 1)
    }
    return {
        "count": len(found.lost),
        "never_acknowledged": len(found.cut),
        "ranges": str(found.lost),
        "not_known": len(found.unknown),
        "not_known_ranges": str(found.unknown)[:200],
        "traceless": str(found.traceless)[:200],
        "exported_before": len(found.before),
        "first_at": moment(found.first) if found.first else "",
        "last_at": moment(found.last) if found.last else "",
        "position": found.position,
        "bytes": sum(file["bytes"] for file in files),
        "files": [file["name"] for file in files],
        "transactions": [{**entry, **({"cut": True} if entry["gtid"] in cut else {})} for entry in entries],
        "more": more,
        "rotate": [rotation.to_json() for rotation in rotations.found()],
        "rotate_more": rotations.more,
        **extra,
    }


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class Telling:
    """Says how far it is, every few megabytes."""

    EVERY: Final = 8 * 1024 * 1024

    def __init__(self) -> None:
        self.done, self.total, self._told = 0, 0, 0

    def more(self, count: int) -> None:
        self.done += count
        if self.done - self._told >= self.EVERY:
            self._told = self.done
            say({"done": self.done, "total": self.total})


def say(what: Mapping[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def _end_with_parent() -> None:
    """Whoever started this is killed: so is this."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:  # the directory on the command line is for people
    _end_with_parent()
    os.nice(NICE)
    job = Job(**json.load(sys.stdin))
    try:
        say({"result": extract(job, Telling())})
    except (ExportFailed, ProcessError) as error:
        say({"failed": str(error)})
    except OSError as error:
        say({"failed": f"the export cannot be written: {error.strerror} ({error.filename})"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
