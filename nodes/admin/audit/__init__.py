"""The audit log: list, entry, export."""
