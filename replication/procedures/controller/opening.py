"""Open the recorded (or first) primary, acknowledging alone; and stop waiting for an acker."""

from datetime import timedelta
from typing import Any

from replication.core import limits
from replication.core.commands import Verb

from .procedure import Procedure


def open_args(p: Procedure, *, jump: bool) -> dict[str, Any]:
    """Arguments of OPEN: every other node's account, and whether the first write skips GTID_GAP sequence numbers."""
    known = [p.account(n) for n in p.view.others if not n.locked_out and not n.removed]
    return {"jump": jump, "accounts": [a.to_json() for a in known if a is not None]}


async def open_primary(p: Procedure, node: str) -> None:
    """Bootstrap and reopen. 1 claim, nobody promotable; 2 open solo.

    Idempotent: the agent does what is left to do. A node that cannot prove that it applied everything refuses.
    """
    first = not p.row.primary
    # Recorded and never opened: the leader that claimed it ended before its order arrived. It still lacks the clients'
    # account; the jump is made all the same, for who answers is not all who ever was.
    never = not any(n.report is not None and n.report.primary_order_epoch for n in p.view.nodes)
    args = {**open_args(p, jump=not first), "client": first or never}
    await p.claim(primary=node, promotable="")
    await p.mark(node, joined=True)
    await p.order(node, Verb.OPEN, deadline=limits.START_DEADLINE, args=args)
    hostname = p.node(node).hostname
    await p.event(f"{hostname} is open as Master" if first else f"{hostname} was closed and is open again", node=node)


async def go_solo(p: Procedure) -> None:
    """1 claim, nobody promotable (durably, before the primary may stop waiting); 2 tell the primary to stop waiting.

    may_ack stays: the former acker's flag may still be on. It ends with the next become-acker, follow or detach.
    """
    primary = p.row.primary
    was = p.row.promotable
    await p.claim(promotable="")
    await p.order(primary, Verb.SOLO, deadline=timedelta(seconds=2))
    acker = p.view.node(was)
    text = f"the vault is solo: {acker.hostname} no longer acknowledges" if acker else "the vault is solo"
    await p.event(text, node=was or primary, level="warning")
