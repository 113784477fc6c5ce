"""One file per noun. Fields, constraints and querysets; no probing, no promotion, no queues."""

from .application import ApplicationNode
from .backup import Backup
from .event import Event
from .lag import LagSample
from .lease import ServiceLease
from .log import LogLine
from .loss import LossReport
from .node import VaultNode
from .operation import Operation
from .role import RoleGrant
from .service import AppService
from .vault import Vault
from .worker import ServiceWorker

__all__ = [
    "AppService",
    "ApplicationNode",
    "Backup",
    "Event",
    "LagSample",
    "LogLine",
    "LossReport",
    "Operation",
    "RoleGrant",
    "ServiceLease",
    "ServiceWorker",
    "Vault",
    "VaultNode",
]
