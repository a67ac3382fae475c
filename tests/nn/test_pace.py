"""The number of threads of the steps of a training."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.nn import pace
from fastconv.threads import get_num_threads


class Clock:
    """Seconds that only steps take."""

    def __init__(self, seconds):
        self.now, self.seconds = 0.0, seconds

    def perf_counter(self):
        return self.now

    def step(self, one, size=32):
        with one.step(size):
            count = get_num_threads()
            self.now += self.seconds[count]
        return count


@pytest.mark.parametrize(("seconds", "best"), [({1: 2.0, 4: 3.0}, 1), ({1: 3.0, 4: 2.0}, 4)])
def test_the_faster_number_of_threads_is_kept(monkeypatch, seconds, best):
    clock = Clock(seconds)
    monkeypatch.setattr(pace, "time", clock)
    with fc.threads(4):
        one = pace.Pace(32)
        taken = [clock.step(one) for _ in range(pace.PERIOD)]
    trial = slice(pace.WARM_UP, pace.WARM_UP + 2 * pace.TRIALS)
    assert taken[: pace.WARM_UP] == [4] * pace.WARM_UP
    assert sorted(taken[trial]) == [1] * pace.TRIALS + [4] * pace.TRIALS
    assert set(taken[trial.stop :]) == {best}


def test_it_is_tried_again(monkeypatch):
    clock = Clock({1: 2.0, 4: 3.0})
    monkeypatch.setattr(pace, "time", clock)
    with fc.threads(4):
        one = pace.Pace(32)
        for _ in range(pace.PERIOD):
            clock.step(one)
        clock.seconds = {1: 3.0, 4: 2.0}
        taken = [clock.step(one) for _ in range(pace.PERIOD)]
    assert taken[-1] == 4


def test_the_last_batch_does_not_count(monkeypatch):
    clock = Clock({1: 2.0, 4: 3.0})
    monkeypatch.setattr(pace, "time", clock)
    with fc.threads(4):
        one = pace.Pace(32)
        for _ in range(pace.WARM_UP + 2):
            clock.step(one)
        turn = one.turn
        clock.step(one, 7)
    assert one.turn == turn


def test_training_has_the_same_bits_for_every_number_of_threads():
    x = np.random.default_rng(0).standard_normal((64, 8, 8, 1)).astype(np.float32)
    y = np.arange(64) % 3
    found = []
    for count in (1, 3):
        fc.nn.set_random_seed(0)
        model = fc.nn.Sequential(
            [fc.nn.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 1)), fc.nn.Flatten(), fc.nn.Dense(3)]
        )
        model.compile("sgd", fc.nn.losses.SparseCategoricalCrossentropy(from_logits=True))
        with fc.threads(count):
            model.fit(x, y, batch_size=4, epochs=2, verbose=0)
            assert get_num_threads() == count
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
