"""Teaches the `edge` generator to read which classes a text names, from texts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.data.coco import COCO_CLASSES
from salgan_edge.train.data.naming import made_captions, named_classes, words_for
from salgan_edge.train.data.objects import prompts_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from salgan_edge.train.data.text_vectors import TextVectors
    from salgan_edge.train.networks.edge import EdgeGenerator

    Floats = npt.NDArray[np.float32]

__all__ = ["average_precision", "fit_reader"]

_MADE = 12_000
_EPOCHS = 10
_BATCH = 256
_NOISE = 0.011
"""Standard deviation of noise on each entry of a direction, whose own is 0.044."""


def fit_reader(
    model: EdgeGenerator,
    captions: TextVectors,
    names: TextVectors,
    encode: Callable[[Sequence[str]], Floats],
    seed: int,
) -> None:
    """Fit ``model.reader`` to captions, names and made-up captions.

    Args:
        model: its reader's weights are replaced; its mean text must be set.
        captions: captions with a teacher's vectors; no text of a held-out photo among them.
        names: names with true CLIP vectors.
        encode: texts to vectors (n, dimension) with the text encoder that will be shipped. Texts
            are learned as it writes them and as the teachers do.
        seed: of the made-up captions and the order.
    """
    random = np.random.default_rng(seed)
    prompts = sorted(
        {text for name in COCO_CLASSES for count in (1, 2, 3) for text in prompts_for(name, count)}
    )
    words = [word for name in COCO_CLASSES for word in words_for(name)]
    texts = [*captions.texts, *names.texts, *prompts, *words, *made_captions(_MADE, random)]
    taught = len(captions) + len(names)
    labels = named_classes(texts)
    vectors = np.concatenate([encode(texts), captions.vectors, names.vectors])
    target = torch.from_numpy(np.concatenate([labels, labels[:taught]]).astype(np.float32))
    direction = model.text_direction(torch.from_numpy(vectors)).detach()
    reader = model.reader
    optimizer = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=0.01)
    steps = -(-len(direction) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS * steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(len(direction), generator=generator).split(_BATCH):
            noise = _NOISE * torch.randn(len(chosen), direction.shape[1], generator=generator)
            logits = reader(direction[chosen] + noise)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def average_precision(scores: Floats, labels: npt.NDArray[np.bool_]) -> float:
    """Mean precision at each true label, over all texts and classes together, 0..1.

    >>> average_precision(np.array([0.9, 0.8, 0.1], np.float32), np.array([True, False, True]))
    0.8333333333333333
    """
    order = np.argsort(-scores.ravel(), kind="stable")
    found = labels.ravel()[order]
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    return float(precision[found].mean())
