"""Losses on predicted fixation densities; pure functions of tensors.

Maps are (..., h, w). A density sums to 1 over the last two axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["correlation", "density", "divergence", "saliency_loss"]


def density(values: Tensor) -> Tensor:
    """Non-negative maps scaled to sum to 1.

    >>> density(torch.tensor([[1.0, 3.0]]))
    tensor([[0.2500, 0.7500]])
    """
    return values / values.sum(dim=(-2, -1), keepdim=True).clamp_min(1e-12)


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence (...) from the human density to the softmax of the logits, in nats.

    Bylinskii et al., "What do different evaluation metrics tell us about saliency models?",
    TPAMI 2019, equation for KL: the human map is the reference.

    Args:
        logits: (..., h, w).
        target: human densities (..., h, w).
    """
    log_density = torch.log_softmax(logits.flatten(-2), dim=-1)
    human = target.flatten(-2)
    return (human * (human.clamp_min(1e-12).log() - log_density)).sum(-1)


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
    coefficient: Tensor = (a * b).sum(-1) / lengths.clamp_min(1e-12)
    return coefficient


def saliency_loss(logits: Tensor, target: Tensor) -> Tensor:
    """``KL + (1 - CC)`` (...) between the softmax of the logits and human densities."""
    predicted = torch.softmax(logits.flatten(-2), dim=-1).reshape(logits.shape)
    return divergence(logits, target) + 1 - correlation(predicted, target)
