"""Reading the relay log's files: which transactions stand in them, where each begins, and where it ends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from replication.agent.logevents import BETWEEN, FORMAT, GTID, Torn, ends, events, gtid_flags, gtid_of
from replication.core.positions import Gtid
from replication.core.vault_ports import ProcessError, RelayPlace, RelayTransaction

INDEX: Final = "relay.index"


def transactions(data_dir: Path) -> Iterator[RelayTransaction]:
    """Everything in the relay log, oldest first. Raises ProcessError when its files make no sense.

    A file may end in the middle of an event or of a transaction when nothing follows in a later one: the receiver was
    killed while it wrote.
    """
    begun: tuple[Gtid, RelayPlace, int] | None = None
    torn = ""
    for name in _names(data_dir):
        try:
            for event in events(data_dir / name):
                if event.kind == FORMAT or event.kind in BETWEEN:
                    continue
                if torn:
                    raise ProcessError(f"the relay log is damaged: {torn} is torn, and {name} goes on behind it")
                if event.kind == GTID:
                    if begun is not None:
                        yield RelayTransaction(begun[0], begun[1], None)
                    begun = gtid_of(event), RelayPlace(name, event.offset), gtid_flags(event)
                elif begun is not None and ends(event, begun[2]):
                    yield RelayTransaction(begun[0], begun[1], RelayPlace(name, event.end))
                    begun = None
        except Torn:
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
