"""The rate of a copy: kept over any time, without making up for pauses, and refused where it is none."""

import itertools

import pytest

from replication.core import throttle

MIB = 1024 * 1024


@pytest.mark.parametrize("rate", [throttle.SMALLEST_RATE, 3 * MIB, 50 * MIB, 5000 * MIB])
def test_a_stream_that_waits_as_told_keeps_its_rate(rate: int) -> None:
    now, sent, bucket = 1000.0, 0, throttle.full(rate, 1000.0)
    while now < 1010.0:
        sent += throttle.piece(rate)
        bucket, pause = throttle.take(bucket, throttle.piece(rate), now)
        now += pause
    assert sent / (now - 1000.0) == pytest.approx(rate, rel=0.02)


def test_a_stream_that_stood_still_does_not_make_up_for_it() -> None:
    bucket = throttle.full(MIB, 0.0)
    bucket, _pause = throttle.take(bucket, MIB, 0.0)
    bucket, pause = throttle.take(bucket, MIB, 3600.0)
    assert pause == pytest.approx(1 - throttle.BURST_SECONDS)


def test_one_large_piece_is_paid_for_afterwards() -> None:
    _bucket, pause = throttle.take(throttle.full(MIB, 0.0), 10 * MIB, 0.0)
    assert pause == pytest.approx(10 - throttle.BURST_SECONDS)


def test_a_clock_that_does_not_move_gives_nothing() -> None:
    bucket = throttle.full(MIB, 5.0)
    pauses = []
    for _ in range(3):
        bucket, pause = throttle.take(bucket, MIB, 5.0)
        pauses.append(pause)
    assert all(later - earlier == pytest.approx(1) for earlier, later in itertools.pairwise(pauses))


def test_no_limit_never_waits() -> None:
    bucket = throttle.full(0, 0.0)
    for _ in range(3):
        bucket, pause = throttle.take(bucket, 100 * MIB, 0.0)
        assert pause == 0


@pytest.mark.parametrize(
    ("rate", "size"),
    [
        pytest.param(0, throttle.LARGEST_PIECE, id="no limit: large pieces"),
        pytest.param(throttle.SMALLEST_RATE, throttle.SMALLEST_PIECE, id="never tiny"),
        pytest.param(4 * MIB, int(4 * MIB * throttle.PIECE_SECONDS), id="twenty a second"),
        pytest.param(2**40, throttle.LARGEST_PIECE, id="never larger than a buffer"),
    ],
)
def test_pieces(rate: int, size: int) -> None:
    assert throttle.piece(rate) == size


@pytest.mark.parametrize(
    ("rate", "refused"),
    [
        pytest.param(0, False, id="no limit"),
        pytest.param(throttle.SMALLEST_RATE, False, id="the smallest"),
        pytest.param(throttle.SMALLEST_RATE - 1, True, id="below it"),
        pytest.param(1, True, id="a byte a second"),
        pytest.param(-5, True, id="less than nothing"),
    ],
)
def test_rates_that_are_none(rate: int, refused: bool) -> None:
    said = throttle.reason_against(rate)
    assert bool(said) == refused
    assert not refused or f"{rate} bytes a second" in said
