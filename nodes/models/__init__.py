"""One file per noun. Fields, constraints and querysets; no probing, no promotion, no queues."""

from .application import ApplicationNode
from .event import Event
from .lease import ServiceLease
from .node import VaultNode
from .operation import Operation
from .service import AppService
from .vault import Vault

__all__ = ["AppService", "ApplicationNode", "Event", "Operation", "ServiceLease", "Vault", "VaultNode"]
