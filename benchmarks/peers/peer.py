"""What a peer is: something that is timed in the same run as the generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge.errors import SalganEdgeError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["Peer", "PeerUnavailableError", "random_photo", "random_texts"]


class PeerUnavailableError(SalganEdgeError):
    """A peer cannot be timed here; the message says why and what to do."""


@dataclass(frozen=True)
class Peer:
    """Something to time beside the generator."""

    name: str
    run: Callable[[], Any]
    """One run on inputs that stay the same; gives the array that was computed."""
    note: str
    """One line about what runs: implementation, input, weights."""
    macs: float | None
    """Multiply-accumulate operations of a run; None where they are not known."""


def random_photo(size: int) -> npt.NDArray[np.uint8]:
    """A photo of noise, RGB uint8 (size, size, 3), always the same."""
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)


def random_texts(count: int, dimension: int) -> npt.NDArray[np.float32]:
    """Text vectors float32 (count, dimension) of length 1, always the same."""
    vectors = np.random.default_rng(0).normal(size=(count, dimension))
    unit: npt.NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit.astype(np.float32)
