"""Times of several subjects, measured in turn so that a busy machine slows all of them alike, and ratios of times.

Subjects alternate in blocks, not run by run: onnxruntime's worker threads spin for a while after a run and would take a core from
the next subject. Each block begins with a pause, in which they stop, and with warm-up runs that are not counted.

`interleave` returns a `Stats` for each subject; its `blocks` are the raw samples. `ratio_interval(a.blocks, b.blocks)` compares two
subjects of one call. `random_photo` and `random_texts` are fixed inputs of a generator.
"""

from __future__ import annotations

import contextlib
import gc
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    Blocks = Sequence[Sequence[float]]

__all__ = ["Ratio", "Stats", "interleave", "random_photo", "random_texts", "ratio_interval"]

_PAUSE = 0.05
"""Seconds; idle threads of the previous subject have then stopped spinning."""
_WARM = 0.015
"""Seconds of warm-up runs after the pause; at least one run."""
_LEAST_BLOCK = 0.01
"""Least seconds of a block, so that a run of microseconds is repeated often; `_MOST_RUNS` end it earlier."""
_MOST_BLOCK = 0.5
"""Seconds after which a block ends, however few runs it has."""
_MOST_RUNS = 200
_DRAWN = 40
"""Most runs that are drawn from each block for one bootstrap sample."""


@dataclass(frozen=True)
class Stats:
    """Times of one subject, in milliseconds for each run."""

    runs: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    mad_ms: float
    """Median absolute deviation from the median, a measure of spread that a few outliers do not change."""
    least_ms: float
    most_ms: float
    cpu_ms: float | None
    """CPU time of all threads of this process for one run; None where it was not measured."""
    per_second: float
    """Runs per second, pauses excluded."""
    blocks: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    """The samples in milliseconds, in blocks of consecutive runs."""

    @staticmethod
    def of(blocks: Blocks, cpu_ms: float | None = None) -> Stats:
        """Figures of samples.

        >>> Stats.of([[1.0, 2.0], [3.0, 10.0]]).median_ms
        2.5

        Args:
            blocks: milliseconds of each run.
            cpu_ms: CPU time of a run.

        Raises:
            ValueError: there is no sample.
        """
        times = np.concatenate([np.asarray(block, np.float64) for block in blocks]) if blocks else np.empty(0)
        if not times.size:
            raise ValueError("no run was measured: at least one was expected")
        median = float(np.median(times))
        mean = float(times.mean())
        return Stats(
            runs=int(times.size),
            median_ms=median,
            p90_ms=float(np.percentile(times, 90)),
            p99_ms=float(np.percentile(times, 99)),
            mean_ms=mean,
            mad_ms=float(np.median(np.abs(times - median))),
            least_ms=float(times.min()),
            most_ms=float(times.max()),
            cpu_ms=cpu_ms,
            per_second=1000 / mean if mean > 0 else 0.0,
            blocks=tuple(tuple(float(time) for time in block) for block in blocks),
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures without the samples, rounded to a tenth of a microsecond."""
        values = asdict(self)
        del values["blocks"]
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}


class Ratio(NamedTuple):
    """A ratio of times with its 95 % interval."""

    ratio: float
    low: float
    high: float


def interleave(
    subjects: Mapping[str, Callable[[], object]],
    *,
    warmup: int = 3,
    min_runs: int = 50,
    min_seconds: float = 5.0,
    min_blocks: int = 5,
    max_seconds: float = 120.0,
    block: int = 5,
    pause: float = _PAUSE,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.process_time,
    sleep: Callable[[float], object] = time.sleep,
    progress: Callable[[float], object] | None = None,
) -> dict[str, Stats]:
    """Run subjects in turn, a block of runs each, until each has enough of them.

    Every subject takes part in every round until the last one is done, so that all have the same number of blocks. Garbage is
    collected before a block and never within it.

    Args:
        subjects: what to time, by name.
        warmup: runs of each before anything is counted.
        min_runs: a subject is done when it has this many runs,
        min_seconds: or when its measured runs have taken this long;
        min_blocks: but not before it has this many blocks, which the intervals need.
        max_seconds: no round begins after this time, even if subjects are not done.
        block: runs in a block; more if they are short, fewer if they are long.
        pause: seconds before each block.
        clock: wall clock in seconds.
        cpu_clock: CPU time of this process in seconds.
        sleep: waits for a number of seconds.
        progress: called before each round with the share that is done, 0..1.

    Returns:
        Figures of each subject, with its samples, in the order given.

    Raises:
        Exception: whatever a subject raises.
    """
    samples: dict[str, list[list[float]]] = {name: [] for name in subjects}
    cpu = dict.fromkeys(subjects, 0.0)
    elapsed = dict.fromkeys(subjects, 0.0)
    runs = dict.fromkeys(subjects, 0)
    for run in subjects.values():
        for _ in range(warmup):
            run()
    gc.collect()
    began = clock()
    order = list(subjects)
    while order:
        shares = [
            min(len(samples[name]) / min_blocks, max(runs[name] / min_runs, elapsed[name] / min_seconds))
            for name in subjects
        ]
        passed = clock() - began
        if progress is not None:
            progress(min(1.0, max(min(shares), passed / max_seconds)))
        if min(shares) >= 1 or (passed >= max_seconds and min(runs.values()) > 0):
            break
        for name in order:
            with _no_garbage_collection():
                sleep(pause)
                _warm(subjects[name], clock)
                times, used = _block(subjects[name], block, clock, cpu_clock)
            samples[name].append([1000 * seconds for seconds in times])
            cpu[name] += used
            elapsed[name] += sum(times)
            runs[name] += len(times)
        # Reversed, so that no subject always follows the same other one.
        order.reverse()
    return {name: Stats.of(samples[name], 1000 * cpu[name] / max(1, runs[name])) for name in subjects}


def _warm(run: Callable[[], object], clock: Callable[[], float]) -> None:
    until = clock() + _WARM
    while True:
        run()
        if clock() >= until:
            return


def _block(
    run: Callable[[], object], least: int, clock: Callable[[], float], cpu_clock: Callable[[], float]
) -> tuple[list[float], float]:
    """Seconds of each run, and CPU seconds of all."""
    times: list[float] = []
    cpu_began, began = cpu_clock(), clock()
    while True:
        before = clock()
        run()
        after = clock()
        times.append(after - before)
        passed = after - began
        enough = len(times) >= least and passed >= _LEAST_BLOCK
        if enough or passed >= _MOST_BLOCK or len(times) >= _MOST_RUNS:
            return times, cpu_clock() - cpu_began


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    # Young objects only: a full collection takes long where much is loaded.
    gc.collect(1)
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def ratio_interval(
    a: Blocks, b: Blocks, *, paired: bool = True, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Ratio:
    """How many times as long `a` takes as `b`, with a bootstrap interval.

    Paired: the median over pairs of blocks of the ratio of their medians. A machine whose speed jumps, as a virtual one's does, slows both
    blocks of a pair, whereas the ratio of the medians of all samples would depend on how many blocks of each ran at which speed.
    Unpaired: the ratio of those medians. For the interval, blocks are drawn with replacement, in pairs or not, and then runs within each.

    Args:
        a: samples of one subject, in blocks; any unit.
        b: of the other.
        paired: block n of both was taken at about the same time; surplus blocks at the end are left out. False for samples of two
            separate measurements.
        level: confidence level.
        resamples: bootstrap samples.
        seed: of the random numbers.

    Raises:
        ValueError: one of them has no samples.
    """
    if not sum(map(len, a)) or not sum(map(len, b)):
        raise ValueError("a ratio needs samples of both")
    random = np.random.default_rng(seed)
    if paired:
        pairs = [(one, other) for one, other in zip(a, b, strict=False) if len(one) and len(other)]
        if not pairs:
            raise ValueError("a ratio needs samples of both in one round")
        a, b = [one for one, _ in pairs], [other for _, other in pairs]
    else:
        a, b = [block for block in a if len(block)], [block for block in b if len(block)]
    chosen = random.integers(0, len(a), (resamples, len(a)))
    if paired:
        # Of logarithms, so that the ratio of b to a is exactly the inverse.
        ratio = float(np.exp(np.median([np.log(np.median(one) / np.median(other)) for one, other in pairs])))
        drawn = _medians(a, chosen, random, axis=2) / _medians(b, chosen, random, axis=2)
        ratios = np.exp(np.median(np.log(drawn), axis=1))
    else:
        other = random.integers(0, len(b), (resamples, len(b)))
        ratio = float(np.median(np.concatenate(list(map(np.asarray, a)))))
        ratio /= float(np.median(np.concatenate(list(map(np.asarray, b)))))
        ratios = _medians(a, chosen, random, axis=(1, 2)) / _medians(b, other, random, axis=(1, 2))
    tail = 50 * (1 - level)
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return Ratio(ratio, float(min(low, ratio)), float(max(high, ratio)))


def _medians(
    blocks: Blocks, chosen: np.ndarray[Any, Any], random: np.random.Generator, axis: int | tuple[int, int]
) -> Any:
    """Medians of bootstrap samples.

    Args:
        blocks: the samples.
        chosen: numbers of the blocks (resamples, count).
        random: where randomness comes from.
        axis: 2 for those of each block (resamples, count), 1 and 2 for those of all (resamples,).
    """
    lengths = np.array([len(block) for block in blocks])
    table = np.zeros((len(blocks), lengths.max()))
    for row, block in zip(table, blocks, strict=True):
        row[: len(block)] = block
    drawn = int(np.clip(np.median(lengths), 1, _DRAWN))
    # (resamples, count, drawn): which run of its block each is.
    run = (random.random((*chosen.shape, drawn)) * lengths[chosen][..., None]).astype(np.intp)
    return np.median(table[chosen[..., None], run], axis=axis)


def random_photo(size: int) -> npt.NDArray[np.uint8]:
    """A photo of noise, RGB uint8 (size, size, 3), always the same."""
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)


def random_texts(count: int, dimension: int) -> npt.NDArray[np.float32]:
    """Text vectors float32 (count, dimension) of length 1, always the same."""
    vectors = np.random.default_rng(0).normal(size=(count, dimension))
    unit: npt.NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit.astype(np.float32)
