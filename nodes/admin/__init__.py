"""The operator's screens: one package per screen, beside them what several share. They show state; a button validates and writes a wish."""

from . import users
from .application.screen import ApplicationNodeAdmin
from .audit.screen import AuditLog
from .events.screen import EventAdmin
from .operations.screen import OperationAdmin
from .services.screen import AppServiceAdmin
from .vault.screen import VaultNodeAdmin
from .work_queues.screen import WorkQueues

__all__ = [
    "AppServiceAdmin",
    "ApplicationNodeAdmin",
    "AuditLog",
    "EventAdmin",
    "OperationAdmin",
    "VaultNodeAdmin",
    "WorkQueues",
    "users",
]
