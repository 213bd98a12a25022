"""Ranges of activations: measured on calibration photos, clipped where that costs less than it gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from salgan_edge.export.quantise import Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt
    import onnx

    Values = npt.NDArray[np.float32]

__all__ = ["Observed", "least_error", "min_max", "observe", "only_into_silu"]

_KEPT = 1024
"""Values kept of each tensor and photo, evenly spread."""

_SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


class Observed:
    """What was seen of one tensor."""

    def __init__(self) -> None:
        self.low = np.inf
        self.high = -np.inf
        self._samples: list[Values] = []

    def add(self, values: Values) -> None:
        """Take in the values of one photo."""
        flat = values.reshape(-1)
        self.low = min(self.low, float(flat.min()))
        self.high = max(self.high, float(flat.max()))
        # A stride that is no multiple of a row's length goes through all columns.
        self._samples.append(flat[:: max(1, flat.size // _KEPT) | 1].copy())

    @property
    def samples(self) -> Values:
        """Some of the values."""
        return np.concatenate(self._samples)


def observe(
    run: Callable[[Sequence[str], int], Sequence[Values]], names: Sequence[str], count: int
) -> dict[str, Observed]:
    """Watch tensors while a graph runs.

    Args:
        run: gives the tensors for photo number n.
        names: tensors.
        count: number of photos.
    """
    seen = {name: Observed() for name in names}
    for n in range(count):
        for name, values in zip(names, run(names, n), strict=True):
            seen[name].add(values)
    return seen


def min_max(seen: Mapping[str, Observed]) -> dict[str, Range]:
    """Ranges that clip nothing of what was seen."""
    return {name: Range(observed.low, observed.high) for name, observed in seen.items()}


def least_error(seen: Mapping[str, Observed], silu: Iterable[str]) -> dict[str, Range]:
    """Ranges of the least squared error: clipping few large values makes all steps smaller.

    Args:
        seen: values of each tensor.
        silu: tensors that only ``x * sigmoid(x)`` reads; the error behind it counts, so that large
            negative values, which it maps to 0, take no room.
    """
    behind = set(silu)
    return {name: _best(observed, name in behind) for name, observed in seen.items()}


def _best(observed: Observed, silu: bool) -> Range:
    values = observed.samples
    wanted = _silu(values) if silu else values

    def error(kept: Range) -> float:
        steps = np.rint(values / np.float32(kept.scale)) + np.float32(kept.zero)
        got = (steps.clip(0, 255) - np.float32(kept.zero)) * np.float32(kept.scale)
        return float(np.square((_silu(got) if silu else got) - wanted).mean())

    best = Range(observed.low, observed.high)
    for _ in range(2):
        lows = [Range(share * observed.low, best.high) for share in _SHARES]
        best = min(lows, key=error)
        highs = [Range(best.low, share * observed.high) for share in _SHARES]
        best = min(highs, key=error)
    return best


def _silu(values: Values) -> Values:
    result: Values = values / (1 + np.exp(-values.clip(-60, None)))
    return result


def only_into_silu(model: onnx.ModelProto) -> list[str]:
    """Tensors whose every reader is part of ``x * sigmoid(x)``."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for name, nodes in readers.items():
        gates = {node.output[0] for node in nodes if node.op_type == "Sigmoid"}
        products = [node for node in nodes if node.op_type != "Sigmoid"]
        if gates and products and all(n.op_type == "Mul" and gates & set(n.input) for n in products):
            found.append(name)
    return found
