"""The words of the field as enums. Labels for screens live in nodes/choices.py."""

from enum import StrEnum


class SystemRole(StrEnum):
    """The role a node was configured with. A failover does not change it."""

    PRIMARY = "primary"
    FALLBACK = "fallback"


class OrderKind(StrEnum):
    """What an agent was last told to be; persisted before it acts (rule 11)."""

    NONE = "none"
    """Closed: a replica, or a node without a role."""
    LOSSLESS = "lossless"
    """Primary that may acknowledge only after its acker has the commit."""
    SOLO = "solo"
    """Primary that acknowledges alone; nobody is promotable beside it."""


class ProcessState(StrEnum):
    """The agent's own word on its mariadbd."""

    DOWN = "down"
    """Not running, and the agent has not seen it die (never started, or stopped on purpose)."""
    STARTING = "starting"
    UP = "up"
    HUNG = "hung"
    """The process lives but a local SQL ping has not come back within the deadline."""
    DEAD = "dead"
    """The agent saw it exit, or saw PF_EXITING; no user code of it runs any more."""


class Witness(StrEnum):
    """The second opinion: plain TCP and SQL greeting on the database port, from the controller."""

    UNKNOWN = "unknown"
    ANSWERS = "answers"
    REFUSED = "refused"
    SILENT = "silent"


class IntentKind(StrEnum):
    """What was begun on a vault and is not resolved yet."""

    FAILOVER = "failover"
    SWITCHOVER = "switchover"
    ADOPT = "adopt"
    """The metadata database is older than what is known elsewhere: the agents say what is (rule 16)."""


class VaultState(StrEnum):
    """What losing the primary this second would cost."""

    LOSSLESS = "lossless"
    """An acker holds every acknowledged write and may be promoted."""
    SOLO = "solo"
    """The primary acknowledges alone; nobody is promoted automatically."""
    CHANGING = "changing"
    """An intent is open: a failover, a switchover, or the adoption of what the agents say."""
    NEW = "new"
    """No primary yet."""


class NodeStatus(StrEnum):
    """One word per row of the Vault screen; detail (seconds, error text) is kept beside it."""

    MASTER = "master"
    MASTER_CLOSED = "master-closed"
    MASTER_READ_ONLY = "master-read-only"
    """Set read-only by hand: maintenance, not a failure."""
    MASTER_FENCED = "master-fenced"
    """It closed itself: no controller and not every other agent vouched for it."""
    MASTER_FULL = "master-full"
    """Its connection table is full; the database is well."""
    DISK_ERROR = "disk-error"
    WAITING = "slave-waiting"
    CATCHING_UP = "slave-catching-up"
    CONNECTING = "slave-connecting"
    RESYNCHRONIZING = "slave-resynchronizing"
    ERROR = "slave-error"
    NOT_FOLLOWING = "slave-not-following"
    DIVERGED = "diverged"
    DATABASE_DOWN = "database-down"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"
    INACTIVE = "inactive"
