"""What a replica has on disk beside its data: whom it follows, its relay log, and how far relay-log.info says that it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from replication.core.vault_ports import RelayPlace, RelayTransaction, Source
from tests.simulation.mariadbd_storage import Transaction

BYTES: Final = 100
"""Of one transaction in the relay log."""
HEADER: Final = 4


@dataclass
class ReplicaDisk:
    """master.info, relay-log.info and the relay log: they survive the process."""

    source: Source | None = None
    by_gtid: bool = True
    relay: list[Transaction] = field(default_factory=list)
    torn: Transaction | None = None
    rows: set[int] = field(default_factory=set)
    """Of clients, that stand in the relay log."""
    generation: int = 1
    info: int = 0
    """Index in the relay log that relay-log.info tells."""
    flushed: int = 0
    """So many at the head of it survive a power cut."""

    def throw_away(self) -> None:
        self.relay, self.torn, self.info, self.flushed = [], None, 0, 0
        self.rows = set()
        self.generation += 1

    def write(self, transactions: list[Transaction], *, flush: bool) -> None:
        self.relay.extend(transactions)
        self.rows.update(int(t.what[1]) for t in transactions if t.what[0] == "row")
        if flush:
            self.flushed = len(self.relay)

    def lose_power(self) -> None:
        del self.relay[self.flushed :]
        self.torn = None
        self.rows = {int(t.what[1]) for t in self.relay if t.what[0] == "row"}

    def place(self, index: int) -> RelayPlace:
        return RelayPlace(f"relay.{self.generation:06}", HEADER + BYTES * index)

    def index(self, place: RelayPlace) -> int:
        assert place.file == f"relay.{self.generation:06}", f"{place} is in no relay log"
        return (place.offset - HEADER) // BYTES

    def transactions(self) -> Iterator[RelayTransaction]:
        for index, transaction in enumerate(self.relay):
            yield RelayTransaction(transaction.gtid, self.place(index), self.place(index + 1))
        if self.torn is not None:
            yield RelayTransaction(self.torn.gtid, self.place(len(self.relay)), None)
