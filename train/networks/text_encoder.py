"""The compact CLIP text encoder: `CLIPTextModelWithProjection` with few and narrow layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from salgan_edge import contract

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["compact_text_encoder", "embed", "round_rows_to_bytes", "save_text_encoder"]


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


def save_text_encoder(model: CLIPTextModelWithProjection, folder: Path) -> None:
    """Save as a `transformers` folder in float16, and round `model` to what was saved.

    Half precision halves the file, and the token table is rounded further, to 8-bit integers times a
    power of two for each row, so that a bundle stores it in a byte per weight. Both roundings are
    in the saved values: nothing is lost when they are read or exported.
    """
    with torch.no_grad():
        round_rows_to_bytes(model.text_model.embeddings.token_embedding.weight)
    model.half()
    model.save_pretrained(folder)
    model.float()


@torch.no_grad()
def round_rows_to_bytes(table: torch.Tensor) -> None:
    """Round each row of `table` (rows, width) in place to whole multiples, -127 to 127, of a power of two.

    The power is the least that reaches the row's largest value; it is at least 2**-24, so that every
    result is a float16. Rounding again changes nothing.

    >>> table = torch.tensor([[1.0, -0.3, 0.0]])
    >>> round_rows_to_bytes(table)
    >>> table
    tensor([[ 1.0000, -0.2969,  0.0000]])
    """
    largest = table.abs().amax(-1, keepdim=True)
    # frexp: largest = m * 2**e, m in 0.5..1; m * 128 is up to 128, one too many above 127.5 / 128.
    mantissa, exponent = torch.frexp(largest)
    exponent = (exponent - 7 + (mantissa * 128 >= 127.5)).clamp(min=-24)
    step = torch.ldexp(torch.ones_like(largest), exponent)
    table.copy_(torch.round(table / step) * step)
