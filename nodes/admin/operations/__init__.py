"""The operations: list, page, report."""
