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
