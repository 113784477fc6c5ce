"""The events: list, page, export."""
