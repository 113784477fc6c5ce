"""Who may take over, or why nobody may. Pure."""

from dataclasses import dataclass

from .diagnosis import BY_SILENCE, diagnose
from .view import VaultView


@dataclass(frozen=True)
class Candidate:
    node: str


@dataclass(frozen=True)
class Refusal:
    rule: str
    says: str


def choose_candidate(view: VaultView) -> Candidate | Refusal:
    """Pick the node to promote when the primary is lost, or say why none may be.

    Only the published acker may be promoted without a person: it alone is known to hold every acknowledged write.
    """
    row = view.topology
    if view.paused:  # the choice alone: going solo, a switchover by hand and the end of what was begun go on
        return Refusal("C05", f"automatic failover is paused {view.paused}")
    if not row.promotable:
        return Refusal("C10", "the vault is solo: no fallback is known to hold every acknowledged write")
    acker = view.node(row.promotable)
    if acker is None or not acker.answers or acker.report is None:
        name = acker.hostname if acker else row.promotable
        return Refusal("C20", f"{name} holds every acknowledged write but does not answer")
    if not acker.up:
        return Refusal("C30", f"the database of {acker.hostname} is not running")
    if acker.replacing:  # a wish alone is no reason: until it is carried out the node holds everything
        return Refusal("C35", f"the data of {acker.hostname} is being replaced by a full copy")
    if acker.report.vault != row.vault:  # made anew, or restored from a backup: it is not what acknowledged
        return Refusal("C37", f"{acker.hostname} has forgotten the vault: it may lack what it had acknowledged")
    if acker.report.tainted:
        return Refusal("C40", f"{acker.hostname} restarted and may lack writes that it had acknowledged")
    if acker.report.quarantine:
        return Refusal("C50", f"{acker.hostname} is held back: {acker.report.quarantine}")
    if acker.report.disk_error:
        return Refusal("C55", f"the disk of {acker.hostname} takes no writes: {acker.report.disk_error}")
    for id in sorted(row.may_ack - {row.promotable}):
        node = view.node(id)
        if node is None or not node.answers:
            return Refusal("C60", f"{node.hostname if node else id} might still acknowledge and does not answer")
    if view.silence_hold and diagnose(view).id in BY_SILENCE:
        left = round(view.silence_hold.total_seconds())
        return Refusal(
            "C70",
            f"a failover was decided on silence not long ago; another one is held back for {left} s more, or until cleared",
        )
    return Candidate(acker.id)
