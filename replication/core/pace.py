"""How fast something long moves, and how long it will still take: from samples of the last seconds. Pure."""

from collections.abc import Sequence
from typing import Final

WINDOW: Final = 10.0
"""Seconds that the rate looks back: long enough to be calm, short enough to follow a throttle."""
LEAST: Final = 1.0
"""Seconds between the oldest and the newest sample before a rate is worth saying."""
EVERY: Final = 1.0
"""Seconds between two samples that are kept."""

Sample = tuple[float, int]
"""Seconds since the operation began, and how much was done by then."""


def with_sample(samples: Sequence[Sample], at: float, done: int) -> tuple[Sample, ...]:
    """The samples with one more, thinned to one a second and to twice the window.

    Starting afresh (less is done than before) forgets what went before: it says nothing of the pace now.
    """
    kept = [s for s in samples if s[1] <= done and s[0] <= at and at - s[0] <= 2 * WINDOW]
    if len(kept) >= 2 and at - kept[-2][0] < EVERY:
        kept[-1] = (at, done)
    else:
        kept.append((at, done))
    return tuple(kept)


def rate(samples: Sequence[Sample]) -> float | None:
    """Units a second over the last WINDOW; 0.0 when nothing moved, None when too little is known."""
    if not samples:
        return None
    newest = samples[-1]
    recent = [s for s in samples if newest[0] - s[0] <= WINDOW]
    elapsed = newest[0] - recent[0][0]
    return (newest[1] - recent[0][1]) / elapsed if elapsed >= LEAST else None


def seconds_left(samples: Sequence[Sample], done: int | None, total: int | None) -> float | None:
    """None when it is not known: nothing moved lately, or how much there is to do is not known."""
    speed = rate(samples)
    if not speed or done is None or total is None:
        return None
    return max(0.0, total - done) / speed
