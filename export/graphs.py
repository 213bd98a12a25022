"""The two graphs as `torch.nn.Module`s with the contract's inputs and outputs, and how they vary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.export import Dim

from salgan_edge import contract

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection

__all__ = [
    "GENERATOR_DIMENSIONS",
    "TEXT_ENCODER_DIMENSIONS",
    "TextEncoderGraph",
    "generator_example",
    "text_encoder_example",
]

_BATCH = Dim("batch")
GENERATOR_DIMENSIONS = (
    {0: _BATCH, 1: Dim("height", min=2), 2: Dim("width", min=2)},
    {0: _BATCH, 1: Dim("prompts")},
)
"""Axes of ``image`` and ``text_embedding`` that vary."""

TEXT_ENCODER_DIMENSIONS = ({0: Dim("prompts")},)
"""Axes of ``input_ids`` that vary."""


class TextEncoderGraph(nn.Module):
    """A CLIP text model whose output is L2-normalised, as the contract wants it."""

    def __init__(self, model: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """Text vectors (N, dimension), L2-normalised, of token ids int64 (N, 77)."""
        vectors: Tensor = self.model(input_ids=input_ids).text_embeds
        return nn.functional.normalize(vectors, dim=-1)


def generator_example(dimension: int) -> tuple[Tensor, Tensor]:
    """Inputs to trace the generator with; no axis that varies has length 1, which would be fixed."""
    image = torch.randint(0, 256, (2, 300, 400, 3), dtype=torch.uint8)
    return image, torch.randn(2, 3, dimension)


def text_encoder_example(vocabulary: int) -> tuple[Tensor]:
    """Inputs to trace the text encoder with: the end token in different places."""
    ids = torch.full((2, contract.CONTEXT_LENGTH), vocabulary - 1, dtype=torch.int64)
    ids[:, 0] = vocabulary - 2
    ids[0, 1:4] = 1
    ids[1, 1:9] = 2
    return (ids,)
