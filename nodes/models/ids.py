from uuid import uuid4


def new_id() -> str:
    """Primary key of vaults, nodes and operations: 32 hex digits, the same in the database, on the wire and in logs."""
    return uuid4().hex
