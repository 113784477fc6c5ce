"""Let a node follow, make it the acker, take it out."""

from replication.core import limits
from replication.core.commands import FollowArgs, Verb, account_name
from replication.core.errors import NodeUnreachable, ReplicationError, StepFailed
from replication.core.followers import judged_by_another
from replication.core.recovery import gone_silent
from replication.core.report import NodeReport
from replication.core.roles import OrderKind
from replication.core.view import NodeView

from .opening import go_solo
from .procedure import Procedure
from .rebuilding import call_off


async def follow(p: Procedure, id: str) -> None:
    """Rejoin or join, without acknowledging. Looks for extra transactions every time (rule 15).

    1 an acker goes solo first; 2 claim; 3 a locked-out node promises the new epoch before its account is unlocked (rule 4);
    4 the account; 5 read the source's state; 6 follow; 7 it can no longer acknowledge: out of may_ack.
    """
    if p.row.promotable == id:
        await go_solo(p)
    await p.claim()
    await _follow(p, id)
    if id in p.row.may_ack:
        await p.amend(may_ack=p.row.may_ack - {id})
    await p.mark(id, detached=False, locked_out=False, resync_requested_at=None)
    await p.event(f"{p.node(id).hostname} follows {p.node(p.row.primary).hostname}", node=id)


async def _follow(p: Procedure, id: str) -> None:
    node, primary = p.node(id), p.node(p.row.primary)
    if node.report is None:
        raise ReplicationError(f"{node.hostname} has not answered yet")
    if node.locked_out:
        await p.order(id, _standing_back(node.report, up=node.up), deadline=limits.DRAIN_DEADLINE)
    account = p.account(node)
    if account is not None:
        await p.order(primary.id, Verb.ACCOUNTS, args={"accounts": [account.to_json()]})
    try:
        await _order_follow(p, node, primary)
    except StepFailed as error:
        if error.reason != "moved":
            raise
        await _order_follow(p, node, primary)


def _standing_back(report: NodeReport, *, up: bool) -> Verb:
    """What a node that was locked out has to do first: it acknowledges for nobody, and has promised our epoch (rule 4)."""
    if not report.vault:
        return (
            Verb.PROMISE
        )  # it never got its first order, and follows nobody: what was said to it before is refused then
    # A former primary that was away still has its order, and does not stop following anybody.
    return Verb.DETACH if up and report.order_kind is OrderKind.NONE else Verb.FENCE


async def _order_follow(p: Procedure, node: NodeView, primary: NodeView) -> None:
    """Read where the source stands, and let the node follow. Refused as "moved" when the node was receiving in between."""
    source = await p.fresh(primary.id)
    if source.database is None:
        raise StepFailed(primary.hostname, "hello", "no-database", "its database does not answer")
    await p.mark(node.id, joined=True)
    args = FollowArgs(
        source_host=primary.ip,
        source_port=primary.database_port,
        account=account_name(node.id),
        source_binlog_state=source.database.gtid_binlog_state,
        source_oldest_binlog=source.database.binlog_oldest,
        truncate_tail=may_truncate(node),
    )
    wanted = {**args.to_json(), "rejudge": node.resync_wanted or judged_by_another(node, primary)}
    await p.order(node.id, Verb.FOLLOW, deadline=limits.START_DEADLINE, args=wanted)


def may_truncate(node: NodeView) -> bool:
    """Whether what this former primary never got acknowledged may be cut off at its restart (rule 14).

    Only when it was lossless to its end: then the node that replaced it was its acker, revoked and drained, and holds
    every write that was acknowledged. After solo the tail may hold acknowledged writes that nobody else has.
    """
    return node.report is not None and node.report.primary_order_kind is OrderKind.LOSSLESS


async def become_acker(p: Procedure, id: str) -> None:
    """Make the vault lossless, in the order of rules 3, 4 and 6.

    1 claim: the node may acknowledge, nobody is promotable; 2 every other node is off, or locked out at the primary;
    3 the node's flag on; 4 the primary waits from now on and says where it stands; 5 the node has received that far;
    6 the node is the only one that acknowledges; 7 publish. A failure after 4 takes a new epoch and goes back to solo.
    """
    primary = p.row.primary
    await p.claim(may_ack=p.row.may_ack | {id}, promotable="")
    await _others_off(p, id)
    await p.order(id, Verb.ACKER)
    try:
        answer = await p.order(primary, Verb.LOSSLESS, deadline=limits.PROOF_DEADLINE, args=vouching(p, id))
        position = str(answer.facts["gtid_binlog_pos"])
        await p.order(id, Verb.RECEIVED, deadline=limits.PROOF_DEADLINE, args={"position": position})
        now = await p.fresh(primary)
        if now.database is None or now.database.ack_clients != 1:
            clients = "unknown" if now.database is None else now.database.ack_clients
            raise StepFailed(p.node(primary).hostname, "proof", "ackers", f"{clients} nodes acknowledge instead of one")
        await p.amend(may_ack=frozenset({id}), promotable=id)
    except ReplicationError:
        await go_solo(p)
        raise
    await p.event(f"the vault is lossless: {p.node(id).hostname} acknowledges every write", node=id)


def vouching(p: Procedure, acker: str) -> dict[str, list[str]]:
    """Whom the primary's agent asks when no controller renews its lease: the acker alone, for nobody else can be promoted."""
    node = p.node(acker)
    return {"peers": [f"[{node.ip}]:{node.port}" if ":" in node.ip else f"{node.ip}:{node.port}"]}


async def _others_off(p: Procedure, acker: str) -> None:
    """Every other node either promises our epoch with its flag off, or is locked out at the primary."""
    for node in p.view.others:
        if node.id == acker or not (node.joined or node.id in p.row.may_ack):
            continue
        if gone_silent(node, p.view):  # its silence would be waited for, a minute perhaps, and end the same way
            await _lock_out(p, node.id)
            continue
        try:
            if node.replacing:  # its flag went off before it began to wait, and comes on no more until that has ended
                await p.order(node.id, Verb.PROMISE)
            elif node.detached:
                await p.order(node.id, Verb.DETACH)
            else:
                await _follow(p, node.id)
        except ReplicationError:
            await _lock_out(p, node.id)


async def _lock_out(p: Procedure, id: str) -> None:
    """Noted before it is done: an account that may be locked is unlocked only after its node promised a newer epoch."""
    await p.mark(id, locked_out=True)
    await p.order(p.row.primary, Verb.LOCK_OUT, args={"account": account_name(id)})


async def detach(p: Procedure, id: str) -> None:
    """Take an inactive or deleted node out. 1 an acker goes solo first; 2 claim; 3 it stops for good, or, when it does not
    answer, it is locked out at the primary; 4 out of may_ack; 5 note it, or delete the row."""
    node = p.node(id)
    if p.row.promotable == id:
        await go_solo(p)
    await p.claim()
    left = await _leave(p, node)
    if id in p.row.may_ack:
        await p.amend(may_ack=p.row.may_ack - {id})
    if node.removed and left:
        await p.forget(id)
        await p.event(f"{node.hostname} was deleted and has left the vault", node=id)
        return
    await p.mark(id, detached=True)
    how = "its replication has stopped" if left else "it does not answer and was locked out at the Master"
    await p.event(f"{node.hostname} is {'deleted' if node.removed else 'inactive'}: {how}", node=id)


async def _leave(p: Procedure, node: NodeView) -> bool:
    """Whether the node itself has confirmed. A node that never joined has nothing to confirm."""
    if not node.joined:
        return True
    if node.answers and node.report is not None and (node.report.vault, node.report.node) != (p.row.vault, node.id):
        return True
    try:
        if not gone_silent(node, p.view):
            await call_off(p, node, "it was made inactive or deleted")
            args = {"leave": node.removed}
            await p.order(node.id, Verb.DETACH, deadline=limits.DRAIN_DEADLINE, args=args)
            return True
    except NodeUnreachable:
        pass
    if p.row.primary:
        await _lock_out(p, node.id)
    return False


async def forget(p: Procedure, id: str) -> None:
    """A deleted node that had not answered is back: tell it to leave, then delete its row."""
    await p.claim()
    if not await _leave(p, p.node(id)):
        raise ReplicationError(f"{p.node(id).hostname} has gone again before it was told")
    await p.forget(id)
