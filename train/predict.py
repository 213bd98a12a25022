"""From pixels and text vectors to a prediction, the same way for both presets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salgan_edge.train.losses import Prediction
from salgan_edge.train.networks.paper import PaperGenerator

if TYPE_CHECKING:
    from salgan_edge.train.networks.edge import EdgeGenerator
    from torch import Tensor

__all__ = ["cast_text", "predict"]

_CLIP_NORM = 9.5
"""Length of CLIP ViT-B/32's text vectors before normalisation: at this length 4.3 of 512 entries of
the true vectors are at least 1 in size, which is what the reference's cast leaves."""


def predict(
    model: EdgeGenerator | PaperGenerator, pixels: Tensor, text: Tensor, domain: Tensor | None = None
) -> Prediction:
    """Predicted maps (B, N, grid, grid), float32 whatever the networks' precision.

    Args:
        model: the generator.
        pixels: the network's input, normalised (B, 3, size, size).
        text: text vectors (B, N, dimension).
        domain: index into `DOMAINS` for each prompt (B, N); `paper` knows none.
    """
    if isinstance(model, PaperGenerator):
        return Prediction.of_pixels(model.logits(pixels, text).float())
    return Prediction.of_density(model.logits(pixels, text, domain).float())


def cast_text(text: Tensor, cast: str) -> Tensor:
    """Text vectors as the networks get them.

    ``float`` changes nothing. ``integer`` is what the reference implementation does by mistake:
    entries of CLIP's vectors, which it does not normalise, are cut to whole numbers, and most
    become 0. The result is scaled back, so that nothing but the loss of detail differs.
    """
    return text if cast == "float" else (text * _CLIP_NORM).trunc() / _CLIP_NORM
