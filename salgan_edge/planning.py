"""How many threads and frames at once a stream gets on this machine."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from salgan_edge.cpus import allowed_cpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from salgan_edge.devices import Execution
    from salgan_edge.predictor import SaliencyPredictor

__all__ = ["Plan", "leave_cores_to_frames", "plan_stream"]

_FAST = 1 / 60
"""Seconds a frame may take on one thread before a live source gets all threads for one frame."""
_MOST_WORKERS = 8
_TRIED = (480, 640)


class Plan(NamedTuple):
    """A predictor, and how many frames it may have in inference at once."""

    predictor: SaliencyPredictor
    workers: int
    threads: int
    """CPU threads of one operator."""


def leave_cores_to_frames() -> None:
    """Keep OpenCV to one thread: frames in inference need the cores that its pool would take."""
    import cv2  # noqa: PLC0415 - nothing else here needs it

    cv2.setNumThreads(1)


def plan_stream(
    load: Callable[[Execution], SaliencyPredictor], execution: Execution, *, live: bool, spin: bool = False
) -> Plan:
    """Divide the CPU threads among frames.

    One thread for each of several frames gives more frames a second than all threads for one frame
    at a time (here 1.3 times, on two cores), and nothing has to wait spinning. But each frame then
    takes longer, which matters to a live source where one thread cannot keep pace with a camera.
    On other devices than the CPU one frame is in inference at a time.

    Args:
        load: makes a predictor.
        execution: what was asked for; its threads are those of all frames together.
        live: the age of a frame counts, not only how many there are.
        spin: let waiting threads keep their cores busy, where one operator has several threads.
    """
    total = execution.threads or allowed_cpus()
    predictor = load(replace(execution, threads=1, spinning=spin))
    if predictor.device != "cpu" or total == 1:
        return Plan(predictor, 1, 1)
    if not live:
        # One more than there are cores: somebody always waits for a turn or a frame.
        return Plan(predictor, min(total + 1, _MOST_WORKERS), 1)
    if _seconds(predictor) < _FAST:
        return Plan(predictor, min(total, _MOST_WORKERS), 1)
    return Plan(load(replace(execution, device="cpu", threads=total, spinning=spin)), 1, total)


def _seconds(predictor: SaliencyPredictor) -> float:
    """Median time of a frame, after one that warms up."""
    image = np.zeros((*_TRIED, 3), np.uint8)
    vectors = predictor.embed([None])
    spent = []
    for _ in range(4):
        started = time.perf_counter()
        predictor.grids(image, vectors)
        spent.append(time.perf_counter() - started)
    return median(spent[1:])
