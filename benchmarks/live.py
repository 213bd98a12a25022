"""``python -m salgan_edge.benchmarks.live``: how much of the generator's rate is left end to end.

All rows are measured in turn, round by round, so that a busy machine slows all alike.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from salgan_edge.benchmarks.machine import machine
from salgan_edge.benchmarks.streams import MemorySource, moving_frames, simulated_camera, write_video

from salgan_edge.cpus import allowed_cpus
from salgan_edge.devices import Device, Execution
from salgan_edge.files import writing
from salgan_edge.predictor import SaliencyPredictor
from salgan_edge.video.output import LiveOutput
from salgan_edge.video.pipeline import LivePipeline, Plan, leave_cores_to_frames, plan_stream
from salgan_edge.video.sources import open_source
from salgan_edge.video.stabiliser import Stabiliser

if TYPE_CHECKING:
    from collections.abc import Callable

    from salgan_edge.video.frames import Source

__all__ = ["main", "stream_rates"]

_TEXT = "a cup"
_MOST_AGES = 100_000


def main(
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="Default: the embedded one.")] = None,
    width: Annotated[int, typer.Option(min=16, help="Of the frames, in pixels.")] = 640,
    height: Annotated[int, typer.Option(min=16, help="Of the frames, in pixels.")] = 480,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each row in each round.")] = 3.0,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all allowed.")] = None,
    device: Annotated[str, typer.Option(help="As of salgan-edge webcam.")] = "cpu",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write JSON here.")] = None,
) -> None:
    """Time the generator alone, and the whole way from a frame to the picture with its overlay."""
    wanted: Device = device  # type: ignore[assignment]

    def load(how: Execution) -> SaliencyPredictor:
        return SaliencyPredictor.load(bundle, execution=how)

    leave_cores_to_frames()
    total = threads or allowed_cpus()
    plan = plan_stream(load, Execution(wanted, threads), live=True)
    lossless = plan_stream(load, Execution(wanted, threads), live=False)
    together = Plan(load(Execution(wanted, total)), 1, total)
    frames = moving_frames(width, height)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.avi"
        write_video(video, frames, 2000)
        rows: dict[str, Callable[[], dict[str, float]]] = {
            f"generator alone, all {total} threads on one frame": lambda: _alone(together, frames, seconds),
            f"generator alone, {plan.workers} frames at once": lambda: _alone(plan, frames, seconds),
            "from memory to the overlay": lambda: stream_rates(
                MemorySource(frames, seconds), lossless, seconds
            ),
            "from a motion JPEG file to the overlay": lambda: stream_rates(
                open_source(video), lossless, seconds
            ),
            "camera of 30 fps": lambda: stream_rates(simulated_camera(frames, 30), plan, seconds),
            "camera of 60 fps": lambda: stream_rates(simulated_camera(frames, 60), plan, seconds),
        }
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
        for number in range(rounds + 1):
            for name, row in rows.items():
                found = row()
                if number:  # the first round warms up
                    measured[name].append(found)
    _report(measured, plan, total, output, {"width": width, "height": height, "seconds": seconds})


def _alone(plan: Plan, frames: list[Any], seconds: float) -> dict[str, float]:
    """Frames a second through `SaliencyPredictor.grids`, which resizes a frame and runs the graph."""
    vectors = plan.predictor.embed([_TEXT])
    end = time.perf_counter() + seconds
    counts = [0] * plan.workers

    def work(number: int) -> None:
        while time.perf_counter() < end:
            plan.predictor.grids(frames[counts[number] % len(frames)], vectors)
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(plan.workers)]
    started, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return _rates(sum(counts), time.perf_counter() - started, time.process_time() - cpu)


def stream_rates(source: Source, plan: Plan, seconds: float) -> dict[str, float]:
    """Frames a second from a source to the composed picture, and their age when it is done."""
    ages: list[float] = []
    pipeline = LivePipeline(source, plan.predictor, [_TEXT], stabiliser=Stabiliser(), workers=plan.workers)
    with closing(pipeline):
        output = LiveOutput(pipeline)
        first = pipeline.get(10)
        assert first is not None, "the source gives no frame"
        started, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - started < seconds:
            try:
                result = pipeline.get(1)
            except EOFError:
                break
            if result is None:
                break
            output.take(result, [0], draw=True)
            if len(ages) < _MOST_AGES:
                ages.append(output.meter.age)
        rates = _rates(len(ages), time.perf_counter() - started, time.process_time() - cpu)
    return {
        **rates,
        "age_ms": 1000 * float(np.median(ages)),
        "age_p99_ms": 1000 * float(np.percentile(ages, 99)),
        "dropped": pipeline.dropped,
    }


def _rates(frames: int, seconds: float, cpu: float) -> dict[str, float]:
    return {"fps": frames / seconds, "cpu_ms": 1000 * cpu / max(1, frames)}


def _report(
    measured: dict[str, list[dict[str, float]]],
    plan: Plan,
    total: int,
    output: Path | None,
    settings: dict[str, float],
) -> None:
    """Print a table, and write JSON."""
    median = {
        name: {key: float(np.median([found[key] for found in rounds])) for key in rounds[0]}
        for name, rounds in measured.items()
    }
    alone, at_once = (median[name]["fps"] for name in list(median)[:2])
    typer.echo(
        f"{settings['width']:.0f}x{settings['height']:.0f}, {total} CPU threads, {plan.workers} workers of "
        f"{plan.threads} thread each; medians of {len(next(iter(measured.values())))} rounds"
    )
    typer.echo(
        f"{'':<48}{'fps':>7}{'least':>7}{'most':>7}{'CPU ms':>8}{'age ms':>8}{'p99':>7}{'of 1':>7}{'of 2':>7}"
    )
    for name, row in median.items():
        rates = [found["fps"] for found in measured[name]]
        ages = f"{row['age_ms']:>8.1f}{row['age_p99_ms']:>7.1f}" if "age_ms" in row else f"{'':>15}"
        typer.echo(
            f"{name:<48}{row['fps']:>7.0f}{min(rates):>7.0f}{max(rates):>7.0f}{row['cpu_ms']:>8.2f}{ages}"
            f"{row['fps'] / alone:>7.0%}{row['fps'] / at_once:>7.0%}"
        )
    if output is not None:
        record = {
            "bundle": plan.predictor.bundle.manifest.bundle_id,
            "machine": machine(),
            "settings": {**settings, "threads": total, "workers": plan.workers},
            "rows": [{"name": name, **median[name], "rounds": rounds} for name, rounds in measured.items()],
        }
        with writing(output) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
