"""What happened in one run, and what must not: each invariant is looked at the moment something happens.

Rows of clients are judged by what the client was told. Epochs and owners are judged by the metadata database and the agents'
memories, never by what a screen says.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from replication.core.roles import OrderKind
from replication.core.vault_ports import AgentState
from replication.core.view import Topology


@dataclass(frozen=True)
class Tenure:
    """A node became the recorded primary."""

    number: int
    node: str
    epoch: int


class History:
    def __init__(self, now: Callable[[], float], holds: Callable[[str, int], bool]) -> None:
        """holds: whether a node has received a row, whether it has applied it or not."""
        self._now, self._holds = now, holds
        self.log: list[tuple[object, ...]] = []
        self.violations: list[str] = []
        self.acknowledged: dict[int, str] = {}
        """Row → node whose OK the client got."""
        self.tenures: dict[str, Tenure] = {}
        """Node → when it last became the recorded primary."""
        self.row = Topology(vault="")
        """As it was changed last; what a restored database says is not a change."""
        self.commits: list[int] = []
        """Rows that a database has acknowledged, in order."""
        self.begun: dict[int, float] = {}
        """Row → when its client sent it."""
        self._served_since = 0.0
        self._served: Tenure | None = None
        """The latest tenure in which a row was acknowledged."""
        self._numbers = count(1)
        self._obeyed: dict[int, str] = {}
        """Epoch → the process that was obeyed under it."""
        self.restored = False
        """The metadata database has lost what it knew: that a number is claimed twice proves nothing by itself then."""
        self._highest = 0

    def note(self, who: str, *what: object) -> None:
        self.log.append((round(self._now() - 1000.0, 4), who, *what))

    def violate(self, text: str) -> None:
        self.note("VIOLATION", text)
        self.violations.append(f"{self._now() - 1000.0:.3f} s: {text}")

    def digest(self) -> str:
        return hashlib.sha256(repr(self.log).encode()).hexdigest()[:16]

    # --- the row and the agents -----------------------------------------------------------------------------------

    def row_changed(self, before: Topology, after: Topology, by: str) -> None:
        intent = f"{after.intent.kind} to {after.intent.target[:1]}" if after.intent is not None else ""
        self.note(
            by,
            f"row e{after.epoch} primary={after.primary[:1]} promotable={after.promotable[:1]} "
            f"may_ack={''.join(sorted(n[:1] for n in after.may_ack))} {intent}",
        )
        if after.epoch != before.epoch:
            if after.epoch <= self._highest and not self.restored:
                self.violate(f"epoch {after.epoch} was claimed by {after.owner} after epoch {self._highest}")
            self._highest = max(self._highest, after.epoch)
        elif after.owner != before.owner:
            self.violate(f"epoch {after.epoch} changed its owner")
        if after.intent is not None and after.promotable:
            self.violate("an open intent publishes a promotable node")
        self.row = after
        if after.promotable and after.promotable != before.promotable:
            self._check_published(after.promotable[:1])
        if after.primary and after.primary != before.primary:
            node = after.primary[:1]
            self.tenures[node] = Tenure(next(self._numbers), node, after.epoch)

    def _check_published(self, acker: str) -> None:
        lacks = [row for row in self.commits if not self._holds(acker, row)]
        if lacks:
            self.violate(f"{acker} is published as promotable and lacks acknowledged rows {lacks[:5]}")

    def replaced(self, node: str) -> None:
        """Its database has got other data. Who is published as promotable has every acknowledged row all the same."""
        self.note(node, "has other data")
        if node == self.row.promotable[:1]:
            self._check_published(node)

    def obeyed(self, node: str, sender: str, epoch: int) -> None:
        """An agent has promised the epoch of a command that changes it. A mere PROMISE under an epoch that a restored database
        gave twice is sorted out by the agents: each belongs to whom it promised first."""
        first = self._obeyed.setdefault(epoch, sender)
        if first != sender:
            self.violate(f"{node} obeys {sender} under epoch {epoch}, which belongs to {first}")

    def state_changed(self, node: str, before: AgentState, after: AgentState) -> None:
        order = f"{after.order_kind} of e{after.order_epoch}"
        if (before.epoch, before.order_kind, before.order_epoch, before.fenced, before.tainted, before.quarantine) != (
            after.epoch, after.order_kind, after.order_epoch, after.fenced, after.tainted, after.quarantine,
        ):  # fmt: skip
            marks = f"{' fenced' if after.fenced else ''}{' tainted' if after.tainted else ''}{' ' + after.quarantine}"
            self.note(node, f"promises e{after.epoch}, {order}{marks}")
        if after.vault == before.vault and (after.epoch < before.epoch or after.term < before.term):
            self.violate(f"{node} promised less than before: {before.epoch} -> {after.epoch}")
        if after.order_kind is not OrderKind.NONE and after.primary_order_kind is OrderKind.NONE:
            self.violate(f"{node} is ordered to be primary and forgets it")

    # --- clients --------------------------------------------------------------------------------------------------

    def served(self, node: str, row: int) -> None:
        """A database has acknowledged a row, this instant."""
        self.commits.append(row)
        acker = self.row.promotable[:1]
        if acker and node == self.row.primary[:1] and not self._holds(acker, row):
            self.violate(f"{node} acknowledged row {row} and its published acker {acker} has not received it")
        tenure = self.tenures.get(node)
        if tenure is None:
            self.violate(f"{node} acknowledged row {row} and was never the recorded primary")
            return
        latest = self._served
        if latest is not None and tenure.number < latest.number:
            # A frozen primary may find, when it is thawed, an acknowledgement that was on its way: the row was sent before
            # anybody else acknowledged, and who acknowledges now has it. Anything more is a second primary.
            late = self.begun[row] < self._served_since and self._holds(latest.node, row)
            if not late:
                self.violate(
                    f"two primaries: {node} (since epoch {tenure.epoch}) acknowledged row {row} after "
                    f"{latest.node} (since epoch {latest.epoch}) had acknowledged"
                )
        elif latest is not tenure:
            self._served, self._served_since = tenure, self._now()
            self.note(node, f"acknowledges from now on (row {row})")

    def sends(self, row: int) -> None:
        self.begun[row] = self._now()

    def told_ok(self, node: str, row: int) -> None:
        """A client was told that its row is safe."""
        self.acknowledged[row] = node

    def check_rows(self, node: str, there: set[int]) -> None:
        """The final primary holds every row that anybody was told is safe."""
        lost = sorted(set(self.acknowledged) - there)
        if lost:
            by = sorted({self.acknowledged[row] for row in lost})
            self.violate(
                f"{len(lost)} acknowledged rows are not on {node}, acknowledged by {', '.join(by)}: {lost[:8]}"
            )
