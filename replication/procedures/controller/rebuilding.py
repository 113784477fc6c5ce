"""Order a full copy of a node, or the undoing of one. The agents do it by themselves; the leader says who and from whom.

1 choose the source, or refuse before anything is touched; 2 write the choice into the wish, so that a next leader goes on with
the same one; 3 an acker goes solo first; 4 claim; 5 the target acknowledges for nobody from here on, and waits; 6 out of
may_ack; 7 the source sends; 8 take the wish away. The wish stands until 8, and the same operation begins nothing twice: a
leader that dies between any two steps is replaced by one that does them again.

What cannot be done is refused for good, as a sentence in the wish and an event, and nothing was replaced. Only a lost claim, an
agent that has promised more, and a source whose answer was lost are tried again.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from replication.core.candidates import Refusal
from replication.core.commands import Answer, Verb
from replication.core.errors import NodeUnreachable, Refused, ReplicationError, StepFailed
from replication.core.sources import Source, choose_source, why_not_rebuild
from replication.core.tasks import RebuildArgs, SendArgs, TaskPhase
from replication.core.view import NodeView, RebuildWish

from .opening import go_solo
from .procedure import Procedure


async def rebuild(p: Procedure, id: str) -> None:
    """Carry out, or refuse, the wish for a full copy of this node. Raises ReplicationError when it is to be tried again."""
    target, wish = _wished(p, id)
    try:
        choice = _source(p, target, wish)
        if not await _chosen(p, target, wish, choice.node):
            return
        source = p.node(choice.node)
        if await _stands_back(p, target, Verb.REBUILD, _rebuild_args(source)):
            await _send(p, source, target, wish)
    except (Refused, StepFailed, NodeUnreachable) as error:
        await _refuse(p, target, wish, error)
        return
    if await p.answer_rebuild(id, wish.operation, None):
        text = f"{target.hostname} is rebuilt from {source.hostname}: {choice.says} ({choice.rule})"
        await p.event(text, node=id, source=source.hostname)
    else:
        await _withdraw(p, target, wish, source)


async def undo(p: Procedure, id: str) -> None:
    """The same with the data of before in place of a copy: there is no source."""
    target, wish = _wished(p, id)
    try:
        _possible(p, target, wish)
        if not await _chosen(p, target, wish, ""):
            return
        await _stands_back(p, target, Verb.UNDO, {})
    except (Refused, StepFailed, NodeUnreachable) as error:
        await _refuse(p, target, wish, error)
        return
    if await p.answer_rebuild(id, wish.operation, None):
        await p.event(f"{target.hostname} goes back to its data of before the full copy", node=id, level="warning")
    else:
        await _withdraw(p, target, wish)


async def call_off(p: Procedure, node: NodeView, why: str) -> None:
    """End what is wished or under way on a node that is to leave. Raises ReplicationError where there is no way back: that ends
    by itself within seconds."""
    if node.wish is not None:
        await p.answer_rebuild(node.id, node.wish.operation, replace(node.wish, refused=why))
    task = node.task
    if node.replacing and task is not None and not await p.world.agents.cancel_task(node, task.operation):
        raise ReplicationError(
            f"the data of {node.hostname} is being replaced at this moment: wait until that has ended"
        )


def _wished(p: Procedure, id: str) -> tuple[NodeView, RebuildWish]:
    node = p.node(id)
    if node.wish is None:
        raise ReplicationError(f"nobody wants another data directory for {node.hostname} any more")
    return node, node.wish


def _possible(p: Procedure, target: NodeView, wish: RebuildWish) -> None:
    """Raises Refused; or a bare ReplicationError, to be tried again, when an earlier leader may have ordered it already."""
    if wish.chosen and not target.answers:
        raise ReplicationError(f"{target.hostname} does not answer, and may have been told to begin: it is asked again")
    refusal = why_not_rebuild(p.view, target, wish)
    if refusal is not None:
        raise Refused(refusal.rule, refusal.says)


def _source(p: Procedure, target: NodeView, wish: RebuildWish) -> Source:
    _possible(p, target, wish)
    begun = target.task is not None and target.task.operation == wish.operation
    if begun and p.view.node(wish.source) is not None:
        return Source(wish.source, "P66", "as an earlier leader has ordered")
    choice = choose_source(p.view, target, wish)
    if isinstance(choice, Refusal):
        raise Refused(choice.rule, choice.says)
    return choice


async def _chosen(p: Procedure, target: NodeView, wish: RebuildWish, source: str) -> bool:
    """Write the choice down before anything is ordered. False when the wish was withdrawn: then nothing is to be done."""
    stands = await p.answer_rebuild(target.id, wish.operation, replace(wish, source=source, chosen=True))
    if not stands:
        await p.event(f"{target.hostname}: the wish was withdrawn, and nothing was done", node=target.id)
    return stands


async def _stands_back(p: Procedure, target: NodeView, verb: Verb, args: Mapping[str, Any]) -> bool:
    """Steps 3 to 6. Whether it waits for the source now; False when an earlier leader had begun it, and it is further by now.

    Nobody is promotable when the target is told, so that no failover rests on data that is about to be replaced; a node that is
    in may_ack by then is taken out only when it has promised our epoch with its flag off.
    """
    if p.row.promotable == target.id:
        await go_solo(p)
    await p.claim()
    await p.mark(target.id, joined=True)
    answer = await p.order(target.id, verb, args=args)
    if target.id in p.row.may_ack:
        await p.amend(may_ack=p.row.may_ack - {target.id})
    return _waits(answer)


def _waits(answer: Answer) -> bool:
    task = answer.facts.get("task")
    return isinstance(task, Mapping) and task.get("phase") == TaskPhase.WAITING.value


async def _send(p: Procedure, source: NodeView, target: NodeView, wish: RebuildWish) -> None:
    """Raises StepFailed when the source will not; ReplicationError when nobody knows whether it does."""
    try:
        await p.order(source.id, Verb.SEND, args=_send_args(target, wish))
    except NodeUnreachable as error:
        raise ReplicationError(f"whether {source.hostname} sends is not known, it is told again: {error}") from error


def _rebuild_args(source: NodeView) -> dict[str, Any]:
    """A source that was chosen by an earlier leader may not have answered this one: then they are not looked at any more."""
    report = source.report
    subject, size = (report.certificate_subject, report.data_bytes) if report is not None else ("", 0)
    return RebuildArgs(source_name=source.hostname, source_subject=subject, source_bytes=size).to_json()


def _send_args(target: NodeView, wish: RebuildWish) -> dict[str, Any]:
    if target.report is None:
        raise ReplicationError(f"{target.hostname} has not answered yet")
    return SendArgs(
        target_name=target.hostname,
        target_host=target.ip,
        target_port=target.port,
        target_subject=target.report.certificate_subject,
        bytes_per_second=wish.bytes_per_second,
    ).to_json()


async def _refuse(p: Procedure, target: NodeView, wish: RebuildWish, error: ReplicationError) -> None:
    """The target may wait for a source that never comes: it is told to end. Should it not hear that, it ends by itself."""
    says = str(error)
    if not isinstance(error, Refused):
        await _end_task(p, target, wish.operation)
    await p.answer_rebuild(target.id, wish.operation, replace(wish, refused=says[:500]))
    what = "does not go back to its data of before" if wish.undo else "is not rebuilt"
    await p.event(f"{target.hostname} {what}: {says}", node=target.id, level="warning")


async def _withdraw(p: Procedure, target: NodeView, wish: RebuildWish, source: NodeView | None = None) -> None:
    """An operator was faster: what was ordered is called off again."""
    for node in (target, source):
        if node is not None:
            await _end_task(p, node, wish.operation)
    text = f"{target.hostname}: the wish was withdrawn, and what had begun was told to end"
    await p.event(text, node=target.id, level="warning")


async def _end_task(p: Procedure, node: NodeView, operation: str) -> None:
    with contextlib.suppress(NodeUnreachable):
        await p.world.agents.cancel_task(node, operation)
