"""Exponential moving average of weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Average"]

M = TypeVar("M", bound="nn.Module")


class Average(Generic[M]):
    """A copy of `model` whose weights follow it: ``a = decay * a + (1 - decay) * w``.

    Early on the decay is smaller, ``(1 + n) / (10 + n)`` after n updates, so that the random start
    is forgotten.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(requires_grad=False)
        self._decay = decay
        self._updates = 0

    @torch.no_grad()
    def update(self, model: M) -> None:
        """Move towards `model`'s weights; buffers are copied."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for mine, new in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.lerp_(new.detach(), 1 - decay)
        for kept, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)

    def state(self) -> dict[str, int | dict[str, Tensor]]:
        """What `load` restores, the counter included."""
        return {"updates": self._updates, "model": self.model.state_dict()}

    def load(self, state: dict[str, int | dict[str, Tensor]]) -> None:
        """Restore what `state` gave."""
        updates, weights = state["updates"], state["model"]
        assert isinstance(updates, int)
        assert isinstance(weights, dict)
        self._updates = updates
        self.model.load_state_dict(weights)
