"""Runs the live loop for long and watches memory, pace and temperature.

``salgan-edge benchmark --soak 10m``, or ``python -m salgan_edge.benchmarks.soak``, whose exit code is 1 if memory grows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import psutil
import typer
from salgan_edge.benchmarks.live import moving_frames, simulated_camera
from salgan_edge.benchmarks.record import Record, Row, bundle_entry, machine, pace, save

from salgan_edge import contract
from salgan_edge.devices import Execution
from salgan_edge.predictor import SaliencyPredictor
from salgan_edge.video.output import JsonLines, LiveOutput
from salgan_edge.video.pipeline import Stream, plan_stream
from salgan_edge.video.stabiliser import Stabiliser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Sample", "SoakResult", "main", "soak", "soak_record", "tell_sample"]

_SAMPLES = 120
"""Of a whole soak at least, one in five seconds at most."""
_SAMPLE_SECONDS = 5.0
_PROMPT_SECONDS = 2.0
_WARM_SECONDS = 60.0
_FRAMES_PER_SECOND = 1000.0
"""Of the simulated camera: faster than any generator, so that the loop is always busy."""


@dataclass(frozen=True)
class Sample:
    """State of the loop at some time."""

    seconds: float
    """Since the beginning."""
    memory_mb: float
    """Resident memory of the process."""
    frames: int
    fps: float
    """Since the last sample, like all that follows."""
    age_ms: float
    """Median age of a frame when its picture is done."""
    age_p99_ms: float
    cpu_ms: float
    """CPU time of a frame."""
    mhz: float | None
    """Clock rate of the processor."""
    celsius: float | None
    """Its temperature."""


@dataclass(frozen=True)
class SoakResult:
    """Result of a soak."""

    samples: tuple[Sample, ...]
    dropped: int
    """Frames of the camera that a newer one replaced."""
    device: str
    workers: int
    """Frames in inference at once."""
    threads: int
    """CPU threads of each."""
    width: int
    height: int
    bundle: dict[str, Any] = field(default_factory=dict)
    """Of `bundle_entry`."""

    @property
    def warm(self) -> tuple[Sample, ...]:
        """Samples after the first minute, or the second half of a shorter soak."""
        after = min(_WARM_SECONDS, self.samples[-1].seconds / 2)
        return tuple(sample for sample in self.samples if sample.seconds >= after)

    @property
    def growth_mb(self) -> float:
        """Largest growth of memory in `warm` since its first sample."""
        memory = [sample.memory_mb for sample in self.warm]
        return max(memory) - memory[0]

    def rows(self) -> list[Row]:
        """A row for each sample, and one for the whole, first."""
        parameters: dict[str, str | int | float | None] = {
            "bundle": 0,
            "device": self.device,
            "threads": self.threads,
            "width": self.width,
            "height": self.height,
        }
        few = max(1, min(6, len(self.warm) // 2))
        first, last = self.warm[:few], self.warm[-few:]
        whole = {
            "frames": float(self.samples[-1].frames),
            "dropped": float(self.dropped),
            "workers": float(self.workers),
            "growth_mb": self.growth_mb,
            "fps_first": _median(sample.fps for sample in first),
            "fps_last": _median(sample.fps for sample in last),
            "age_first_ms": _median(sample.age_ms for sample in first),
            "age_last_ms": _median(sample.age_ms for sample in last),
            "celsius_most": max((s.celsius for s in self.samples if s.celsius is not None), default=None),
            "mhz_least": min((s.mhz for s in self.samples if s.mhz is not None), default=None),
        }
        rows = [Row("soak", "live loop", parameters, values=whole)]
        for sample in self.samples:
            values = asdict(sample)
            second = values.pop("seconds")
            rows.append(Row("soak", "sample", {**parameters, "second": second}, values=values))
        return rows

    def to_text(self) -> str:
        """The whole in a few lines."""
        whole = self.rows()[0].values
        warm = self.warm[0]
        how = f"{self.workers} at once with {self.threads} thread{'s' if self.threads != 1 else ''} each"
        lines = [
            f"{self.samples[-1].frames} frames of {self.width}x{self.height} in {self.samples[-1].seconds:.0f} s on {self.device}",
            f"{how}; {self.dropped} dropped",
            f"memory: {warm.memory_mb:.1f} MB after {warm.seconds:.0f} s, at most {self.growth_mb:.1f} MB more later",
            f"pace: {whole['fps_first']:.0f} frames a second at first, {whole['fps_last']:.0f} at the end",
            f"age of a frame: {whole['age_first_ms']:.1f} ms at first, {whole['age_last_ms']:.1f} ms at the end",
        ]
        if whole["celsius_most"] is not None:
            lines.append(f"temperature: {whole['celsius_most']:.0f} °C at most")
        if whole["mhz_least"] is not None:
            lines.append(f"clock: {whole['mhz_least']:.0f} MHz at least")
        return "\n".join(lines)


def soak(
    bundle: Path | None,
    execution: Execution,
    seconds: float,
    *,
    fps: float = _FRAMES_PER_SECOND,
    width: int = 640,
    height: int = 480,
    tell: Callable[[Sample], object] = lambda _: None,
) -> SoakResult:
    """Run the live loop with overlay, JSON lines, a recording and a new prompt every two seconds.

    Args:
        bundle: folder or ``.salgan`` file; the embedded bundle where None.
        execution: how to run.
        seconds: for how long.
        fps: of the simulated camera.
        width: of its frames, in pixels.
        height: likewise.
        tell: called with each sample.

    Raises:
        SalganEdgeError: the bundle or the device cannot be used.
    """

    def load(how: Execution) -> SaliencyPredictor:
        return SaliencyPredictor.load(bundle, execution=how)

    plan = plan_stream(load, execution, live=True)
    texts = plan.predictor.bundle.has(contract.TEXT_ENCODER_FILE)
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as folder:
        lines = (Path(folder) / "lines.jsonl").open("w", encoding="utf-8")
        pipeline = Stream(
            simulated_camera(moving_frames(width, height), fps),
            plan.predictor,
            ["a cup" if texts else None],
            stabiliser=Stabiliser(),
            workers=plan.workers,
        )
        live = LiveOutput(pipeline, JsonLines([lines], plan.predictor.device, 5), Path(folder) / "soak.mkv")
        with lines, closing(pipeline), closing(live):
            for sample in _run(live, seconds, texts=texts):
                samples.append(sample)
                tell(sample)
        dropped = pipeline.dropped
    return SoakResult(
        tuple(samples),
        dropped,
        plan.predictor.device,
        plan.workers,
        plan.threads,
        width,
        height,
        bundle_entry(plan.predictor.bundle.manifest),
    )


def _run(live: LiveOutput, seconds: float, *, texts: bool) -> Iterable[Sample]:
    """Take results for some time, and note memory and pace."""
    every = min(_SAMPLE_SECONDS, seconds / 4, max(1.0, seconds / _SAMPLES))
    started = time.monotonic()
    sampled, prompted = started, started
    frames, ages = 0, list[float]()
    cpu = time.process_time()
    while (now := time.monotonic()) - started < seconds or not ages:
        result = live.pipeline.get(1)
        if result is None:
            continue
        live.take(result, [0], draw=True)
        ages.append(live.meter.age)
        if texts and now - prompted >= _PROMPT_SECONDS:
            prompted = now
            live.pipeline.set_texts([f"a thing of kind {round(now - started)}"])
        if now - sampled >= every:
            yield _sample(live, now - started, now - sampled, time.process_time() - cpu, ages, frames)
            frames, ages, sampled, cpu = live.meter.frames, [], now, time.process_time()
    yield _sample(
        live, time.monotonic() - started, time.monotonic() - sampled, time.process_time() - cpu, ages, frames
    )


def _sample(
    live: LiveOutput, seconds: float, passed: float, cpu: float, ages: list[float], frames: int
) -> Sample:
    now = pace()
    count = live.meter.frames - frames
    return Sample(
        seconds=round(seconds, 1),
        memory_mb=psutil.Process().memory_info().rss / 1e6,
        frames=live.meter.frames,
        fps=count / passed,
        age_ms=1000 * float(np.median(ages)),
        age_p99_ms=1000 * float(np.percentile(ages, 99)),
        cpu_ms=1000 * cpu / max(1, count),
        mhz=now.mhz,
        celsius=now.celsius,
    )


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def soak_record(result: SoakResult, settings: dict[str, Any], where: dict[str, Any]) -> Record:
    """The record of a soak.

    Args:
        result: what it has shown.
        settings: what was asked for.
        where: the machine before it began.
    """
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Record(where, settings, [result.bundle], result.rows(), date, result.samples[-1].seconds)


def tell_sample(sample: Sample) -> str:
    """A line about a sample."""
    parts = [f"{sample.seconds:6.0f} s", f"{sample.memory_mb:7.1f} MB"]
    parts += [f"{sample.fps:5.0f} fps", f"age {sample.age_ms:5.1f} ms"]
    parts += [f"{sample.mhz:5.0f} MHz"] if sample.mhz is not None else []
    parts += [f"{sample.celsius:3.0f} °C"] if sample.celsius is not None else []
    return "  ".join(parts)


def main(
    minutes: Annotated[float, typer.Option(min=0.1)] = 10.0,
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="Default: the embedded one.")] = None,
    fps: Annotated[float, typer.Option(help="Of the simulated camera.")] = _FRAMES_PER_SECOND,
    width: Annotated[int, typer.Option(min=16)] = 640,
    height: Annotated[int, typer.Option(min=16)] = 480,
    device: Annotated[str, typer.Option(help="As of salgan-edge webcam.")] = "cpu",
    limit: Annotated[
        float, typer.Option(help="Megabytes that memory may grow after the first minute.")
    ] = 5.0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write JSON here.")] = None,
) -> None:
    """Run the live loop with overlay, JSON lines, a recording and a new prompt every two seconds.

    The exit code is 1 if memory grows by more than the limit.
    """
    where = machine()
    told = 0

    def tell(sample: Sample) -> None:
        nonlocal told
        told += 1
        if sys.stderr.isatty() or told % 12 == 0:
            typer.echo(tell_sample(sample), err=True)

    result = soak(bundle, Execution(device), 60 * minutes, fps=fps, width=width, height=height, tell=tell)
    typer.echo(result.to_text())
    if output is not None:
        settings = {"minutes": minutes, "fps": fps, "width": width, "height": height}
        save(soak_record(result, settings, where), output)
    if result.growth_mb > limit:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
