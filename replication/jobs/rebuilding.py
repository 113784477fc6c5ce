"""Full copies and their undoing. Not there yet."""

from nodes.choices import OperationState
from replication.stores import operations


def run(id: str) -> None:
    """Ends the operation as failed."""
    text = "this version cannot do this yet"
    operations.end(id, OperationState.FAILED, text, {"summary": text})
