"""Text-guided visual saliency at the edge: where would people look who were told what to look for?

>>> from salgan_edge import SaliencyPredictor, samples
>>> predictor = SaliencyPredictor.load()
>>> result = predictor.predict(samples.path("coffee"), "a spoon")
>>> result.map.shape
(400, 600)
>>> result.save("spoon.png")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from salgan_edge._version import __version__

if TYPE_CHECKING:
    from salgan_edge import errors, metrics, render, samples
    from salgan_edge.bundle import Bundle
    from salgan_edge.devices import Execution
    from salgan_edge.errors import (
        BundleError,
        DeviceError,
        ImageError,
        InputError,
        OutputError,
        PromptError,
        SalganEdgeError,
        SourceError,
    )
    from salgan_edge.images import load_image
    from salgan_edge.predictor import PromptWarning, SaliencyPredictor
    from salgan_edge.prompts import PromptPack
    from salgan_edge.render import heat_map, overlay
    from salgan_edge.result import Peak, SaliencyResult, TextEffect
    from salgan_edge.session import DeviceWarning
    from salgan_edge.video.overlay import overlay_video
    from salgan_edge.video.pipeline import Stream
    from salgan_edge.video.sources import open_source

_PUBLIC = {
    "Bundle": "bundle",
    "BundleError": "errors",
    "DeviceError": "errors",
    "DeviceWarning": "session",
    "Execution": "devices",
    "ImageError": "errors",
    "InputError": "errors",
    "OutputError": "errors",
    "Peak": "result",
    "PromptError": "errors",
    "PromptPack": "prompts",
    "PromptWarning": "predictor",
    "SalganEdgeError": "errors",
    "SaliencyPredictor": "predictor",
    "SaliencyResult": "result",
    "SourceError": "errors",
    "Stream": "video.pipeline",
    "TextEffect": "result",
    "heat_map": "render",
    "load_image": "images",
    "open_source": "video.sources",
    "overlay": "render",
    "overlay_video": "video.overlay",
}
"""Where each public name comes from, loaded when it is first used: `import salgan_edge` does no work."""

_MODULES = ("errors", "metrics", "render", "samples")

__all__ = [
    "Bundle",
    "BundleError",
    "DeviceError",
    "DeviceWarning",
    "Execution",
    "ImageError",
    "InputError",
    "OutputError",
    "Peak",
    "PromptError",
    "PromptPack",
    "PromptWarning",
    "SalganEdgeError",
    "SaliencyPredictor",
    "SaliencyResult",
    "SourceError",
    "Stream",
    "TextEffect",
    "__version__",
    "errors",
    "heat_map",
    "load_image",
    "metrics",
    "open_source",
    "overlay",
    "overlay_video",
    "render",
    "samples",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"salgan_edge.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"salgan_edge.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
