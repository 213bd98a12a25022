"""The live loop's rate beside the time of YOLOX-Nano's neck, which says how fast the machine is at that moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

# The loop is the one that `python -m salgan_edge.benchmarks.live` measures.
from salgan_edge.benchmarks.figures import LIVE, LIVE_FPS
from salgan_edge.benchmarks.live import stream_rates
from salgan_edge.benchmarks.peers.networks import neck_peer
from salgan_edge.benchmarks.record import Row
from salgan_edge.benchmarks.streams import MemorySource, moving_frames

from salgan_edge.cpus import allowed_cpus
from salgan_edge.devices import Execution
from salgan_edge.predictor import SaliencyPredictor
from salgan_edge.video.pipeline import plan_stream

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NECK_MS", "live_row"]

NECK_MS = 8.2
"""Milliseconds of the neck at 256x256 on one thread of the machine that the figure is meant for."""
_NECK_RUNS = 20


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
