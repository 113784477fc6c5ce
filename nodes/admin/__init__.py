"""The operator's screens: one package per screen, beside them what several share. They show state; a button validates and writes a wish."""

from . import users
from .application.screen import ApplicationNodeAdmin
from .audit.screen import AuditLog
from .backups.screen import BackupAdmin
from .events.screen import EventAdmin
from .losses.screen import LossReportAdmin
from .operations.screen import OperationAdmin
from .services.screen import AppServiceAdmin
from .vault.screen import VaultNodeAdmin
from .work_queues.screen import WorkQueues

__all__ = [
    "AppServiceAdmin",
    "ApplicationNodeAdmin",
    "AuditLog",
    "BackupAdmin",
    "EventAdmin",
    "LossReportAdmin",
    "OperationAdmin",
    "VaultNodeAdmin",
    "WorkQueues",
    "users",
]
