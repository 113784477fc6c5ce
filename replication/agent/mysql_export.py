"""The task EXPORT on MySQL: the transactions that the primary does not have, by `mysqlbinlog --include-gtids`, and their masked list.

MySQL's sets say exactly which they are. What they changed is read from the same text as MariaDB's (rowtext.py). The database has to
run: it says what it has executed. Statements of clients, which only definitions of tables are here, are kept away from the reading of
rows, so that no text of theirs can be taken for a row.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from replication.agent.config import AgentConfig
from replication.agent.database import LocalSession
from replication.agent.rowtext import rows
from replication.agent.salvage import binary_logs
from replication.agent.tasks import Body, Recipe, Task, TaskFailed, TaskRunner
from replication.core.gtid_ranges import Inventory
from replication.core.losses import CHANGES_MAX, Change, Rotations, change_by_statement, change_of
from replication.core.mysql_positions import GtidSet, Origin
from replication.core.positions import Gtid
from replication.core.tasks import TaskOrder, TaskPhase, TaskReport
from replication.core.vault_ports import DatabaseError, TaskRefused

PART: Final = ".part"
READ_SECONDS: Final = 10
SPARE_BYTES: Final = 256 * 1024 * 1024
_NEXT: Final = re.compile(rb"SET @@SESSION\.GTID_NEXT= '([0-9a-fA-F-]{36}):(?:(\w+):)?(\d+)'")
_MOMENT: Final = re.compile(rb"# original_commit_timestamp=(\d+) ")
_USE: Final = re.compile(rb"use `(.*)`/\*!\*/;")
_QUERY: Final = b"\tQuery\tthread_id="
_END: Final = b"/*!*/;"
_NO_CHANGE: Final = frozenset({"BEGIN", "COMMIT", "ROLLBACK"})


class MySqlExports:
    def __init__(self, config: AgentConfig, tasks: TaskRunner) -> None:
        self._config, self._tasks = config, tasks
        self.recipe = Recipe(self._prepare, self._resume)

    def _prepare(self, order: TaskOrder) -> Body:
        program = self._config.mariadb_binlog
        if not os.access(program, os.X_OK):
            raise TaskRefused(f"{program} is missing, so nothing can be exported: it comes with the MySQL server")
        try:
            have = GtidSet.parse(Inventory.from_json(order.args.get("have")).executed)
        except ValueError as error:
            raise TaskRefused(f"what the primary has cannot be read: {error}") from error
        if not have:
            raise TaskRefused("the primary does not say what it has executed")
        primary = str(order.args.get("primary", ""))
        return lambda task: self._export(task, have, primary)

    def _resume(self, report: TaskReport) -> Body | None:
        for half in self._config.lost_dir.glob(f"*{PART}"):
            shutil.rmtree(half, ignore_errors=True)
        return None

    def _export(self, task: Task, have: GtidSet, primary: str) -> None:
        config, operation = self._config, task.report.operation
        lost = self._executed().subtract(have)
        directory = config.lost_dir / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{operation}"
        part = directory.with_name(directory.name + PART)
        task.phase(TaskPhase.TRANSFERRING)
        try:
            found = _Found()
            files: list[dict[str, Any]] = []
            if lost:
                config.lost_dir.mkdir(mode=0o700, exist_ok=True)
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(mode=0o700)
                self._write(task, lost, part)
                with (part / "transactions.txt").open("rb") as text:
                    found = _read(text)
                missing = lost.subtract(found.gtids())
                if missing:
                    raise TaskFailed(f"its binary logs no longer hold {missing}, which the primary does not have")
                files = _manifest(part, operation, config.hostname, primary, lost)
                part.rename(directory)
            summary = _summary(lost, found, files)
            summary |= {"primary": primary, "directory": str(directory) if lost else "", "database_up": True}
            self._tasks.keep_result(operation, summary)
        except OSError as error:
            raise TaskFailed(f"the export cannot be written: {error.strerror} ({error.filename})") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        task.phase(TaskPhase.TRANSFERRING, position=str(lost))

    def _executed(self) -> GtidSet:
        session = LocalSession(self._config.socket, read_seconds=READ_SECONDS)
        try:
            return GtidSet.parse(session.rows("SELECT @@GLOBAL.gtid_executed AS executed")[0]["executed"])
        except DatabaseError as error:
            raise TaskFailed(f"its database has to run to say what it has executed: {error}") from error
        finally:
            session.close()

    def _write(self, task: Task, lost: GtidSet, to: Path) -> None:
        """`transactions.sql`, which can be played again, and `transactions.txt`, which can be read."""
        with (to / "transactions.sql").open("wb") as out:
            out.write(
                b"-- Transactions that only this node had. They change rows by their old content: read them before you play\n"
                b"-- them, and look at each row as it is now. They get new numbers: mysql --binary-mode < this file\n"
            )
            out.flush()
            self._print(task, lost, out, "--skip-gtids")
        with (to / "transactions.txt").open("wb") as out:
            self._print(task, lost, out, "-vv", "--base64-output=decode-rows", "--print-table-metadata")

    def _print(self, task: Task, lost: GtidSet, out: BinaryIO, *options: str) -> None:
        logs = [str(self._config.data_dir / name) for name in binary_logs(self._config.data_dir)]
        if shutil.disk_usage(self._config.home).free < SPARE_BYTES:
            raise TaskFailed(f"the disk of {self._config.home} is nearly full: make room, then export again")
        arguments = [self._config.mariadb_binlog, "--no-defaults", f"--include-gtids={lost}", *options, *logs]
        with task.child(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE) as child:
            said = child.communicate()[1].decode(errors="replace").strip()
        task.check()
        if child.returncode:
            raise TaskFailed(f"mysqlbinlog cannot read the logs: {said[-300:] or child.returncode}")
        os.fsync(out.fileno())


@dataclass
class _Found:
    """What stands in the text, by transaction. A transaction's origin is a place in a list here, as rowtext wants a number."""

    origins: list[Origin] = field(default_factory=list)
    at: dict[Gtid, str] = field(default_factory=dict)
    changes: list[tuple[Gtid, Change]] = field(default_factory=list)
    unnamed: set[str] = field(default_factory=set)

    def gtids(self) -> GtidSet:
        found = GtidSet()
        for gtid in self.at:
            found = found.union(GtidSet({self.origins[gtid.server]: ((gtid.sequence, gtid.sequence),)}))
        return found

    def named(self, gtid: Gtid) -> str:
        return str(GtidSet({self.origins[gtid.server]: ((gtid.sequence, gtid.sequence),)}))


def _read(text: BinaryIO) -> _Found:
    found = _Found()
    for gtid, row in rows(_without_statements(text, found), {}):
        if not row.columns:
            found.unnamed.add(row.table)
        found.changes.append((gtid, change_of(row)))
    return found


def _without_statements(text: BinaryIO, found: _Found) -> Iterator[bytes]:
    """The lines that mysqlbinlog itself has written, with the number of each transaction as rowtext reads it; statements are noted."""
    gtid, moment, database = Gtid(0, 0, 0), "", ""
    in_query, words = False, list[bytes]()
    for raw in text:
        line = raw.rstrip(b"\n")
        if words or (in_query and not line.endswith(_END)):
            if line != _END:
                words.append(line)
                continue
            statement = b"\n".join(words).decode("utf-8", "backslashreplace")
            in_query, words = False, []
            if statement.upper() not in _NO_CHANGE and not statement.upper().startswith("SAVEPOINT"):
                found.changes.append((gtid, change_by_statement(database, statement)))
        elif use := _USE.fullmatch(line):
            database = use.group(1).decode("utf-8", "backslashreplace")
        elif when := _MOMENT.match(line):
            moment = datetime.fromtimestamp(int(when.group(1)) // 1_000_000, UTC).isoformat(timespec="seconds")
        elif mark := _NEXT.match(line):
            origin = mark.group(1).decode().lower(), (mark.group(2) or b"").decode().lower()
            if origin not in found.origins:
                found.origins.append(origin)
            gtid = Gtid(0, found.origins.index(origin), int(mark.group(3)))
            found.at[gtid] = moment
            yield b"#000000 \tGTID %d-%d-%d" % (gtid.domain, gtid.server, gtid.sequence)
        else:
            in_query = _QUERY in line or (in_query and line.endswith(_END))
            yield line


def _summary(lost: GtidSet, found: _Found, files: list[dict[str, Any]]) -> dict[str, Any]:
    """As extract.py makes it. What was acknowledged and what was not cannot be told apart here."""
    rotations = Rotations()
    entries = {g: {"gtid": found.named(g), "at": at, "whole": True, "changes": []} for g, at in found.at.items()}
    for number, (gtid, change) in enumerate(found.changes):
        rotations.add(change, found.at[gtid])
        if number < CHANGES_MAX:
            entries[gtid]["changes"].append(change.to_json())  # type: ignore[attr-defined]  # a list, made above
    moments = sorted(found.at.values())
    return {
        "count": len(found.at),
        "never_acknowledged": 0,
        "ranges": str(lost),
        "not_known": 0,
        "not_known_ranges": "",
        "exported_before": 0,
        "first_at": moments[0] if moments else "",
        "last_at": moments[-1] if moments else "",
        "position": str(lost),
        "bytes": sum(file["bytes"] for file in files),
        "files": [file["name"] for file in files],
        "transactions": list(entries.values())[:CHANGES_MAX],
        "more": max(0, len(found.changes) - CHANGES_MAX),
        "rotate": [rotation.to_json() for rotation in rotations.found()],
        "rotate_more": rotations.more,
        "unnamed": sorted(found.unnamed),
    }


def _manifest(to: Path, operation: str, node: str, primary: str, lost: GtidSet) -> list[dict[str, Any]]:
    files = []
    for path in sorted(to.iterdir()):
        path.chmod(0o600)
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        files.append({"name": path.name, "bytes": path.stat().st_size, "sha256": digest})
    made = datetime.now(UTC).isoformat(timespec="seconds")
    about = {
        "made": made,
        "operation": operation,
        "node": node,
        "primary": primary,
        "ranges": str(lost),
        "files": files,
    }
    with (to / "manifest.json").open("w") as out:
        json.dump(about, out, indent=2)
        out.flush()
        os.fsync(out.fileno())
    return files
