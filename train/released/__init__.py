"""The checkpoints that the default bundle is exported from."""

from pathlib import Path

__all__ = ["GENERATOR", "TEXT_ENCODER"]

GENERATOR = Path(__file__).parent / "generator.safetensors"
"""The `edge` generator."""

TEXT_ENCODER = Path(__file__).parent / "text_encoder"
"""The compact CLIP text encoder: a `transformers` folder with ``tokenizer.json``."""
