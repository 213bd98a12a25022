"""Time of generator graphs, interleaved in one run, so that a busy machine slows all alike.

Runs alternate in blocks, not one by one: onnxruntime's worker threads spin for a while after a
run, and would take a core from the graph that is timed next.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge import contract
from salgan_edge.session import GraphSession, allowed_cpus, installed_packages

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["Timing", "machine", "time_generators"]

_PAUSE = 0.05
"""Seconds after which idle threads of the other graph have stopped spinning."""


@dataclass(frozen=True)
class Timing:
    """Steady-state time of one graph."""

    name: str
    size: int
    """Side of the square photo given to the graph, in pixels."""
    threads: int
    runs: int
    median_ms: float
    p90_ms: float
    first_ms: float
    """Time of the first run, kept apart."""


def machine() -> dict[str, str | int]:
    """What the timings were taken on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - no path of ours
            model = next(
                (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model
            )
    except OSError:
        pass
    return {
        "cpu": model,
        "allowed_cpus": allowed_cpus(),
        "system": platform.system(),
        "python": platform.python_version(),
        **installed_packages(),
    }


def time_generators(
    graphs: Mapping[str, tuple[Path, int]], threads: int, blocks: int = 6, runs: int = 5
) -> list[Timing]:
    """Time graphs in turn, a block of runs each.

    Args:
        graphs: name to file and side of the square photo to give it.
        threads: CPU threads.
        blocks: blocks for each graph, after one that is not counted.
        runs: measured runs in a block, after a pause and a run that is not counted.
    """
    random = np.random.default_rng(0)
    sessions, inputs, first = {}, {}, {}
    for name, (path, size) in graphs.items():
        session = GraphSession(path, "cpu", threads)
        dimension = session.inputs[contract.TEXT_EMBEDDING][1][-1]
        assert isinstance(dimension, int)
        text = random.normal(size=(1, 1, dimension)).astype(np.float32)
        image = random.integers(0, 256, (1, size, size, 3), np.uint8)
        sessions[name] = session
        inputs[name] = {contract.IMAGE: image, contract.TEXT_EMBEDDING: text / np.linalg.norm(text)}
        first[name] = _once(session, inputs[name])
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for block in range(1 + blocks):
        for name, session in sessions.items():
            time.sleep(_PAUSE)
            _once(session, inputs[name])
            elapsed = [_once(session, inputs[name]) for _ in range(runs)]
            if block > 0:
                times[name] += elapsed
    return [
        Timing(
            name=name,
            size=graphs[name][1],
            threads=threads,
            runs=len(times[name]),
            median_ms=float(np.median(times[name])),
            p90_ms=float(np.percentile(times[name], 90)),
            first_ms=first[name],
        )
        for name in graphs
    ]


def _once(session: GraphSession, inputs: dict[str, npt.NDArray[Any]]) -> float:
    started = time.perf_counter()
    session.run(contract.SALIENCY, inputs)
    return 1000 * (time.perf_counter() - started)
