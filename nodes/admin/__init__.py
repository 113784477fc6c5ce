"""The operator's screens: one file per model. They show state; a button validates and writes a wish."""

from . import application, audit, events, operations, rq_dashboard, service, users, vault

__all__ = ["application", "audit", "events", "operations", "rq_dashboard", "service", "users", "vault"]
