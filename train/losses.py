"""Losses on predicted saliency; pure functions of tensors.

Maps are (..., h, w), each loss is (...). A *map* lies in 0..1, a *density* sums to 1 over the last
two axes. Definitions of the metrics that some losses are made of follow Bylinskii et al., "What do
different evaluation metrics tell us about saliency models?", TPAMI 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = [
    "Prediction",
    "adversarial_loss",
    "binary_cross_entropy",
    "cast_text",
    "content_terms",
    "contrast",
    "correlation",
    "density",
    "divergence",
    "scanpath_saliency",
    "similarity",
    "squared_error",
]

_CLIP_NORM = 9.5
"""Length of CLIP ViT-B/32's text vectors before normalisation: at this length 4.3 of 512 entries of
the true vectors are at least 1 in size, which is what the reference's cast leaves."""


def cast_text(text: Tensor, cast: str) -> Tensor:
    """Text vectors as the networks get them.

    ``float`` changes nothing. ``integer`` is what the reference implementation does by mistake:
    entries of CLIP's vectors, which it does not normalise, are cut to whole numbers, and most
    become 0. The result is scaled back, so that nothing but the loss of detail differs.
    """
    return text if cast == "float" else (text * _CLIP_NORM).trunc() / _CLIP_NORM


_TINY = 1e-12
_LOG_ALMOST_ONE = -1e-6


@dataclass(frozen=True)
class Prediction:
    """A predicted map, kept as logarithms for the sake of precision."""

    log_map: Tensor
    """Logarithm of the map in 0..1 (..., h, w)."""
    log_rest: Tensor
    """Logarithm of one less the map."""

    @classmethod
    def of_pixels(cls, logits: Tensor) -> Prediction:
        """Independent pixels: the map is the sigmoid of the logits (the paper's generator)."""
        return cls(torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits))

    @classmethod
    def of_density(cls, logits: Tensor) -> Prediction:
        """A density, the softmax of the logits; the map is the density over its largest value.

        That largest value is 1 by definition, so its rest is taken as 1e-6 and has no gradient.
        """
        log_map = logits - logits.amax(dim=(-2, -1), keepdim=True)
        return cls(log_map, torch.log(-torch.expm1(log_map.clamp_max(_LOG_ALMOST_ONE))))

    @property
    def map(self) -> Tensor:
        """In 0..1 (..., h, w)."""
        return torch.exp(self.log_map)

    @property
    def density(self) -> Tensor:
        """The map scaled to sum to 1."""
        return torch.softmax(self.log_map.flatten(-2), dim=-1).reshape(self.log_map.shape)


def density(values: Tensor) -> Tensor:
    """Non-negative maps scaled to sum to 1.

    >>> density(torch.tensor([[1.0, 3.0]]))
    tensor([[0.2500, 0.7500]])
    """
    return values / values.sum(dim=(-2, -1), keepdim=True).clamp_min(_TINY)


def relative(values: Tensor) -> Tensor:
    """Non-negative maps scaled to have 1 as largest value.

    >>> relative(torch.tensor([[0.2, 0.8]]))
    tensor([[0.2500, 1.0000]])
    """
    return values / values.amax(dim=(-2, -1), keepdim=True).clamp_min(_TINY)


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence (...) from the human density to the softmax of the logits, in nats.

    Bylinskii et al. 2019, equation for KL: the human map is the reference.

    Args:
        logits: log density up to a constant (..., h, w).
        target: human densities (..., h, w).
    """
    log_density = torch.log_softmax(logits.flatten(-2), dim=-1)
    human = target.flatten(-2)
    return (human * (human.clamp_min(_TINY).log() - log_density)).sum(-1)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's linear correlation coefficient CC (...) of two maps, -1..1.

    >>> a = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    >>> correlation(a, 2 * a + 1).item()
    1.0
    """
    a, b = first.flatten(-2), second.flatten(-2)
    a = a - a.mean(-1, keepdim=True)
    b = b - b.mean(-1, keepdim=True)
    lengths = torch.linalg.vector_norm(a, dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    coefficient: Tensor = (a * b).sum(-1) / lengths.clamp_min(_TINY)
    return coefficient


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Overlap SIM (...) of two densities, 0..1 (Bylinskii et al. 2019).

    >>> similarity(torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.5]])).item()
    0.75
    """
    return torch.minimum(first, second).sum(dim=(-2, -1))


def scanpath_saliency(values: Tensor, fixations: Tensor) -> Tensor:
    """Normalised scanpath saliency NSS (...): mean of the standardised map at the fixations.

    Bylinskii et al. 2019. 0 where there is no fixation.

    Args:
        values: maps of any scale (..., h, w).
        fixations: number of fixations in each cell (..., h, w); fractions weigh the same way.

    >>> scanpath_saliency(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 3.0]])).item()
    1.0
    """
    flat = values.flatten(-2)
    deviation = flat.std(-1, correction=0, keepdim=True).clamp_min(_TINY)
    standard = (flat - flat.mean(-1, keepdim=True)) / deviation
    seen = fixations.flatten(-2)
    return (standard * seen).sum(-1) / seen.sum(-1).clamp_min(_TINY)


def binary_cross_entropy(predicted: Prediction, target: Tensor) -> Tensor:
    """Equation 1 of the paper (...): binary cross-entropy, the mean over the cells, in nats.

    ``-1/N sum_j (S_j log S^_j + (1 - S_j) log(1 - S^_j))``

    Args:
        predicted: see `Prediction`.
        target: human maps in 0..1 (..., h, w).
    """
    return -(target * predicted.log_map + (1 - target) * predicted.log_rest).mean(dim=(-2, -1))


def squared_error(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared error (...) of two maps.

    >>> squared_error(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 1.0]])).item()
    0.5
    """
    return (first - second).square().mean(dim=(-2, -1))


def contrast(first: Tensor, second: Tensor) -> Tensor:
    """How badly a text's change of the predicted map fits its change of the human map (..., N), 0..2.

    For each of N texts about one photo: one less the correlation of ``first_i - first_j`` with
    ``second_i - second_j``, the mean over the other texts j, weighted by how far apart the human
    densities are (total variation distance). What is common to all texts cancels out, so this term
    sees nothing but the guidance; it is the differentiable sister of `salgan_edge.metrics.guide`.

    Args:
        first: predicted densities (..., N, h, w).
        second: human densities (..., N, h, w).

    >>> maps = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]])
    >>> contrast(maps.flip(0), maps)
    tensor([2., 2.])
    """
    # Axes: text, other text, row, column
    predicted = first.unsqueeze(-3) - first.unsqueeze(-4)
    human = second.unsqueeze(-3) - second.unsqueeze(-4)
    distance = human.abs().sum(dim=(-2, -1)) / 2
    wrong = 1 - correlation(predicted, human)
    return (distance * wrong).sum(-1) / distance.sum(-1).clamp_min(_TINY)


def content_terms(
    predicted: Prediction, target: Tensor, fixations: Tensor | None, names: Iterable[str]
) -> dict[str, Tensor]:
    """Terms of the content loss by name, each (...), smaller is better.

    Args:
        predicted: see `Prediction`.
        target: human densities (..., h, w).
        fixations: counts (..., h, w), for ``nss`` alone.
        names: ``kl``, ``cc`` (one less it), ``sim`` (one less it), ``nss`` (its negative, as in Cornia
            et al., "Predicting human eye fixations via an LSTM-based saliency attentive model", TIP
            2018), ``bce`` and ``mse`` (both on maps whose largest human value is 1), ``contrast`` (its
            texts are the axis before the last two).

    Raises:
        ValueError: ``nss`` without fixations.
    """
    terms: dict[str, Tensor] = {}
    for name in names:
        match name:
            case "kl":
                terms[name] = divergence(predicted.log_map, target)
            case "cc":
                terms[name] = 1 - correlation(predicted.density, target)
            case "sim":
                terms[name] = 1 - similarity(predicted.density, target)
            case "nss":
                if fixations is None:
                    raise ValueError("the nss term needs fixations")
                terms[name] = -scanpath_saliency(predicted.map, fixations)
            case "bce":
                terms[name] = binary_cross_entropy(predicted, relative(target))
            case "mse":
                terms[name] = squared_error(predicted.map, relative(target))
            case "contrast":
                terms[name] = contrast(predicted.density, target)
            case _:
                raise ValueError(f"there is no content term {name!r}")
    return terms


def adversarial_loss(logits: Tensor, *, human: bool) -> Tensor:
    """``L(D, 1)`` or ``L(D, 0)`` of the paper's equations 2 and 3: cross-entropy of D's logits, in nats.

    Args:
        logits: the discriminator's, positive where it takes a map for a human's.
        human: whether it should.

    >>> adversarial_loss(torch.tensor([0.0]), human=True)
    tensor([0.6931])
    """
    return torch.nn.functional.softplus(-logits if human else logits)
