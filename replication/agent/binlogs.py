"""What stands in this node's binary logs. As a program, `python -m replication.agent.binlogs DIRECTORY`, it prints the inventory.

A program of its own reads them, at low priority: a log of 128 MiB holds half a million transactions and takes seconds, and a file
that mariadbd cuts off while it is read would end whoever reads it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from replication.agent.logevents import (
    BETWEEN,
    CHECKPOINT,
    FORMAT,
    GTID,
    GTID_LIST,
    Event,
    Torn,
    checkpoint,
    ends,
    events,
    gtid_flags,
    gtid_list,
    gtid_of,
)
from replication.core.gtid_ranges import GtidRanges, Inventory
from replication.core.positions import Gtid
from replication.core.vault_ports import ProcessError

INDEX: Final = "binlog.index"
ROOT: Final = Path(__file__).resolve().parents[2]
NICE: Final = 10
READ_SECONDS: Final = 300
"""For an inventory: enough for a hundred logs of 128 MiB."""


@dataclass(frozen=True)
class Logged:
    """One transaction in a file."""

    gtid: Gtid
    at: int
    """Seconds since 1970."""
    begin: int
    end: int
    """Place in the file; after its last byte."""
    events: tuple[Event, ...]
    whole: bool
    """False when the file ends before it does: it was never acknowledged."""


def names(directory: Path) -> list[str]:
    """Names of the binary logs, oldest first, as the index lists them; empty when there are none. Raises OSError."""
    try:
        lines = (directory / INDEX).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [Path(line).name for line in lines if line.strip()]


def gtids(path: Path) -> Iterator[tuple[Gtid, int]]:
    """The transactions that begin in a file, and when each began. Quick. Raises OSError, ProcessError."""
    try:
        for event in events(path, wanted={GTID}):
            yield gtid_of(event), event.at
    except Torn:
        return


def transactions(path: Path) -> Iterator[Logged]:
    """The transactions of a file, with their events. Raises OSError, ProcessError."""
    begun: list[Event] = []
    try:
        for event in events(path):
            if event.kind == GTID:
                if begun:
                    yield _logged(begun, whole=False)
                begun = [event]
            elif begun and event.kind not in BETWEEN and event.kind != FORMAT:
                begun.append(event)
                if ends(event, gtid_flags(begun[0])):
                    yield _logged(begun, whole=True)
                    begun = []
    except Torn:
        pass
    if begun:
        yield _logged(begun, whole=False)


def _logged(begun: Sequence[Event], *, whole: bool) -> Logged:
    first = begun[0]
    return Logged(gtid_of(first), first.at, first.offset, begun[-1].end, tuple(begun), whole)


def inventory(directory: Path) -> Inventory:
    """Everything that stands in the logs. Raises OSError, ProcessError.

    A log that is purged meanwhile is left out: what it held is then not known, which is safe.
    """
    before: tuple[Gtid, ...] | None = None
    ranges, oldest = GtidRanges(), ""
    for name in names(directory):
        try:
            for event in events(directory / name, wanted={GTID, GTID_LIST}):
                if event.kind == GTID:
                    ranges.add(gtid_of(event))
                elif before is None:
                    before, oldest = gtid_list(event), name
        except Torn:
            continue
        except FileNotFoundError:
            before, ranges = None, GtidRanges()
    return Inventory(before or (), ranges, oldest)


def before(directory: Path) -> tuple[Gtid, ...]:
    """The last transaction of each domain and server from before the oldest log. Raises OSError, ProcessError."""
    for name in names(directory):
        try:
            return next((gtid_list(event) for event in events(directory / name, wanted={GTID_LIST})), ())
        except (Torn, FileNotFoundError):
            return ()
    return ()


def needed_by_recovery(directory: Path) -> list[str]:
    """The logs that a recovery looks at, and may cut: from the one that the last checkpoint names. All of them when that cannot
    be found out. Raises OSError."""
    there = names(directory)
    if not there:
        return []
    try:
        named = [checkpoint(event) for event in events(directory / there[-1], wanted={CHECKPOINT})]
    except (Torn, ProcessError):
        return there
    oldest = Path(named[-1]).name if named else ""
    return there[there.index(oldest) :] if oldest in there else there


def command(module: str, *arguments: str | Path) -> list[str]:
    """How a part of this agent is started as a program of its own."""
    return [sys.executable, "-P", "-m", f"replication.agent.{module}", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def read_inventory(directory: Path) -> Inventory:
    """As `inventory`, by a program of its own. Raises ProcessError, with a sentence."""
    try:
        done = subprocess.run(
            command("binlogs", directory), env=environment(), stdin=subprocess.DEVNULL, capture_output=True,
            timeout=READ_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ProcessError(f"the binary logs could not be read within {READ_SECONDS} s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ProcessError(f"the binary logs cannot be read: {said[-1] if said else f'exit code {done.returncode}'}")
    return Inventory.from_json(json.loads(done.stdout))


def main(arguments: Sequence[str]) -> int:
    os.nice(NICE)
    try:
        found: Any = inventory(Path(arguments[0])).to_json()
    except (OSError, ProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
