"""What the parts of the dialects share: whether there is a row, and the end of another session."""

from typing import Any, Final

from replication.core.vault_ports import DatabaseError

from .base import Session

NO_SUCH_THREAD: Final = 1094


def exists(session: Session, question: str, *values: Any) -> bool:
    return bool(session.rows(question, *values))


def kill(session: Session, id: int) -> None:
    """End another session with its transaction."""
    try:
        session.run("KILL %s", id)
    except DatabaseError as error:
        if error.code != NO_SUCH_THREAD:  # gone by itself in the meantime
            raise
