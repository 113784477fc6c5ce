"""Puts another data directory in the place of the one that mariadbd runs on, in steps that can be taken up after any death.

1 journal; 2 kill mariadbd; 3 data → data.out; 4 the new one → data; 5 the memory of what the old data were is set aside; 6 start,
closed; 7 the position of the copy; 8 journal: complete; 9 data.out → data.old; 10 the journal is removed. Until 8 every step can
be undone, and is when the new data do not serve. What was done is told by the directories that are there, not by a counter; so
each step may be repeated. docs/design/rebuild.md.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

from replication.agent.durable import flush, write_json
from replication.agent.places import Places, move, read_note
from replication.agent.process import Mariadbd
from replication.agent.tasks import Task, TaskFailed, TaskInterrupted
from replication.core.roles import OrderKind, ProcessState
from replication.core.tasks import KeptData, TaskKind, TaskPhase
from replication.core.vault_ports import AgentState, BootRole, Database, DatabaseError, ProcessError, State, StateError

log = logging.getLogger(__name__)

T = TypeVar("T")

HELD: Final = "its data directory is being put in the place of another: try again when that has ended"
START_SLICE: Final = timedelta(seconds=1)
"""In the pauses verbs have their turn."""
START_PATIENCE: Final = timedelta(minutes=5)
START_TRIES: Final = 3
"""It may die of something else while it starts."""
PUT_BACK: Final = "its data of before a full copy were put back: it may lack what it has acknowledged since"
MEMORY: Final = (
    "quarantine", "needs_rebuild", "tainted", "relay_log_kept", "taint_reason", "revoked_at", "primary_order_kind",
    "primary_order_epoch", "source_host", "source_port", "to_open", "server_id", "fenced",
)  # fmt: skip
"""What the agent remembers of its data, or because of them. What it has promised is no part of that."""


class Stage(StrEnum):
    FORWARD = "forward"
    COMPLETE = "complete"
    BACK = "back"


class CannotServe(Exception):
    """The new data are of no use; the text is a clause that says why."""


class Positioned(Database, Protocol):
    """What a swap asks of the database beyond what verbs do."""

    def take_position(self, position: str, binlog_state: str) -> None:
        """Begin the binary log anew and count everything up to the position as applied."""
        ...


@dataclass(frozen=True, kw_only=True)
class Fence:
    """Whether the node was fenced, and by the order of which epoch, when the task was ordered."""

    fenced: bool
    order_epoch: int

    @classmethod
    def of(cls, state: AgentState) -> "Fence":
        return cls(fenced=state.fenced, order_epoch=state.order_epoch)

    def is_new(self, state: AgentState) -> bool:
        """Whether a fence has come since."""
        return state.fenced and self != Fence.of(state)


@dataclass(frozen=True, kw_only=True)
class Journal:
    operation: str
    kind: TaskKind
    stage: Stage = Stage.FORWARD
    position: str = ""
    """Of a copy. Data that are put back have their own."""
    binlog_state: str = ""
    server_id: int
    fence: Fence
    before: Mapping[str, Any] = field(default_factory=dict)
    """MEMORY when it began."""
    ran: bool = False
    """mariadbd was running when it began."""
    of_the_kept: Mapping[str, Any] = field(default_factory=dict)
    """MEMORY of the data that are put back."""
    why: str = ""
    """Why it goes back, as a clause."""


class Swap:
    """One at a time. What touches mariadbd or a directory runs on the verbs' thread: by `exclusive`, or because the caller is
    there already (at the start of the agent)."""

    def __init__(
        self,
        places: Places,
        process: Mariadbd,
        state: Callable[[], State],
        database: Callable[[], Positioned],
        exclusive: Callable[[Callable[[], None]], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """changed: called when other data lie there than before."""
        self.places, self.process, self._exclusive, self._changed = places, process, exclusive, changed
        self._state_of, self._database = state, database
        self._kept: KeptData | None = self._read_kept()
        self._entering = threading.Lock()
        """Of the two who want the kept data, to put them back or to remove them, one comes first."""

    @property
    def _state(self) -> State:
        return self._state_of()

    # --- what is asked of it ------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        return self.places.journal.exists()

    def kept(self) -> KeptData | None:
        return self._kept

    def measured(self, size: int) -> None:
        """So many bytes are kept."""
        if self._kept is not None:
            self._kept = replace(self._kept, bytes=size)

    def forget_kept(self, operation: str) -> bool:
        """Remove the kept data of this operation; False when there are none of it, or other data are being put in their place.
        Raises OSError."""
        with self._entering:
            kept = self._kept
            if kept is None or kept.operation != operation or self.pending:
                return False
            self._kept = None
            self.places.discard(self.places.kept)
            self.places.kept_note.unlink(missing_ok=True)  # last: data without a note are nobody's to remove
        return True

    def carry_out(self, task: Task, journal: Journal) -> None:
        """From the first step to the end. Raises TaskFailed, with what became of the data, or TaskInterrupted."""
        task.phase(TaskPhase.SWAPPING)
        self._exclusive(lambda: self._enter_alone(journal))
        self.finish(task)

    def finish(self, task: Task) -> None:
        """From wherever the journal says that it is. Raises as `carry_out`."""
        journal = self._load()
        if journal is None:
            raise TaskFailed("its journal is gone; the data are what they were before")
        try:
            if journal.stage is Stage.FORWARD:
                task.phase(TaskPhase.STARTING, position=journal.position)
                self._start(task, journal)
                complete = self._enter_stage(journal, Stage.COMPLETE)
            else:
                complete = journal
        except TaskInterrupted:
            raise
        except (CannotServe, TaskFailed, OSError, StateError) as error:
            self._go_back(journal, _clause(error))
        except Exception as error:
            log.exception("putting the new data in their place failed by a fault of ours")
            self._go_back(journal, f"{error.__class__.__name__} came up, see the agent's log")
        self._exclusive(lambda: self._complete(complete))
        task.tell(replaced=True)

    # --- at the start of the agent, on the verbs' thread ----------------------------------------------------------------

    def take_up(self, operation: str) -> Stage | None:
        """Bring the directories in order before anybody looks for them, and say where it stands; None: nothing is under way.
        Raises TaskFailed when it went back."""
        journal = self._load()
        if journal is None or journal.operation != operation:
            return None
        self.process.held = HELD
        try:
            if journal.stage is Stage.FORWARD:
                self._settle_forward(journal)
            elif journal.stage is Stage.COMPLETE:
                self._complete(journal)
        except (OSError, ProcessError, StateError) as error:
            journal = self._enter_stage(replace(journal, why=_clause(error)), Stage.BACK)
        if journal.stage is Stage.BACK:
            self._settle_back(journal)
            raise TaskFailed(_went_back(journal))
        return journal.stage

    def position(self) -> str:
        journal = self._load()
        return journal.position if journal is not None else ""

    def abandon(self) -> None:
        """A swap that no task knows of goes back, or is completed. Never raises: what cannot be done is logged, and mariadbd
        stays down."""
        self.process.held = HELD
        try:
            journal = self._load()
            if journal is None:
                self.process.held = ""
            elif journal.stage is Stage.COMPLETE:
                self._complete(journal)
            else:
                self._settle_back(journal)
        except (OSError, ValueError, ProcessError) as error:
            self.process.held = (
                f"its data directory cannot be put back in its place: {error}; then start the agent anew"
            )
            log.error("%s", self.process.held)

    # --- steps, on the verbs' thread --------------------------------------------------------------------------------------

    def _enter_alone(self, journal: Journal) -> None:
        with self._entering:
            self._enter(journal)

    def _enter(self, journal: Journal) -> None:
        state = self._state.read()
        if state.order_kind is not OrderKind.NONE or not state.vault:
            raise TaskFailed("it has become the primary, or left its vault, in the meantime; nothing was changed")
        if journal.fence.is_new(state):
            raise TaskFailed("it was fenced in the meantime; nothing was changed")
        before = {name: getattr(state, name) for name in MEMORY}
        journal = replace(journal, before=before, ran=self.process.running())
        try:
            earlier = self._load()
            if earlier is not None:
                self._settle_complete(earlier)
            if not self._incoming(journal).is_dir():
                raise TaskFailed("what was to take the place of its data is gone; nothing was changed")
            if self.places.parted.exists():
                raise TaskFailed(
                    f"{self.places.parted} is in the way, and nobody knows what it is; nothing was changed"
                )
        except (OSError, ValueError) as error:
            raise TaskFailed(f"what an earlier copy left cannot be tidied up: {error}; nothing was changed") from error
        try:
            write_json(self.places.journal, asdict(journal))
        except OSError as error:
            raise TaskFailed(
                f"{self.places.journal} cannot be written: {error.strerror}; nothing was changed"
            ) from error
        self.process.held = HELD
        try:
            self._settle_forward(journal)
        except (OSError, ProcessError, StateError) as error:
            journal = self._enter_stage(replace(journal, why=_clause(error)), Stage.BACK)
            self._settle_back(journal)
            self._start_the_old(journal)
            raise TaskFailed(_went_back(journal)) from error

    def _settle_forward(self, journal: Journal) -> None:
        places, incoming = self.places, self._incoming(journal)
        if incoming.exists():
            self._kill()
            if places.data.exists():
                move(places.data, places.parted)
            move(incoming, places.data)
        self._state.update(lambda state: _with_new_data(state, journal))

    def _complete(self, journal: Journal) -> None:
        """The new data serve, whatever happens to the old ones: what cannot be done now is done by the next agent, or swap."""
        try:
            self._settle_complete(journal)
        except OSError as error:
            log.error("the data of before cannot be set aside yet: %s", _clause(error))
            self._kept, self.process.held = None, ""

    def _settle_complete(self, journal: Journal) -> None:
        places = self.places
        if journal.kind is TaskKind.UNDO:
            if places.parted.exists():
                places.discard(places.parted)
            places.kept_note.unlink(missing_ok=True)
        elif places.parted.exists():
            if places.kept.exists():
                places.discard(places.kept)
            since = datetime.now(UTC).isoformat(timespec="milliseconds")
            write_json(
                places.kept_note,
                {
                    "operation": journal.operation,
                    "since": since,
                    "inode": places.parted.stat().st_ino,
                    "before": dict(journal.before),
                },
            )
            move(places.parted, places.kept)
        self._kept = self._read_kept()
        self._end()

    def _settle_back(self, journal: Journal) -> None:
        places, incoming = self.places, self._incoming(journal)
        if not incoming.exists() and places.data.exists():
            self._kill()
            move(places.data, incoming)
        if places.parted.exists():
            move(places.parted, places.data)
        # Where it is kept in memory only, the next write that works takes it along.
        self._state.hold(lambda state: replace(state, **{**_memory(journal.before), "fenced": _fenced(state, journal)}))
        self._end()
        if journal.kind is TaskKind.RECEIVE and places.ready.exists():
            places.discard(places.ready)

    def _start_the_old(self, journal: Journal) -> None:
        """When it ran before. What does not come of it is the ordinary revival's to try again."""
        if not journal.ran or self._state.read().fenced:
            return
        state = self._state.read()
        if state.source_host and not state.tainted:  # until its relay log is applied: as at every start
            self._state.hold(lambda now: replace(now, tainted=True, relay_log_kept=True, taint_reason=""))
        with suppress(ProcessError):
            self.process.start(BootRole.PRIMARY, START_SLICE)

    def _end(self) -> None:
        self.places.journal.unlink(missing_ok=True)
        flush(self.places.home)
        self.process.held = ""
        self._changed()

    def _kill(self) -> None:
        """Also one that an earlier agent started."""
        if self.process.running() or self.process.attach():
            self.process.kill()

    def _start_slice(self, journal: Journal) -> None:
        process, database = self.process, self._database()
        process.held = ""  # nobody else is on this thread
        try:
            process.start(BootRole.PRIMARY, START_SLICE)
        finally:
            process.held = HELD
        if journal.kind is TaskKind.RECEIVE:
            database.take_position(journal.position, journal.binlog_state)
        elif database.replica() is not None:
            database.forget_source()

    # --- on the task's thread ----------------------------------------------------------------------------------------------

    def _start(self, task: Task, journal: Journal) -> None:
        """Raises CannotServe, or TaskInterrupted."""
        until, tries = time.monotonic() + START_PATIENCE.total_seconds(), 0
        while True:
            if task.stopping.is_set():
                raise TaskInterrupted
            try:
                self._exclusive(lambda: self._start_slice(journal))
                return
            except (ProcessError, DatabaseError) as error:
                if self._state.read().fenced:
                    raise CannotServe("it was fenced before its new data were started") from error
                starts = self.process.running() and self.process.phase is ProcessState.STARTING
                tries += 0 if starts else 1
                if tries == START_TRIES or time.monotonic() > until:
                    what = "the kept data" if journal.kind is TaskKind.UNDO else "the copy"
                    raise CannotServe(f"{what} cannot be used: {error}") from error
                task.stopping.wait(0 if starts else 0.2)

    def _go_back(self, journal: Journal, why: str) -> None:
        """Raises TaskFailed, always."""
        journal = self._enter_stage(replace(journal, why=why), Stage.BACK)
        try:
            self._exclusive(lambda: self._settle_back(journal))
            self._exclusive(lambda: self._start_the_old(journal))
        except (OSError, ProcessError) as error:
            text = f"{why}, and its data of before cannot be put back: {_clause(error)}; restart its agent to try again"
            raise TaskFailed(text) from error
        raise TaskFailed(_went_back(journal))

    # --- notes ---------------------------------------------------------------------------------------------------------------

    def _incoming(self, journal: Journal) -> Any:
        return self.places.kept if journal.kind is TaskKind.UNDO else self.places.ready

    def _enter_stage(self, journal: Journal, stage: Stage) -> Journal:
        """Going back needs no note, only the decision to complete does: raises OSError for that one."""
        journal = replace(journal, stage=stage)
        try:
            write_json(self.places.journal, asdict(journal))
        except OSError:
            if stage is not Stage.BACK:
                raise
        return journal

    def _load(self) -> Journal | None:
        """Raises ValueError or OSError."""
        content = read_note(self.places.journal)
        if content is None:
            return None
        try:
            return Journal(
                **{
                    **content,
                    "kind": TaskKind(content["kind"]),
                    "stage": Stage(content["stage"]),
                    "fence": Fence(**content["fence"]),
                }
            )
        except (TypeError, KeyError) as error:
            raise ValueError(f"{self.places.journal} is damaged: {error}") from error

    def _read_kept(self) -> KeptData | None:
        try:
            note = read_note(self.places.kept_note)
            if note is None or not self.places.kept.is_dir():
                return None
            if self.places.kept.stat().st_ino != note["inode"]:
                log.error("%s is not what %s tells of: it is left alone", self.places.kept, self.places.kept_note)
                return None
            return KeptData(operation=str(note["operation"]), since=str(note["since"]), bytes=0)
        except (OSError, ValueError, KeyError) as error:
            log.error("%s cannot be read, so nothing can be put back: %s", self.places.kept_note, error)
            return None

    def memory_of_the_kept(self) -> Mapping[str, Any]:
        """Raises OSError or ValueError."""
        note = read_note(self.places.kept_note) or {}
        found = note.get("before")
        return found if isinstance(found, Mapping) else {}


def _memory(noted: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: noted[name] for name in MEMORY if name in noted}
    if "primary_order_kind" in found:
        found["primary_order_kind"] = OrderKind(found["primary_order_kind"])
    return found


def _with_new_data(state: AgentState, journal: Journal) -> AgentState:
    """What was true of the old data only is forgotten. What was promised stays; so does a fence that came since the order."""
    of_the_kept = _memory(journal.of_the_kept)
    put_back = journal.kind is TaskKind.UNDO
    return replace(
        state,
        quarantine=of_the_kept.get("quarantine", ""),
        needs_rebuild=of_the_kept.get("needs_rebuild", ""),
        tainted=put_back,
        taint_reason=PUT_BACK if put_back else "",
        relay_log_kept=False,
        revoked_at="",
        primary_order_kind=OrderKind.NONE,
        primary_order_epoch=0,
        source_host="",
        source_port=0,
        to_open=False,
        server_id=journal.server_id,
        fenced=journal.fence.is_new(state),
    )


def _fenced(state: AgentState, journal: Journal) -> bool:
    """After going back: as it was, and if a fence has come since, that."""
    return state.fenced or bool(journal.before.get("fenced"))


def _went_back(journal: Journal) -> str:
    again = "the data of before are in their place again"
    if journal.kind is TaskKind.UNDO:
        again = "the copy is in its place again, and they are kept"
    return f"{journal.why or 'the agent ended'}; {again}"


def _clause(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'the disk'}: {error.strerror or error}"
    return str(error)
