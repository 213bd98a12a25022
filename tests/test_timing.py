"""Times of several things measured in turn: figures of samples, ratios with intervals, and the order of runs. No speed is asserted."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from salgan_edge.timing import Ratio, Stats, interleave, ratio_interval

# Statistics


def test_statistics_worked_by_hand():
    stats = Stats.of([[4.0, 1.0], [2.0], [3.0, 10.0]], cpu_ms=7.0)
    assert (stats.runs, stats.median_ms, stats.mean_ms, stats.least_ms, stats.most_ms) == (
        5,
        3.0,
        4.0,
        1.0,
        10.0,
    )
    # Distances from 3: 1, 2, 1, 0, 7.
    assert stats.mad_ms == 1.0
    assert stats.per_second == 250.0
    assert stats.cpu_ms == 7.0
    # Linear interpolation between the sorted 4 and 10: at 0.9 * 4 = 3.6 and 0.99 * 4 = 3.96.
    assert stats.p90_ms == pytest.approx(4 + 0.6 * 6)
    assert stats.p99_ms == pytest.approx(4 + 0.96 * 6)
    assert stats.blocks == ((4.0, 1.0), (2.0,), (3.0, 10.0))


@pytest.mark.parametrize("blocks", [[], [[]]])
def test_no_samples_are_refused(blocks):
    with pytest.raises(ValueError, match="no run was measured"):
        Stats.of(blocks)


def simulated(random, ratio, blocks=10, runs=5):
    """Blocks of two subjects: both are slower together from block to block, and vary a little by themselves."""
    speed = random.lognormal(0, 0.3, (blocks, 1))
    a = ratio * speed * random.lognormal(0, 0.05, (blocks, runs))
    b = speed * random.lognormal(0, 0.05, (blocks, runs))
    return a.tolist(), b.tolist()


def test_the_interval_holds_the_known_ratio_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    inside, widths = 0, []
    for seed in range(200):
        found = ratio_interval(*simulated(random, 2.5), resamples=300, seed=seed)
        assert found.low <= found.ratio <= found.high
        inside += found.low <= 2.5 <= found.high
        widths.append((found.high - found.low) / found.ratio)
    assert inside >= 0.9 * 200
    # Medians of pairs of blocks vary far less than the speed of the machine, which is 30 %.
    assert np.median(widths) < 0.25


def test_pairs_of_blocks_make_the_interval_narrow():
    a, b = simulated(np.random.default_rng(1), 2.5)
    paired, apart = ratio_interval(a, b), ratio_interval(a, b, paired=False)
    assert paired.ratio == pytest.approx(apart.ratio, rel=0.1)
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_a_machine_whose_speed_jumps_between_two_blocks():
    """Half as fast from round 3 on, but for the block of `b` in that round: 3 to 2 in four of five rounds."""
    a = [[3.0], [3.0], [6.0], [6.0], [6.0]]
    b = [[2.0], [2.0], [2.0], [4.0], [4.0]]
    assert ratio_interval(a, b).ratio == pytest.approx(1.5)
    assert ratio_interval(b, a).ratio == pytest.approx(1 / 1.5)
    assert ratio_interval(a, b, paired=False).ratio == 3.0


def test_ratio_of_samples_without_noise():
    assert ratio_interval([[6.0, 6.0], [6.0]], [[2.0], [2.0, 2.0, 2.0], [2.0]]) == pytest.approx(
        Ratio(3.0, 3.0, 3.0)
    )
    assert ratio_interval([[1.0, 2.0]], [[1.0, 2.0]], seed=4) == ratio_interval(
        [[1.0, 2.0]], [[1.0, 2.0]], seed=4
    )
    assert ratio_interval([[1.0] * 5, []], [[1.0] * 5], paired=False) == Ratio(1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="samples of both"):
        ratio_interval([[]], [[1.0]])


# Interleaving


class Machine:
    """A clock that only its subjects and pauses move."""

    def __init__(self):
        self.now = 0.0
        self.cpu = 0.0
        self.events = []

    def clock(self):
        return self.now

    def cpu_clock(self):
        return self.cpu

    def sleep(self, seconds):
        self.now += seconds
        self.events.append("pause")

    def subject(self, name, seconds):
        def run():
            self.now += seconds
            self.cpu += 2 * seconds
            self.events.append((name, gc.isenabled()))

        return run

    def measure(self, subjects, **options):
        made = {name: self.subject(name, seconds) for name, seconds in subjects.items()}
        return interleave(made, clock=self.clock, cpu_clock=self.cpu_clock, sleep=self.sleep, **options)


def test_blocks_alternate_with_a_pause_before_each():
    fake = Machine()
    found = fake.measure({"a": 0.02, "b": 0.03}, warmup=2, min_runs=20, block=5, min_blocks=1)
    assert [len(block) for block in found["a"].blocks] == [5, 5, 5, 5]
    assert [len(block) for block in found["b"].blocks] == [5, 5, 5, 5]
    # Two runs of each that warm up, then four rounds; the second and the fourth the other way round.
    a, b = ["pause", *["a"] * 6], ["pause", *["b"] * 6]
    names = [event if isinstance(event, str) else event[0] for event in fake.events]
    assert names == ["a", "a", "b", "b", *a, *b, *b, *a, *a, *b, *b, *a]
    assert (found["a"].median_ms, found["b"].median_ms) == (pytest.approx(20), pytest.approx(30))
    assert (found["a"].cpu_ms, found["b"].cpu_ms) == (pytest.approx(40), pytest.approx(60))


def test_garbage_is_collected_only_between_blocks():
    fake = Machine()
    gc.enable()
    fake.measure({"a": 0.02}, warmup=1, min_runs=10, min_blocks=1)
    assert [event[1] for event in fake.events if event != "pause"] == [True, *[False] * 12]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        interleave({"a": lambda: 1 // (0 if not gc.isenabled() else 1)}, sleep=lambda _: None)
    assert gc.isenabled()


def test_long_runs_end_by_time_and_short_ones_are_repeated():
    fake = Machine()
    found = fake.measure({"slow": 0.3, "fast": 1e-3}, min_runs=50, min_seconds=1.5, min_blocks=3)
    # Half a second ends a block: two runs of 0.3 s. 1.5 s are enough, though it has no 50 runs.
    assert [len(block) for block in found["slow"].blocks][:3] == [2, 2, 2]
    assert found["slow"].runs < 50
    # Ten milliseconds in a block at least, and as many blocks as the other.
    assert {len(block) for block in found["fast"].blocks} <= {10, 11}
    assert len(found["fast"].blocks) == len(found["slow"].blocks)
    assert found["fast"].runs >= 50
    # After a pause, runs are not counted for 15 ms, and one run at least.
    pauses = [n for n, event in enumerate(fake.events) if event == "pause"]
    assert [event[0] for event in fake.events[pauses[0] : pauses[1]][1:]] == ["slow"] * 3
    assert len(fake.events[pauses[1] : pauses[2]]) - 1 - len(found["fast"].blocks[0]) in (15, 16)


def test_time_is_up_though_there_are_few_runs():
    fake = Machine()
    shares = []
    found = fake.measure({"a": 0.4}, min_runs=50, min_seconds=100, max_seconds=3, progress=shares.append)
    assert 1 <= found["a"].runs <= 8
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert interleave({}) == {}
