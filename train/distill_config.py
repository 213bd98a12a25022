"""Settings of the text encoder's distillation: a frozen dataclass, checked when made."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DistillConfig"]


@dataclass(frozen=True)
class DistillConfig:
    """Distilling CLIP text vectors into a compact `CLIPTextModelWithProjection`."""

    teacher: str = "precomputed"
    """``precomputed`` for the vectors in ``clip_text``, or a CLIP text model: hub id or local folder."""
    sentence_model: str = ""
    """Folder of a sentence model that estimates vectors of further phrases, where they are precomputed."""
    width: int = 128
    """Channels of the token embedding and of the transformer."""
    layers: int = 2
    heads: int = 4
    epochs: int = 10
    batch_size: int = 512
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule (AdamW)."""
    weight_decay: float = 0.01
    name_repeats: int = 4
    """How often a text with a true CLIP vector is shown per epoch; any other text is shown once."""
    split_tokens: float = 0.1
    """Share of merges of byte-pair encoding that are undone at random in half of the batches, so that rare
    pieces of words are trained too."""
    contrast: float = 0.2
    """Weight of the contrastive term, which keeps texts apart as the teacher does."""
    temperature: float = 0.1
    """Temperature of the contrastive term's softmax over the texts of a batch."""
    ema: float = 0.995
    """Decay per step of the averaged weights that are measured and saved."""
    spans: int = 60000
    """Draws of one to six neighbouring words of a caption; the teacher must be able to embed any text."""
    recombined: int = 12000
    """Two-word names with the first word of another ("a baseball pot"); likewise."""
    described: int = 25000
    """Names with a look, a number or a place ("two red kites on the left"); likewise."""
    described_words: int = 44000
    """Words of the vocabulary in such phrases, each as often as any other; likewise."""
    compounds: int = 10000
    """Two names joined ("a man and a dog")."""
    attribute: float = 0.15
    """Length of the fixed direction that is added to an estimated vector for each attribute of its text
    (place, number, size, colour), which estimates hardly carry; 0 for none."""
    bfloat16: bool = False
    """Multiply matrices in bfloat16: about twice as fast on CPUs that have instructions for it."""
    held_out: float = 0.1
    """Share of the true names (COCO's classes excepted) kept for measuring agreement; 0 to teach all."""
    seed: int = 1
    """Seeds weights, texts, order and augmentation."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name in ("width", "layers", "heads", "epochs", "batch_size", "learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: a number above 0 was expected")
        for name in (
            "spans",
            "recombined",
            "described",
            "described_words",
            "compounds",
            "contrast",
            "attribute",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: 0 or more was expected")
        for name in ("ema", "held_out", "split_tokens"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, outside 0..1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads")
