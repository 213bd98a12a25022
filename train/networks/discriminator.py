"""Discriminators: is this map a human's? They train a generator and are never shipped."""

from __future__ import annotations

from itertools import pairwise

import torch
from salgan_edge.train.networks.paper import PaperDiscriminator
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["ConditionalDiscriminator", "judge"]

_SIDE = 32
"""Photo and map are brought to so many cells a side, which holds all of a smooth map."""


class ConditionalDiscriminator(nn.Module):
    """Sees the photo, the map and the text.

    Four 3x3 convolutions of stride 2 on photo and map, spectrally normalised (Miyato et al., ICLR
    2018), averaged over the grid; the text comes in by projection: the logit is ``psi(f) +
    <V text, f>`` (Miyato and Koyama, "cGANs with projection discriminator", ICLR 2018). A zero
    vector, no text, leaves ``psi(f)``.

    Args:
        dimension: length of a text vector.
        channels: of the first convolution.
    """

    def __init__(self, dimension: int = 512, channels: int = 24) -> None:
        super().__init__()
        widths = (4, channels, 2 * channels, 4 * channels, 4 * channels)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [
                spectral_norm(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)),
                nn.LeakyReLU(0.2),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.unconditional = spectral_norm(nn.Linear(widths[-1], 1))
        self.projection = spectral_norm(nn.Linear(dimension, widths[-1], bias=False))

    def forward(self, saliency: Tensor, pixels: Tensor, text: Tensor) -> Tensor:
        """Logit (M,) that each map is a human's.

        Args:
            saliency: maps in 0..1 (M, 1, h, w).
            pixels: photos as the generator gets them (M, 3, H, W).
            text: text vectors (M, dimension).
        """
        planes = [nn.functional.adaptive_avg_pool2d(x, _SIDE) for x in (pixels, saliency)]
        features = self.convolutions(torch.cat(planes, dim=1)).mean(dim=(2, 3))
        logits: Tensor = self.unconditional(features).squeeze(1) + (self.projection(text) * features).sum(1)
        return logits


def judge(
    discriminator: ConditionalDiscriminator | PaperDiscriminator, maps: Tensor, pixels: Tensor, text: Tensor
) -> Tensor:
    """Logits (B, N), float32, of maps (B, N, h, w) of photos (B, 3, H, W) and texts (B, N, dimension)."""
    batch, prompts = maps.shape[:2]
    flat = maps.flatten(0, 1).unsqueeze(1)
    if isinstance(discriminator, PaperDiscriminator):
        logits: Tensor = discriminator(flat)
    else:
        logits = discriminator(flat, pixels.repeat_interleave(prompts, 0), text.flatten(0, 1))
    return logits.float().reshape(batch, prompts)
