"""The compact CLIP text encoder: `CLIPTextModelWithProjection` with few and narrow layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from salgan_edge import contract

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["compact_text_encoder", "embed", "save_half"]


def compact_text_encoder(
    width: int, layers: int, heads: int, *, vocabulary: int = 49408, dimension: int = 512
) -> CLIPTextModelWithProjection:
    """A text encoder of CLIP's class and vocabulary, with random weights.

    Args:
        width: channels of the embedding and the transformer.
        layers: transformer layers.
        heads: attention heads; `width` is divided among them.
        vocabulary: tokens; start and end are the last two, as in CLIP.
        dimension: length of the text vector.
    """
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=dimension,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=contract.CONTEXT_LENGTH,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModelWithProjection(config)


def embed(model: CLIPTextModelWithProjection, input_ids: torch.Tensor) -> torch.Tensor:
    """Text vectors (N, dimension), L2-normalised, of token ids (N, L)."""
    vectors: torch.Tensor = model(input_ids=input_ids).text_embeds
    return torch.nn.functional.normalize(vectors, dim=-1)


def save_half(model: CLIPTextModelWithProjection, folder: Path) -> None:
    """Save as a `transformers` folder in float16, and round `model` to what was saved.

    Half precision halves the file; rounding the model in memory keeps it equal to the file.
    """
    model.half()
    model.save_pretrained(folder)
    model.float()
