"""The `edge` generator: a light detector's features, guided by text, on a grid of 1/8 of the input.

An image passes the backbone and the trunk once. Each prompt then costs a few light layers on the
grid: two kinds of relevance maps (inner products between text and image) join the features, and
the text scales and shifts them (FiLM; Perez et al., arXiv 1709.07871).

The output is a density relative to its largest value: ``exp(logit - max(logit))``. The softmax of
the same logits is the predicted fixation density, on which the losses are computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from salgan_edge.train.networks.preprocess import Preprocess
from salgan_edge.train.networks.yolox import CLASSES, NECK_CHANNELS, STRIDES, YoloxNano
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DOMAINS", "EdgeGenerator"]

DOMAINS = ("sjtu_tis", "osie", "scene")
"""Data sets with a centre bias of their own; the first is the product's."""

_TRUNK = 96
_FUSED = 64
_HEADS = 8
_KEY = 16
_PRIOR = 12


class _Block(nn.Module):
    """Residual depthwise 5x5 and pointwise convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(nn.functional.silu(self.depthwise(x)))
        return x + y


class EdgeGenerator(nn.Module):
    """Text-guided saliency on a YOLOX-Nano backbone.

    Args:
        size: side of the square input in pixels, a multiple of 32; the grid is an eighth of it.
        dimension: length of a text vector.
        dropout: share of the trunk's channels left out at random in training.
    """

    STRIDE = STRIDES[-1]
    """The size must be a multiple of it."""

    text_mean: Tensor

    def __init__(self, size: int = 256, dimension: int = 512, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.size = size
        self.dimension = dimension
        self.grid = size // STRIDES[0]
        self.preprocess = Preprocess(size)
        self.backbone = YoloxNano()
        self.laterals = nn.ModuleList(nn.Conv2d(channels, _TRUNK, 1) for channels in NECK_CHANNELS)
        self.class_lateral = nn.Conv2d(CLASSES, _TRUNK, 1)
        self.position = nn.Parameter(torch.zeros(1, _TRUNK, _PRIOR, _PRIOR))
        self.trunk = _Block(_TRUNK)
        self.dropout = nn.Dropout2d(dropout)
        self.base = nn.Conv2d(_TRUNK, _FUSED, 1)
        self.keys = nn.Conv2d(_TRUNK, _HEADS * _KEY, 1)
        # Bias-free, so that a zero vector (no text) asks for nothing.
        self.query = nn.Sequential(
            nn.Linear(dimension, 128, bias=False), nn.SiLU(), nn.Linear(128, _HEADS * _KEY, bias=False)
        )
        self.class_vectors = nn.Parameter(torch.randn(CLASSES, dimension) / dimension**0.5)
        self.class_scale = nn.Parameter(torch.tensor(12.0))
        self.class_threshold = nn.Parameter(torch.tensor(0.45))
        self.register_buffer("text_mean", torch.zeros(dimension))
        self.relevance = nn.Conv2d(len(STRIDES) + _HEADS, _FUSED, 1)
        film = nn.Linear(128, 4 * _FUSED)
        nn.init.zeros_(film.weight)
        nn.init.zeros_(film.bias)
        self.film = nn.Sequential(nn.Linear(dimension + 64, 128), nn.SiLU(), film)
        self.context = nn.Sequential(nn.Linear(NECK_CHANNELS[-1], 64), nn.SiLU())
        self.blocks = nn.ModuleList(_Block(_FUSED) for _ in range(2))
        self.head = nn.Conv2d(_FUSED, 1, 3, padding=1)
        self.prior = nn.Parameter(torch.zeros(len(DOMAINS), 1, _PRIOR, _PRIOR))
        self.sharpness = nn.Parameter(torch.zeros(len(DOMAINS)))
        nn.init.normal_(self.head.weight, std=0.01)

    def set_text_space(self, class_vectors: Tensor, mean: Tensor) -> None:
        """Fix the text space.

        Args:
            class_vectors: text vectors (80, dimension) of COCO's class names, where the relevance
                by class starts from.
            mean: mean text vector (dimension,), the part that all texts share.
        """
        with torch.no_grad():
            self.text_mean.copy_(mean)
            self.class_vectors.copy_(nn.functional.normalize(class_vectors - mean, dim=-1))

    def forward(self, image: Tensor, text_embedding: Tensor) -> Tensor:
        """Saliency (B, N, h, w) in 0..1 of images uint8 (B, H, W, 3) and texts (B, N, dimension)."""
        logits = self.logits(self.preprocess(image), text_embedding)
        return torch.exp(logits - logits.amax(dim=(-2, -1), keepdim=True))

    def logits(self, pixels: Tensor, text: Tensor, domain: Tensor | None = None) -> Tensor:
        """Unnormalised log density (B, N, h, w).

        Args:
            pixels: output of `preprocess` (B, 3, size, size).
            text: text vectors (B, N, dimension); a zero vector means no text.
            domain: index into `DOMAINS` for each image (B,); the product's where None.
        """
        neck, class_logits = self.backbone(pixels)
        batch, prompts = text.shape[0], text.shape[1]
        grid = (self.grid, self.grid)
        classes = [torch.sigmoid(logits) for logits in class_logits]
        trunk = self._trunk(neck, classes, grid)
        direction = self.text_direction(text)
        relevance = self._relevance(direction, classes, trunk)
        context = self.context(neck[2].mean(dim=(2, 3))).unsqueeze(1).expand(-1, prompts, -1)
        film = self.film(torch.cat((direction, context), dim=-1)).reshape(batch * prompts, 4, _FUSED, 1, 1)
        base = self.base(trunk).unsqueeze(1)
        fused = (base + relevance.reshape(batch, prompts, _FUSED, *grid)).reshape(-1, _FUSED, *grid)
        for number, block in enumerate(self.blocks):
            fused = block(fused * (1 + film[:, 2 * number]) + film[:, 2 * number + 1])
        logits = self.head(nn.functional.silu(fused)).reshape(batch, prompts, *grid)
        return self._as_domain(logits, domain, grid)

    def text_direction(self, text: Tensor) -> Tensor:
        """Unit vectors of the texts about the mean text; zero where there is no text."""
        given = (text.abs().amax(dim=-1, keepdim=True) > 0).to(text.dtype)
        return nn.functional.normalize(text - self.text_mean, dim=-1) * given

    def _trunk(self, neck: Sequence[Tensor], classes: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Features (B, trunk, h, w) of all strides and of where the image shows which class.

        Pointwise convolutions come before enlarging, where there are fewer cells; that changes
        nothing, since the nearest cell is repeated.
        """
        summed = self.laterals[2](neck[2]) + self.class_lateral(classes[2])
        for level in (1, 0):
            here = self.laterals[level](neck[level])
            # The bias of the class layer was added once, above.
            here = here + nn.functional.conv2d(classes[level], self.class_lateral.weight)
            summed = here + nn.functional.interpolate(summed, scale_factor=2.0, mode="nearest")
        summed = summed + _enlarge_smooth(self.position, grid)
        trunk: Tensor = self.dropout(nn.functional.silu(self.trunk(nn.functional.silu(summed))))
        return trunk

    def _relevance(self, direction: Tensor, classes: Sequence[Tensor], trunk: Tensor) -> Tensor:
        """Where the image shows what the text names (B * N, fused, h, w): two inner products."""
        batch, prompts = direction.shape[0], direction.shape[1]
        class_directions = nn.functional.normalize(self.class_vectors, dim=-1)
        asked = torch.sigmoid(self.class_scale * (direction @ class_directions.T - self.class_threshold))
        asked = asked * (direction.abs().amax(dim=-1, keepdim=True) > 0).to(asked.dtype)
        by_class = []
        for maps in classes:
            # Shapes (B, N, 80) and (B, 80, cells).
            found = (asked @ maps.flatten(2)).reshape(batch, prompts, maps.shape[2], maps.shape[3])
            by_class.append(_enlarge(found, (self.grid, self.grid)))
        query = self.query(direction).reshape(batch, prompts, _HEADS, _KEY) * _KEY**-0.5
        # <query, keys(trunk)> with the keys' layer moved to the query's side: a text has one
        # query, an image a thousand cells.
        assert self.keys.bias is not None
        weight = self.keys.weight.reshape(_HEADS, _KEY, _TRUNK)
        moved = (query.unsqueeze(3) @ weight).reshape(batch, prompts * _HEADS, _TRUNK)
        offset = (query * self.keys.bias.reshape(_HEADS, _KEY)).sum(-1).reshape(batch, prompts * _HEADS, 1)
        by_key = (moved @ trunk.flatten(2) + offset).reshape(batch, prompts, _HEADS, self.grid, self.grid)
        joined = torch.cat((torch.stack(by_class, dim=2), by_key), dim=2)
        relevance: Tensor = self.relevance(joined.flatten(0, 1))
        return relevance

    def _as_domain(self, logits: Tensor, domain: Tensor | None, grid: tuple[int, int]) -> Tensor:
        prior = _enlarge_smooth(self.prior, grid)
        sharpness = torch.exp(self.sharpness)
        if domain is None:
            return logits * sharpness[0] + prior[0]
        return logits * sharpness[domain].view(-1, 1, 1, 1) + prior[domain]


def _enlarge(x: Tensor, grid: tuple[int, int]) -> Tensor:
    return x if tuple(x.shape[-2:]) == grid else nn.functional.interpolate(x, grid, mode="nearest")


def _enlarge_smooth(x: Tensor, grid: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(x, grid, mode="bilinear", align_corners=False)
