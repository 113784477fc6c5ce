"""The agent's memory on disk: one JSON file, replaced as a whole and flushed before anything is done because of it."""

import json
import threading
import typing
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from replication.agent.durable import write_json
from replication.core.vault_ports import AgentState, StateError

FROM_THE_FIRST: Final = frozenset(
    {"vault", "node", "term", "epoch", "order_kind", "order_epoch", "primary_order_kind", "primary_order_epoch"}
    | {"fenced", "server_id", "source_host", "source_port", "tainted", "quarantine", "needs_rebuild"}
)
"""What the first version's agents wrote. A file without one of these is damaged; whatever was added since has a default that
says what an older agent knew, so that an upgrade finds its memory."""


class StateDamaged(Exception):
    """The file is there but cannot be believed; the text says what is wrong with it."""


class StateFile:
    """Implements core.vault_ports.State. `changed` is called after each write, on the writer's thread."""

    def __init__(self, path: Path, state: AgentState, changed: Callable[[], None] = lambda: None) -> None:
        self.path, self.changed = path, changed
        self._state = state
        self._unwritten = False
        self._lock = threading.RLock()

    def read(self) -> AgentState:
        return self._state

    def write(self, **changes: Any) -> AgentState:
        return self.update(lambda state: replace(state, **changes))

    def update(self, change: Callable[[AgentState], AgentState]) -> AgentState:
        with self._lock:
            state = change(self._state)
            if state == self._state and not self._unwritten and self.path.exists():
                return state
            try:
                save(self.path, state)
            except OSError as error:
                raise StateError(
                    f"the agent's state cannot be written to {self.path}: {error.strerror}; nothing was promised"
                ) from error
            self._state, self._unwritten = state, False
        self.changed()
        return state

    @property
    def unwritten(self) -> bool:
        return self._unwritten

    def hold(self, change: Callable[[AgentState], AgentState]) -> str:
        with self._lock:
            state = change(self._state)
            try:
                self.update(lambda _: state)
            except StateError as error:
                self._state, self._unwritten = state, True
                unwritten = str(error)
            else:
                return ""
        self.changed()
        return unwritten


def save(path: Path, state: AgentState) -> None:
    """Write durably: a crash at any moment leaves the old or the new state, whole. Raises OSError."""
    write_json(path, asdict(state))


def load(path: Path) -> AgentState | None:
    """Read the state; None when there is no file. Raises StateDamaged."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StateDamaged(f"{path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise StateDamaged(f"{path} does not hold an object")
    missing = sorted(FROM_THE_FIRST - content.keys())
    if missing:
        raise StateDamaged(f"{path} lacks {', '.join(missing)}")
    return AgentState(
        **{
            field.name: _value(path, field.name, field.type, content[field.name])
            for field in fields(AgentState)
            if field.name in content
        }
    )


def _value(path: Path, name: str, kind: Any, value: Any) -> Any:
    try:
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return kind(value)
    except ValueError as error:
        raise StateDamaged(f"{path}: {name} is {value!r}") from error
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise StateDamaged(f"{path}: {name} is {value!r}")
        return tuple(value)
    if not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or value < 0)):
        raise StateDamaged(f"{path}: {name} is {value!r}")
    return value
