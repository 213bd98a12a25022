"""Live streams for benchmarks, and ``python -m salgan_edge.benchmarks.live``: how much of the generator's rate is left end to end.

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

import cv2
import numpy as np
import typer
from salgan_edge.benchmarks.peers.networks import neck_peer
from salgan_edge.benchmarks.record import Row, machine
from salgan_edge.benchmarks.report import table

from salgan_edge import samples
from salgan_edge.cpus import allowed_cpus
from salgan_edge.devices import Execution
from salgan_edge.files import writing
from salgan_edge.predictor import SaliencyPredictor
from salgan_edge.video.frames import Frame, Source
from salgan_edge.video.output import LiveOutput
from salgan_edge.video.pipeline import Plan, Stream, leave_cores_to_frames, plan_stream
from salgan_edge.video.sources import LiveSource, open_source
from salgan_edge.video.stabiliser import Stabiliser

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ["LIVE", "LIVE_FPS", "live_row", "main", "moving_frames", "simulated_camera", "stream_rates"]

LIVE = "live loop, overlay drawn"
"""Name of `live_row`, in the group ``end_to_end``."""
LIVE_FPS = "scaled_frames_per_second"
NECK_MS = 8.2
"""Milliseconds of YOLOX-Nano's neck at 256x256 on one thread of the machine that the figure is meant for."""

_NECK_RUNS = 20
_TEXT = "a cup"
_MOST_AGES = 100_000


def moving_frames(width: int, height: int, count: int = 30) -> list[Pixels]:
    """A sample photo as seen by a camera that moves in a circle, RGB uint8 (height, width, 3)."""
    photo = cv2.resize(samples.load("coffee"), (width * 5 // 4, height * 5 // 4))
    frames: list[Pixels] = []
    for number in range(count):
        angle = 2 * np.pi * number / count
        x, y = (
            round(side / 8 * (1 + turn))
            for side, turn in zip((width, height), (np.cos(angle), np.sin(angle)), strict=True)
        )
        frames.append(np.ascontiguousarray(photo[y : y + height, x : x + width], np.uint8))
    return frames


def write_video(path: Path, frames: list[Pixels], count: int) -> None:
    """Write frames over and over, `count` in all, as motion JPEG, which cameras send too."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (width, height))
    for number in range(count):
        writer.write(cv2.cvtColor(frames[number % len(frames)], cv2.COLOR_RGB2BGR))
    writer.release()


class MemorySource(Source):
    """Frames over and over, as fast as they are taken, for some seconds.

    Args:
        frames: RGB uint8 (H, W, 3).
        seconds: from the first frame on.
    """

    def __init__(self, frames: list[Pixels], seconds: float) -> None:
        self.name = "memory"
        self.fps = 30.0
        self._frames, self._seconds = frames, seconds
        self._number = 0
        self._end = float("inf")

    def __next__(self) -> Frame:
        """The next frame."""
        now = time.monotonic()
        if self._number == 0:
            self._end = now + self._seconds
        if now >= self._end:
            raise StopIteration
        number = self._number
        self._number += 1
        return Frame(self._frames[number % len(self._frames)], number, now, number / 30)

    def close(self) -> None:
        """End."""
        self._end = 0.0


class Timer:
    """A camera's clock: waits until each next frame is due."""

    def __init__(self, fps: float) -> None:
        """Start at the first frame."""
        self._period = 1 / fps
        self._next = time.monotonic()

    def wait(self) -> None:
        """Wait for the next frame; after a late one, the others keep their distance."""
        now = time.monotonic()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(self._next, now) + self._period


class _Camera:
    """Gives frames at a fixed rate."""

    def __init__(self, frames: list[Pixels], fps: float) -> None:
        self.fps = fps
        self._frames, self._timer = frames, Timer(fps)
        self._number = 0

    def read(self) -> tuple[Pixels, float]:
        self._timer.wait()
        image = self._frames[self._number % len(self._frames)]
        self._number += 1
        return image.copy(), time.monotonic()

    def close(self) -> None:
        pass


def simulated_camera(frames: list[Pixels], fps: float) -> LiveSource:
    """A live source that delivers frames at a fixed rate, through the real reading thread."""
    return LiveSource(lambda: _Camera(frames, fps), name="simulated camera", fps=fps)


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
    pipeline = Stream(source, plan.predictor, [_TEXT], stabiliser=Stabiliser(), workers=plan.workers)
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


def live_row(
    bundle: Path,
    neck: Path | None = None,
    *,
    seconds: float = 3.0,
    rounds: int = 5,
    threads: int | None = None,
) -> Row:
    """Frames a second from memory to the overlay, 640x480, and as many as there would be on a slower machine.

    Neck and loop are timed in turn; the neck on one thread, the loop on all. The first round warms up.

    Args:
        bundle: folder or ``.salgan`` file.
        neck: ``yolox_nano_coco.onnx``; looked for in ``../shared/weights`` where None.
        seconds: of the loop in each round.
        rounds: that are counted.
        threads: CPU threads of the loop; all allowed where None.

    Raises:
        SalganEdgeError: the bundle or the neck cannot be used.
    """
    width, height = 640, 480
    unit = neck_peer(neck, 256, 1)
    plan = plan_stream(
        lambda how: SaliencyPredictor.load(bundle, execution=how), Execution("cpu", threads), live=False
    )
    frames = moving_frames(width, height)
    rates, times = [], []
    for number in range(rounds + 1):
        found = [_milliseconds(unit.run) for _ in range(_NECK_RUNS)]
        rate = stream_rates(MemorySource(frames, seconds), plan, seconds)["fps"]
        if number:
            times.append(float(np.median(found)))
            rates.append(rate)
    scaled = np.median(np.multiply(rates, times)) / NECK_MS
    values = {
        "frames_per_second": float(np.median(rates)),
        "neck_ms": float(np.median(times)),
        LIVE_FPS: float(scaled),
    }
    parameters: dict[str, str | int | float | None] = {
        "threads": threads or allowed_cpus(),
        "width": width,
        "height": height,
        "device": "cpu",
    }
    note = f"scaled to a machine on which YOLOX-Nano's neck takes {NECK_MS} ms on one thread"
    return Row("end_to_end", LIVE, parameters, values=values, note=note)


def _milliseconds(run: object) -> float:
    assert callable(run)
    before = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - before)


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

    def load(how: Execution) -> SaliencyPredictor:
        return SaliencyPredictor.load(bundle, execution=how)

    leave_cores_to_frames()
    total = threads or allowed_cpus()
    plan = plan_stream(load, Execution(device, threads), live=True)
    lossless = plan_stream(load, Execution(device, threads), live=False)
    together = Plan(load(Execution(device, total)), 1, total)
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
    cells = []
    for name, row in median.items():
        rates = [found["fps"] for found in measured[name]]
        ages = [f"{row[key]:.1f}" if key in row else "" for key in ("age_ms", "age_p99_ms")]
        cells.append(
            [name, *(f"{rate:.0f}" for rate in (row["fps"], min(rates), max(rates))), f"{row['cpu_ms']:.2f}", *ages,
             f"{row['fps'] / alone:.0%}", f"{row['fps'] / at_once:.0%}"]
        )  # fmt: skip
    typer.echo(table(["", "fps", "least", "most", "CPU ms", "age ms", "p99", "of 1", "of 2"], cells))
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
