"""Text-guided visual saliency at the edge.

>>> from salgan_edge import SaliencyPredictor
>>> predictor = SaliencyPredictor.load()
>>> predictor.predict("samples/coffee.jpg", "a spoon").save("spoon.png")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Sets OpenCV's limit on an image's size, which counts only before the first import of OpenCV by
# whichever part of this package.
from salgan_edge import images as _images  # noqa: F401
from salgan_edge._version import __version__
from salgan_edge.errors import SalganEdgeError

if TYPE_CHECKING:
    from salgan_edge.predictor import PromptWarning, SaliencyPredictor
    from salgan_edge.prompts import PromptPack
    from salgan_edge.result import Peak, SaliencyResult

__all__ = [
    "Peak",
    "PromptPack",
    "PromptWarning",
    "SalganEdgeError",
    "SaliencyPredictor",
    "SaliencyResult",
    "__version__",
]

_LAZY = {
    "Peak": "salgan_edge.result",
    "PromptPack": "salgan_edge.prompts",
    "PromptWarning": "salgan_edge.predictor",
    "SaliencyPredictor": "salgan_edge.predictor",
    "SaliencyResult": "salgan_edge.result",
}


def __getattr__(name: str) -> Any:
    """Load the public classes when they are first used, so that the command line starts fast."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_LAZY[name]), name)
