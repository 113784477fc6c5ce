"""How long a stream of bytes has to pause so that it keeps to its rate. Pure: time is an argument, in seconds of any monotonic clock."""

from dataclasses import dataclass
from typing import Final

SMALLEST_RATE: Final = 64 * 1024
"""Bytes a second. A copy slower than this would be taken for a dead one, and takes four hours for a GiB."""
BURST_SECONDS: Final = 0.1
"""What was not used for this long may be used at once; a stream that stood still does not make up for it."""
PIECE_SECONDS: Final = 0.05
SMALLEST_PIECE: Final = 16 * 1024
LARGEST_PIECE: Final = 1024 * 1024


@dataclass(frozen=True)
class Bucket:
    """A token bucket. `tokens` are bytes that may go at `at`; below zero they were taken in advance."""

    rate: int
    """Bytes a second; 0: no limit."""
    tokens: float
    at: float


def full(rate: int, now: float) -> Bucket:
    """At the beginning of a stream."""
    return Bucket(rate, rate * BURST_SECONDS, now)


def take(bucket: Bucket, size: int, now: float) -> tuple[Bucket, float]:
    """`size` bytes go now. Returns the bucket after that, and how many seconds to wait before the next take."""
    if not bucket.rate:
        return bucket, 0.0
    elapsed = max(0.0, now - bucket.at)
    tokens = min(bucket.tokens + elapsed * bucket.rate, bucket.rate * BURST_SECONDS) - size
    return Bucket(bucket.rate, tokens, now), max(0.0, -tokens / bucket.rate)


def piece(rate: int) -> int:
    """How many bytes to take at a time, so that the stream flows evenly instead of in gulps."""
    return LARGEST_PIECE if not rate else max(SMALLEST_PIECE, min(LARGEST_PIECE, int(rate * PIECE_SECONDS)))


def reason_against(rate: int) -> str:
    """Why this rate cannot be kept, as a sentence; "" when it can. 0 means no limit."""
    if rate < 0 or 0 < rate < SMALLEST_RATE:
        return f"a rate of {rate} bytes a second is no rate for a copy: give at least {SMALLEST_RATE // 1024} KiB a second, or 0 for no limit"
    return ""
