"""The table of verbs."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from replication.core.commands import Answer, Command, Verb
from replication.core.errors import PositionsNotComparable, StepFailed
from replication.core.tasks import REPLACES_DATA
from replication.core.vault_ports import DatabaseError, Ports, ProcessError, StateError

from . import primary, rebuild, replica
from .work import Work

VERBS: Final[Mapping[Verb, Callable[[Work], Mapping[str, Any]]]] = {
    Verb.OPEN: primary.open_solo,
    Verb.LOSSLESS: primary.lossless,
    Verb.SOLO: primary.solo,
    Verb.ACCOUNTS: primary.accounts,
    Verb.LOCK_OUT: primary.lock_out,
    Verb.CLOSE: primary.close,
    Verb.FENCE: primary.fence,
    Verb.PROMISE: primary.promise,
    Verb.FOLLOW: replica.follow,
    Verb.ACKER: replica.acker,
    Verb.REVOKE: replica.revoke,
    Verb.DRAIN: replica.drain,
    Verb.RECEIVED: replica.received,
    Verb.DETACH: replica.detach,
    Verb.REBUILD: rebuild.rebuild,
    Verb.SEND: rebuild.send,
    Verb.UNDO: rebuild.undo,
}


GIVE_A_ROLE: Final = frozenset({Verb.OPEN, Verb.FOLLOW, Verb.ACKER, Verb.DETACH})
"""Refused while the data of the node is being replaced: an order that its sender gave without knowing of that must not find a
node that acknowledges, or that forgets whose member it is, and then has other data."""


def perform(ports: Ports, hostname: str, verb: Verb, command: Command) -> Answer:
    """Promise, then act. Raises StaleEpoch, StepFailed, or ValueError for arguments that make no sense."""
    work = Work(ports, verb, command, hostname)
    try:
        if verb is not Verb.FENCE:  # which kills also when its promise cannot be written
            work.promise()
        _check_data_stays(work)
        facts = VERBS[verb](work)
    except DatabaseError as error:
        raise StepFailed(hostname, verb.value, "database", str(error)) from error
    except ProcessError as error:
        raise StepFailed(hostname, verb.value, "process", str(error)) from error
    except StateError as error:
        raise StepFailed(hostname, verb.value, "state", str(error)) from error
    except PositionsNotComparable as error:
        raise StepFailed(hostname, verb.value, "positions", str(error)) from error
    except KeyError as error:
        raise ValueError(f"argument {error} is missing") from error
    return Answer(facts=facts, steps=work.steps)


def _check_data_stays(work: Work) -> None:
    task = work.ports.tasks.report()
    if work.verb in GIVE_A_ROLE and task is not None and task.active and task.kind in REPLACES_DATA:
        raise work.refusal("task", f"its data is being replaced ({task.phase.value}): wait until that has ended")
