"""Rate and time left from samples: calm, of the last seconds, and not known rather than made up. And the steps of a row."""

from itertools import count

import pytest

from replication.core import pace
from replication.core.pace import Sample
from replication.core.steps import KEPT, Step, StepState, Track


def steady(speed: int, seconds: int, every: float = 0.5, start: float = 0.0) -> tuple[Sample, ...]:
    """The samples of something that moves evenly and says so twice a second."""
    samples: tuple[Sample, ...] = ()
    for number in range(int(seconds / every) + 1):
        at = start + number * every
        samples = pace.with_sample(samples, at, round((at - start) * speed))
    return samples


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        pytest.param((), None, id="nothing is known"),
        pytest.param(((0.0, 0),), None, id="one sample is no pace"),
        pytest.param(((0.0, 0), (0.5, 40)), None, id="half a second is too short to say"),
        pytest.param(((0.0, 0), (2.0, 40)), 20.0, id="two samples"),
        pytest.param(((0.0, 70), (5.0, 70)), 0.0, id="it stands"),
        pytest.param(((0.0, 0), (100.0, 1000), (105.0, 1005)), 1.0, id="what was long ago does not count"),
        pytest.param(steady(10**8, 30), 10**8, id="a copy of 100 MB a second"),
    ],
)
def test_rate(samples: tuple[Sample, ...], rate: float | None) -> None:
    assert pace.rate(samples) == pytest.approx(rate) if rate is not None else pace.rate(samples) is None


@pytest.mark.parametrize(
    ("done", "total", "left"),
    [
        pytest.param(1000, 3000, 20.0, id="a hundred a second"),
        pytest.param(3000, 3000, 0.0, id="there"),
        pytest.param(None, 3000, None, id="not known how far"),
        pytest.param(1000, None, None, id="not known how much"),
    ],
)
def test_seconds_left(done: int | None, total: int | None, left: float | None) -> None:
    found = pace.seconds_left(steady(100, 10), done, total)
    assert found == (pytest.approx(left) if left is not None else None)


def test_what_stands_has_no_time_left() -> None:
    assert pace.seconds_left(((0.0, 70), (5.0, 70)), 70, 100) is None


def test_samples_are_few_however_often_they_are_taken() -> None:
    assert len(steady(5, 600, every=0.05)) <= 2 * pace.WINDOW / pace.EVERY + 2


def test_beginning_afresh_forgets_the_pace_before() -> None:
    samples = pace.with_sample(steady(100, 10), 11.0, 0)
    assert samples == ((11.0, 0),) or samples == ((0.0, 0), (11.0, 0))
    assert pace.seconds_left(samples, 0, 100) is None


class Watch:
    def __init__(self) -> None:
        self.now, self.changes = 0.0, count()
        self.track = Track(lambda: self.now, lambda: next(self.changes) and None)


def test_a_step_waits_runs_and_is_done() -> None:
    watch = Watch()
    watch.track.expect("drain b", "open b")
    watch.now = 0.2
    watch.track.begins("drain b")
    watch.now = 0.5
    watch.track.done("drain b", position="0-1-7")
    assert watch.track.steps == (
        Step("drain b", StepState.DONE, 200.0, 500.0, position="0-1-7"),
        Step("open b", StepState.WAITING),
    )
    assert watch.track.position("drain b") == "0-1-7"
    assert next(watch.changes) == 3


def test_another_try_keeps_what_was_and_forgets_what_was_to_come() -> None:
    watch = Watch()
    watch.track.expect("drain b", "open b")
    watch.track.begins("drain b")
    watch.track.again("it was interrupted")
    watch.track.begins("drain b")
    assert [(s.state, s.says) for s in watch.track.steps] == [
        (StepState.FAILED, "it was interrupted"),
        (StepState.RUNNING, ""),
    ]


def test_a_row_keeps_the_beginning_and_the_end() -> None:
    watch = Watch()
    for number in range(500):
        watch.track.done(f"step {number}")
    assert len(watch.track.steps) == KEPT
    assert (watch.track.steps[0].name, watch.track.steps[-1].name) == ("step 0", "step 499")


def test_steps_survive_the_row() -> None:
    step = Step("drain b", StepState.FAILED, 2.5, 7.5, "the disk is full", "0-1-7")
    assert Step.from_json(step.to_json()) == step
    assert Step.from_json({**step.to_json(), "of a later version": 1}) == step
    assert step.later(1000.0) == Step("drain b", StepState.FAILED, 1002.5, 1007.5, "the disk is full", "0-1-7")
