"""Photos that anyone may use, for examples, checks and tests; see README.md for their origin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from salgan_edge.images import read_image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["NAMES", "load", "path"]

NAMES = ("astronaut", "coffee", "chelsea")
"""A woman in a space suit with a flag and a shuttle; a cup of coffee with a spoon; a cat."""


def path(name: str) -> Path:
    """File of a sample photo."""
    return Path(__file__).parent / f"{name}.jpg"


def load(name: str) -> npt.NDArray[np.uint8]:
    """A sample photo, RGB (H, W, 3)."""
    return read_image(path(name))
