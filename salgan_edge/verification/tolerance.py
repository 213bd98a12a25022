"""How far a machine's results may be from the golden ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge.metrics import cc

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Closeness", "Tolerance", "closeness", "tolerance_for"]


@dataclass(frozen=True)
class Tolerance:
    """Limits of one precision on one kind of device."""

    saliency: float
    """Largest absolute difference of a saliency value, 0..1."""
    embedding: float
    """Largest absolute difference of an entry of a text vector of length 1."""
    correlation: float
    """Least correlation of a map, and of a text vector, with the golden one."""


# Set by what the embedded model's graphs differ by when their arithmetic is changed, with room for
# other models. Figures are the largest differences of a map value.
_TOLERANCES = {
    # Another CPU adds up in another order: 2e-6 between onnxruntime's levels of optimisation.
    ("fp32", "cpu"): Tolerance(1e-4, 1e-4, 0.99999),
    # CUDA may multiply float32 as TF32, whose mantissa is float16's.
    ("fp32", "cuda"): Tolerance(5e-3, 1e-3, 0.9998),
    # A CPU may compute in float32 between the roundings to float16: 5e-5 between levels of
    # optimisation, 2e-4 between float16 and float32.
    ("fp16", "cpu"): Tolerance(2e-3, 5e-4, 0.9999),
    # A GPU may also add up in float16.
    ("fp16", "cuda"): Tolerance(1e-2, 2e-3, 0.9995),
    # Sums of bytes saturate on x86 CPUs without VNNI, and a value at the border of two steps falls
    # to either side, from where it is carried on.
    ("int8", "cpu"): Tolerance(1e-1, 5e-3, 0.99),
    ("int8", "cuda"): Tolerance(1e-1, 5e-3, 0.99),
    # A float16 generator, and a text encoder that only stores its weights as bytes.
    ("mixed", "cpu"): Tolerance(2e-3, 5e-4, 0.9999),
    ("mixed", "cuda"): Tolerance(1e-2, 2e-3, 0.9995),
}


def tolerance_for(precision: str, device: str) -> Tolerance:
    """Limits for a bundle's precision and a device.

    A precision that is not known has those of ``int8``. Every device but the CPU has those of ``cuda``:
    they too may multiply with fewer bits (TF32, BF16).
    """
    place = "cpu" if device == "cpu" else "cuda"
    return _TOLERANCES.get((precision, place), _TOLERANCES["int8", place])


@dataclass(frozen=True)
class Closeness:
    """How close an array is to the golden one of the same shape."""

    difference: float | None
    """Largest absolute difference; None where a value is not finite or the shape is another."""
    correlation: float | None
    """Least correlation of a row or map; None likewise."""
    problem: str
    """What is wrong, without the limits' figures; empty if both are within them."""

    def to_dict(self) -> dict[str, Any]:
        """Figures for JSON."""
        return {"difference": self.difference, "correlation": self.correlation}


def closeness(
    found: npt.NDArray[np.float32], golden: npt.NDArray[np.float32], limit: float, correlation: float
) -> Closeness:
    """Compare rows or maps.

    Args:
        found: (N, ...) as computed here.
        golden: (N, ...) as stored.
        limit: largest absolute difference allowed.
        correlation: least correlation of each of the N allowed.
    """
    if found.shape != golden.shape:
        return Closeness(None, None, f"the shape is {found.shape}, {golden.shape} was expected")
    if not np.isfinite(found).all():
        count = int((~np.isfinite(found)).sum())
        return Closeness(None, None, f"{count} of {found.size} values are NaN or infinite")
    difference = float(np.abs(found - golden).max())
    least = min(cc(a, b) for a, b in zip(found, golden, strict=True))
    # A golden map without contrast correlates with nothing.
    flat = any(np.ptp(row) < limit for row in golden)
    problems = []
    if not difference <= limit:
        problems.append("the difference is too large")
    if not (least >= correlation or flat):
        problems.append("the correlation is too small")
    return Closeness(difference, least, " and ".join(problems))
