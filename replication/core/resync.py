"""Re-synchronize Master, as a pure reckoning: how far each fallback is from the position of the click, and what stops it."""

from dataclasses import dataclass

from . import limits
from .errors import PositionsNotComparable
from .positions import Position, parse
from .report import NodeReport
from .roles import ProcessState


@dataclass(frozen=True)
class Standing:
    """One fallback: transactions still to apply, whether it streams, and why it cannot get there ("" when it can)."""

    remaining: int
    streaming: bool
    refusal: str
    """Nothing of ours can help."""
    copy: str = ""
    """Why only a full copy can help."""


def why_copy(report: NodeReport) -> str:
    """Why GTID does not allow this node to go on from where it is, as the end of "because …"; "" when it may."""
    if report.quarantine:
        return f"it has diverged ({report.quarantine})"
    if report.needs_rebuild:
        return report.needs_rebuild
    return ""


def stopped_by(report: NodeReport) -> str:
    """The error that its replication stands still at, as the end of "because …"; "" while it goes on, or does not answer.

    A fresh start of replication may help once. Where it stops again, only a full copy does.
    """
    db = report.database
    if report.process is not ProcessState.UP or db is None:
        return ""
    if db.applier_errno:
        return f"it cannot apply what the Master wrote ({db.applier_errno}: {db.applier_error})"
    return ""


def transactions_between(mine: Position, target: Position) -> int:
    """Transactions from `mine` to `target`; the sequence numbers that promotions skipped are not counted."""
    missing = mine.missing_from(target)
    return missing % limits.GTID_GAP if target.skips else missing


def standing(report: NodeReport, source: tuple[str, int], target: Position) -> Standing:
    """Where a fallback stands. source: address and port it has to follow."""
    if why := why_copy(report):
        return Standing(0, False, "", why)
    db = report.database
    if report.process is not ProcessState.UP or db is None:
        return Standing(0, False, "")
    mine = parse(db.gtid_slave_pos)
    here = (db.source_host, db.source_port) == source
    streaming = here and db.receiver == "Yes" and db.applier
    try:
        reached = mine.covers(target)
    except PositionsNotComparable as error:
        return Standing(0, False, f"its server is of another kind than that of the Master: {error}")
    return Standing(0 if reached else max(1, transactions_between(mine, target)), streaming, "")
