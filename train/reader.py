"""Teaches the `edge` generator to read which classes a text names, from texts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.data.naming import made_captions, named_classes, words_for
from salgan_edge.train.data.objects import prompts_for

from salgan_edge.gaze.detector import COCO_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from salgan_edge.train.data.text_vectors import TextVectors
    from salgan_edge.train.networks.edge import EdgeGenerator

    Floats = npt.NDArray[np.float32]

__all__ = ["average_precision", "fit_eyes", "fit_reader"]

_RIDGE = 3.0
"""Penalty of the regression from text directions to classifier weights."""

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


def fit_eyes(
    model: EdgeGenerator,
    classifier: torch.Tensor,
    names: Sequence[str],
    encode: Callable[[Sequence[str]], Floats],
) -> float:
    """Start ``model.eye_query`` as a ridge regression from text directions to a classifier's weights.

    What a text asks the second backbone is then what that backbone's classifier would ask for the
    things that are named alike. Answers are brought to a variance of about one.

    Args:
        model: its `eye_query` is replaced; its mean text must be set.
        classifier: weights (classes, channels), in the order of `names`.
        names: what each class is called; an empty name leaves the class out.
        encode: texts to vectors (n, dimension) with the text encoder that will be shipped.

    Returns:
        Share of the names that find their own class again, by the largest inner product.
    """
    known = [n for n, name in enumerate(names) if name]
    direction = model.text_direction(torch.from_numpy(encode([names[n] for n in known])))
    weights = classifier[known]
    # What all classes share decides nothing.
    weights = weights - weights.mean(0)
    weights = weights / weights.norm(dim=1).mean()
    size = direction.shape[1]
    penalty = _RIDGE * torch.eye(size)
    solution = torch.linalg.solve(direction.T @ direction + penalty, direction.T @ weights)
    asked = direction @ solution
    with torch.no_grad():
        model.eye_query.weight.copy_(solution.T / asked.norm(dim=1).mean())
    best = (asked @ weights.T).argmax(1)
    return float((best == torch.arange(len(known))).float().mean())


def average_precision(scores: Floats, labels: npt.NDArray[np.bool_]) -> float:
    """Mean precision at each true label, over all texts and classes together, 0..1.

    >>> average_precision(np.array([0.9, 0.8, 0.1], np.float32), np.array([True, False, True]))
    0.8333333333333333
    """
    order = np.argsort(-scores.ravel(), kind="stable")
    found = labels.ravel()[order]
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    return float(precision[found].mean())
