"""The checkpoints that the embedded bundles are exported from."""

from pathlib import Path
from types import MappingProxyType

__all__ = ["GENERATORS", "TEXT_ENCODER", "checkpoint"]

GENERATORS = MappingProxyType(
    {name: Path(__file__).parent / f"{name}.safetensors" for name in ("default", "small")}
)
"""The generators by the names of their bundles."""

TEXT_ENCODER = Path(__file__).parent / "text_encoder"
"""The compact CLIP text encoder: a `transformers` folder with ``tokenizer.json``."""


def checkpoint(place: Path) -> Path:
    """A checkpoint that is given by its path, or by the name of a released one; a file of that name wins."""
    return place if place.exists() else GENERATORS.get(str(place), place)
