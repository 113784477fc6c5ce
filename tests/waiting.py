"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_SECONDS = 0.02


def wait_for(condition: Callable[[], T], timeout: float, message: str | Callable[[], str] = "") -> T:
    """Call `condition` until it returns something true, and return that.

    timeout: seconds. message: what was waited for, or a function that says what is there instead.
    Raises AssertionError at the deadline; an exception of the last try is its cause. An AssertionError or OSError in a
    try counts as "not yet".
    """
    deadline = time.monotonic() + timeout
    while True:
        last: Exception | None = None
        try:
            if value := condition():
                return value
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(_sentence(timeout, message, last)) from last
        time.sleep(PAUSE_SECONDS)


def _sentence(timeout: float, message: str | Callable[[], str], last: Exception | None) -> str:
    what = message() if callable(message) else message
    return f"not within {timeout:g} s: {what or 'the condition'}" + (f" ({last})" if last else "")
