"""``python -m salgan_edge.benchmarks.soak``: does a live loop that runs for long keep its memory and pace?"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from salgan_edge.benchmarks.latency import machine
from salgan_edge.benchmarks.streams import moving_frames, simulated_camera

from salgan_edge.devices import Device, Execution
from salgan_edge.files import writing
from salgan_edge.live import LivePipeline
from salgan_edge.live_output import JsonLines, LiveOutput
from salgan_edge.planning import plan_stream
from salgan_edge.predictor import SaliencyPredictor
from salgan_edge.stabilise import Stabiliser

__all__ = ["main", "resident_bytes"]

_SAMPLE_SECONDS = 5.0
_PROMPT_SECONDS = 2.0
_WARM_SECONDS = 60.0


@dataclass(frozen=True)
class _Sample:
    seconds: float
    megabytes: float
    frames: int
    fps: float
    age_ms: float
    """Median of the frames since the last sample."""


def resident_bytes() -> int:
    """Memory of this process that lies in RAM. Linux only.

    Raises:
        OSError: another system.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmRSS in /proc/self/status")


def main(
    minutes: Annotated[float, typer.Option(min=0.1)] = 10.0,
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="Default: the embedded one.")] = None,
    fps: Annotated[float, typer.Option(help="Of the simulated camera.")] = 1000.0,
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
    wanted: Device = device  # type: ignore[assignment]

    def load(how: Execution) -> SaliencyPredictor:
        return SaliencyPredictor.load(bundle, execution=how)

    plan = plan_stream(load, Execution(wanted), live=True)
    frames = moving_frames(width, height)
    samples: list[_Sample] = []
    with tempfile.TemporaryDirectory() as folder:
        lines = (Path(folder) / "lines.jsonl").open("w", encoding="utf-8")
        pipeline = LivePipeline(
            simulated_camera(frames, fps),
            plan.predictor,
            ["a cup"],
            stabiliser=Stabiliser(),
            workers=plan.workers,
        )
        live = LiveOutput(pipeline, JsonLines([lines], plan.predictor.device, 5), Path(folder) / "soak.mkv")
        with lines, closing(pipeline), closing(live):
            _run(live, 60 * minutes, samples)
        dropped = pipeline.dropped
    warm = [sample for sample in samples if sample.seconds >= min(_WARM_SECONDS, 30 * minutes)]
    growth = max(sample.megabytes for sample in warm) - warm[0].megabytes
    first, last = (float(np.median([s.fps for s in part])) for part in (warm[:6], warm[-6:]))
    typer.echo(
        f"{samples[-1].frames} frames in {samples[-1].seconds:.0f} s, {dropped} dropped; memory "
        f"{warm[0].megabytes:.1f} MB after {warm[0].seconds:.0f} s, at most {growth:.1f} MB more later; "
        f"{first:.0f} fps at first, {last:.0f} at the end"
    )
    if output is not None:
        record = {
            "bundle": plan.predictor.bundle.manifest.bundle_id,
            "machine": machine(),
            "settings": {"minutes": minutes, "fps": fps, "width": width, "height": height},
            "growth_mb": growth,
            "dropped": dropped,
            "samples": [vars(sample) for sample in samples],
        }
        with writing(output) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if growth > limit:
        raise typer.Exit(1)


def _run(live: LiveOutput, seconds: float, samples: list[_Sample]) -> None:
    """Take results for some time, and note memory and pace."""
    started = time.monotonic()
    sampled, prompted = started, started
    frames, ages = 0, []
    while (now := time.monotonic()) - started < seconds:
        result = live.pipeline.get(1)
        if result is None:
            continue
        live.take(result, [0], draw=True)
        ages.append(live.meter.age)
        if now - prompted >= _PROMPT_SECONDS:
            prompted = now
            live.pipeline.set_texts([f"a thing of kind {round(now - started)}"])
        if now - sampled >= _SAMPLE_SECONDS:
            sample = _Sample(
                round(now - started, 1),
                resident_bytes() / 2**20,
                live.meter.frames,
                (live.meter.frames - frames) / (now - sampled),
                1000 * float(np.median(ages)),
            )
            samples.append(sample)
            frames, ages, sampled = live.meter.frames, [], now
            if sys.stderr.isatty() or len(samples) % 12 == 0:
                typer.echo(
                    f"{sample.seconds:6.0f} s  {sample.megabytes:7.1f} MB  {sample.fps:5.0f} fps  "
                    f"age {sample.age_ms:5.1f} ms",
                    err=True,
                )


if __name__ == "__main__":
    typer.run(main)
