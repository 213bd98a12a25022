"""The `edge` generator: a light detector's features, guided by text.

An image passes the backbone and the trunk once. Each prompt then costs a few light layers on a
grid of 1/16 of the input, and a refinement on 1/8 of it: human fixation maps are smooth (a grid of
16x16 cells holds them to a correlation of 0.996), so the finer grid only has to place small things.

Text joins in two ways. *Inner products* (an idea of the paper's own outlook) give relevance maps:
the text is read as probabilities of naming each of COCO's classes, which weigh the class maps of
the detector, and as queries against learned keys of the image. *FiLM* (Perez et al., arXiv
1709.07871) scales and shifts the features. *Concatenation* is what the paper does.

A detector knows its eighty classes. With `eyes` a second backbone looks at the photo, which was
trained on ImageNet's thousand things (`salgan_edge.train.networks.backbones`): its features join the
trunk, and its last layer gives a further relevance map, by an inner product with what a linear
map makes of the text. That map starts as a ridge regression from text vectors to the weights of
ImageNet's classifier (`salgan_edge.train.pretrain`), so that any word finds what looks like it.

The output is a density relative to its largest value: ``exp(logit - max(logit))``. The softmax of
the same logits is the predicted fixation density, on which the losses are computed.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Literal, get_args

import torch
from salgan_edge.train.networks.backbones import (
    CLASSES,
    FEATURE_CHANNELS,
    HEAD_CHANNELS,
    NECK_CHANNELS,
    STRIDES,
    EfficientNetLite,
    YoloxNano,
)
from salgan_edge.train.networks.generator import Generator, Preprocess
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DOMAINS", "EYES", "FUSIONS", "ClassReader", "EdgeGenerator", "Eyes", "Fusion", "domain_of"]

DOMAINS = ("sjtu_tis", "osie", "scene", "crowd", "freeview_small")
"""Data sets with a centre bias of their own; the first is usually the product's."""

Fusion = Literal["inner+film", "inner", "film", "concat"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)

Eyes = Literal["none", "lite0"]
EYES: tuple[Eyes, ...] = get_args(Eyes)

_TRUNK = 128
_FUSED = 96
_BLOCKS = 3
_HEADS = 8
_KEY = 16
_CONTEXT = 64
_FINE = 24
_FINE_HEADS = 4
_PRIOR = 12
_SHORTEST = 1e-12


class _Block(nn.Module):
    """Residual depthwise 5x5 and pointwise convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(nn.functional.silu(self.depthwise(x)))
        return x + y


class _SummedDepthwise(nn.Module):
    """A 3x3 convolution to one channel as one for each channel and their sum, without the bias.

    ONNX Runtime computes output channels in groups of 8 or 16, of which one would be wanted. A
    number that is added to all logits does not change their density.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        channels = layer.in_channels
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        with torch.no_grad():
            self.depthwise.weight.copy_(layer.weight.reshape(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.depthwise(x).sum(1, keepdim=True)
        return y


def domain_of(name: str, product: str = DOMAINS[0]) -> int:
    """Number of a data set's viewing. The product's is 0; where it is another's, the two change places.

    >>> domain_of("sjtu_tis"), domain_of("scene"), domain_of("scene", "scene"), domain_of("sjtu_tis", "scene")
    (0, 2, 0, 2)
    """
    return 0 if name == product else DOMAINS.index(name) or DOMAINS.index(product)


class ClassReader(nn.Module):
    """Which of COCO's classes a text names: logits (..., 80) of text directions (..., dimension).

    A caption that names several things lies close to none of their class vectors (cosine about
    0.28), yet says which they are; `salgan_edge.train.pretrain` fits this to texts before the
    generator sees a photo.
    """

    def __init__(self, dimension: int, width: int = 256) -> None:
        super().__init__()
        self.hidden = nn.Linear(dimension, width)
        self.logits = nn.Linear(width, CLASSES)
        # Most texts name none of the classes.
        nn.init.constant_(self.logits.bias, -4.0)

    def forward(self, direction: Tensor) -> Tensor:
        """Logits; the entries of the direction are brought to a variance of about one."""
        scaled = direction * direction.shape[-1] ** 0.5
        logits: Tensor = self.logits(nn.functional.silu(self.hidden(scaled)))
        return logits


class EdgeGenerator(Generator):
    """Text-guided saliency on a YOLOX-Nano backbone.

    Args:
        size: side of the square input in pixels, a multiple of 32; the output's grid is an eighth of it.
        dimension: length of a text vector.
        fusion: how text joins the image: ``inner`` products, ``film``, both, or ``concat``.
        dropout: share of the trunk's channels left out at random in training.
        eyes: the second backbone: ``none``, or EfficientNet-Lite0.
        fine_keys: whether texts also ask the features of the fine grid, for small things.
        eye_scale: side of what the second backbone is shown, against `size`; rounded to a multiple of 32.
    """

    text_mean: Tensor

    def __init__(
        self,
        size: int = 256,
        dimension: int = 512,
        *,
        fusion: Fusion = "inner+film",
        dropout: float = 0.0,
        eyes: Eyes = "none",
        fine_keys: bool = False,
        eye_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.size = size
        self.dimension = dimension
        self.fusion = fusion
        self.has_eyes = eyes != "none"
        self.fine_keys = fine_keys
        self.grid = size // STRIDES[0]
        self.preprocess = Preprocess(size)
        self.register_buffer("text_mean", torch.zeros(dimension))
        # Image: once for all prompts
        self.backbone = YoloxNano()
        self.laterals = nn.ModuleList(nn.Conv2d(channels, _TRUNK, 1) for channels in NECK_CHANNELS)
        self.class_laterals = nn.ModuleList(nn.Conv2d(CLASSES, _TRUNK, 1, bias=False) for _ in STRIDES)
        self.position = nn.Parameter(torch.zeros(1, _TRUNK, _PRIOR, _PRIOR))
        self.trunk = nn.Sequential(_Block(_TRUNK), _Block(_TRUNK))
        self.dropout = nn.Dropout2d(dropout)
        self.base = nn.Conv2d(_TRUNK, _FUSED, 1)
        self.fine = nn.Conv2d(NECK_CHANNELS[0], _FINE, 1)
        if self.has_eyes:
            self.eyes = EfficientNetLite()
            self.eye_size = max(STRIDES[-1], round(size * eye_scale / STRIDES[-1]) * STRIDES[-1])
            # What is added to a trained network starts at zero, and leaves it as it was.
            self.eye_laterals = nn.ModuleList(
                nn.Conv2d(channels, outputs, 1, bias=False)
                for channels, outputs in zip(FEATURE_CHANNELS, (_FINE, _TRUNK, _TRUNK), strict=True)
            )
            self.eye_query = nn.Linear(dimension, HEAD_CHANNELS, bias=False)
            self.eye_relevance = nn.Conv2d(1, _FUSED, 1, bias=False)
            for layer in (*self.eye_laterals, self.eye_relevance):
                nn.init.zeros_(layer.weight)
        # Text
        if fine_keys:
            seen = NECK_CHANNELS[0] + (FEATURE_CHANNELS[0] if self.has_eyes else 0)
            self.fine_query = nn.Sequential(
                nn.Linear(dimension, 64, bias=False), nn.SiLU(), nn.Linear(64, _FINE_HEADS * seen, bias=False)
            )
            self.fine_asked = nn.Conv2d(_FINE_HEADS, _FINE, 1, bias=False)
            nn.init.zeros_(self.fine_asked.weight)
        if "inner" in fusion:
            self.reader = ClassReader(dimension)
            self.strides = nn.Linear(dimension, len(STRIDES))
            self.keys = nn.Conv2d(_TRUNK, _HEADS * _KEY, 1)
            # Bias-free, so that a zero vector (no text) asks for nothing.
            self.query = nn.Sequential(
                nn.Linear(dimension, 128, bias=False), nn.SiLU(), nn.Linear(128, _HEADS * _KEY, bias=False)
            )
            self.relevance = nn.Conv2d(len(STRIDES) + _HEADS, _FUSED, 1)
            self.fine_relevance = nn.Conv2d(1, _FINE, 1, bias=False)
            nn.init.zeros_(self.strides.weight)
            nn.init.zeros_(self.strides.bias)
        if "film" in fusion:
            film = nn.Linear(128, 2 * _BLOCKS * _FUSED)
            nn.init.zeros_(film.weight)
            nn.init.zeros_(film.bias)
            self.context = nn.Sequential(nn.Linear(NECK_CHANNELS[-1], _CONTEXT), nn.SiLU())
            self.film = nn.Sequential(nn.Linear(dimension + _CONTEXT, 128), nn.SiLU(), film)
            # How the other data sets were viewed, beyond their centre bias; the product's is zero.
            self.viewing = nn.Parameter(torch.zeros(len(DOMAINS) - 1, _CONTEXT))
        if fusion == "concat":
            self.text_features = nn.Linear(dimension, 64)
            self.concatenated = nn.Conv2d(_FUSED + 64, _FUSED, 3, padding=1)
        # Both: for each prompt
        self.blocks = nn.ModuleList(_Block(_FUSED) for _ in range(_BLOCKS))
        self.coarse = nn.Conv2d(_FUSED, _FINE, 1)
        self.refine = _Block(_FINE)
        self.head = nn.Conv2d(_FINE, 1, 3, padding=1)
        self.prior = nn.Parameter(torch.zeros(len(DOMAINS), 1, _PRIOR, _PRIOR))
        self.sharpness = nn.Parameter(torch.zeros(len(DOMAINS)))
        nn.init.normal_(self.head.weight, std=0.01)
        self._folded = False
        self.register_load_state_dict_pre_hook(_with_all_domains)  # type: ignore[no-untyped-call]

    def for_export(self) -> EdgeGenerator:
        """A copy that computes the same in fewer steps; not to be trained or saved.

        The output is the same, logits may lie higher or lower. The pixels' scale goes into the first layer, the ones that scales are counted from into the
        biases before them, the product's sharpness into the last layer.
        """
        copy = deepcopy(self).eval()
        with torch.no_grad():
            scale = copy.preprocess.hand_over_scale()
            copy.backbone.stem.conv.weight.mul_(scale)
            if self.has_eyes:
                copy.eyes.take_scale(scale)
            if "film" in self.fusion:
                last = copy.film[2]
                assert isinstance(last, nn.Linear)
                last.bias.view(_BLOCKS, 2, _FUSED)[:, 0].add_(1)
            if "inner" in self.fusion:
                copy.strides.bias.add_(1)
            sharpness = torch.exp(copy.sharpness[0])
            copy.head.weight.mul_(sharpness)
            copy.head = _SummedDepthwise(copy.head)  # type: ignore[assignment]
        copy._folded = True  # noqa: SLF001 - of this very class
        return copy

    def pretrained(self) -> list[nn.Parameter]:
        """Parameters that do not start at random: they are trained at a smaller rate."""
        modules = [
            self.backbone,
            *([self.reader] if "inner" in self.fusion else []),
            *([self.eye_query] if self.has_eyes else []),
        ]
        return [parameter for module in modules for parameter in module.parameters()]

    def frozen(self) -> list[nn.Parameter]:
        """Parameters that are never trained: the second backbone's."""
        return list(self.eyes.parameters()) if self.has_eyes else []

    def set_text_mean(self, mean: Tensor) -> None:
        """Fix the mean text vector (dimension,), the part that all texts share."""
        with torch.no_grad():
            self.text_mean.copy_(mean)

    def forward(self, image: Tensor, text_embedding: Tensor) -> Tensor:
        """Saliency (B, N, h, w) in 0..1 of images uint8 (B, H, W, 3) and texts (B, N, dimension)."""
        logits = self.logits(self.preprocess(image), text_embedding)
        return torch.exp(logits - logits.amax(dim=(-2, -1), keepdim=True))

    def logits(self, pixels: Tensor, text: Tensor, domain: Tensor | None = None) -> Tensor:
        """Unnormalised log density (B, N, h, w).

        Args:
            pixels: output of `preprocess` (B, 3, size, size).
            text: text vectors (B, N, dimension); a zero vector means no text.
            domain: index into `DOMAINS` for each prompt (B, N); the product's where None.
        """
        neck, class_logits = self.backbone(pixels)
        looked, top = self._look(pixels) if self.has_eyes else (None, None)
        batch, prompts = text.shape[0], text.shape[1]
        fine, coarse = (self.grid, self.grid), (self.grid // 2, self.grid // 2)
        classes = [torch.sigmoid(logits) for logits in class_logits]
        trunk = self._trunk(neck, classes, coarse, looked)
        given = _given(text)
        direction = self.text_direction(text, given)
        # (B * N, channels, h, w) from here on
        features = self.base(trunk).unsqueeze(1).expand(-1, prompts, -1, -1, -1).flatten(0, 1)
        found = self.fine(neck[0])
        if looked is not None:
            found = found + self.eye_laterals[0](looked[0])
        details = found.unsqueeze(1).expand(-1, prompts, -1, -1, -1).flatten(0, 1)
        if "inner" in self.fusion:
            relevance, fine_relevance = self._relevance(direction, given, classes, trunk)
            features = features + relevance
            details = details + fine_relevance
        if top is not None:
            features = features + self._eye_relevance(direction, top)
        if self.fine_keys:
            details = details + self._fine_asked(direction, neck[0], looked)
        if self.fusion == "concat":
            asked = self.text_features(direction * self.dimension**0.5).reshape(batch * prompts, -1, 1, 1)
            features = self.concatenated(torch.cat((features, asked.expand(-1, -1, *coarse)), dim=1))
        film = self._film(direction, neck[2], domain) if "film" in self.fusion else None
        for number, block in enumerate(self.blocks):
            if film is not None:
                features = features * self._from_one(film[:, 2 * number]) + film[:, 2 * number + 1]
            features = block(features)
        # By a factor: ONNX Runtime has a fast kernel where the size is no matter of the input's shape.
        rough = nn.functional.interpolate(
            self.coarse(nn.functional.silu(features)), scale_factor=2.0, mode="bilinear"
        )
        refined = self.refine(nn.functional.silu(rough + details))
        logits = self.head(nn.functional.silu(refined)).reshape(batch, prompts, *fine)
        return self._as_domain(logits, domain, fine)

    def text_direction(self, text: Tensor, given: Tensor | None = None) -> Tensor:
        """Unit vectors of the texts about the mean text; zero where there is no text.

        Args:
            text: text vectors (..., dimension).
            given: 1 where there is a text, 0 elsewhere, (..., 1); found out where None.
        """
        apart = text - self.text_mean
        # Not `normalize`, which the exporter gives an Expand that a division does not need.
        length = apart.norm(dim=-1, keepdim=True).clamp_min(_SHORTEST)
        direction: Tensor = apart / length * (_given(text) if given is None else given)
        return direction

    def _look(self, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """What the second backbone sees: features on the grids of the first, and its last layer.

        It learns nothing, so its pass may be rough in training.
        """
        shown = _resized(pixels, self.eye_size)
        if self.training:
            # A third of the time on CPUs that know bfloat16; the last layer is then some 5 % off, at random.
            with torch.no_grad(), torch.autocast(pixels.device.type, torch.bfloat16):
                features, top = self.eyes(shown)
        else:
            features, top = self.eyes(shown)
        return [
            _resized(feature.float(), self.size // stride)
            for feature, stride in zip(features, STRIDES, strict=True)
        ], top.float()

    def _trunk(
        self,
        neck: Sequence[Tensor],
        classes: Sequence[Tensor],
        grid: tuple[int, int],
        looked: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Features (B, trunk, h, w) of all strides and of where the image shows which class."""
        # Averaging before a pointwise convolution equals averaging after it, and costs a quarter.
        fine, fine_classes = nn.functional.avg_pool2d(neck[0], 2), nn.functional.avg_pool2d(classes[0], 2)
        summed = self.laterals[0](fine) + self.class_laterals[0](fine_classes)
        summed = summed + self.laterals[1](neck[1]) + self.class_laterals[1](classes[1])
        rough = self.laterals[2](neck[2]) + self.class_laterals[2](classes[2])
        if looked is not None:
            summed = summed + self.eye_laterals[1](looked[1])
            rough = rough + self.eye_laterals[2](looked[2])
        summed = summed + _double(rough)
        summed = summed + _smooth(self.position, grid)
        trunk: Tensor = self.dropout(nn.functional.silu(self.trunk(nn.functional.silu(summed))))
        return trunk

    def _relevance(
        self, direction: Tensor, given: Tensor, classes: Sequence[Tensor], trunk: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Where the image shows what the text names, on both grids (B * N, channels, h, w)."""
        batch = direction.shape[0]
        asked = torch.sigmoid(self.reader(direction)) * given
        # Shapes (B, N, 80) and (B, 80, cells), then (B * N, 1, h, w): a shape with one open length is
        # a constant of the graph, one with two is worked out in every run.
        found = [(asked @ maps.flatten(2)).reshape(-1, 1, maps.shape[2], maps.shape[3]) for maps in classes]
        by_class = torch.cat((nn.functional.max_pool2d(found[0], 2), found[1], _double(found[2])), dim=1)
        # Small things are found at fine strides: a text may trust one stride more than another.
        trust = self._from_one(self.strides(direction * self.dimension**0.5))
        by_class = by_class * trust.reshape(-1, len(STRIDES), 1, 1)
        query = self.query(direction).reshape(-1, _HEADS, _KEY) * _KEY**-0.5
        # <query, keys(trunk)> with the keys' layer moved to the query's side: a text has one
        # query, an image hundreds of cells.
        assert self.keys.bias is not None
        weight = self.keys.weight.reshape(_HEADS, _KEY, _TRUNK)
        moved = (query.unsqueeze(2) @ weight).reshape(batch, -1, _TRUNK)
        offset = (query * self.keys.bias.reshape(_HEADS, _KEY)).sum(-1).reshape(-1, _HEADS, 1, 1)
        by_key = (moved @ trunk.flatten(2)).reshape(-1, _HEADS, *trunk.shape[2:]) + offset
        relevance: Tensor = self.relevance(torch.cat((by_class, by_key), dim=1))
        fine: Tensor = self.fine_relevance(found[0])
        return relevance, fine

    def _eye_relevance(self, direction: Tensor, top: Tensor) -> Tensor:
        """Where the second backbone sees what the text names (B * N, fused, h, w) on the coarse grid."""
        asked = self.eye_query(direction)
        seen = (asked @ top.flatten(2)).reshape(-1, 1, top.shape[2], top.shape[3])
        coarse = self.grid // 2
        on_grid = _double(seen) if 2 * top.shape[-1] == coarse else _resized(seen, coarse)
        relevance: Tensor = self.eye_relevance(on_grid)
        return relevance

    def _fine_asked(self, direction: Tensor, fine: Tensor, looked: Sequence[Tensor] | None) -> Tensor:
        """Answers of the fine grid's features to the text (B * N, fine, h, w)."""
        features = fine if looked is None else torch.cat((fine, looked[0]), dim=1)
        channels = features.shape[1]
        query = self.fine_query(direction).reshape(direction.shape[0], -1, channels) * channels**-0.5
        answers = (query @ features.flatten(2)).reshape(-1, _FINE_HEADS, *features.shape[2:])
        asked: Tensor = self.fine_asked(answers)
        return asked

    def _film(self, direction: Tensor, top: Tensor, domain: Tensor | None) -> Tensor:
        """Scales and shifts (B * N, 2 * blocks, fused, 1, 1) of text and of what the photo is about."""
        batch, prompts = direction.shape[0], direction.shape[1]
        context = self.context(top.mean(dim=(2, 3))).unsqueeze(1).expand(-1, prompts, -1)
        if domain is not None:
            context = context + nn.functional.pad(self.viewing, (0, 0, 1, 0))[domain]
        film: Tensor = self.film(torch.cat((direction, context), dim=-1))
        return film.reshape(batch * prompts, 2 * _BLOCKS, _FUSED, 1, 1)

    def _from_one(self, scale: Tensor) -> Tensor:
        """A scale that is learned as its distance from one."""
        return scale if self._folded else 1 + scale

    def _as_domain(self, logits: Tensor, domain: Tensor | None, grid: tuple[int, int]) -> Tensor:
        prior = _smooth(self.prior, grid).squeeze(1)
        if self._folded:
            assert domain is None, "only the product's viewing is folded"
            return logits + prior[0]
        sharpness = torch.exp(self.sharpness)
        if domain is None:
            return logits * sharpness[0] + prior[0]
        return logits * sharpness[domain].unsqueeze(-1).unsqueeze(-1) + prior[domain]


def _with_all_domains(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Give data sets that came after a checkpoint the product's centre bias."""
    for name in ("prior", "sharpness", "viewing"):
        kept, wanted = state.get(prefix + name), getattr(model, name, None)
        if kept is None or wanted is None or kept.dim() == 0 or len(kept) >= len(wanted):
            continue
        first = torch.zeros_like(kept[:1]) if name == "viewing" else kept[:1]
        state[prefix + name] = torch.cat((kept, *[first] * (len(wanted) - len(kept))))


def _given(text: Tensor) -> Tensor:
    """1 where there is a text, 0 where the vector is zero; (..., 1)."""
    return (text.abs().amax(dim=-1, keepdim=True) > 0).to(text.dtype)


def _double(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _resized(x: Tensor, side: int) -> Tensor:
    """Square planes (B, channels, s, s) brought to another side, linearly."""
    if x.shape[-1] == side:
        return x
    # By a factor, for which ONNX Runtime has a fast kernel; a hair too large, lest the product be rounded down to one cell less.
    return nn.functional.interpolate(x, scale_factor=(side + 1e-3) / x.shape[-1], mode="bilinear")


def _smooth(x: Tensor, grid: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(x, grid, mode="bilinear", align_corners=False)
