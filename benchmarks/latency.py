"""Time of generator graphs, interleaved in one run, so that a busy machine slows all alike.

Runs alternate in blocks, not one by one: onnxruntime's worker threads spin for a while after a
run, and would take a core from the graph that is timed next.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge import contract
from salgan_edge.devices import Execution
from salgan_edge.session import GraphSession

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["Subject", "Timing", "generator_subject", "text_subject", "time_graphs"]

_START_TOKEN, _END_TOKEN = 49406, 49407
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


@dataclass(frozen=True)
class Subject:
    """A graph to be timed, with an input."""

    path: Path
    """ONNX file."""
    size: int
    """Side of the square photo given to the graph, in pixels; 0 for a text encoder."""
    output: str
    """Name of the output that is asked for."""
    inputs: dict[str, npt.NDArray[Any]]


def generator_subject(path: Path, size: int, dimension: int) -> Subject:
    """A generator with a random photo of its own input size and one random text."""
    random = np.random.default_rng(0)
    text = random.normal(size=(1, 1, dimension)).astype(np.float32)
    image = random.integers(0, 256, (1, size, size, 3), np.uint8)
    inputs = {contract.IMAGE: image, contract.TEXT_EMBEDDING: text / np.linalg.norm(text)}
    return Subject(path, size, contract.SALIENCY, inputs)


def text_subject(path: Path) -> Subject:
    """A text encoder with one text of ten random tokens, padded as the tokenizer pads."""
    ids = np.full((1, contract.CONTEXT_LENGTH), _END_TOKEN, np.int64)
    ids[0, :11] = [_START_TOKEN, *np.random.default_rng(0).integers(256, 40_000, 10)]
    return Subject(path, 0, contract.TEXT_EMBEDDING, {contract.INPUT_IDS: ids})


def time_graphs(
    subjects: Mapping[str, Subject], threads: int, blocks: int = 6, runs: int = 5
) -> list[Timing]:
    """Time graphs in turn, a block of runs each.

    Args:
        subjects: what to time, by name.
        threads: CPU threads.
        blocks: blocks for each graph, after one that is not counted.
        runs: measured runs in a block, after a pause and a run that is not counted.
    """
    sessions = {
        name: GraphSession(subject.path, Execution("cpu", threads)) for name, subject in subjects.items()
    }
    first = {name: _once(session, subjects[name]) for name, session in sessions.items()}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for block in range(1 + blocks):
        for name, session in sessions.items():
            time.sleep(_PAUSE)
            _once(session, subjects[name])
            elapsed = [_once(session, subjects[name]) for _ in range(runs)]
            if block > 0:
                times[name] += elapsed
    return [
        Timing(
            name=name,
            size=subject.size,
            threads=threads,
            runs=len(times[name]),
            median_ms=float(np.median(times[name])),
            p90_ms=float(np.percentile(times[name], 90)),
            first_ms=first[name],
        )
        for name, subject in subjects.items()
    ]


def _once(session: GraphSession, subject: Subject) -> float:
    started = time.perf_counter()
    session.run(subject.output, subject.inputs)
    return 1000 * (time.perf_counter() - started)
