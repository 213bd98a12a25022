"""Settings of the two trainings: frozen dataclasses, checked when made.

Every field can be set on the command line; what was used is written into the run's folder.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["DistillConfig", "TrainConfig", "changed"]

C = TypeVar("C", "DistillConfig", "TrainConfig")


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}: a number above 0 was expected")


@dataclass(frozen=True)
class DistillConfig:
    """Distilling CLIP text vectors into a compact `CLIPTextModelWithProjection`."""

    width: int = 96
    """Channels of the token embedding and of the transformer."""
    layers: int = 3
    heads: int = 4
    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule (AdamW)."""
    weight_decay: float = 0.01
    name_repeats: int = 8
    """How often a true CLIP vector is shown per epoch; an estimated one is shown once."""
    bpe_dropout: float = 0.1
    """Share of merges left out at random in training, so that rare word pieces are trained too."""
    held_out: float = 0.1
    """Share of the true names (COCO's classes excepted) kept for measuring agreement."""
    seed: int = 1
    """Seeds weights, order and augmentation."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        _positive(width=self.width, layers=self.layers, heads=self.heads, epochs=self.epochs)
        _positive(batch_size=self.batch_size, learning_rate=self.learning_rate)
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads")


@dataclass(frozen=True)
class TrainConfig:
    """Training the `edge` generator."""

    size: int = 256
    """Side of the square input in pixels; a multiple of 32."""
    epochs: int = 20
    batch_size: int = 16
    """Photos per step; each comes with `prompts` prompts."""
    prompts: int = 5
    """Prompts per photo and step, so that one pass of the backbone serves several texts."""
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule for the head (AdamW)."""
    backbone_rate: float = 0.1
    """Learning rate of the backbone as a share of the head's; 0 freezes it."""
    weight_decay: float = 0.05
    crop: float = 0.2
    """Largest share of the photo's sides that a random crop takes away, in every other draw."""
    dropout: float = 0.1
    """Share of the trunk's channels left out at random."""
    text_noise: float = 0.02
    """Standard deviation of Gaussian noise on each entry of a text vector."""
    object_weight: float = 0.5
    """Loss weight of an object prompt against a pair with human gaze."""
    free_view_weight: float = 0.5
    """Loss weight of the additional free-viewing sets."""
    ema: float = 0.998
    """Decay per step of the averaged weights that are evaluated and saved."""
    warmup: float = 0.15
    """Share of the steps in which the learning rate rises."""
    seed: int = 1
    """Seeds weights, order and augmentation."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        _positive(size=self.size, epochs=self.epochs, batch_size=self.batch_size, prompts=self.prompts)
        _positive(learning_rate=self.learning_rate)
        if self.size % 32:
            raise ValueError(f"size {self.size} is no multiple of 32, the backbone's largest stride")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema {self.ema} is outside 0..1")


def changed(config: C, **overrides: Any) -> C:
    """`config` with the overrides that are not None."""
    return dataclasses.replace(config, **{k: v for k, v in overrides.items() if v is not None})
