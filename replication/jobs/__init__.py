"""Entry points for RQ: ids in, call the work. Everything else is read again from the database."""


def run_service(slot: str) -> None:
    """The long-lived job of a service worker. `slot` tells the workers of one host apart."""
    from .service import run

    run(slot)


def run_housekeeping(slot: str) -> None:
    """The long-lived job of a housekeeping worker."""
    from .housekeeping import run

    run(slot)


def preflight(operation: str) -> None:
    """Check a node before it is added; the form waits for the row."""
    from .preflight_check import run

    run(operation)


def resynchronize(operation: str) -> None:
    """Bring fallbacks to the master's position of the moment of the click."""
    from .resynchronization import run

    run(operation)


def rebuild(operation: str) -> None:
    """Replace a node's data by a full copy of another node's."""
    from .rebuilding import run

    run(operation)


def undo(operation: str) -> None:
    """Put the data of before the last full copy back."""
    from .rebuilding import run

    run(operation)


def verify(operation: str) -> None:
    """Compare fallbacks with the master, row by row."""
    from .verification import run

    run(operation)


def export(operation: str) -> None:
    """Write the transactions that only a diverged node has to a file, and list them."""
    from .exporting import run

    run(operation)


def back_up(operation: str) -> None:
    """Write a physical backup on a fallback."""
    from .backing_up import run

    run(operation)


def remove_kept(operation: str) -> None:
    """Throw away the data of before the last full copy."""
    from .kept_data import run

    run(operation)
