"""The network before its first step: pretrained parts, and what it learns of texts alone.

The `edge` generator is taught to read which classes a text names (`fit_reader`), and its text to ask
the second backbone as that backbone's classifier would (`fit_eyes`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from salgan_edge.train.checkpoint import Description, build, load_generator
from salgan_edge.train.data.named import prompts_for
from salgan_edge.train.data.phrases import made_captions, named_classes, words_for
from salgan_edge.train.data.text_vectors import imagenet_names, true_vectors
from salgan_edge.train.networks.backbones import read_classifier
from salgan_edge.train.networks.edge import EdgeGenerator
from salgan_edge.train.setup import NO_EYES, captions_of, unseen_texts

from salgan_edge.errors import DataError
from salgan_edge.gaze.detector import COCO_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from salgan_edge.train.config import TrainConfig
    from salgan_edge.train.data.text_vectors import TextVectors
    from salgan_edge.train.networks.generator import Generator
    from salgan_edge.train.setup import Sources

    Floats = npt.NDArray[np.float32]
    Encoder = Callable[[Sequence[str]], Floats]

__all__ = ["average_precision", "fit_eyes", "fit_reader", "make_generator"]

_RIDGE = 3.0
"""Penalty of the regression from text directions to classifier weights."""

_MADE = 12_000
_EPOCHS = 10
_BATCH = 256
_NOISE = 0.011
"""Standard deviation of noise on each entry of a direction, whose own is 0.044."""


def make_generator(
    sources: Sources, config: TrainConfig, encode: Encoder, *, pretrain: bool = True
) -> Generator:
    """The network to train: a checkpoint's, or a fresh one, `edge` on the pretrained backbone.

    Args:
        sources: see `Sources`.
        config: see `TrainConfig`.
        encode: texts to vectors (n, dimension), see `salgan_edge.train.networks.text_encoder.make_encoder`.
        pretrain: False leaves out what takes long, where a saved state will replace it.

    Raises:
        DataError: the checkpoint is of the other preset, or of another form of it.
        CheckpointError: it does not fit.
    """
    wanted = config.network_arguments()
    if sources.start is not None:
        model, description = load_generator(sources.start, config.size)
        if description.preset != config.preset:
            raise DataError(
                f"{sources.start} is of preset {description.preset}, but {config.preset} is trained: "
                "choose another --recipe or another checkpoint"
            )
        had = dict(description.arguments)
        if isinstance(model, EdgeGenerator):
            # A description may leave out what is the default.
            had.setdefault("fusion", model.fusion)
        other = {name: value for name, value in had.items() if wanted.get(name) != value}
        if other:
            raise DataError(
                f"{sources.start} has {other}, but {wanted} is trained: set the same, or choose another checkpoint"
            )
        if isinstance(model, EdgeGenerator) and set(wanted) != set(had):
            model = _grown(model, sources, config, encode)
        if isinstance(model, EdgeGenerator):
            model.dropout.p = config.dropout
        return model
    model = build(Description(config.preset, wanted))
    if isinstance(model, EdgeGenerator):
        model.dropout.p = config.dropout
        assert sources.backbone is not None
        model.backbone.load_onnx(sources.backbone)
        names = true_vectors(sources.data / "clip_text")
        model.set_text_mean(torch.from_numpy(names.vectors.mean(0)))
        if pretrain and "inner" in model.fusion:
            captions = captions_of(sources, config, without=unseen_texts(sources, config))
            fit_reader(model, captions, names, encode, config.seed)
        if pretrain and model.has_eyes:
            _open_eyes(model, sources, encode)
    return model


def _grown(model: EdgeGenerator, sources: Sources, config: TrainConfig, encode: Encoder) -> EdgeGenerator:
    """A checkpoint's network with the parts that it lacks."""
    if model.fine_keys and config.eyes != "none" and not model.has_eyes:
        raise DataError(
            f"{sources.start} has fine_keys without eyes, whose weights do not fit a network with both: "
            "choose a checkpoint without fine_keys, or leave out eyes"
        )
    grown = build(Description(config.preset, config.network_arguments()))
    assert isinstance(grown, EdgeGenerator)
    # New parts start at zero, or are filled below: the network begins where the old one ended.
    grown.load_state_dict(model.state_dict(), strict=False)
    if grown.has_eyes and not model.has_eyes:
        _open_eyes(grown, sources, encode)
    return grown


def _open_eyes(model: EdgeGenerator, sources: Sources, encode: Encoder) -> None:
    """Give the second backbone its weights, and the text its first way to ask it."""
    if sources.eyes is None:
        raise DataError(NO_EYES)
    model.eyes.load_published(sources.eyes)
    table = sources.data / "phrases" / "imagenet1000" / "phrases.csv"
    fit_eyes(model, read_classifier(sources.eyes), imagenet_names(table), encode)


def fit_reader(
    model: EdgeGenerator,
    captions: TextVectors,
    names: TextVectors,
    encode: Encoder,
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
    encode: Encoder,
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
