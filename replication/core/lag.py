"""How far a fallback is behind its primary. Pure. What is not known is None: neither zero nor the last figure."""

from dataclasses import dataclass

from . import limits
from .diagnosis import hears_primary
from .errors import PositionsNotComparable
from .positions import parse
from .view import NodeView, VaultView


@dataclass(frozen=True)
class Lag:
    seconds: float | None
    """Age of what it applies, as its server says."""
    transactions: int | None
    """Not applied yet; an upper bound, as of the last two answers."""


def lag_of(view: VaultView, node: NodeView) -> Lag:
    """A server without a stream says nothing of its lag; beside a frozen primary it goes on saying 0, so it must hear it too."""
    db, primary = node.following, view.primary
    if db is None or not hears_primary(node, view):
        return Lag(None, None)
    if primary is None or not primary.up or primary.database is None:
        return Lag(db.seconds_behind, None)
    target = parse(primary.database.gtid_binlog_pos)
    try:
        missing = parse(db.gtid_slave_pos).missing_from(target)
    except PositionsNotComparable:  # another database engine: there is no such number
        return Lag(db.seconds_behind, None)
    # A new primary skips numbers; until its first write has been applied nobody can tell these from transactions.
    return Lag(db.seconds_behind, None if target.skips and missing >= limits.GTID_GAP else missing)


def lags_of(view: VaultView) -> dict[str, Lag]:
    """Of every fallback that is to follow, by node id. Raises nothing: the positions of a report were read when it came."""
    return {n.id: lag_of(view, n) for n in view.others if n.active and not n.removed} if view.primary else {}
