"""Re-synchronize Master, as a pure reckoning: how far each fallback is from the position of the click, and what stops it."""

from dataclasses import dataclass

from . import limits
from .positions import GtidPosition
from .report import NodeReport
from .roles import ProcessState


@dataclass(frozen=True)
class Standing:
    """One fallback: transactions still to apply, whether it streams, and why it cannot get there ("" when it can)."""

    remaining: int
    streaming: bool
    refusal: str


def transactions_between(mine: GtidPosition, target: GtidPosition) -> int:
    """Transactions from `mine` to `target`; the sequence numbers that promotions skipped are not counted."""
    return mine.missing_from(target) % limits.GTID_GAP


def standing(report: NodeReport, source: tuple[str, int], target: GtidPosition) -> Standing:
    """Where a fallback stands. source: address and port it has to follow. A full copy is not possible in this version."""
    no_copy = "Only a full copy can help, which this version cannot make yet."
    if report.quarantine:
        return Standing(0, False, f"it has diverged ({report.quarantine}). {no_copy}")
    if report.needs_rebuild:
        return Standing(0, False, f"{report.needs_rebuild}. {no_copy}")
    db = report.database
    if report.process is not ProcessState.UP or db is None:
        return Standing(0, False, "")
    mine = GtidPosition.parse(db.gtid_slave_pos)
    here = (db.source_host, db.source_port) == source
    streaming = here and db.receiver == "Yes" and db.applier
    reached = mine.covers(target)
    return Standing(0 if reached else max(1, transactions_between(mine, target)), streaming, "")
