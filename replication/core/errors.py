"""What can go wrong while looking or acting. A refusal is not an exception: see candidates.py and plan.py."""


class ReplicationError(Exception):
    """We could not look or act. `retry_helps` says whether trying the same again can succeed."""

    retry_helps = True


class NodeUnreachable(ReplicationError):
    """No answer from an agent: `kind` is "refused" (at once), "silent" (deadline) or "certificate"."""

    def __init__(self, node: str, kind: str, detail: str = "") -> None:
        super().__init__(f"{node} does not answer ({kind}){': ' + detail if detail else ''}")
        self.node, self.kind, self.detail = node, kind, detail


class StaleEpoch(ReplicationError):
    """The agent has promised a higher term or epoch than the command carried."""

    retry_helps = False

    def __init__(self, node: str, promised_term: int, promised_epoch: int) -> None:
        super().__init__(f"{node} has already promised term {promised_term}, epoch {promised_epoch}")
        self.node, self.promised_term, self.promised_epoch = (
            node,
            promised_term,
            promised_epoch,
        )


class StepFailed(ReplicationError):
    """A verb was accepted but did not reach its goal; `reason` is a stable word, the text is for the operator."""

    def __init__(self, node: str, step: str, reason: str, text: str) -> None:
        super().__init__(f"{node}, {step}: {text}")
        self.node, self.step, self.reason, self.text = node, step, reason, text


class Refused(ReplicationError):
    """An operator's wish cannot be granted as things are now: `rule` has its page in the runbook."""

    retry_helps = False

    def __init__(self, rule: str, says: str) -> None:
        super().__init__(f"{rule} · {says}")
        self.rule, self.says = rule, says


class ClaimLost(ReplicationError):
    """The compare-and-set on the vault's row changed nothing: another epoch, another owner, or no lease."""


class PositionsNotComparable(ReplicationError):
    """Two positions of different replication domains or of different database engines."""

    retry_helps = False
