"""The operator's screens: one file per model. They show state; a button validates and writes a wish."""

from . import application, service, vault

__all__ = ["application", "service", "vault"]
