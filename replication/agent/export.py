"""The task EXPORT: the transactions that the primary does not have, in files below `home/lost`, and a list with values masked.

Works with mariadbd up, down, or not starting: it reads the files. The work itself is another program's (extract.py). Afterwards a
copy of the logs that was kept because of them (salvage.py) may go. What was exported stays until a person removes it, or until a
purge takes the node's home.
"""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from replication.agent import salvage
from replication.agent.binlogs import command, environment
from replication.agent.config import AgentConfig
from replication.agent.database import LocalSession
from replication.agent.durable import flush
from replication.agent.extract import MANIFEST, Job
from replication.agent.tasks import Body, Recipe, Task, TaskFailed, TaskRunner
from replication.core.gtid_ranges import GtidRanges, Inventory
from replication.core.tasks import TaskKind, TaskOrder, TaskPhase, TaskReport
from replication.core.vault_ports import DatabaseError, TaskRefused

PART: Final = ".part"
"""End of the name of a directory that is not complete."""
READ_SECONDS: Final = 10
_TABLES: Final = """
SELECT CONCAT(table_schema, '.', table_name) AS name, column_name AS column_, column_key = 'PRI' AS key_
FROM information_schema.columns
WHERE table_schema NOT IN ('information_schema', 'performance_schema', 'sys')
ORDER BY table_schema, table_name, ordinal_position
"""


class Exports:
    """Registered with the agent's tasks. up: whether mariadbd answers."""

    def __init__(self, config: AgentConfig, tasks: TaskRunner, up: Callable[[], bool]) -> None:
        self._config, self._tasks, self._up = config, tasks, up
        tasks.register(TaskKind.EXPORT, Recipe(self._prepare, self._resume))

    def _prepare(self, order: TaskOrder) -> Body:
        """args: `have`, the primary's Inventory, and `primary`, its hostname."""
        program = self._config.mariadb_binlog
        if not os.access(program, os.X_OK):
            raise TaskRefused(
                f"{program} is missing, so nothing can be exported: install the MariaDB client (on Debian: apt install"
                " mariadb-client)"
            )
        try:
            have = Inventory.from_json(order.args.get("have"))
        except ValueError as error:
            raise TaskRefused(f"the primary's inventory cannot be read: {error}") from error
        primary = str(order.args.get("primary", ""))
        return lambda task: self._export(task, have, primary)

    def _resume(self, report: TaskReport) -> Body | None:
        for half in self._config.lost_dir.glob(f"*{PART}"):
            shutil.rmtree(half, ignore_errors=True)
        return None

    def _export(self, task: Task, have: Inventory, primary: str) -> None:
        config, operation = self._config, task.report.operation
        began = datetime.now(UTC)
        directory = config.lost_dir / f"{began:%Y%m%dT%H%M%SZ}-{operation}"
        part = directory.with_name(directory.name + PART)
        copies = list(reversed(salvage.copies(config.salvage_dir)))
        about = {
            "made": began.isoformat(timespec="seconds"), "operation": operation, "node": config.hostname,
            "agent_id": config.agent_id, "primary": primary,
        }  # fmt: skip
        task.phase(TaskPhase.TRANSFERRING)
        try:
            config.lost_dir.mkdir(mode=0o700, exist_ok=True)
            shutil.rmtree(part, ignore_errors=True)
            job = Job(
                have=have.to_json(), data=str(config.data_dir), salvage=[str(copy) for copy in copies],
                done=[str(copy) for copy in copies if salvage.was_exported(copy)],
                exported=exported(config.lost_dir).to_json(), to=str(part), tables=self._tables(),
                mariadb_binlog=config.mariadb_binlog, about=about,
            )  # fmt: skip
            result = dict(_carry_out(task, job))
            result |= {"primary": primary, "directory": "", "database_up": bool(job.tables)}
            if part.exists():
                part.rename(directory)
                flush(config.lost_dir)
                result["directory"] = str(directory)
            if not result["not_known"]:
                for copy in copies:
                    salvage.mark(copy, f"{salvage.EXPORTED} by operation {operation}")
            self._tasks.keep_result(operation, result)
        except OSError as error:
            raise TaskFailed(f"the export cannot be written: {error.strerror} ({error.filename})") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        task.phase(TaskPhase.TRANSFERRING, position=str(result["position"]))

    def _tables(self) -> dict[str, Any]:
        """Columns and keys of the tables as they are now; empty when the database is down."""
        if not self._up():
            return {}
        session, tables = LocalSession(self._config.socket, read_seconds=READ_SECONDS), dict[str, Any]()
        with contextlib.suppress(DatabaseError):
            for row in session.rows(_TABLES):
                table = tables.setdefault(str(row["name"]), {"columns": [], "key": []})
                table["columns"].append(str(row["column_"]))
                if row["key_"]:
                    table["key"].append(str(row["column_"]))
        session.close()
        return tables


def exported(lost_dir: Path) -> GtidRanges:
    """What was exported before. A manifest that cannot be read counts as none: then it is exported once more."""
    found = GtidRanges()
    for manifest in sorted(lost_dir.glob(f"*/{MANIFEST}")):
        if manifest.parent.name.endswith(PART):
            continue
        with contextlib.suppress(OSError, ValueError, KeyError):
            content = json.loads(manifest.read_bytes())
            for name in ("transactions", "never_acknowledged"):
                found.update(GtidRanges.from_json(content[name]))
    return found


def _carry_out(task: Task, job: Job) -> Mapping[str, Any]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    said: dict[str, Any] = {}
    with task.child(command("extract", job.to), env=environment(), **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(asdict(job)).encode())
            child.stdin.close()
        for line in child.stdout:
            said = json.loads(line)
            if "done" in said:
                task.count(int(said["done"]), int(said["total"]))
        task.check()
        if "result" in said:
            return said["result"]  # type: ignore[no-any-return]  # our own program's
        if "failed" in said:
            raise TaskFailed(str(said["failed"]))
        # Its last line names the error; no value of a row is ever in it, but neither is it known to be none: the log has it not.
        raise TaskFailed(f"the program that exports ended with code {child.wait()}; nothing was changed")
